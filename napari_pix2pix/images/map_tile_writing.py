"""A raster cut into the map tiles that its input came in: same names, same formats, lower zooms made anew."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from napari_pix2pix.images.source import open_image
from napari_pix2pix.images.tile_grid import halved
from napari_pix2pix.images.tile_layout import TMS_FILE, MapTile, TileIndex, TileLayout
from napari_pix2pix.images.writing import OutputSpec, Tile, tile_format, write_image
from pix2pix_training.array_source import AnyArray, Region, whole_plane
from pix2pix_training.atomic import sync_to_disk


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
        _write_tile(path / name, spec, _parent(path, spec, children), None)


@dataclass
class _Unfinished:
    pixels: AnyArray
    missing: int


class _Cutter:
    """Writes each tile as soon as its last pixel has come."""

    def __init__(self, folder: Path, spec: OutputSpec, layout: TileLayout) -> None:
        self._folder = folder
        self._spec = spec
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
                _write_tile(self._folder / tile.name, self._spec, own.pixels, tile.region)

    def _empty(self, tile: MapTile) -> _Unfinished:
        height, width = tile.region.height, tile.region.width
        return _Unfinished(np.empty((self._spec.channels, height, width), self._spec.dtype), height * width)


def _parent(folder: Path, spec: OutputSpec, children: tuple[str | None, ...]) -> AnyArray:
    """Four tiles side by side at half their size; nodata, or 0, where one is missing."""
    known = {i: _pixels(folder / name) for i, name in enumerate(children) if name is not None}
    size = next(iter(known.values())).shape[-1]
    joined = np.full((spec.channels, 2 * size, 2 * size), spec.nodata or 0, spec.dtype)
    for i, pixels in known.items():
        y, x = (i // 2) * size, (i % 2) * size
        joined[:, y : y + size, x : x + size] = pixels
    return halved(joined, average=spec.averaged, nodata=spec.nodata)


def _pixels(path: Path) -> AnyArray:
    with open_image(path) as image:
        return image.read(whole_plane(image))


def _write_tile(path: Path, spec: OutputSpec, pixels: AnyArray, region: Region | None) -> None:
    """`region` is the place in the raster, None for a tile of another zoom."""
    metadata = replace(spec.metadata, tiles=None, georeference=None, pixel_size=None, unit=None)
    if region is not None and spec.metadata.georeference is not None:
        metadata = replace(metadata, georeference=spec.metadata.georeference.moved(region.y0, region.x0))
    own = replace(spec, shape=pixels.shape, metadata=metadata)
    whole = Region(0, own.height, 0, own.width)
    write_image(
        path,
        own,
        iter([((), whole, pixels)]),
        file_format=tile_format(path.name, placed=metadata.georeference is not None),
    )
