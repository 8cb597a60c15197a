"""OME-TIFF: microscopy's metadata in the first page, with a pyramid for large images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from napari_pix2pix.formats import tiff, tiff_writing
from napari_pix2pix.formats.metadata import METADATA_KEY, time_and_depth, to_ome
from napari_pix2pix.formats.pyramid import pyramid_sizes
from napari_pix2pix.formats.tiff_writing import TiffCanvas, begin_tiff, exact_record
from napari_pix2pix.formats.writing import OutputSpec

NAME = "ome-tiff"
SUFFIXES = tuple(f".ome{suffix}" for suffix in tiff.SUFFIXES)
LOSES = ("origin", "steps", "axes")

NOT_IN_OME = (np.float16, np.int64, np.uint64)
"""Types of pixels that OME does not know."""

PYRAMID_FROM_PX = 2048
"""Planes longer than this get a pyramid, down to half of it."""


def incompatibility(spec: OutputSpec) -> str | None:
    """Why OME-TIFF cannot hold an image."""
    if spec.dtype in NOT_IN_OME:
        return f"OME-TIFF cannot hold {spec.dtype}; use the format tiff"
    if len(spec.leading_axes) > 2:
        return f"OME-TIFF cannot hold the axes {spec.axes}; use the format tiff"
    return tiff_writing.incompatibility(spec)


def holds_nodata(spec: OutputSpec) -> bool:
    """GDAL's tag says it, of any number."""
    del spec
    return True


def begin(path: Path, spec: OutputSpec, part_px: int = 0) -> None:
    """Write a file without pixels; `spec` has been checked to fit the format."""
    del part_px
    begin_tiff(path, spec, level_sizes(spec), _description(spec), _page_axes(spec), ome=True)


def open_canvas(path: Path, spec: OutputSpec, part_px: int) -> TiffCanvas:
    """Open what `begin` has made, to be filled part by part."""
    return TiffCanvas(path, spec, level_sizes(spec), part_px=part_px)


def level_sizes(spec: OutputSpec) -> list[tuple[int, int]]:
    """Height and width of each level of the pyramid."""
    if max(spec.height, spec.width) <= PYRAMID_FROM_PX:
        return [(spec.height, spec.width)]
    return pyramid_sizes(spec.height, spec.width, largest_px=PYRAMID_FROM_PX // 2)


def _page_axes(spec: OutputSpec) -> str:
    return "YXS" if spec.rgb else "CYX"


def _description(spec: OutputSpec) -> dict[str, Any]:
    """OME metadata for `TiffWriter.write`: sizes, names and colours, and the exact record as an annotation."""
    metadata = spec.metadata
    annotation = {"Namespace": METADATA_KEY, "Value": {"record": json.dumps(exact_record(spec))}}
    return {
        "axes": time_and_depth(spec.leading_axes) + _page_axes(spec),
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
