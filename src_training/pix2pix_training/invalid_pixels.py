"""Pixels that are NaN, infinite, nodata or transparent: found, filled for networks, left out of losses and fits.

One NaN would otherwise spoil almost the whole result. The fill depends only on image coordinates, not on how the image
is read: the nearest block of 64 x 64 pixels with a valid one gives its mean.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pix2pix_training.array_source import AnyArray, ArraySource, Opacity, SourceView, equals_nodata, plane_size
from pix2pix_training.block_means import BLOCK, BlockMeans
from pix2pix_training.errors import NoValidPixelError
from pix2pix_training.regions import Region

OPAQUE = 255


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
