"""The levels of a pyramid: their sizes, and pixels of half the size."""

from __future__ import annotations

import numpy as np

from pix2pix_training.array_source import AnyArray
from pix2pix_training.invalid_pixels import keep_off_nodata


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
    even = _even(pixels)
    if even.dtype == np.uint8:
        rows = np.add(even[:, ::2], even[:, 1::2], dtype=np.uint16)
        fours = rows[:, :, ::2] + rows[:, :, 1::2]
        fours += 1 + (fours >> 2 & 1)  # rounds halves to even numbers, as below
        return (fours >> 2).astype(np.uint8)
    wide = np.float64 if even.dtype.itemsize > 2 else np.float32
    total: AnyArray = even[:, ::2, ::2].astype(wide)
    for y, x in ((0, 1), (1, 0), (1, 1)):
        total += even[:, y::2, x::2]
    total *= 0.25
    rounded: AnyArray = total if even.dtype.kind == "f" else np.rint(total, out=total)
    return rounded.astype(pixels.dtype)


def _even(pixels: AnyArray) -> AnyArray:
    """Shape (C, Y, X), with the last row and column twice where their number is odd."""
    odd = pixels.shape[1] % 2, pixels.shape[2] % 2
    return np.pad(pixels, ((0, 0), (0, odd[0]), (0, odd[1])), mode="edge") if any(odd) else pixels


def _halved_valid(pixels: AnyArray, nodata: float) -> AnyArray:
    quarters = _quarters(_even(pixels))
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
