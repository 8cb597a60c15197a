"""An image as it lies on another one: resampled where it is read, so that larger images than memory can be moved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pix2pix_training.array_source import AnyArray, ArraySource, Opacity, SourceView, plane_size
from pix2pix_training.invalid_pixels import OPAQUE, invalid_values, keep_off_nodata
from pix2pix_training.regions import Region

Coordinates = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Transform:
    """Where what the source shows at (y, x) lies in the target: (y, x) + shift + stretch (y - cy, x - cx).

    (cy, cx) is the middle of the image. `shift` is (down, right) in pixels; `stretch` (yy, yx, xy, xx) is a matrix,
    0 for a shift alone.
    """

    shift: tuple[float, float]
    stretch: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)

    @property
    def rotation_degrees(self) -> float:
        """Clockwise, as the image is seen."""
        _, yx, xy, _ = self.stretch
        return float(np.degrees((yx - xy) / 2))

    def places(self, y: Coordinates, x: Coordinates, size: tuple[int, int]) -> tuple[Coordinates, Coordinates]:
        """Coordinates in a target of `size` of rows (h, 1) and columns (1, w) of the source; each (h, w)."""
        yy, yx, xy, xx = self.stretch
        v, u = y - (size[0] - 1) / 2, x - (size[1] - 1) / 2
        return y + self.shift[0] + yy * v + yx * u, x + self.shift[1] + xy * v + xx * u

    def distance_px(self, size: tuple[int, int]) -> float:
        """How far pixels of an image of `size` are moved, root mean square."""
        y, x = np.linspace(0, size[0] - 1, 17)[:, None], np.linspace(0, size[1] - 1, 17)[None]
        rows, columns = self.places(y, x, size)
        return float(np.sqrt(((rows - y) ** 2 + (columns - x) ** 2).mean()))


class AlignedSource(SourceView):
    """A target as it lies on its source. Only the part that is needed is read.

    Intensities are interpolated by cubic convolution (Keys 1981), each pixel from 4 x 4; `nearest` takes the nearest
    pixel, as classes need it. A pixel has no data where it comes from beyond the image, or from one without data.
    A pixel depends on its place alone, not on what else is read.
    """

    def __init__(self, base: ArraySource, transform: Transform, *, nearest: bool) -> None:
        super().__init__(base)
        self.transform = transform
        self._nearest = nearest
        self.masked = True

    def read_with_opacity(self, region: Region, plane: tuple[int, ...] = ()) -> tuple[AnyArray, Opacity | None]:
        size = height, width = plane_size(self)
        rows, columns = np.arange(*region.rows, dtype=float)[:, None], np.arange(*region.columns, dtype=float)[None]
        y, x = self.transform.places(rows, columns, size)
        outside = (y < -0.5) | (y > height - 0.5) | (x < -0.5) | (x > width - 0.5)
        y, x = y.clip(0, height - 1), x.clip(0, width - 1)
        needed = Region(int(y.min()), int(y.max()) + 1, int(x.min()), int(x.max()) + 1).grown(2, size)
        stored, opacity = self._base.read_with_opacity(needed, plane)
        invalid = np.asarray(invalid_values(stored, self.nodata, opacity).any(0))
        y, x = y - needed.y0, x - needed.x0
        if self._nearest:
            index = np.rint(y).astype(int), np.rint(x).astype(int)
            pixels, hidden = stored[:, *index], outside | invalid[index]
        else:
            pixels, tainted = _interpolated(np.where(invalid, 0, stored), invalid, y, x)
            pixels, hidden = _storable(pixels, self.dtype), outside | tainted
        if self.nodata is not None and not np.isnan(self.nodata):
            pixels = keep_off_nodata(pixels, self.nodata)
        return np.ascontiguousarray(pixels), np.where(hidden, 0, OPAQUE).astype(np.uint8)


def _interpolated(
    stored: AnyArray, invalid: NDArray[np.bool_], y: Coordinates, x: Coordinates
) -> tuple[AnyArray, NDArray[np.bool_]]:
    """Pixels (C, h, w) at places (h, w) in an image, and which of them have an invalid one in them."""
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    down, right = _weights(y - top), _weights(x - left)
    pixels, tainted = np.zeros((len(stored), *y.shape)), np.zeros(y.shape, bool)
    has_invalid = bool(invalid.any())
    for i in range(4):
        row = (top + i - 1).clip(0, stored.shape[1] - 1)
        for j in range(4):
            column, weight = (left + j - 1).clip(0, stored.shape[2] - 1), down[i] * right[j]
            pixels += weight * stored[:, row, column]
            if has_invalid:
                tainted |= invalid[row, column] & (weight != 0)
    return pixels, tainted


def _weights(t: Coordinates) -> tuple[Coordinates, ...]:
    """Of the pixels at -1, 0, 1 and 2 for a place between 0 and 1."""
    return (
        ((-0.5 * t + 1) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1,
        ((-1.5 * t + 2) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    )


def _storable(pixels: AnyArray, dtype: np.dtype[Any]) -> AnyArray:
    if dtype.kind == "b":
        return np.asarray(pixels >= 0.5)
    if dtype.kind == "f":
        return pixels.astype(dtype)
    limits = np.iinfo(dtype)
    return (
        np.rint(pixels)
        .clip(limits.min, np.nextafter(float(limits.max), 0) if limits.bits > 53 else limits.max)
        .astype(dtype)
    )
