"""Where the planes of a TIFF series lie: from the axes that the file declares to axes ending in CYX."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_pix2pix.formats.axes import distinct, sorted_leading
from napari_pix2pix.formats.source import MAX_PLANES
from pix2pix_training.errors import ImageError


@dataclass(frozen=True, kw_only=True)
class PlaneLayout:
    """How leading axes and channels map to stored planes.

    Attributes
    ----------
    axes : leading axes longer than 1 (any others, then T, then Z) and CYX.
    leading_shape : lengths of the leading axes.
    order : shape (*leading_shape, stored planes per plane); index of each stored plane in the order of the file.
    samples : channels within a stored plane, interleaved (RGBRGB...).
    """

    axes: str
    leading_shape: tuple[int, ...]
    order: NDArray[np.int64]
    samples: int

    @property
    def channels(self) -> int:
        return int(self.order.shape[-1]) * self.samples


def plane_layout(path: Path, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> PlaneLayout:
    """The layout of a series.

    Raises
    ------
    ImageError
        The axes are in an order that cannot be read, or declare more planes than the file holds.
    """
    axes: str = series.get_axes(squeeze=False)
    shape: tuple[int, ...] = tuple(series.get_shape(squeeze=False))
    samples = int(series.keyframe.shaped[4])
    outer, found, inner = axes.partition("YX")
    if not found or inner not in ("", "S") or (inner == "" and samples != 1):
        raise ImageError(f"{path} stores its axes as {axes}; planes of YX, with or without samples, are needed")
    outer_shape = shape[: len(outer)]
    _check_planes(path, tif, series, prod(outer_shape))
    return _sorted_layout(outer, outer_shape, samples)


def _sorted_layout(outer: str, outer_shape: tuple[int, ...], samples: int) -> PlaneLayout:
    channel_axes = [i for i, letter in enumerate(outer) if letter in "CS"]
    leading = sorted_leading(outer, outer_shape)
    single = [i for i in range(len(outer)) if i not in leading and i not in channel_axes]
    stored = np.arange(prod(outer_shape), dtype=np.int64).reshape(outer_shape)
    leading_shape = tuple(outer_shape[i] for i in leading)
    return PlaneLayout(
        axes=distinct("".join(outer[i] for i in leading)) + "CYX",
        leading_shape=leading_shape,
        order=stored.transpose(*leading, *single, *channel_axes).reshape(*leading_shape, -1),
        samples=samples,
    )


def _check_planes(path: Path, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, declared: int) -> None:
    """Compare the declared planes with what the file can hold, before anything of that size is allocated."""
    page = series.keyframe
    if tif.is_imagej and series.kind in ("generic", "uniform"):
        raise ImageError(f"{path} lacks planes of the stack that its ImageJ header declares; copy it again")
    plane_bytes = page.imagelength * page.imagewidth * page.shaped[4] * np.dtype(page.dtype).itemsize
    if declared > MAX_PLANES:
        raise ImageError(f"{path} declares {declared} planes; at most {MAX_PLANES} are allowed")
    start = contiguous_start(series)
    if start is not None:
        missing = start + declared * plane_bytes > tif.filehandle.size
    else:
        missing = declared > len(series) * page.shaped[0] or _has_gaps(series)
    if missing:
        raise ImageError(
            f"{path} declares {declared} planes, some of which are missing; "
            "copy the file again, with all files that belong to it beside it"
        )


def contiguous_start(series: tifffile.TiffPageSeries) -> int | None:
    """Offset of the first plane where all lie one behind the other in one file, uncompressed; else None."""
    return series.dataoffset if series.keyframe.is_final and not series.is_multifile else None


def _has_gaps(series: Any) -> bool:
    return any(page is None for page in series)
