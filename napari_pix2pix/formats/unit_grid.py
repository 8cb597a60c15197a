"""Turns tiles of any size into units of work. Only units that are not full yet are kept in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from napari_pix2pix.formats.ome_zarr_layout import Layout, Unit
from napari_pix2pix.formats.tile_grid import TileGrid
from napari_pix2pix.formats.writing import Tile
from pix2pix_training.array_source import AnyArray, Region


class UnitGrid:
    """Collects tiles, which come plane by plane.

    Parameters
    ----------
    wanted : leave out what belongs to other units; None for all units.

    Attributes
    ----------
    pixels : number of pixels of wanted units that have come.
    """

    def __init__(self, layout: Layout, wanted: Collection[Unit] | None = None) -> None:
        self._layout = layout
        self._wanted = wanted
        self._plane: tuple[int, ...] | None = None
        self._full: list[tuple[Unit, AnyArray]] = []
        self.pixels = 0

    def add(self, tile: Tile) -> Iterator[tuple[Unit, AnyArray]]:
        """The units that the tile has made full, with their pixels (C, height, width) within the image."""
        plane, region, pixels = tile
        if plane != self._plane:
            self._plane = plane
            self._grid = self._grid_of(plane)
        for part in _parts_by_unit(self._layout.unit_px, region):
            if self._wanted is None or self._layout.unit_at(plane, part.y0, part.x0) in self._wanted:
                y, x = part.y0 - region.y0, part.x0 - region.x0
                self._grid.add(part, pixels[:, y : y + part.height, x : x + part.width])
                self.pixels += part.height * part.width
        while self._full:
            yield self._full.pop(0)

    def _grid_of(self, plane: tuple[int, ...]) -> TileGrid:
        def emit(row: int, column: int, square: AnyArray) -> None:
            region = layout.shard_region(0, row, column)
            self._full.append((Unit(plane, row, column), square[:, : region.height, : region.width]))

        layout, spec = self._layout, self._layout.spec
        return TileGrid((spec.samples, spec.height, spec.width), spec.dtype, layout.unit_px, emit)


def _parts_by_unit(side: int, region: Region) -> Iterator[Region]:
    """The region cut along the borders of units."""
    for y0 in range(region.y0 - region.y0 % side, region.y1, side):
        for x0 in range(region.x0 - region.x0 % side, region.x1, side):
            yield Region(max(y0, region.y0), min(y0 + side, region.y1), max(x0, region.x0), min(x0 + side, region.x1))
