"""ImageJ hyperstacks: uncompressed planes one behind the other, written in place as the tiles come."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import blake2b
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from napari_pix2pix.formats import tiff
from napari_pix2pix.formats.metadata import METADATA_KEY, time_and_depth, to_record
from napari_pix2pix.formats.ome_tiff import NOT_IN_OME
from napari_pix2pix.formats.tiff_writing import photometric
from napari_pix2pix.formats.writing import OutputSpec, Steps, Tile
from pix2pix_training.array_source import AnyArray
from pix2pix_training.regions import Region

NAME = "imagej"
SUFFIXES = tiff.SUFFIXES
LOSES = ("place", "nodata", "origin", "steps", "orientation", "axes")

_LIMIT_BYTES = 4_000_000_000
_DIGEST_BYTES = 16
_ASCII_UNITS = {"µm": "um", "Å": "angstrom"}


def incompatibility(spec: OutputSpec) -> str | None:
    """Why ImageJ's format cannot hold an image."""
    if spec.dtype not in (np.uint8, np.uint16, np.float32) or (spec.rgb and spec.dtype != np.uint8):
        other = "tiff" if spec.dtype in NOT_IN_OME else "ome-tiff"
        return f"ImageJ cannot hold {'RGB of ' if spec.rgb else ''}{spec.dtype}; use the format {other}"
    if spec.palette is not None or len(spec.leading_axes) > 2:
        return "ImageJ cannot hold a palette or more axes than TZCYX; use the format tiff"
    if spec.nbytes > _LIMIT_BYTES:
        return "ImageJ cannot hold more than 4 GB; use the format ome-tiff"
    return None


def substitutes(spec: OutputSpec) -> tuple[str, ...]:
    """Formats that ImageJ opens too."""
    del spec
    return "ome-tiff", "tiff"


def begin(path: Path, spec: OutputSpec, part_px: int = 0) -> None:
    """Write a complete file of zeros; `spec` has been checked to fit the format."""
    del part_px
    with tifffile.TiffWriter(path, imagej=True, byteorder=">") as tif:
        tif.write(
            shape=_hyperstack_shape(spec),
            dtype=spec.dtype,
            photometric=photometric(spec),
            metadata=_description(spec),
            **_resolution(spec),
        )


def open_canvas(path: Path, spec: OutputSpec, part_px: int) -> ImagejCanvas:
    """Open what `begin` has made, to be filled part by part."""
    del part_px
    return ImagejCanvas(path, spec)


class ImagejCanvas:
    """A hyperstack, written in place: its planes lie uncompressed one behind the other."""

    def __init__(self, path: Path, spec: OutputSpec) -> None:
        self._spec = spec
        self._start = _first_pixel(path)
        self._plane_bytes = prod(spec.shape[-3:]) * spec.dtype.itemsize
        self._page_bytes = self._plane_bytes if spec.rgb else self._plane_bytes // spec.channels
        self._file = path.open("r+b")

    def frame(self, size: int | None = None) -> tuple[int, str]:
        """What stands before and behind all pixels; see `Canvas.frame`."""
        del size
        behind = self._start + self._spec.nbytes
        return self._start, self._digest([self._read(0, self._start), self._read(behind, -1)])

    def write_tile(self, plane: tuple[int, ...], region: Region, pixels: AnyArray) -> None:
        """Write a tile, shape (C, region.height, region.width)."""
        for offset, rows in zip(self._places(plane, region), self._rows(pixels), strict=True):
            self._file.seek(offset)
            self._file.write(rows.tobytes())

    def write_tiles(self, tiles: Iterable[Tile]) -> Steps:
        """Write the whole image, from tiles as `write_image` takes them."""
        for tile in tiles:
            self.write_tile(*tile)
            yield
        self._file.flush()

    def write_part(self, plane: tuple[int, ...], region: Region, pixels: AnyArray) -> str:
        """Write a tile; a checksum of it, when it is on the disk."""
        self.write_tile(plane, region, pixels)
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._digest(rows.tobytes() for rows in self._rows(pixels))

    def restore(self, plane: tuple[int, ...], region: Region, note: Any) -> bool:
        """Whether a tile is as its checksum says."""
        row_bytes = region.width * self._spec.dtype.itemsize * (3 if self._spec.rgb else 1)
        return bool(self._digest(self._read(offset, row_bytes) for offset in self._places(plane, region)) == note)

    def _read(self, offset: int, size: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(size)

    def _digest(self, rows: Iterable[bytes]) -> str:
        content = blake2b(digest_size=_DIGEST_BYTES)
        for row in rows:
            content.update(row)
        return content.hexdigest()

    def _places(self, plane: tuple[int, ...], region: Region) -> Iterator[int]:
        """Where each row of each page of a tile begins in the file."""
        spec = self._spec
        pixel_bytes = spec.dtype.itemsize * (3 if spec.rgb else 1)
        first = self._start + _plane_number(spec, plane) * self._plane_bytes
        for page in range(1 if spec.rgb else spec.channels):
            for y in range(region.y0, region.y1):
                yield first + page * self._page_bytes + (y * spec.width + region.x0) * pixel_bytes

    def _rows(self, pixels: AnyArray) -> Iterator[AnyArray]:
        """The rows of each page, big-endian as ImageJ wants it: one page for RGB, else one per channel."""
        stored = pixels.astype(self._spec.dtype.newbyteorder(">"), copy=False)
        pages = np.moveaxis(stored, 0, -1)[None] if self._spec.rgb else stored
        for page in pages:
            yield from page

    def finish(self, path: Path) -> None:
        """All that there is to write is written."""
        del path
        self._file.flush()

    def close(self) -> None:
        """Close the file, whatever there is of it."""
        with suppress(OSError):  # what counts was flushed before, and has failed there
            self._file.close()


def _first_pixel(path: Path) -> int:
    """Its place in a file that `begin` has made."""
    with tifffile.TiffFile(path) as tif:
        return int(tif.pages.first.dataoffsets[0])


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
