"""Cloud-optimised GeoTIFF: overviews, all structure at the beginning of the file, pixels from coarse to fine.

Assembled here and not by GDAL: the georeference stays that of the input to the last bit, pixels are written as they
come, and only the table of tiles is kept in memory. Layout: https://github.com/cogeotiff/cog-spec/blob/master/spec.md
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import numpy as np

from napari_pix2pix.formats import tiff, tiff_writing
from napari_pix2pix.formats.acquisition import to_tiff_tags
from napari_pix2pix.formats.georeference import GDAL_METADATA, GDAL_NODATA, georeference_tags
from napari_pix2pix.formats.metadata import METADATA_KEY
from napari_pix2pix.formats.tiff_metadata import ORIENTATION_TAG
from napari_pix2pix.formats.tiff_writing import colormap, exact_record, fill_spool
from napari_pix2pix.formats.tile_grid import pyramid_sizes
from napari_pix2pix.formats.tile_spool import TILE_PX, TileSpool, predictor
from napari_pix2pix.formats.writing import OutputSpec, Tile
from pix2pix_training.array_source import AnyArray

NAME = "geotiff"
SUFFIXES = tiff.SUFFIXES

_LIMIT_CHANNELS = 65_535
_OVERVIEWS_FROM_PX = 512
_CLASSIC_LIMIT_BYTES = 4_000_000_000
_DEFLATE = 8
_GREY, _RGB, _PALETTE = 1, 2, 3
_SAMPLE_FORMATS = {"b": 1, "u": 1, "i": 2, "f": 3}
_TYPE_NUMBERS = {"H": 3, "I": 4, "d": 12, "Q": 16}
_TILE_OFFSETS, _TILE_LENGTHS = 324, 325


def incompatibility(spec: OutputSpec) -> str | None:
    """Why GeoTIFF cannot hold an image."""
    if spec.metadata.georeference is None:
        return "the image has no georeference (CRS and transform) for a GeoTIFF; use the format tiff"
    if spec.dtype == np.float16 or (spec.dtype == np.bool_ and spec.channels > 1):
        return f"GeoTIFF cannot hold {spec.channels} channels of {spec.dtype}; use the format tiff"
    if spec.channels > _LIMIT_CHANNELS:
        return f"GeoTIFF holds at most {_LIMIT_CHANNELS} channels, the image has {spec.channels}"
    if prod(spec.leading_shape) > 1:
        return f"GeoTIFF holds a single plane, the image has planes {spec.leading_shape}; use the format tiff"
    return tiff_writing.incompatibility(spec)


def holds_nodata(spec: OutputSpec) -> bool:
    """GDAL's tag says it, of any number."""
    del spec
    return True


def substitutes(spec: OutputSpec) -> tuple[str, ...]:
    """A plain TIFF keeps the georeference."""
    return () if spec.metadata.georeference is None else ("tiff",)


def write(path: Path, spec: OutputSpec, tiles: Iterable[Tile], file_format: str) -> None:
    """Write a file that does not exist yet; `spec` has been checked to fit the format."""
    del file_format
    with TileSpool(
        path.parent,
        planes=1,
        pages_per_plane=1,
        sizes=pyramid_sizes(spec.height, spec.width, largest_px=_OVERVIEWS_FROM_PX),
        dtype=spec.dtype,
        deflate=True,
    ) as spool:
        fill_spool(spool, spec, tiles)
        spool.finish()
        with path.open("wb") as file:
            _assemble(file, spec, spool)


@dataclass(frozen=True)
class _Layout:
    """Sizes of numbers in classic TIFF and in BigTIFF: of the header, of a count, of an entry and of an offset."""

    header: bytes
    count: str
    offset: str

    @property
    def entry_bytes(self) -> int:
        return 4 + 2 * struct.calcsize(self.offset)

    @property
    def value_bytes(self) -> int:
        """Longer values lie behind the directory."""
        return struct.calcsize(self.offset)


_CLASSIC = _Layout(struct.pack("<2sHI", b"II", 42, 8), "H", "I")
_BIG = _Layout(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16), "Q", "Q")

_Entry = tuple[int, int, int, bytes]
"""Tag, number of the type, count, and the value's bytes."""


def _assemble(file: BinaryIO, spec: OutputSpec, spool: TileSpool) -> None:
    for layout in (_CLASSIC, _BIG):
        beginning, size = _beginning(spec, spool, layout)
        if size <= _CLASSIC_LIMIT_BYTES:
            break
    file.write(beginning)
    for level in reversed(range(len(spool.sizes))):
        file.writelines(spool.tiles(level))


def _beginning(spec: OutputSpec, spool: TileSpool, layout: _Layout) -> tuple[bytes, int]:
    """Header and directories, and the size of the whole file."""
    levels = range(len(spool.sizes))
    draft = [_directory(_entries(spec, spool, level, 0, layout), 0, False, layout) for level in levels]
    start = len(layout.header) + sum(map(len, draft))
    first_tiles = {}
    end = start
    for level in reversed(levels):
        first_tiles[level] = end
        end += int(spool.lengths(level).sum())
    if layout is _CLASSIC and end > _CLASSIC_LIMIT_BYTES:
        return b"", end
    content = layout.header
    for level in levels:
        entries = _entries(spec, spool, level, first_tiles[level], layout)
        content += _directory(entries, len(content), level + 1 < len(spool.sizes), layout)
    return content, end


def _entries(spec: OutputSpec, spool: TileSpool, level: int, first_tile: int, layout: _Layout) -> list[_Entry]:
    """All tags of a level, in ascending order."""
    height, width = spool.sizes[level]
    lengths = spool.lengths(level)
    offsets = first_tile + np.cumsum(lengths) - lengths
    bits = 1 if spec.dtype == np.bool_ else spec.dtype.itemsize * 8
    samples = spec.channels
    colours = _RGB if spec.rgb else _GREY if spec.palette is None else _PALETTE
    tags: list[_Entry] = [
        _numbers(254, "I", [1 if level else 0]),
        _numbers(256, "I", [width]),
        _numbers(257, "I", [height]),
        _numbers(258, "H", [bits] * samples),
        _numbers(259, "H", [_DEFLATE]),
        _numbers(262, "H", [colours]),
        _numbers(277, "H", [samples]),
        _numbers(284, "H", [1]),
        _numbers(317, "H", [predictor(spec.dtype)]),
        _numbers(322, "I", [TILE_PX]),
        _numbers(323, "I", [TILE_PX]),
        _numbers(_TILE_OFFSETS, layout.offset, offsets),
        _numbers(_TILE_LENGTHS, "I", lengths),
        _numbers(339, "H", [_SAMPLE_FORMATS[spec.dtype.kind]] * samples),
    ]
    if spec.palette is not None:
        tags.append(_numbers(320, "H", colormap(spec).ravel()))
    if samples > 1 and not spec.rgb:
        tags.append(_numbers(338, "H", [0] * (samples - 1)))
    if spec.nodata is not None:
        tags.append(_text(GDAL_NODATA, repr(float(spec.nodata))))
    if level == 0:
        tags += _descriptive_tags(spec)
    return sorted(tags)


def _descriptive_tags(spec: OutputSpec) -> list[_Entry]:
    tags = [
        _text(code, value) if kind == "s" else _numbers(code, kind, value)
        for code, kind, _, value in georeference_tags(spec.metadata.georeference)
    ]
    taken = [_text(code, text) for code, _, _, text in to_tiff_tags(spec.metadata.acquisition)]
    orientation = _numbers(ORIENTATION_TAG, "H", [spec.metadata.orientation])
    return [*tags, *taken, orientation, _text(GDAL_METADATA, _gdal_metadata(spec))]


def _gdal_metadata(spec: OutputSpec) -> str:
    """Names of the channels for GDAL, and the exact record for this program; GDAL escapes texts twice in its XML."""
    root = ElementTree.Element("GDALMetadata")
    ElementTree.SubElement(root, "Item", name=METADATA_KEY).text = escape(json.dumps(exact_record(spec)))
    if len(spec.metadata.channel_names) == spec.channels:
        for index, name in enumerate(spec.metadata.channel_names):
            item = ElementTree.SubElement(root, "Item", name="DESCRIPTION", sample=str(index), role="description")
            item.text = escape(name)
    return ElementTree.tostring(root, encoding="unicode")


def _numbers(code: int, kind: str, values: Sequence[Any] | AnyArray) -> _Entry:
    """`kind` as in `struct`: H, I, Q or d."""
    packed = np.asarray(values, dtype="<" + {"H": "u2", "I": "u4", "Q": "u8", "d": "f8"}[kind])
    return code, _TYPE_NUMBERS[kind], packed.size, packed.tobytes()


def _text(code: int, text: str) -> _Entry:
    encoded = text.encode() + b"\0"
    return code, 2, len(encoded), encoded


def _directory(entries: list[_Entry], position: int, followed: bool, layout: _Layout) -> bytes:
    """The bytes of a directory at `position`, with its long values behind it; the next follows at once."""
    count = struct.pack("<" + layout.count, len(entries))
    values_at = position + len(count) + len(entries) * layout.entry_bytes + layout.value_bytes
    table, values = count, b""
    for code, kind, number, value in entries:
        table += struct.pack("<HH" + layout.offset, code, kind, number)
        if len(value) <= layout.value_bytes:
            table += value.ljust(layout.value_bytes, b"\0")
        else:
            table += struct.pack("<" + layout.offset, values_at + len(values))
            values += value + b"\0" * (-len(value) % 8)
    end = values_at + len(values)
    padding = -end % 8
    following = end + padding if followed else 0
    return table + struct.pack("<" + layout.offset, following) + values + b"\0" * padding
