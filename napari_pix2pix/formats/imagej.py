"""ImageJ hyperstacks: uncompressed planes one behind the other, written in place as the tiles come."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile

from napari_pix2pix.formats import tiff
from napari_pix2pix.formats.axes import time_and_depth
from napari_pix2pix.formats.metadata import METADATA_KEY, to_record
from napari_pix2pix.formats.tiff_writing import photometric
from napari_pix2pix.formats.writing import OutputSpec, Tile
from pix2pix_training.array_source import AnyArray, Region

NAME = "imagej"
SUFFIXES = tiff.SUFFIXES

_LIMIT_BYTES = 4_000_000_000
_ASCII_UNITS = {"µm": "um", "Å": "angstrom"}


def incompatibility(spec: OutputSpec) -> str | None:
    """Why ImageJ's format cannot hold an image."""
    if spec.dtype not in (np.uint8, np.uint16, np.float32) or (spec.rgb and spec.dtype != np.uint8):
        return f"ImageJ cannot hold {'RGB of ' if spec.rgb else ''}{spec.dtype}; use the format ome-tiff"
    if spec.palette is not None or len(spec.leading_axes) > 2:
        return "ImageJ cannot hold a palette or more axes than TZCYX; use the format tiff"
    if spec.nbytes > _LIMIT_BYTES:
        return "ImageJ cannot hold more than 4 GB; use the format ome-tiff"
    return None


def substitutes(spec: OutputSpec) -> tuple[str, ...]:
    """Formats that ImageJ opens too."""
    del spec
    return "ome-tiff", "tiff"


def write(path: Path, spec: OutputSpec, tiles: Iterable[Tile], file_format: str) -> None:
    """Write a file that does not exist yet; `spec` has been checked to fit the format."""
    del file_format
    start = _write_empty(path, spec)
    plane_bytes = prod(spec.shape[-3:]) * spec.dtype.itemsize
    page_bytes = plane_bytes if spec.rgb else plane_bytes // spec.channels
    with path.open("r+b") as file:
        for plane, region, pixels in tiles:
            offset = start + _plane_number(spec, plane) * plane_bytes
            for page, samples in enumerate(_pages(spec, pixels)):
                _write_rows(file, offset + page * page_bytes, spec.width, region, samples)


def _write_empty(path: Path, spec: OutputSpec) -> int:
    """A complete file of zeros; the offset of its first pixel."""
    with tifffile.TiffWriter(path, imagej=True, byteorder=">") as tif:
        location = tif.write(
            shape=_hyperstack_shape(spec),
            dtype=spec.dtype,
            photometric=photometric(spec),
            metadata=_description(spec),
            returnoffset=True,
            **_resolution(spec),
        )
    if location is None:
        raise tifffile.TiffFileError("the planes of an ImageJ file must lie one behind the other")
    return int(location[0])


def _lengths(spec: OutputSpec) -> dict[str, int]:
    """Lengths of T and Z, 1 where there is none."""
    return {"T": 1, "Z": 1} | dict(zip(time_and_depth(spec.leading_axes), spec.leading_shape, strict=True))


def _hyperstack_shape(spec: OutputSpec) -> tuple[int, ...]:
    """TZCYXS, the order of ImageJ."""
    lengths = _lengths(spec)
    channels, samples = (1, 3) if spec.rgb else (spec.channels, 1)
    return lengths["T"], lengths["Z"], channels, spec.height, spec.width, samples


def _plane_number(spec: OutputSpec, plane: tuple[int, ...]) -> int:
    position = {"T": 0, "Z": 0} | dict(zip(time_and_depth(spec.leading_axes), plane, strict=True))
    return position["T"] * _lengths(spec)["Z"] + position["Z"]


def _pages(spec: OutputSpec, pixels: AnyArray) -> Iterator[AnyArray]:
    """Shape (Y, X, samples), big-endian as ImageJ wants it: one page for RGB, else one per channel."""
    stored = pixels.astype(spec.dtype.newbyteorder(">"), copy=False)
    if spec.rgb:
        yield np.ascontiguousarray(np.moveaxis(stored, 0, -1))
    else:
        yield from np.ascontiguousarray(stored)[..., None]


def _write_rows(file: BinaryIO, page: int, width: int, region: Region, samples: AnyArray) -> None:
    """In one piece where the region spans the width, else row by row; `page` is the offset of the page."""
    pixel_bytes = samples.shape[-1] * samples.dtype.itemsize
    first = page + (region.y0 * width + region.x0) * pixel_bytes
    pieces = [samples] if region.width == width else list(samples)
    for index, piece in enumerate(pieces):
        file.seek(first + index * width * pixel_bytes)
        file.write(piece.tobytes())


def _description(spec: OutputSpec) -> dict[str, Any]:
    """Scale and display settings for ImageJ; channel names as labels; the exact metadata as a property."""
    metadata = spec.metadata
    fields: dict[str, Any] = {"axes": "TZCYXS", "Properties": {METADATA_KEY: json.dumps(to_record(metadata))}}
    if metadata.unit is not None:
        fields["unit"] = _ASCII_UNITS.get(metadata.unit, metadata.unit)
    if metadata.z_spacing is not None:
        fields["spacing"] = metadata.z_spacing
    if metadata.time_step_s is not None:
        fields |= {"finterval": metadata.time_step_s, "tunit": "sec"}
    if metadata.acquisition:
        fields["Info"] = "\n".join(f"{name} = {text}" for name, text in metadata.acquisition)
    return fields | ({} if spec.rgb else _channel_fields(spec))


def _channel_fields(spec: OutputSpec) -> dict[str, Any]:
    metadata = spec.metadata
    fields: dict[str, Any] = {}
    if len(metadata.channel_names) == spec.channels:
        fields["Labels"] = list(metadata.channel_names) * prod(spec.leading_shape)
    if len(metadata.display_ranges) == spec.channels:
        fields["Ranges"] = tuple(value for limits in metadata.display_ranges for value in limits)
    if len(metadata.channel_colors) == spec.channels:
        fields["LUTs"] = [_lookup_table(colour) for colour in metadata.channel_colors]
        fields["mode"] = "composite" if spec.channels > 1 else "color"
    return fields


def _lookup_table(colour: tuple[int, int, int]) -> AnyArray:
    """From black to a colour, shape (3, 256)."""
    table: AnyArray = np.rint(np.outer(colour, np.arange(256) / 255))
    return table.astype(np.uint8)


def _resolution(spec: OutputSpec) -> dict[str, Any]:
    """ImageJ counts pixels per its own `unit`."""
    if spec.metadata.pixel_size is None or spec.metadata.unit is None:
        return {}
    y, x = spec.metadata.pixel_size
    return {"resolution": (1 / x, 1 / y), "resolutionunit": "NONE"}
