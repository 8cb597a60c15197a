"""How pixels that are invalid in the input are marked in the output, and valid ones kept apart from that mark."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from napari_pix2pix.formats.opacity import with_opacity
from pix2pix_training.array_source import AnyArray, ArraySource, Opacity
from pix2pix_training.intensity import CategoryMapping, Mapping
from pix2pix_training.invalid_pixels import can_have_invalid_pixels, keep_off_nodata
from pix2pix_training.regions import Region

logger = logging.getLogger(__name__)


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


class InvalidMarks:
    """Marks, in tiles of an output, what is invalid in its input; see `invalid_marker`.

    Where the output has a nodata value, valid values that happen to equal it move to the next one; those of categories
    stay as they are. Of a masked output pixels get one sample more instead: how opaque they are. Where nothing tells
    marked pixels from others, a warning says so.

    Parameters
    ----------
    source : the input.
    dtype, mapping : of the output's pixels.
    """

    def __init__(self, source: ArraySource, dtype: np.dtype[Any], mapping: Mapping, *, masked: bool) -> None:
        self._name = source.name
        self._needed = can_have_invalid_pixels(source)
        self._dtype = dtype
        self._masked = masked
        self._marker = invalid_marker(dtype, source.nodata, mapping)
        self._nodata = None if masked else output_nodata(dtype, source.nodata, mapping, masked=source.masked)
        self._keep_off = self._nodata is not None and not isinstance(mapping, CategoryMapping)
        self._told = masked or self._nodata is not None or dtype.kind == "f"

    def on(self, pixels: AnyArray, opacity: Opacity | None) -> AnyArray:
        """The pixels (C, h, w) of an output, changed in place; `opacity` (h, w) of the input, None where all show."""
        if self._needed and self._keep_off and self._nodata is not None:
            keep_off_nodata(pixels, self._nodata)
        if opacity is not None:
            hidden = opacity == 0
            pixels[:, hidden] = self._marker
            self._tell(bool(hidden.any()))
        return with_opacity(pixels, opacity) if self._masked else pixels

    def nothing(self, region: Region, channels: int) -> AnyArray:
        """A region without a valid pixel."""
        shape = region.height, region.width
        return self.on(np.zeros((channels, *shape), self._dtype), np.zeros(shape, np.uint8))

    def _tell(self, is_invalid: bool) -> None:
        if is_invalid and not self._told:
            self._told = True
            logger.warning(
                "%s: pixels that hold no data are %g in the output, which does not tell them from others; write a "
                "GeoTIFF, TIFF or PNG, which do",
                self._name,
                self._marker,
            )
