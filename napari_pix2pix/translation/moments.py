"""Mean and variance of each channel over a plane that is only ever seen in parts."""

from __future__ import annotations

import torch
from torch import Tensor

_CHUNK = 8192
"""Values per channel that are summed in single precision at a time."""


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
