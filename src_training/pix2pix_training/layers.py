"""The two layers whose behaviour at inference a model file decides: norm, and dropout as noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_never, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pix2pix_training.choices import Norm, OutputActivation, Statistics

DROPOUT_RATE = 0.5


class StatisticsNorm(nn.Module):
    """Batch or instance norm that can be told at inference whose statistics to use.

    In training mode it is the plain layer. In eval mode: the running averages ("running"), or the statistics of each
    image in hand ("image", "tile").
    """

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(self, channels: int, *, affine: bool, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.channels = channels
        self.eps = eps
        self.momentum = momentum
        self.statistics: Statistics = "running" if affine else "image"
        if affine:
            self.weight = nn.Parameter(torch.ones(channels))
            self.bias = nn.Parameter(torch.zeros(channels))
            self.register_buffer("running_mean", torch.zeros(channels))
            self.register_buffer("running_var", torch.ones(channels))
            self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))
        else:
            self.weight = self.bias = self.running_mean = self.running_var = self.num_batches_tracked = None

    @property
    def has_running_statistics(self) -> bool:
        return self.running_mean is not None

    @property
    def uses_running_statistics(self) -> bool:
        """Whether the layer in eval mode is a fixed scale and shift."""
        return self.has_running_statistics and self.statistics == "running"

    def forward(self, x: Tensor) -> Tensor:
        if self.running_mean is None:
            return F.instance_norm(x, eps=self.eps)
        if self.training:
            cast(Tensor, self.num_batches_tracked).add_(1)
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, True, self.momentum, self.eps
            )
        match self.statistics:
            case "running":
                mean, var = self.running_mean, self.running_var
                return F.batch_norm(x, mean, var, self.weight, self.bias, False, 0.0, self.eps)
            case "image" | "tile":
                return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)
            case _:
                assert_never(self.statistics)


class BatchRenorm(StatisticsNorm):
    """Batch norm that in training too gives what the running averages would give, within bounds (Ioffe 2017).

    Training mode corrects the normalised batch to ``(x - mean) / std * r + d`` with ``r = std / running std`` clipped
    to [1 / r_max, r_max] and ``d = (mean - running mean) / running std`` clipped to [-d_max, d_max], both taken as
    constants by the gradient. The bounds start at plain batch norm and widen with the batches seen, which the
    state_dict counts. In eval mode it is a batch norm, with the same state_dict.

    The paper widens over 40,000 steps; here it happens within the first `RELAXED_AT`, as runs may be that short.
    """

    R_MAX = 3.0
    D_MAX = 5.0
    PLAIN_UNTIL = 100
    RELAXED_AT = 500
    LEAST_MOMENTUM = 0.01

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=True, momentum=self.LEAST_MOMENTUM)

    def forward(self, x: Tensor) -> Tensor:
        return self._train_on(x) if self.training else super().forward(x)

    def _train_on(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            var, mean = torch.var_mean(x.to(cast(Tensor, self.running_mean).dtype), (0, 2, 3), correction=0)
        return F.batch_norm(x, None, None, *self._corrected(mean, var), True, 0.0, self.eps)

    def _corrected(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias for a batch of these statistics, which the running averages take in."""
        running_mean, running_var = cast(Tensor, self.running_mean), cast(Tensor, self.running_var)
        weight, bias = cast(Tensor, self.weight), cast(Tensor, self.bias)
        batches = cast(Tensor, self.num_batches_tracked)
        with torch.no_grad():
            widened = ((batches - self.PLAIN_UNTIL) / (self.RELAXED_AT - self.PLAIN_UNTIL)).clamp(0, 1)
            r_max, d_max = 1 + (self.R_MAX - 1) * widened, self.D_MAX * widened
            scale = torch.rsqrt(running_var + self.eps)
            r = torch.clamp(torch.sqrt(var + self.eps) * scale, 1 / r_max, r_max)
            d = torch.clamp((mean - running_mean) * scale, -d_max, d_max)
            batches.add_(1)
            momentum = (1 / batches).clamp(min=self.momentum).to(var.dtype)  # the plain average of the first batches
            running_mean.lerp_(mean, momentum)
            running_var.lerp_(var, momentum)
        return weight * r, torch.addcmul(bias, weight, d)


class SpectralConv2d(nn.Conv2d):
    """A convolution whose weight, as a matrix of outputs by the rest, is divided by its largest singular value.

    That is found by power iteration, one step for each forward in training mode (Miyato 2018, algorithm 1).
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, padding: int, *, bias: bool) -> None:
        super().__init__(inputs, outputs, kernel, stride, padding, bias=bias)
        self.left: Tensor
        self.register_buffer("left", F.normalize(torch.randn(outputs), dim=0))

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            weight = self.weight / self._largest_singular_value()
        return cast(Tensor, self._conv_forward(input, weight, self.bias))

    def _largest_singular_value(self) -> Tensor:
        matrix = self.weight.flatten(1)
        with torch.no_grad():
            right = F.normalize(matrix.T @ self.left, dim=0)
            left = F.normalize(matrix @ right, dim=0)
            if self.training:
                self.left.copy_(left)
        return torch.dot(left, matrix @ right)


class PositionedDropout(nn.Module):
    """Dropout whose noise at inference depends only on seed, layer, channel and place; its input is a whole image.

    In training mode it is plain dropout. `layer` is a number that sets its noise apart from that of other layers.
    """

    def __init__(self, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.seed: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return F.dropout(x, DROPOUT_RATE, True)
        if self.seed is None:
            return x
        return x * dropout_noise(self.seed, self.layer, x.shape[-3:], (0, 0), x.device).to(x.dtype)


def dropout_noise(seed: int, layer: int, shape: Sequence[int], origin: tuple[int, int], device: torch.device) -> Tensor:
    """What a `PositionedDropout` multiplies features by: 0 or 2, (1, *shape).

    Parameters
    ----------
    shape : channels, rows and columns of a window.
    origin : row and column of its first feature among those of the whole image; so a large image gets the same noise
        however it is cut into tiles.
    """
    return _positioned_bits(seed, layer, shape, origin, device).float()[None] / (1 - DROPOUT_RATE)


def _positioned_bits(
    seed: int, layer: int, shape: Sequence[int], origin: tuple[int, int], device: torch.device
) -> Tensor:
    """One fair random bit per feature, shape (channels, rows, columns): a hash of its position (MurmurHash3)."""
    channels, rows, columns = shape
    key = _mix(torch.tensor((seed & 0xFFFFFFFF) ^ ((seed >> 32) * 0x9E3779B1 & 0xFFFFFFFF), device=device) + layer)
    h = _mix(key + torch.arange(channels, device=device)[:, None, None])
    h = _mix(h + torch.arange(origin[0], origin[0] + rows, device=device)[None, :, None])
    h = _mix(h + torch.arange(origin[1], origin[1] + columns, device=device)[None, None, :])
    return h >= 2**31


def _mix(h: Tensor) -> Tensor:
    """Mix the low 32 bits of int64 values."""
    h = (h * 0x9E3779B1) & 0xFFFFFFFF
    h = ((h ^ (h >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
    return h ^ (h >> 16)


class _Joined(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *parts: Tensor) -> Tensor:
        ctx.channels = [part.shape[1] for part in parts]
        return torch.cat(parts, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        layout = torch.contiguous_format if gradient.is_contiguous() else torch.channels_last
        return tuple(part.contiguous(memory_format=layout) for part in torch.split(gradient, ctx.channels, 1))


def join(*parts: Tensor) -> Tensor:
    """Features joined on channels, as `torch.cat` does, but with a gradient that lies densely in memory for each part.

    The backward pass of a batch norm on a CPU takes ten times as long where its gradient is a slice of another.
    """
    return cast(Tensor, _Joined.apply(*parts))


def keeps_running_statistics(kind: Norm) -> bool:
    """Whether a norm is a scale and shift learnt in training; a convolution before it has no bias then."""
    match kind:
        case "batch" | "batch-renorm":
            return True
        case "instance" | "none":
            return False
        case _:
            assert_never(kind)


def make_norm(kind: Norm, channels: int) -> nn.Module:
    match kind:
        case "batch":
            return StatisticsNorm(channels, affine=True)
        case "batch-renorm":
            return BatchRenorm(channels)
        case "instance":
            return StatisticsNorm(channels, affine=False)
        case "none":
            return nn.Identity()
        case _:
            assert_never(kind)


def make_activation(kind: OutputActivation) -> nn.Module:
    """What the last convolution of a generator goes through."""
    match kind:
        case "tanh":
            return nn.Tanh()
        case "linear":
            return nn.Identity()
        case _:
            assert_never(kind)
