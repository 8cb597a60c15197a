"""Pixels that are NaN, infinite, nodata or transparent: found, filled for networks, left out of losses and fits.

One NaN would otherwise spoil almost the whole result. The fill depends only on image coordinates, not on how the image
is read: the nearest block of 64 x 64 pixels with a valid one gives its mean.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from pix2pix_training.array_source import (
    AnyArray,
    ArraySource,
    Opacity,
    Region,
    SourceView,
    plane_size,
    regions_of,
)
from pix2pix_training.errors import ImageError

BLOCK = 64
OPAQUE = 255


def can_have_invalid_pixels(image: ArraySource) -> bool:
    return image.dtype.kind == "f" or image.nodata is not None or image.masked


def invalid_values(stored: AnyArray, nodata: float | None, opacity: Opacity | None = None) -> NDArray[np.bool_]:
    """Mask of shape (C, H, W): values that are not finite, pixels that equal nodata in every channel, or transparent.

    `opacity`, shape (H, W), is None where the image does not say.
    """
    invalid = ~np.isfinite(stored) if stored.dtype.kind == "f" else np.zeros(stored.shape, bool)
    if nodata is not None and not np.isnan(nodata):
        invalid |= (stored == nodata).all(0, keepdims=True)
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

    Raises `ImageError` at the first read of a plane where no pixel of some channel is valid.
    """

    def __init__(self, base: ArraySource) -> None:
        super().__init__(base)
        self._block_means: dict[tuple[int, ...], AnyArray] = {}

    def read_with_mask(self, region: Region, plane: tuple[int, ...] = ()) -> tuple[AnyArray, NDArray[np.bool_] | None]:
        """Filled pixels (C, h, w), and the mask (h, w) of pixels invalid in any channel, None where all are valid."""
        pixels, opacity = self.read_with_opacity(region, plane)
        invalid = None if opacity is None else opacity == 0
        return pixels, invalid if invalid is not None and invalid.any() else None

    def read_with_opacity(self, region: Region, plane: tuple[int, ...] = ()) -> tuple[AnyArray, Opacity | None]:
        """Filled pixels (C, h, w), and their opacity, 0 where invalid in any channel; None where all show."""
        stored, opacity = self._base.read_with_opacity(region, plane)
        if not can_have_invalid_pixels(self):
            return stored, None
        invalid = invalid_values(stored, self.nodata, opacity)
        if not invalid.any():
            return stored, opacity
        means = self._means(plane)
        rows = np.arange(region.y0, region.y1)[:, None] // BLOCK
        columns = np.arange(region.x0, region.x1)[None, :] // BLOCK
        stored[invalid] = means[:, rows, columns].astype(self.dtype)[invalid]
        opacity = np.full(invalid.shape[1:], OPAQUE, np.uint8) if opacity is None else opacity
        opacity[np.any(invalid, axis=0)] = 0
        return stored, opacity

    def require_valid_pixels(self, plane: tuple[int, ...] = ()) -> None:
        """Raise `ImageError` where the plane has a channel without a valid pixel."""
        if can_have_invalid_pixels(self):
            self._means(plane)

    def _means(self, plane: tuple[int, ...]) -> AnyArray:
        if plane not in self._block_means:
            self._block_means[plane] = self._survey(plane)
        return self._block_means[plane]

    def _survey(self, plane: tuple[int, ...]) -> AnyArray:
        """Mean of the valid pixels of each block (C, rows, columns); blocks without one take the nearest block's."""
        height, width = plane_size(self)
        channels = self.shape[-3]
        means = np.full((channels, -(-height // BLOCK), -(-width // BLOCK)), np.nan)
        for region in regions_of(height, width, 16 * BLOCK):
            stored, opacity = self._base.read_with_opacity(region, plane)
            values = np.where(invalid_values(stored, self.nodata, opacity), np.nan, stored.astype(np.float64))
            block_rows, block_columns = -(-region.height // BLOCK), -(-region.width // BLOCK)
            padding = (
                (0, 0),
                (0, block_rows * BLOCK - region.height),
                (0, block_columns * BLOCK - region.width),
            )
            blocks = np.pad(values, padding, constant_values=np.nan)
            blocks = blocks.reshape(channels, block_rows, BLOCK, block_columns, BLOCK)
            valid = np.isfinite(blocks).sum((2, 4))
            sums = np.nansum(blocks, (2, 4))
            y, x = region.y0 // BLOCK, region.x0 // BLOCK
            means[:, y : y + block_rows, x : x + block_columns] = np.where(
                valid > 0, sums / np.maximum(valid, 1), np.nan
            )
        return np.stack([self._fill_gaps(channel) for channel in means])

    def _fill_gaps(self, means: AnyArray) -> AnyArray:
        missing = np.isnan(means)
        if missing.all():
            raise ImageError(f"{self.name}: not one valid pixel (all are NaN, infinite, nodata or transparent)")
        nearest: Any = distance_transform_edt(missing, return_distances=False, return_indices=True)
        filled: AnyArray = means[tuple(nearest)]
        return np.round(filled) if self.dtype.kind in "iu" else filled
