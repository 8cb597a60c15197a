"""Pixels that are NaN, infinite, nodata or transparent: found, filled for networks, left out of losses and fits.

One NaN would otherwise spoil almost the whole result. The fill depends only on image coordinates, not on how the image
is read: the mean of the valid pixels of its block of 64 x 64, else that of the nearest block that has some.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from pix2pix_training.array_source import AnyArray, ArraySource, Opacity, SourceView, equals_nodata, plane_size
from pix2pix_training.errors import NoValidPixelError
from pix2pix_training.regions import Region

logger = logging.getLogger(__name__)

OPAQUE = 255
BLOCK = 64
_FIELD = 16
"""Blocks along a side of a field: that many are read at once, and looked through around a field before all are."""

Invalid = NDArray[np.bool_]
Read = Callable[[Region], tuple[AnyArray, Invalid]]
"""Pixels (C, h, w) of a region, and the mask of the values that are invalid."""


def can_have_invalid_pixels(image: ArraySource) -> bool:
    return image.dtype.kind == "f" or image.nodata is not None or image.masked


def invalid_values(stored: AnyArray, nodata: float | None, opacity: Opacity | None = None) -> NDArray[np.bool_]:
    """Mask of shape (C, H, W): values that are not finite, that are nodata (see `equals_nodata`), or transparent.

    `opacity`, shape (H, W), is None where the image does not say.
    """
    invalid = ~np.isfinite(stored) if stored.dtype.kind == "f" else np.zeros(stored.shape, bool)
    if nodata is not None and not np.isnan(nodata):
        invalid |= equals_nodata(stored, nodata)
    if opacity is not None:
        invalid |= opacity == 0
    return invalid


def keep_off_nodata(pixels: AnyArray, nodata: float) -> AnyArray:
    """Valid pixels in a type that can hold `nodata`, any value that equals it moved to the next one; in place."""
    equal = pixels == nodata
    if not equal.any():
        return pixels
    if pixels.dtype.kind == "f":
        pixels[equal] = np.nextafter(pixels.dtype.type(nodata), pixels.dtype.type(np.inf))
    elif pixels.dtype != np.bool_:
        pixels[equal] = int(nodata) + (1 if nodata < np.iinfo(pixels.dtype).max else -1)
    return pixels


class FilledSource(SourceView):
    """An `ArraySource` whose invalid values are replaced; `read_with_mask` says where they were.

    Raises `NoValidPixelError` at the first read of a plane where no pixel is valid in all channels; with `may_be_empty`
    such a plane is 0 instead, and all invalid.
    """

    def __init__(self, base: ArraySource, *, may_be_empty: bool = False) -> None:
        super().__init__(base)
        self._may_be_empty = may_be_empty
        self._told = False
        self._can_have_invalid = can_have_invalid_pixels(base)
        self._blocks: dict[tuple[int, ...], BlockMeans] = {}

    def read_with_mask(self, region: Region, plane: tuple[int, ...] = ()) -> tuple[AnyArray, NDArray[np.bool_] | None]:
        """Filled pixels (C, h, w), and the mask (h, w) of pixels invalid in any channel, None where all are valid."""
        pixels, opacity = self.read_with_opacity(region, plane)
        invalid = None if opacity is None else opacity == 0
        return pixels, invalid if invalid is not None and invalid.any() else None

    def read_with_opacity(self, region: Region, plane: tuple[int, ...] = ()) -> tuple[AnyArray, Opacity | None]:
        """Filled pixels (C, h, w), and their opacity, 0 where invalid in any channel; None where all show."""
        stored, opacity = self._base.read_with_opacity(region, plane)
        if not self._can_have_invalid:
            return stored, None
        invalid = invalid_values(stored, self.nodata, opacity)
        try:
            self._blocks_of(plane).add(region, stored, invalid)
        except NoValidPixelError:
            if not self._may_be_empty:
                raise
            return np.zeros_like(stored), np.zeros(stored.shape[1:], np.uint8)
        if invalid.any():
            self._tell_of_infinity(stored[invalid])
            self._fill(region, plane, stored, invalid)
        return stored, _combined(opacity, invalid)

    def opacity(self, region: Region, plane: tuple[int, ...] = ()) -> Opacity | None:
        """What `read_with_opacity` says of opacity, also of planes without a valid pixel."""
        if not self._can_have_invalid:
            return None
        stored, opacity = self._base.read_with_opacity(region, plane)
        return _combined(opacity, invalid_values(stored, self.nodata, opacity))

    def require_valid_pixel(self, plane: tuple[int, ...] = ()) -> None:
        """Raise `NoValidPixelError` where no pixel of the plane is valid in all channels."""
        if self._can_have_invalid:
            self._blocks_of(plane).require_valid_pixel()

    def has_valid_pixel(self, plane: tuple[int, ...] = ()) -> bool:
        """Whether a pixel of the plane is valid in all channels; reads until it finds one."""
        try:
            self.require_valid_pixel(plane)
        except NoValidPixelError:
            return False
        return True

    def _tell_of_infinity(self, values: AnyArray) -> None:
        if (
            not self._told
            and self.dtype.kind == "f"
            and self.nodata not in (np.inf, -np.inf)
            and np.isinf(values).any()
        ):
            self._told = True
            logger.warning("%s: infinite values are taken for missing ones, as NaN is", self.name)

    def _fill(self, region: Region, plane: tuple[int, ...], stored: AnyArray, invalid: NDArray[np.bool_]) -> None:
        blocks = region.in_cells(BLOCK)
        rows = np.arange(region.y0, region.y1) // BLOCK - blocks.y0
        columns = np.arange(region.x0, region.x1) // BLOCK - blocks.x0
        starts = np.searchsorted(rows, range(blocks.height)), np.searchsorted(columns, range(blocks.width))
        needed = np.logical_or.reduceat(np.logical_or.reduceat(invalid, starts[0], axis=1), starts[1], axis=2)
        means = self._blocks_of(plane).of(blocks, needed)
        stored[invalid] = self._storable(means)[:, rows[:, None], columns][invalid]

    def _storable(self, means: AnyArray) -> AnyArray:
        """Means in the type of the image; 0 for NaN."""
        values = np.nan_to_num(means, nan=0.0, posinf=None, neginf=None)
        if self.dtype.kind == "f":
            return values.astype(self.dtype)
        if self.dtype.kind == "b":
            return values >= 0.5
        limits = np.iinfo(self.dtype)
        greatest = float(limits.max)
        if int(greatest) > limits.max:  # floats have no number for the greatest of 64 bits
            greatest = float(np.nextafter(greatest, 0))
        return np.round(values).clip(float(limits.min), greatest).astype(self.dtype)

    def _blocks_of(self, plane: tuple[int, ...]) -> BlockMeans:
        if plane not in self._blocks:
            channels, (height, width) = self.shape[-3], plane_size(self)

            def read(region: Region) -> tuple[AnyArray, NDArray[np.bool_]]:
                stored, opacity = self._base.read_with_opacity(region, plane)
                return stored, invalid_values(stored, self.nodata, opacity)

            self._blocks[plane] = BlockMeans(self.name, (channels, height, width), read)
        return self._blocks[plane]


def _combined(opacity: Opacity | None, invalid: NDArray[np.bool_]) -> Opacity | None:
    """Opacity (h, w) with 0 where a pixel is invalid in any channel; None where all show."""
    hidden = invalid.any(0)
    if hidden.any():
        opacity = np.full(hidden.shape, OPAQUE, np.uint8) if opacity is None else opacity
        opacity[hidden] = 0
    return None if opacity is None or (opacity == OPAQUE).all() else opacity


class BlockMeans:
    """The blocks of one plane; thread-safe. Each of its pixels is read at most once for them.

    Parameters
    ----------
    name : of the image, for messages.
    shape : channels, height and width.
    read : gives the pixels of a region.
    """

    def __init__(self, name: str, shape: tuple[int, int, int], read: Read) -> None:
        channels, self._height, self._width = shape
        self._name = name
        self._read = read
        self._means = np.full((channels, -(-self._height // BLOCK), -(-self._width // BLOCK)), np.nan)
        self._known = np.zeros(self._means.shape[1:], bool)
        self._filled_fields: dict[Region, AnyArray] = {}
        self._filled: AnyArray | None = None
        self._some_valid = False
        self._lock = RLock()

    def add(self, region: Region, stored: AnyArray, invalid: Invalid) -> None:
        """Learn from a region that was read.

        Raises
        ------
        NoValidPixelError
            No pixel of the region is valid in all channels, nor is any of the plane.
        """
        with self._lock:
            self._learn(region, stored, invalid)
            self.require_valid_pixel()

    def require_valid_pixel(self) -> None:
        """Raise `NoValidPixelError` where no pixel of the plane is valid in all channels; reads until it finds one."""
        with self._lock:
            for blocks in () if self._some_valid else self._blocks_from_the_middle():
                self._know(blocks)
                if self._some_valid:
                    break
            if not self._some_valid:
                raise NoValidPixelError(
                    f"{self._name}: not one valid pixel (all are NaN, infinite, nodata or transparent)"
                )

    def of(self, blocks: Region, needed: Invalid) -> AnyArray:
        """What to fill a rectangle of blocks with, shape (C, rows, columns); NaN may stand where it is not `needed`.

        Parameters
        ----------
        blocks : rows and columns of blocks.
        needed : of the shape of the result.
        """
        with self._lock:
            for row, column in np.argwhere(needed.any(0) & ~self._known[blocks.slices]):
                y, x = blocks.y0 + int(row), blocks.x0 + int(column)
                self._know(Region(y, y + 1, x, x + 1))
            means: AnyArray = self._means[:, *blocks.slices].copy()
            missing = needed & np.isnan(means)
            if missing.any():
                for field in _fields_touching(blocks):
                    common = field.common(blocks)
                    part = (slice(None), *common.seen_from(blocks).slices)
                    if missing[part].any():
                        filled = self._filled_field(field)[(slice(None), *common.seen_from(field).slices)]
                        means[part] = np.where(missing[part], filled, means[part])
            return means

    def _know(self, blocks: Region) -> None:
        """Read a rectangle of blocks, where it is not known."""
        if not self._known[blocks.slices].all():
            region = blocks.of_cells(BLOCK).common(Region.whole(self._height, self._width))
            self._learn(region, *self._read(region))

    def _learn(self, region: Region, stored: AnyArray, invalid: Invalid) -> None:
        self._some_valid = self._some_valid or not bool(invalid.any(0).all())
        blocks = self._blocks_within(region)
        if blocks.is_empty or self._known[blocks.slices].all():
            return
        inner = blocks.of_cells(BLOCK).seen_from(region).slices
        self._means[:, *blocks.slices] = _means(stored[:, *inner], invalid[:, *inner])
        self._known[blocks.slices] = True

    def _blocks_within(self, region: Region) -> Region:
        """The blocks of which all pixels lie in a region; the last ones of a plane may be smaller than others."""
        rows, columns = self._known.shape
        return Region(
            -(-region.y0 // BLOCK),
            rows if region.y1 == self._height else region.y1 // BLOCK,
            -(-region.x0 // BLOCK),
            columns if region.x1 == self._width else region.x1 // BLOCK,
        )

    def _blocks_from_the_middle(self) -> Iterator[Region]:
        """The block in the middle of the plane, which is valid as a rule, then all fields."""
        rows, columns = self._known.shape
        yield Region.at(rows // 2, columns // 2, 1, 1)
        fields = list(_fields_touching(Region.whole(rows, columns)))
        yield from sorted(fields, key=lambda f: abs(f.y0 + f.y1 - rows) + abs(f.x0 + f.x1 - columns))

    def _filled_field(self, field: Region) -> AnyArray:
        """Means of a field, shape (C, rows, columns), in which blocks without a valid pixel have that of the nearest.

        Where that is further away than a field is long, all blocks of the plane are looked through.
        """
        if field not in self._filled_fields:
            around = field.grown(_FIELD, (self._known.shape[0], self._known.shape[1]))
            for other in _fields_touching(around):
                self._know(other)
            inside = field.common(around).seen_from(around).slices
            parts = [_nearest(channel) for channel in self._means[:, *around.slices]]
            if any(distances[inside].max() > _FIELD for _, distances in parts):
                inside = field.common(around).slices
                filled = self._filled_plane()[:, *inside]
            else:
                filled = np.stack([means[inside] for means, _ in parts])
            self._filled_fields[field] = filled
        return self._filled_fields[field]

    def _filled_plane(self) -> AnyArray:
        if self._filled is None:
            rows, columns = self._known.shape
            for field in _fields_touching(Region.whole(rows, columns)):
                self._know(field)
            self._filled = np.stack([_nearest(channel)[0] for channel in self._means])
        return self._filled


def _fields_touching(blocks: Region) -> Iterator[Region]:
    """Fields that lie on their grid; those at the end of a plane reach beyond it."""
    return (Region.at(y * _FIELD, x * _FIELD, _FIELD, _FIELD) for y, x in blocks.in_cells(_FIELD).places())


def _means(stored: AnyArray, invalid: Invalid) -> AnyArray:
    """Means of the valid values of each block (C, rows, columns), NaN where there are none.

    The values of a block are summed in the same order, whatever it is read with.
    """
    channels, height, width = stored.shape
    rows, columns = -(-height // BLOCK), -(-width // BLOCK)
    padding = ((0, 0), (0, rows * BLOCK - height), (0, columns * BLOCK - width))
    values = np.pad(np.where(invalid, 0, stored.astype(np.float64)), padding)
    counts = np.pad(~invalid, padding)
    shape = (channels, rows, BLOCK, columns, BLOCK)
    flat = (channels, rows, columns, BLOCK * BLOCK)
    sums = np.ascontiguousarray(values.reshape(shape).swapaxes(2, 3)).reshape(flat).sum(-1)
    valid = counts.reshape(shape).sum((2, 4))
    means: AnyArray = np.where(valid > 0, sums / np.maximum(valid, 1), np.nan)
    return means


def _nearest(means: AnyArray) -> tuple[AnyArray, AnyArray]:
    """The means (rows, columns) with each NaN replaced by the nearest mean, and how far away that is, in blocks."""
    missing = np.isnan(means)
    if missing.all():
        return means, np.full(means.shape, np.inf)
    found: Any = distance_transform_edt(missing, return_indices=True)
    distances, indices = found
    return means[tuple(indices)], distances
