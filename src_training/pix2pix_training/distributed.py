"""One training run in several processes, each on its own patches, that act as one process on all of them.

torchrun starts them. Besides the gradients, all that depends on the whole batch is shared: the statistics of batch
norm, noise, and terms of the loss that are not means over the patches. Numbers that decide how a run goes on are those
of the first process.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from pix2pix_training.device import is_out_of_memory
from pix2pix_training.errors import InputError, SettingsError, TrainingError
from pix2pix_training.layers import DROPOUT_RATE, BatchRenorm, PositionedDropout, StatisticsNorm

log = logging.getLogger(__name__)

T = TypeVar("T")

_LONGEST_WAIT = timedelta(minutes=30)
"""For a process that writes, or validates a larger image; one that has ended is noticed at once."""


class ProcessLost(TrainingError):  # noqa: N818 (an event, named as `Interrupted` is)
    """Another process of the run has ended or cannot be reached."""


@dataclass(frozen=True)
class Group:
    """The processes of a run, of which this one is number `rank` of `size`; all of them call each method alike.

    Methods raise `ProcessLost`.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def own(self, whole: Tensor) -> Tensor:
        """The part of this process of a tensor that has an entry for each patch of the whole batch."""
        return whole.tensor_split(self.size)[self.rank]

    def mean_(self, tensors: Sequence[Tensor]) -> None:
        """Put the means over all processes into tensors of one dtype, which may have any shapes."""
        if self.size == 1 or not tensors:
            return
        joined = torch.cat([tensor.flatten() for tensor in tensors])
        with _losses_in_words():
            dist.all_reduce(joined)
        joined /= self.size
        parts = joined.split_with_sizes([tensor.numel() for tensor in tensors])
        torch._foreach_copy_(list(tensors), [p.view(t.shape) for p, t in zip(parts, tensors, strict=True)])

    def sum(self, x: Tensor) -> Tensor:
        """The sum over all processes, with a gradient: that of the sum of what all of them make of it."""
        return x if self.size == 1 else cast(Tensor, _Sum.apply(x))

    def stacked(self, x: Tensor) -> Tensor:
        """The tensors of all processes (size, *shape), with a gradient."""
        return self.sum(torch.stack([x if rank == self.rank else torch.zeros_like(x) for rank in range(self.size)]))

    def agreed(self, number: float) -> float:
        """The number of the first process."""
        if self.size == 1:
            return number
        sent = torch.tensor(number, dtype=torch.float64)
        with _losses_in_words():
            dist.broadcast(sent, 0)
        return sent.item()

    def broadcast(self, value: T) -> T:
        """The value of the first process, which can be pickled."""
        if self.size == 1:
            return value
        sent = [value]
        with _losses_in_words():
            dist.broadcast_object_list(sent, 0, device=torch.device("cpu"))
        return sent[0]

    def together(self, value: T) -> list[T]:
        """The values of all processes, which can be pickled."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        with _losses_in_words():
            dist.all_gather_object(found, value, dist.group.WORLD)
        return found

    def require_alike(self, values: Mapping[str, object]) -> None:
        """Raise `InputError` where a value, named in words, is not that of the first process."""
        for name, value in self.broadcast(values).items():
            if values[name] != value:
                raise InputError(
                    f"process {self.rank} of the run has other {name} than the first; all machines need the same "
                    "images, run folder and command"
                )

    @torch.no_grad()
    def copy_first_(self, tensors: Sequence[Tensor]) -> None:
        """Put the values of the first process into the tensors."""
        for tensor in tensors if self.size > 1 else ():
            sent = tensor.contiguous()
            with _losses_in_words():
                dist.broadcast(sent, 0)
            tensor.copy_(sent)


ALONE = Group()


@contextmanager
def joined(device: str) -> Iterator[tuple[Group, str]]:
    """The processes that torchrun has started with this one, and the device of this one.

    Raises
    ------
    SettingsError
        A device that not every process can have.
    """
    count = int(os.environ["LOCAL_WORLD_SIZE"])
    own = _own_device(device, int(os.environ["LOCAL_RANK"]), count)
    backend = "gloo"  # for numbers and objects on any machine; tensors on GPUs have nccl
    if own.type == "cuda":
        torch.cuda.set_device(own)
        backend = "cpu:gloo,cuda:nccl"
    elif count * torch.get_num_threads() < (cores := os.cpu_count() or 1):
        log.warning(
            "each of %d processes computes with %d threads, and there are %d cores; torchrun sets OMP_NUM_THREADS to 1 "
            "unless it is set, for example to %d",
            count,
            torch.get_num_threads(),
            cores,
            cores // count,
        )
    with _losses_in_words():
        dist.init_process_group(backend, timeout=_LONGEST_WAIT)
    yield Group(rank=dist.get_rank(), size=dist.get_world_size()), str(own)
    dist.destroy_process_group()  # not after a failure, as others may wait for what will not come


def _own_device(device: str, number: int, count: int) -> torch.device:
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "cpu" or (device == "auto" and gpus == 0):
        return torch.device("cpu")
    if device not in ("auto", "cuda"):
        raise SettingsError(
            f"device {device} is for a run of one process; with several each takes a GPU of its own, so leave --device "
            "out, or choose cuda or cpu"
        )
    if count > gpus:
        raise SettingsError(
            f"there are {count} processes on this machine and {gpus} CUDA GPUs; start as many as there are GPUs "
            "(--nproc-per-node), or choose --device cpu"
        )
    return torch.device("cuda", number)


@contextmanager
def _losses_in_words() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # whatever the backend raises
        if is_out_of_memory(error) or "CUDA error" in str(error):  # of this process
            raise
        raise ProcessLost("another process of this run has ended or cannot be reached") from error


class _Sum(torch.autograd.Function):
    """Its gradient is the sum of the gradients, so it can be differentiated any number of times."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        with _losses_in_words():
            dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return cast(Tensor, _Sum.apply(gradient))


def share_layers(network: nn.Module, group: Group) -> None:
    """Have layers that see the whole batch in training see that of all processes; elsewhere they stay what they are."""
    for layer in network.modules() if group.size > 1 else ():
        if (shared := _SHARED.get(type(layer))) is not None:
            layer.__class__ = shared
            object.__setattr__(layer, "group", group)


class _SharedNorm(StatisticsNorm):
    group: Group

    def forward(self, x: Tensor) -> Tensor:
        if self.running_mean is None or self.running_var is None or not self.training:
            return super().forward(x)
        mean, var = _moments(x, self.group, self.running_mean.dtype)
        with torch.no_grad():
            count = self.group.size * x.numel() // x.shape[1]
            cast(Tensor, self.num_batches_tracked).add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * (count / (count - 1)), self.momentum)
        return _normalised(x, mean, var + self.eps, cast(Tensor, self.weight), cast(Tensor, self.bias))


class _SharedRenorm(BatchRenorm):
    group: Group

    def _train_on(self, x: Tensor) -> Tensor:
        mean, var = _moments(x, self.group, cast(Tensor, self.running_mean).dtype)
        weight, bias = self._corrected(mean.detach(), var.detach())
        return _normalised(x, mean, var + self.eps, weight, bias)


class _SharedDropout(PositionedDropout):
    """All processes draw the noise of the whole batch, so that their random numbers stay the same."""

    group: Group

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        layout = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
        whole = (self.group.size * x.shape[0], *x.shape[1:])
        ones = torch.empty(whole, dtype=x.dtype, device=x.device, memory_format=layout).fill_(1)
        return x * self.group.own(F.dropout(ones, DROPOUT_RATE, True))


_SHARED: dict[type[nn.Module], type[Any]] = {
    StatisticsNorm: _SharedNorm,
    BatchRenorm: _SharedRenorm,
    PositionedDropout: _SharedDropout,
}


def _moments(x: Tensor, group: Group, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel over the patches of all processes, which have equally many."""
    var, mean = torch.var_mean(x.to(dtype), (0, 2, 3), correction=0)
    variances, means = group.stacked(torch.stack([var, mean])).unbind(1)
    whole = means.mean(0)
    return whole, (variances + (means - whole).square()).mean(0)


def _normalised(x: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    scale = weight * torch.rsqrt(var)
    shift = torch.addcmul(bias, mean, scale, value=-1)
    return torch.addcmul(shift[:, None, None], x.to(scale.dtype), scale[:, None, None]).to(x.dtype)
