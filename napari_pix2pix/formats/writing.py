"""Writes images from a stream of tiles, in memory that does not grow with the image (PNG and JPEG excepted).

The output appears under its final name only when it is complete; see `pix2pix_training.atomic`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pix2pix.formats.metadata import ImageMetadata
from napari_pix2pix.formats.naming import (
    JPEG_SUFFIXES,
    OME_TIFF_SUFFIXES,
    OME_ZARR_SUFFIXES,
    PNG_SUFFIXES,
    TIFF_SUFFIXES,
)
from napari_pix2pix.formats.source import DECODE_BUDGET_BYTES, ImageSource, is_zarr_group
from pix2pix_training.array_source import AnyArray, Region
from pix2pix_training.atomic import atomic_write, check_writable_target
from pix2pix_training.errors import ImageError, OutputError, Pix2PixError

logger = logging.getLogger(__name__)

Tile = tuple[tuple[int, ...], Region, AnyArray]
"""Plane (index of the leading axes), region, and pixels of shape (C, region.height, region.width)."""


@dataclass(frozen=True, kw_only=True)
class OutputSpec:
    """What is written: `shape` of `dtype` with `axes` ending in CYX, and what the file says about it.

    `palette` has shape (entries, 3) and belongs to one channel of indices; `categories` says that values are classes,
    with or without a palette, so that no pyramid averages them.
    """

    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    metadata: ImageMetadata
    palette: NDArray[np.uint8] | None = None
    nodata: float | None = None
    categories: bool = False

    def __post_init__(self) -> None:
        if not self.axes.endswith("CYX") or len(self.axes) != len(self.shape) or min(self.shape) < 1:
            raise ImageError(f"an output of shape {self.shape} cannot have the axes {self.axes!r}, ending in CYX")

    @property
    def leading_axes(self) -> str:
        return self.axes[:-3]

    @property
    def leading_shape(self) -> tuple[int, ...]:
        return self.shape[:-3]

    @property
    def channels(self) -> int:
        return self.shape[-3]

    @property
    def height(self) -> int:
        return self.shape[-2]

    @property
    def width(self) -> int:
        return self.shape[-1]

    @property
    def rgb(self) -> bool:
        """Written as red, green and blue samples."""
        return self.metadata.rgb and self.channels == 3 and self.dtype != np.bool_

    @property
    def averaged(self) -> bool:
        """Levels of a pyramid are means of pixels."""
        return self.palette is None and not self.categories

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, kw_only=True)
class _Format:
    module: str
    suffixes: tuple[str, ...]


_FORMATS = {
    "tiff": _Format(module="tiff_writing", suffixes=TIFF_SUFFIXES),
    "ome-tiff": _Format(module="tiff_writing", suffixes=OME_TIFF_SUFFIXES),
    "ome-zarr": _Format(module="ome_zarr_writing", suffixes=OME_ZARR_SUFFIXES),
    "imagej": _Format(module="imagej_writing", suffixes=TIFF_SUFFIXES),
    "geotiff": _Format(module="geotiff_writing", suffixes=TIFF_SUFFIXES),
    "tiles": _Format(module="map_tile_writing", suffixes=("",)),
    "png": _Format(module="raster_writing", suffixes=PNG_SUFFIXES),
    "jpeg": _Format(module="raster_writing", suffixes=JPEG_SUFFIXES),
}

WRITABLE_FORMATS = tuple(_FORMATS)


def output_suffix(file_format: str, source_path: Path | None = None) -> str:
    """The ending for an output: that of its input where it fits the format, else the usual one."""
    suffixes = _FORMATS[file_format].suffixes
    own = _known_suffix(source_path) if source_path is not None else ""
    return own if own in suffixes else suffixes[0]


def _known_suffix(path: Path) -> str:
    """The image ending of a name in lower case, with ".ome" where it has that; "" for no known ending."""
    suffixes = (suffix for entry in (OME_TIFF_SUFFIXES, *(f.suffixes for f in _FORMATS.values())) for suffix in entry)
    return next((suffix for suffix in suffixes if suffix and path.name.lower().endswith(suffix)), "")


def resolve_format(path: Path, requested: str, source: ImageSource | None) -> str:
    """The format in which an output is written.

    Parameters
    ----------
    path : the output; its ending decides where `requested` is "same", and must fit `requested` otherwise.
    requested : one of `WRITABLE_FORMATS`, or "same" for the format of the input.
    source : the input, or None where there is no file.

    Raises
    ------
    OutputError
        The format is unknown, or contradicts the ending of `path`.
    """
    suffix = _known_suffix(path)
    if requested == "same":
        return _format_of_suffix(suffix, source) if suffix else _format_of_source(source)
    if requested not in _FORMATS:
        raise OutputError(f"there is no format {requested!r} to write; choose one of same, {', '.join(_FORMATS)}")
    if suffix and not suffix.endswith(tuple(s.rpartition(".")[2] for s in _FORMATS[requested].suffixes)):
        usual = _FORMATS[requested].suffixes[0]
        raise OutputError(f"{path}: the ending {suffix} does not fit the format {requested}; use {usual}")
    return requested


def _format_of_suffix(suffix: str, source: ImageSource | None) -> str:
    own = _format_of_source(source) if source is not None else "tiff"
    fitting = [name for name, entry in _FORMATS.items() if suffix in entry.suffixes]
    return own if own in fitting else fitting[0]


_WRITTEN_AS = {"bmp": "png", "slide": "ome-tiff", "bioio": "ome-tiff"}


def _format_of_source(source: ImageSource | None) -> str:
    if source is None:
        return "ome-tiff"
    return _WRITTEN_AS.get(source.metadata.file_format, source.metadata.file_format)


def incompatibility(spec: OutputSpec, file_format: str) -> str | None:
    """Why a format cannot hold an image without loss of its shape or values, and what can; None where it can."""
    if file_format not in _FORMATS:
        return f"there is no format {file_format!r} to write; choose one of {', '.join(_FORMATS)}"
    if spec.palette is not None and spec.channels != 1:
        return "an image with a palette has one channel of indices"
    reason: str | None = _CHECKS[file_format](spec)
    return reason


def _tiff_reason(spec: OutputSpec) -> str | None:
    if spec.width == 1:  # tifffile takes the last axis for samples then
        return "an image one pixel wide cannot be written as plain TIFF; use the format ome-tiff"
    return _any_tiff_reason(spec)


def _any_tiff_reason(spec: OutputSpec) -> str | None:
    if spec.dtype.kind not in "buif":
        return f"TIFF cannot hold {spec.dtype}; use a real or integer type"
    if spec.palette is not None and (spec.dtype not in (np.uint8, np.uint16) or len(spec.palette) > 256):
        return "a palette needs 8- or 16-bit indices and at most 256 colours"
    return None


def _ome_reason(spec: OutputSpec) -> str | None:
    if spec.dtype in (np.float16, np.int64, np.uint64):
        return f"OME-TIFF cannot hold {spec.dtype}; use the format tiff"
    if len(spec.leading_axes) > 2:
        return f"OME-TIFF cannot hold the axes {spec.axes}; use the format tiff"
    return _any_tiff_reason(spec)


def _ome_zarr_reason(spec: OutputSpec) -> str | None:
    if spec.dtype.kind not in "buif":
        return f"OME-Zarr cannot hold {spec.dtype}; use a real or integer type"
    if len(spec.leading_axes) > 2:
        return f"OME-Zarr cannot hold the axes {spec.axes}; use the format tiff"
    return None


def _imagej_reason(spec: OutputSpec) -> str | None:
    if spec.dtype not in (np.uint8, np.uint16, np.float32) or (spec.rgb and spec.dtype != np.uint8):
        return f"ImageJ cannot hold {'RGB of ' if spec.rgb else ''}{spec.dtype}; use the format ome-tiff"
    if spec.palette is not None or len(spec.leading_axes) > 2:
        return "ImageJ cannot hold a palette or more axes than TZCYX; use the format tiff"
    if spec.nbytes > _IMAGEJ_LIMIT_BYTES:
        return "ImageJ cannot hold more than 4 GB; use the format ome-tiff"
    return None


def _geotiff_reason(spec: OutputSpec) -> str | None:
    if spec.metadata.georeference is None:
        return "the image has no georeference (CRS and transform) for a GeoTIFF; use the format tiff"
    if spec.dtype == np.float16 or (spec.dtype == np.bool_ and spec.channels > 1):
        return f"GeoTIFF cannot hold {spec.channels} channels of {spec.dtype}; use the format tiff"
    if spec.channels > _GEOTIFF_LIMIT_CHANNELS:
        return f"GeoTIFF holds at most {_GEOTIFF_LIMIT_CHANNELS} channels, the image has {spec.channels}"
    if prod(spec.leading_shape) > 1:
        return f"GeoTIFF holds a single plane, the image has planes {spec.leading_shape}; use the format tiff"
    return _any_tiff_reason(spec)


def _tiles_reason(spec: OutputSpec) -> str | None:
    if spec.metadata.tiles is None:
        return "only what was read from map tiles can be written as map tiles; use the format tiff"
    if prod(spec.leading_shape) > 1:
        return f"map tiles hold a single plane, the image has planes {spec.leading_shape}"
    tile = spec.metadata.tiles.tiles[0]
    size = (spec.channels, tile.region.height, tile.region.width)
    if spec.metadata.tiles.alpha_folder is not None and not _holds_transparency(spec):
        return "tiles with transparency hold 8 or 16 bits, and at most 255 classes with colours; use the format geotiff"
    own_format = tile_format(tile.name, placed=spec.metadata.georeference is not None)
    reason = incompatibility(replace(spec, shape=size, axes="CYX"), own_format)
    return None if reason is None else f"{reason} (the input's tiles are like {tile.name})"


def _holds_transparency(spec: OutputSpec) -> bool:
    return spec.dtype != np.bool_ and (spec.palette is None or len(spec.palette) <= 255)


def tile_format(name: str, *, placed: bool) -> str:
    """The format of a map tile by its ending; `placed` where it is known where it lies."""
    suffix = _known_suffix(Path(name))
    return "geotiff" if placed and suffix in TIFF_SUFFIXES else _format_of_suffix(suffix, None)


def _flat_reason(spec: OutputSpec, name: str) -> str | None:
    if spec.leading_shape and prod(spec.leading_shape) > 1:
        return f"{name} holds a single plane, the image has planes {spec.leading_shape}; use the format ome-tiff"
    if spec.channels not in (1, 3):
        return f"{name} holds 1 or 3 channels, the image has {spec.channels}; use the format tiff"
    if spec.nbytes > DECODE_BUDGET_BYTES:
        size = f"{spec.height} x {spec.width}"
        return f"an image of {size} pixels is too large for {name}, which is written in one piece; use the format tiff"
    return None


def _png_reason(spec: OutputSpec) -> str | None:
    if spec.dtype not in (np.uint8, np.uint16, np.bool_) or (spec.dtype == np.bool_ and spec.channels != 1):
        return f"PNG cannot hold {spec.channels} channels of {spec.dtype}; use the format tiff"
    if spec.palette is not None and (spec.dtype != np.uint8 or len(spec.palette) > 256):
        return "PNG holds palettes of at most 256 colours, with 8-bit indices; use the format tiff"
    return _flat_reason(spec, "PNG")


def _jpeg_reason(spec: OutputSpec) -> str | None:
    if spec.dtype != np.uint8 or spec.palette is not None:
        kind = "a palette" if spec.palette is not None else str(spec.dtype)
        return f"JPEG cannot hold {kind}; use the format png or tiff"
    if max(spec.height, spec.width) > _JPEG_LIMIT_PX:
        return f"JPEG holds at most {_JPEG_LIMIT_PX} pixels per side; use the format tiff"
    return _flat_reason(spec, "JPEG")


_IMAGEJ_LIMIT_BYTES = 4_000_000_000
_GEOTIFF_LIMIT_CHANNELS = 65_535
_JPEG_LIMIT_PX = 65_500

_CHECKS: dict[str, Callable[[OutputSpec], str | None]] = {
    "tiff": _tiff_reason,
    "ome-tiff": _ome_reason,
    "ome-zarr": _ome_zarr_reason,
    "imagej": _imagej_reason,
    "geotiff": _geotiff_reason,
    "tiles": _tiles_reason,
    "png": _png_reason,
    "jpeg": _jpeg_reason,
}


def check_output(path: Path, spec: OutputSpec, *, file_format: str, overwrite: bool) -> str:
    """Everything that can be refused before work starts; the format that will be written.

    An image that the ImageJ format cannot hold becomes an OME-TIFF (or a plain one), which ImageJ opens too; one that
    GeoTIFF cannot hold becomes a plain TIFF, which keeps the georeference.

    Raises
    ------
    OutputError
        The format cannot hold the image, or the file exists or cannot be written.
    """
    reason = incompatibility(spec, file_format)
    if reason is not None and (candidates := _substitutes(spec, file_format)):
        substitute = next((name for name in candidates if incompatibility(spec, name) is None), file_format)
        logger.warning("%s is written as %s: %s", path, substitute, reason)
        file_format = substitute
        reason = incompatibility(spec, file_format)
    if reason is not None:
        raise OutputError(f"{path}: {reason}")
    layout = spec.metadata.tiles if file_format == "tiles" else None
    replaceable = is_zarr_group(path) or (layout is not None and layout.names_all_of(path))
    check_writable_target(path, overwrite, replaceable_folder=replaceable)
    return file_format


def _substitutes(spec: OutputSpec, file_format: str) -> tuple[str, ...]:
    if file_format == "imagej":
        return "ome-tiff", "tiff"
    return ("tiff",) if file_format == "geotiff" and spec.metadata.georeference is not None else ()


def write_image(
    path: Path, spec: OutputSpec, tiles: Iterator[Tile], *, file_format: str, overwrite: bool = False
) -> Path:
    """Write an image from tiles, and give back its path.

    Parameters
    ----------
    tiles : plane by plane in storage order; within a plane row-major, all tiles of a row with the same y0 and y1.
        They are pulled one at a time and must cover every plane exactly once.
    file_format : one of `WRITABLE_FORMATS`; see `resolve_format`.
    overwrite : replace an existing file, once the new one is complete.

    Raises
    ------
    OutputError
        The output is refused, before the first tile is asked for; see `check_output`.
    Pix2PixError
        Writing failed midway (a full disk). What stood at `path` before is still there; nothing half-written is.
    """
    file_format = check_output(path, spec, file_format=file_format, overwrite=overwrite)
    writer = import_module(f"napari_pix2pix.formats.{_FORMATS[file_format].module}")
    with atomic_write(path) as partial:
        writer.write(partial, spec, _checked(path, spec, tiles), file_format)
    return path


def _checked(path: Path, spec: OutputSpec, tiles: Iterator[Tile]) -> Iterator[Tile]:
    """The same tiles; an error where one does not fit, or where they do not add up to the image."""
    pixels = 0
    for plane, region, array in tiles:
        expected = (spec.channels, region.height, region.width)
        if array.shape != expected or array.dtype != spec.dtype or len(plane) != len(spec.leading_shape):
            raise Pix2PixError(
                f"{path}: a tile of {array.shape} {array.dtype} in plane {plane} does not fit, "
                f"{expected} of {spec.dtype} was expected"
            )
        pixels += region.height * region.width
        yield plane, region, array
    expected_pixels = prod(spec.shape) // spec.channels
    if pixels != expected_pixels:
        raise Pix2PixError(f"{path} is incomplete: {pixels} of {expected_pixels} pixels were given")
