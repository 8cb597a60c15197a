"""How pixels that are invalid in the input are marked in the output, and valid ones kept apart from that mark."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_pix2pix.formats.opacity import with_opacity
from pix2pix_training.array_source import AnyArray, ArraySource, Opacity
from pix2pix_training.intensity import CategoryMapping, Mapping
from pix2pix_training.invalid_pixels import can_have_invalid_pixels, keep_off_nodata


def invalid_marker(dtype: np.dtype[Any], nodata: float | None, mapping: Mapping) -> float:
    """What invalid pixels become in an output of `dtype`: `output_nodata`, else NaN for reals and 0 for integers."""
    marker = output_nodata(dtype, nodata, mapping, masked=False)
    if marker is not None:
        return marker
    return float("nan") if dtype.kind == "f" else 0


def output_nodata(dtype: np.dtype[Any], nodata: float | None, mapping: Mapping, *, masked: bool) -> float | None:
    """The nodata value of an output of `dtype`: that of the input where the type can hold it.

    Else NaN for reals; for categories a number that none of them has; and None for other integers, and where the input
    has neither a nodata value nor a mask.
    """
    if dtype.kind == "f":
        if nodata is not None and np.isfinite(dtype.type(nodata)):
            return float(nodata)
        return None if nodata is None and not masked else float("nan")
    if nodata is None:
        return None
    if isinstance(mapping, CategoryMapping):
        return _unused_value(dtype, nodata, {value for values in mapping.values for value in values})
    return int(nodata) if _holds(dtype, nodata) else None


def _unused_value(dtype: np.dtype[Any], nodata: float, used: set[int]) -> int | None:
    if dtype.kind == "b":
        return None
    if _holds(dtype, nodata) and int(nodata) not in used:
        return int(nodata)
    limits = np.iinfo(dtype)
    return next((value for value in range(limits.max, limits.min - 1, -1) if value not in used), None)


def _holds(dtype: np.dtype[Any], nodata: float) -> bool:
    if dtype.kind == "b" or not float(nodata).is_integer():
        return False
    limits = np.iinfo(dtype)
    return bool(limits.min <= nodata <= limits.max)


def mark_invalid(
    pixels: AnyArray, opacity: Opacity | None, source: ArraySource, *, mapping: Mapping, masked: bool = False
) -> AnyArray:
    """Mark, in place, what is invalid in the input; see `invalid_marker`. The pixels, shape (C, h, w).

    Where the output has a nodata value, valid values that happen to equal it move to the next one; those of categories
    stay as they are. Of a `masked` output pixels get one sample more instead: how opaque they are.

    Parameters
    ----------
    pixels : shape (C, h, w), of the output.
    opacity : shape (h, w), of the input there; None where all pixels show.
    source : the input.
    """
    if not can_have_invalid_pixels(source):
        return with_opacity(pixels, None) if masked else pixels
    nodata = output_nodata(pixels.dtype, source.nodata, mapping, masked=source.masked)
    if nodata is not None and not masked and not isinstance(mapping, CategoryMapping):
        keep_off_nodata(pixels, nodata)
    if opacity is not None:
        pixels[:, opacity == 0] = invalid_marker(pixels.dtype, source.nodata, mapping)
    return with_opacity(pixels, opacity) if masked else pixels
