"""An image at another number of pixels, computed region by region.

A pixel of the result is defined by image coordinates alone: a triangle filter around its centre, as wide as the larger
of the two pixel sizes (so that shrinking averages), or the nearest pixel. It is the same, however the image is cut into
regions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pix2pix_training.array_source import AnyArray, ArraySource, SourceView
from pix2pix_training.regions import Region


@dataclass(frozen=True)
class _Taps:
    """For each pixel of the result along one axis: pixels of the base, shape (pixels, taps), and their weights."""

    indices: NDArray[np.int64]
    weights: NDArray[np.float64]

    @property
    def first(self) -> int:
        return int(self.indices.min())

    @property
    def end(self) -> int:
        return int(self.indices.max()) + 1


class ResampledSource(SourceView):
    """Another source stretched to `size` (rows, columns); the base must have no invalid pixels, so all are opaque.

    Parameters
    ----------
    nearest : take the nearest pixel, for categories; else filter. Integers are rounded half to even.
    """

    def __init__(self, base: ArraySource, size: tuple[int, int], *, nearest: bool) -> None:
        super().__init__(base)
        self.nodata = None
        self.masked = False
        self._base_size = base.shape[-2:]
        self.shape = (*base.shape[:-2], *size)
        self._nearest = nearest

    def read_with_opacity(self, region: Region, plane: tuple[int, ...] = ()) -> tuple[AnyArray, None]:
        rows = self._taps(0, region.y0, region.y1)
        columns = self._taps(1, region.x0, region.x1)
        stored = self._base.read(Region(rows.first, rows.end, columns.first, columns.end), plane)
        y, x = rows.indices - rows.first, columns.indices - columns.first
        if self._nearest:
            return stored[:, y[:, 0]][:, :, x[:, 0]], None
        narrow = _sum(stored[:, :, x[:, k]] * columns.weights[:, k] for k in range(x.shape[1]))
        result = _sum(narrow[:, y[:, k]] * rows.weights[:, k, None] for k in range(y.shape[1]))
        return self._rounded(result), None

    def _taps(self, axis: int, start: int, stop: int) -> _Taps:
        length, count = self._base_size[axis], self.shape[-2 + axis]
        scale = length / count
        pixels = np.arange(start, stop)
        if self._nearest:
            nearest = np.minimum(((pixels + 0.5) * scale).astype(np.int64), length - 1)
            return _Taps(nearest[:, None], np.ones((len(pixels), 1)))
        centres = (pixels + 0.5) * scale - 0.5
        radius = max(scale, 1.0)
        indices = np.ceil(centres - radius).astype(np.int64)[:, None] + np.arange(int(2 * radius) + 1)
        weights = np.maximum(1 - np.abs(indices - centres[:, None]) / radius, 0)
        weights[(indices < 0) | (indices >= length)] = 0
        return _Taps(np.clip(indices, 0, length - 1), weights / weights.sum(1, keepdims=True))

    def _rounded(self, values: AnyArray) -> AnyArray:
        if self.dtype.kind == "f":
            return values.astype(self.dtype)
        if self.dtype.kind == "b":
            return values >= 0.5
        return np.rint(values).astype(self.dtype)


def _sum(parts: Iterator[AnyArray]) -> AnyArray:
    """In the order given, so that the last bit too is the same for every cut into regions."""
    total = next(parts)
    for part in parts:
        total += part
    return total
