"""Plain TIFF and OME-TIFF: tiled, compressed without loss, with a pyramid for large OME images.

Tiles of all channels and levels come mixed, a TIFF wants them page by page: compressed tiles wait in a temporary file
beside the output.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_pix2pix.formats.acquisition import to_ome, to_tiff_tags
from napari_pix2pix.formats.axes import time_and_depth
from napari_pix2pix.formats.georeference import GDAL_NODATA, georeference_tags
from napari_pix2pix.formats.metadata import METADATA_KEY, to_record
from napari_pix2pix.formats.tiff_metadata import ORIENTATION_TAG
from napari_pix2pix.formats.tile_grid import TileGrid, halved, pyramid_sizes
from napari_pix2pix.formats.tile_spool import TILE_PX, TileSpool, predictor
from napari_pix2pix.formats.units import convert_length
from napari_pix2pix.formats.writing import OutputSpec, Tile
from pix2pix_training.array_source import AnyArray, Region

PYRAMID_FROM_PX = 2048
"""Planes longer than this get a pyramid, down to half of it."""

_BIGTIFF_FROM_BYTES = 4_000_000_000
_BYTES_PER_TILE_ENTRY = 16


def incompatibility(spec: OutputSpec) -> str | None:
    """Why no kind of TIFF can hold an image."""
    if spec.dtype.kind not in "buif":
        return f"TIFF cannot hold {spec.dtype}; use a real or integer type"
    if spec.palette is not None and (spec.dtype not in (np.uint8, np.uint16) or len(spec.palette) > 256):
        return "a palette needs 8- or 16-bit indices and at most 256 colours"
    return None


def write(path: Path, spec: OutputSpec, tiles: Iterable[Tile], file_format: str) -> None:
    """Write a file that does not exist yet; `spec` has been checked to fit the format."""
    ome = file_format == "ome-tiff"
    sizes = _level_sizes(spec) if ome else [(spec.height, spec.width)]
    with TileSpool(
        path.parent,
        planes=prod(spec.leading_shape),
        pages_per_plane=1 if spec.rgb else spec.channels,
        sizes=sizes,
        dtype=spec.dtype,
    ) as spool:
        fill_spool(spool, spec, tiles)
        spool.finish()
        _assemble(path, spec, spool, ome=ome)


def _level_sizes(spec: OutputSpec) -> list[tuple[int, int]]:
    if max(spec.height, spec.width) <= PYRAMID_FROM_PX:
        return [(spec.height, spec.width)]
    return pyramid_sizes(spec.height, spec.width, largest_px=PYRAMID_FROM_PX // 2)


def fill_spool(spool: TileSpool, spec: OutputSpec, tiles: Iterable[Tile]) -> None:
    """Cut tiles into those of the file, for all levels of its pyramid."""
    current: tuple[int, ...] | None = None
    for plane, region, pixels in tiles:
        if plane != current:
            current = plane
            index = int(np.ravel_multi_index(plane, spec.leading_shape)) if plane else 0
            grid = _grid(spool, spec, index)
        grid.add(region, pixels)


def _grid(spool: TileSpool, spec: OutputSpec, plane: int, level: int = 0) -> TileGrid:
    """The squares of one plane and level; what they hold goes to the spool, and halved to the next level."""
    smaller = _grid(spool, spec, plane, level + 1) if level + 1 < len(spool.sizes) else None

    def emit(row: int, column: int, square: AnyArray) -> None:
        spool.put(level, plane, row, column, square)
        if smaller is not None:
            height, width = grid.extent(row, column)
            half = halved(square[:, :height, :width], average=spec.averaged, nodata=spec.nodata)
            y, x = row * TILE_PX // 2, column * TILE_PX // 2
            smaller.add(Region(y, y + half.shape[1], x, x + half.shape[2]), half)

    grid = TileGrid((spec.channels, *spool.sizes[level]), spec.dtype, TILE_PX, emit)
    return grid


def _assemble(path: Path, spec: OutputSpec, spool: TileSpool, *, ome: bool) -> None:
    bigtiff = spool.nbytes + spool.count * _BYTES_PER_TILE_ENTRY > _BIGTIFF_FROM_BYTES
    with tifffile.TiffWriter(path, bigtiff=bigtiff, byteorder="<", ome=ome) as tif:
        for level in range(len(spool.sizes)):
            tif.write(spool.tiles(level), **_page_options(spec, spool, level, ome=ome))


def _page_options(spec: OutputSpec, spool: TileSpool, level: int, *, ome: bool) -> dict[str, Any]:
    """Arguments of `TiffWriter.write` for one level; the description goes with the first."""
    options: dict[str, Any] = {
        "shape": _stored_shape(spec, spool.sizes[level], ome=ome),
        "dtype": spec.dtype,
        "tile": (TILE_PX, TILE_PX),
        "compression": "zstd",
        "predictor": predictor(spec.dtype),
        "photometric": photometric(spec),
        "colormap": None if spec.palette is None else colormap(spec),
        "extratags": _extra_tags(spec),
    }
    if level > 0:
        return options | {"subfiletype": 1, "metadata": None}
    description = ome_description(spec) if ome else _plain_description(spec)
    return options | _resolution(spec) | {"subifds": len(spool.sizes) - 1, "metadata": description}


def photometric(spec: OutputSpec) -> str:
    """What the numbers mean, as tifffile calls it."""
    if spec.rgb:
        return "rgb"
    if spec.palette is not None:
        return "palette"
    return "miniswhite" if spec.metadata.white_is_zero else "minisblack"


def _stored_shape(spec: OutputSpec, size: tuple[int, int], *, ome: bool) -> tuple[int, ...]:
    """Samples last for RGB, else channels as pages; see `_stored_axes`."""
    lengths = {"C": spec.channels, "S": 3, "Y": size[0], "X": size[1]}
    inner = _stored_axes("", spec, ome=ome)
    return (*spec.leading_shape, *(lengths[letter] for letter in inner))


def _stored_axes(leading: str, spec: OutputSpec, *, ome: bool) -> str:
    """A single channel is no axis of a plain TIFF, so that others read a 2-D image as one."""
    if spec.rgb:
        return leading + "YXS"
    return leading + ("YX" if spec.channels == 1 and not ome else "CYX")


def colormap(spec: OutputSpec) -> NDArray[np.uint16]:
    """Shape (3, 2**bits), 16 bits per colour, black beyond the palette."""
    palette = np.zeros((3, 2 ** (spec.dtype.itemsize * 8)), np.uint16)
    if spec.palette is not None:
        palette[:, : len(spec.palette)] = spec.palette.T.astype(np.uint16) * 257
    return palette


def _extra_tags(spec: OutputSpec) -> list[tuple[int, str, int, Any, bool]]:
    nodata = [] if spec.nodata is None else [(GDAL_NODATA, "s", 0, repr(float(spec.nodata)))]
    return [
        (*tag, False)
        for tag in (
            *nodata,
            *georeference_tags(spec.metadata.georeference),
            *to_tiff_tags(spec.metadata.acquisition),
            (ORIENTATION_TAG, "H", 1, spec.metadata.orientation),
        )
    ]


def _resolution(spec: OutputSpec) -> dict[str, Any]:
    metadata = spec.metadata
    if metadata.pixel_size is None or metadata.unit is None:
        return {}
    y, x = (convert_length(size, metadata.unit, "cm") for size in metadata.pixel_size)
    if not y or not x:
        return {}
    return {"resolution": (1 / x, 1 / y), "resolutionunit": "CENTIMETER"}


def exact_record(spec: OutputSpec) -> dict[str, Any]:
    """What this program wants back exactly, and the format has no field for."""
    entries = {} if spec.palette is None else {"palette_entries": len(spec.palette)}
    return to_record(spec.metadata) | entries


def _plain_description(spec: OutputSpec) -> dict[str, Any]:
    return {"axes": _stored_axes(spec.leading_axes, spec, ome=False), METADATA_KEY: exact_record(spec)}


def ome_description(spec: OutputSpec) -> dict[str, Any]:
    """OME metadata for `TiffWriter.write`: sizes, names and colours, and the exact record as an annotation."""
    metadata = spec.metadata
    annotation = {"Namespace": METADATA_KEY, "Value": {"record": json.dumps(exact_record(spec))}}
    return {
        "axes": _stored_axes(time_and_depth(spec.leading_axes), spec, ome=True),
        "MapAnnotation": annotation,
        **_ome_sizes(spec),
        **to_ome(metadata.acquisition),
        **({"TimeIncrement": metadata.time_step_s, "TimeIncrementUnit": "s"} if metadata.time_step_s else {}),
        **({"SignificantBits": metadata.bit_depth} if metadata.bit_depth else {}),
        **({} if spec.rgb else _ome_channels(spec)),
    }


def _ome_sizes(spec: OutputSpec) -> dict[str, Any]:
    metadata = spec.metadata
    y, x = metadata.pixel_size or (None, None)
    sizes = {"X": x, "Y": y, "Z": metadata.z_spacing}
    known = {f"PhysicalSize{axis}": size for axis, size in sizes.items() if size is not None}
    units = {f"{name}Unit": metadata.unit for name in known if metadata.unit is not None}
    return known | units if metadata.unit is not None else {}


def _ome_channels(spec: OutputSpec) -> dict[str, Any]:
    metadata = spec.metadata
    attributes: dict[str, Any] = {}
    if len(metadata.channel_names) == spec.channels:
        attributes["Name"] = list(metadata.channel_names)
    if len(metadata.channel_colors) == spec.channels:
        attributes["Color"] = [_signed_rgba(colour) for colour in metadata.channel_colors]
    return {"Channel": attributes} if attributes else {}


def _signed_rgba(colour: tuple[int, int, int]) -> int:
    """As OME stores a colour: red, green, blue and full alpha in one signed number."""
    red, green, blue = colour
    number = red << 24 | green << 16 | blue << 8 | 255
    return number - 2**32 if number >= 2**31 else number
