"""Turns tiles of any size into the square tiles of a file, the parts that are written at a time, and the levels of a
pyramid.

Nothing but unfinished squares is kept: a square leaves as soon as its last pixel has come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from napari_pix2pix.formats.writing import OutputSpec, Steps, Tile
from pix2pix_training.array_source import AnyArray
from pix2pix_training.invalid_pixels import keep_off_nodata
from pix2pix_training.regions import Region

Emit = Callable[[int, int, AnyArray], None]
"""Row and column of a square in the grid, and its pixels, shape (C, size, size), zero beyond the image."""


@dataclass
class _Unfinished:
    pixels: AnyArray
    missing: int


class TileGrid:
    """Squares of `size` pixels over a plane of shape (C, Y, X)."""

    def __init__(self, shape: tuple[int, int, int], dtype: np.dtype[np.generic], size: int, emit: Emit) -> None:
        self._channels, self._height, self._width = shape
        self._dtype = dtype
        self._size = size
        self._emit = emit
        self._unfinished: dict[tuple[int, int], _Unfinished] = {}

    def add(self, region: Region, pixels: AnyArray) -> None:
        """Take pixels of shape (C, region.height, region.width); every pixel must come once."""
        for row, column in region.in_cells(self._size).places():
            place = Region.at(row * self._size, column * self._size, self._size, self._size)
            part = region.common(place)
            self._place(row, column, part.seen_from(place), pixels[:, *part.seen_from(region).slices])

    def _place(self, row: int, column: int, part: Region, pixels: AnyArray) -> None:
        square = self._unfinished.pop((row, column), None) or self._empty(row, column)
        square.pixels[:, *part.slices] = pixels
        square.missing -= part.pixels
        if square.missing:
            self._unfinished[row, column] = square
        else:
            self._emit(row, column, square.pixels)

    def _empty(self, row: int, column: int) -> _Unfinished:
        height, width = self.extent(row, column)
        return _Unfinished(np.zeros((self._channels, self._size, self._size), self._dtype), height * width)

    def extent(self, row: int, column: int) -> tuple[int, int]:
        """Height and width of the part of a square that lies within the image."""
        return min(self._size, self._height - row * self._size), min(self._size, self._width - column * self._size)


def pyramid_sizes(height: int, width: int, *, largest_px: int) -> list[tuple[int, int]]:
    """Sizes of the levels, each half of the one before (rounded up), until none is longer than `largest_px`."""
    sizes = [(height, width)]
    while max(sizes[-1]) > largest_px:
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes


def halved(pixels: AnyArray, *, average: bool, nodata: float | None = None) -> AnyArray:
    """Shape (C, Y, X) to (C, ceil(Y/2), ceil(X/2)): means of 2 x 2 pixels in the same dtype, or every second pixel.

    Values that equal `nodata`, or are not finite, are left out of the means; four of them give `nodata`, or NaN where
    there is no such value.
    """
    if not average or pixels.dtype == np.bool_:
        return pixels[:, ::2, ::2]
    if nodata is not None or (pixels.dtype.kind == "f" and not np.isfinite(pixels).all()):
        return _halved_valid(pixels, float("nan") if nodata is None else nodata)
    even = np.pad(pixels, ((0, 0), (0, pixels.shape[1] % 2), (0, pixels.shape[2] % 2)), mode="edge")
    wide = np.float64 if even.dtype.itemsize > 2 else np.float32
    total: AnyArray = even[:, ::2, ::2].astype(wide)
    for y, x in ((0, 1), (1, 0), (1, 1)):
        total += even[:, y::2, x::2]
    total *= 0.25
    rounded: AnyArray = total if even.dtype.kind == "f" else np.rint(total, out=total)
    return rounded.astype(pixels.dtype)


def _halved_valid(pixels: AnyArray, nodata: float) -> AnyArray:
    even = np.pad(pixels, ((0, 0), (0, pixels.shape[1] % 2), (0, pixels.shape[2] % 2)), mode="edge")
    quarters = _quarters(even)
    valid = np.isfinite(quarters) & (quarters != nodata)
    count = valid.sum(0)
    total = np.where(valid, quarters, 0).sum(0, dtype=np.float64) / np.maximum(count, 1)
    means = keep_off_nodata(_stored(total, pixels.dtype), nodata)
    means[count == 0] = nodata
    return means


def halved_by_opacity(pixels: AnyArray, alpha: AnyArray, *, average: bool) -> tuple[AnyArray, AnyArray]:
    """Like `halved`, of an even number of rows and columns, each pixel weighed by its opacity, shape (Y, X).

    Also gives the mean opacity; where that is 0, pixels are 0.
    """
    if not average:
        return pixels[:, ::2, ::2], alpha[::2, ::2]
    weights = _quarters(alpha).astype(np.float64)
    total = weights.sum(0)
    shown = np.where(weights[:, None] > 0, _quarters(pixels), 0)
    means = (shown * weights[:, None]).sum(0) / np.maximum(total, 1)
    return _stored(means, pixels.dtype), _stored(total / 4, alpha.dtype)


def _quarters(pixels: AnyArray) -> AnyArray:
    """Shape (..., Y, X) to (4, ..., Y/2, X/2): the four pixels of each block of 2 x 2."""
    return np.stack([pixels[..., y::2, x::2] for y in (0, 1) for x in (0, 1)])


def _stored(values: AnyArray, dtype: np.dtype[np.generic]) -> AnyArray:
    """Real numbers within the range of `dtype`, rounded for integers."""
    return values.astype(dtype) if dtype.kind == "f" else np.rint(values).astype(dtype)


Put = Callable[[tuple[int, ...], Region, AnyArray], object]
"""Takes a full part: its plane and region, and its pixels, shape (samples, region.height, region.width)."""


class PartGrid:
    """Collects the tiles of a plane into squares of `side` pixels, less at the end of rows and columns."""

    def __init__(self, spec: OutputSpec, plane: tuple[int, ...], side: int, put: Put) -> None:
        def emit(row: int, column: int, square: AnyArray) -> None:
            height, width = self._grid.extent(row, column)
            put(plane, Region.at(row * side, column * side, height, width), square[:, :height, :width])

        self._grid = TileGrid((spec.samples, spec.height, spec.width), spec.dtype, side, emit)

    def add(self, region: Region, pixels: AnyArray) -> None:
        """Take a tile; every pixel must come once."""
        self._grid.add(region, pixels)


def fill(tiles: Iterable[Tile], spec: OutputSpec, side: int, put: Put) -> Steps:
    """Hand on a whole image in parts, from tiles as `write_image` takes them."""
    current: tuple[int, ...] | None = None
    for plane, region, pixels in tiles:
        if plane != current:
            current, grid = plane, PartGrid(spec, plane, side, put)
        grid.add(region, pixels)
        yield
