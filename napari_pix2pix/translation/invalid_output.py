"""How pixels that are invalid in the input are marked in the output, and valid ones kept apart from that mark."""

from __future__ import annotations

from typing import Any

import numpy as np

from pix2pix_training.array_source import AnyArray, Region
from pix2pix_training.intensity import CategoryMapping, Mapping
from pix2pix_training.invalid_pixels import FilledSource, can_have_invalid_pixels, keep_off_nodata


def invalid_marker(dtype: np.dtype[Any], nodata: float | None, mapping: Mapping) -> float:
    """What invalid pixels become in an output of `dtype`.

    The input's `nodata` where the type can hold it. Else NaN for reals; for integers 0, for categories a number that
    none of them has.
    """
    if dtype.kind == "f":
        return float("nan") if nodata is None or not np.isfinite(dtype.type(nodata)) else float(nodata)
    if isinstance(mapping, CategoryMapping):
        return _unused_value(dtype, nodata, {value for values in mapping.values for value in values})
    return int(nodata) if _holds(dtype, nodata) and nodata is not None else 0


def _unused_value(dtype: np.dtype[Any], nodata: float | None, used: set[int]) -> int:
    if nodata is None or dtype.kind == "b":
        return 0
    if _holds(dtype, nodata) and int(nodata) not in used:
        return int(nodata)
    limits = np.iinfo(dtype)
    return next((value for value in range(limits.max, limits.min - 1, -1) if value not in used), 0)


def _holds(dtype: np.dtype[Any], nodata: float | None) -> bool:
    if nodata is None or dtype.kind == "b" or not float(nodata).is_integer():
        return False
    limits = np.iinfo(dtype)
    return bool(limits.min <= nodata <= limits.max)


def mark_invalid(
    pixels: AnyArray, source: FilledSource, plane: tuple[int, ...], region: Region, *, marker: float, mapping: Mapping
) -> None:
    """Give `marker`, in place, to what is invalid in the input; valid values that happen to equal it move to the next.

    Without a declared nodata value, and for categories, valid values stay as they are.
    """
    if not can_have_invalid_pixels(source.dtype, source.nodata):
        return
    if source.nodata is not None and not isinstance(mapping, CategoryMapping):
        keep_off_nodata(pixels, marker)
    _, mask = source.read_with_mask(region, plane)
    if mask is not None:
        pixels[:, mask] = marker
