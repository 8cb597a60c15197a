"""Norms on the statistics of a whole image that is only ever seen in parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from pix2pix_training.layers import StatisticsNorm
from pix2pix_training.networks import UNet
from pix2pix_training.regions import Region
from pix2pix_training.stages import decoder_norm, encoder_norm, scale_and_shift

_CHUNK = 8192
"""Values per channel that are summed in single precision at a time."""


class GatheredNorms:
    """Scale and shift of a network's norms for one image, found from the raw features that pass by.

    Parameters
    ----------
    known : those that were found before.

    Attributes
    ----------
    inputs : by name of the stages' input; see `pix2pix_training.stages`.
    """

    def __init__(self, network: UNet, known: Mapping[str, Tensor] | None = None) -> None:
        levels = range(1, network.depth + 1)
        norms = {encoder_norm(k): network.down_block(k).norm for k in levels}
        norms |= {decoder_norm(k): network.up_block(k).norm for k in levels}
        self._wanted = {
            name: norm
            for name, norm in norms.items()
            if isinstance(norm, StatisticsNorm) and not norm.uses_running_statistics
        }
        self.inputs: dict[str, Tensor] = dict(known or {})

    @property
    def any_wanted(self) -> bool:
        return bool(self._wanted)

    @property
    def is_complete(self) -> bool:
        return self._wanted.keys() <= self.inputs.keys()

    def wants(self, name: str) -> bool:
        """Whether a norm uses the statistics of the image, and has them not yet."""
        return name in self._wanted and name not in self.inputs

    def watch(self, name: str, raws: Iterable[tuple[Region, Tensor]]) -> Iterator[tuple[Region, Tensor]]:
        """Pass raw features (1, C, h, w) on; after the last of them the norm is known, if it is one of those wanted."""
        if not self.wants(name):
            yield from raws
            return
        moments = Moments()
        for region, raw in raws:
            moments.add(raw)
            yield region, raw
        self.inputs[name] = scale_and_shift(self._wanted[name], *moments.result())

    def gather(self, name: str, raws: Iterable[tuple[Region, Tensor]]) -> None:
        """Take raw features only for their statistics."""
        for _ in self.watch(name, raws):
            pass


class Moments:
    """Sums up in float64, part by part (Chan, Golub and LeVeque 1979: updating formulae for pairwise merging)."""

    def __init__(self) -> None:
        self._count = 0
        self._mean: Tensor | None = None
        self._squares: Tensor | None = None
        self._dtype = torch.float64

    def add(self, part: Tensor) -> None:
        """Take a part (1, C, h, w); every cell of the plane must come once."""
        part = part.float() if part.dtype in (torch.float16, torch.bfloat16) else part
        self._dtype = part.dtype
        rows = max(1, _CHUNK // part.shape[-1])
        for top in range(0, part.shape[-2], rows):
            chunk = part[..., top : top + rows, :]
            mean, var = _mean_and_variance(chunk)
            self._merge(chunk.shape[-2] * chunk.shape[-1], mean.double(), var.double())

    def _merge(self, count: int, mean: Tensor, var: Tensor) -> None:
        if self._mean is None or self._squares is None:
            self._count, self._mean, self._squares = count, mean, var * count
            return
        total = self._count + count
        delta = mean - self._mean
        self._squares += var * count + delta.square() * (self._count * count / total)
        self._mean += delta * (count / total)
        self._count = total

    def result(self) -> tuple[Tensor, Tensor]:
        """Mean and biased variance, (C,) each, in the precision of the parts."""
        if self._mean is None or self._squares is None:
            raise ValueError("no part was added")
        return self._mean.to(self._dtype), (self._squares / self._count).to(self._dtype)


def _mean_and_variance(x: Tensor) -> tuple[Tensor, Tensor]:
    if x.device.type == "cpu":  # many times faster than var_mean on channels_last tensors
        mean, var = torch.batch_norm_update_stats(x, None, None, 0.0)
        return mean, var
    var, mean = torch.var_mean(x, (0, 2, 3), correction=0)
    return mean, var
