"""A raster cut into the map tiles that its input came in: same names, formats and alpha, lower zooms made anew."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np

from napari_pix2pix.formats import writing
from napari_pix2pix.formats.opacity import with_opacity
from napari_pix2pix.formats.source import open_image
from napari_pix2pix.formats.tiff import SUFFIXES as TIFF_SUFFIXES
from napari_pix2pix.formats.tile_grid import halved, halved_by_opacity
from napari_pix2pix.formats.tile_layout import TMS_FILE, MapTile, TileIndex, TileLayout
from napari_pix2pix.formats.writing import OutputSpec, Tile, format_of_suffix, known_suffix, write_image
from pix2pix_training.array_source import AnyArray, Region, whole_plane
from pix2pix_training.atomic import sync_to_disk

Children = tuple[str | None, ...]
"""Names of the NW, NE, SW and SE tiles, None where one is missing."""


def incompatibility(spec: OutputSpec) -> str | None:
    """Why map tiles like those of the input cannot hold an image."""
    if spec.metadata.tiles is None:
        return "only what was read from map tiles can be written as map tiles; use the format tiff"
    if prod(spec.leading_shape) > 1:
        return f"map tiles hold a single plane, the image has planes {spec.leading_shape}"
    tile = spec.metadata.tiles.tiles[0]
    size = (spec.channels, tile.region.height, tile.region.width)
    reason = writing.incompatibility(replace(spec, shape=size, axes="CYX"), _own_format(spec))
    return None if reason is None else f"{reason} (the input's tiles are like {tile.name})"


def holds_mask(spec: OutputSpec) -> bool:
    """Whether tiles like those of the input say beside their channels which pixels hold no data."""
    return writing.holds_mask(spec, _own_format(spec))


def holds_nodata(spec: OutputSpec) -> bool:
    """Whether tiles like those of the input say which value stands for no data."""
    return writing.holds_nodata(spec, _own_format(spec))


def _own_format(spec: OutputSpec) -> str:
    """The format of the input's first tile."""
    assert spec.metadata.tiles is not None
    return _tile_format(spec.metadata.tiles.tiles[0].name, placed=spec.metadata.georeference is not None)


def _tile_format(name: str, *, placed: bool) -> str:
    """The format of a map tile by its ending; `placed` where it is known where it lies."""
    suffix = known_suffix(Path(name))
    return "geotiff" if placed and suffix in TIFF_SUFFIXES else format_of_suffix(suffix, None)


def may_replace(path: Path, spec: OutputSpec) -> bool:
    """Whether a folder holds no other files than tiles of the same names."""
    return spec.metadata.tiles is not None and spec.metadata.tiles.names_all_of(path)


def write(path: Path, spec: OutputSpec, tiles: Iterable[Tile], file_format: str) -> None:
    """Fill a folder that does not exist yet; `spec` has been checked to have a layout that the tiles' formats fit."""
    del file_format
    layout = spec.metadata.tiles
    assert layout is not None
    path.mkdir()
    if layout.tms_xml is not None:
        (path / TMS_FILE).write_text(layout.tms_xml, encoding="utf-8")
        sync_to_disk(path / TMS_FILE)
    cutter = _Cutter(path, spec, layout)
    for _, region, pixels in tiles:
        cutter.add(region, pixels)
    for name, children in layout.parents:
        _write_tile(path / name, spec, _parent(path, spec, children))


@dataclass
class _Unfinished:
    pixels: AnyArray
    missing: int


class _Cutter:
    """Writes each tile as soon as its last pixel has come."""

    def __init__(self, folder: Path, spec: OutputSpec, layout: TileLayout) -> None:
        self._folder = folder
        self._spec = spec
        self._layout = layout
        self._index = TileIndex(layout.tiles)
        self._unfinished: dict[str, _Unfinished] = {}

    def add(self, region: Region, pixels: AnyArray) -> None:
        for tile in self._index.touching(region):
            part = tile.region.common(region)
            if tile.name not in self._unfinished:
                self._unfinished[tile.name] = self._empty(tile)
            own = self._unfinished[tile.name]
            own.pixels[(slice(None), *part.seen_from(tile.region).slices)] = pixels[
                (slice(None), *part.seen_from(region).slices)
            ]
            own.missing -= part.height * part.width
            if own.missing == 0:
                del self._unfinished[tile.name]
                _write_tile(self._folder / tile.name, self._spec, own.pixels, region=tile.region)

    def _empty(self, tile: MapTile) -> _Unfinished:
        height, width = tile.region.height, tile.region.width
        return _Unfinished(np.empty((self._spec.samples, height, width), self._spec.dtype), height * width)


def _parent(folder: Path, spec: OutputSpec, children: Children) -> AnyArray:
    """Four tiles side by side at half their size; nodata, or 0 and transparent, where one is missing."""
    known = {i: _samples(folder / name, spec) for i, name in enumerate(children) if name is not None}
    joined = _joined(known, spec.nodata or 0)
    if not spec.masked:
        return halved(joined, average=spec.averaged, nodata=spec.nodata)
    pixels, alpha = halved_by_opacity(joined[:-1], joined[-1], average=spec.averaged)
    return np.concatenate([pixels, alpha[None]])


def _joined(quarters: Mapping[int, AnyArray], missing: float) -> AnyArray:
    """NW, NE, SW and SE, where they are known, each of shape (..., size, size), to (..., 2 size, 2 size)."""
    first = next(iter(quarters.values()))
    size = first.shape[-1]
    joined = np.full((*first.shape[:-2], 2 * size, 2 * size), missing, first.dtype)
    for i, pixels in quarters.items():
        y, x = (i // 2) * size, (i % 2) * size
        joined[..., y : y + size, x : x + size] = pixels
    return joined


def _samples(path: Path, spec: OutputSpec) -> AnyArray:
    """Of a written tile, as it was given."""
    with open_image(path) as image:
        pixels, opacity = image.read_with_opacity(whole_plane(image))
    return with_opacity(pixels, opacity) if spec.masked else pixels


def _write_tile(path: Path, spec: OutputSpec, pixels: AnyArray, *, region: Region | None = None) -> None:
    """`region` is the place in the raster, None for a tile of another zoom."""
    metadata = replace(spec.metadata, tiles=None, georeference=None, pixel_size=None, unit=None)
    if region is not None and spec.metadata.georeference is not None:
        metadata = replace(metadata, georeference=spec.metadata.georeference.moved(region.y0, region.x0))
    own = replace(spec, shape=(spec.channels, *pixels.shape[1:]), metadata=metadata)
    file_format = _tile_format(path.name, placed=metadata.georeference is not None)
    whole = Region(0, own.height, 0, own.width)
    write_image(path, own, iter([((), whole, pixels)]), file_format=file_format)
