"""Turns tiles of any size into units of work. Only units that are not full yet are kept in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from napari_pix2pix.images.ome_zarr_layout import Layout, Unit
from napari_pix2pix.images.tile_grid import TileGrid
from napari_pix2pix.images.writing import Tile
from pix2pix_training.array_source import AnyArray, Region


def units_of(
    layout: Layout, tiles: Iterable[Tile], wanted: Collection[Unit] | None = None
) -> Iterator[tuple[Unit, AnyArray]]:
    """Units as soon as they are full, with their pixels (C, height, width) within the image.

    Parameters
    ----------
    tiles : plane by plane, each pixel of a wanted unit once.
    wanted : leave out what belongs to other units; None for all units.
    """
    full: list[tuple[Unit, AnyArray]] = []
    current: tuple[int, ...] | None = None
    for plane, region, pixels in tiles:
        if plane != current:
            current = plane
            grid = _grid(layout, plane, full)
        for part in parts_by_unit(layout, region):
            if wanted is None or Unit(plane, part.y0 // layout.unit_px, part.x0 // layout.unit_px) in wanted:
                y, x = part.y0 - region.y0, part.x0 - region.x0
                grid.add(part, pixels[:, y : y + part.height, x : x + part.width])
        yield from full
        full.clear()


def _grid(layout: Layout, plane: tuple[int, ...], full: list[tuple[Unit, AnyArray]]) -> TileGrid:
    def emit(row: int, column: int, square: AnyArray) -> None:
        region = layout.shard_region(0, row, column)
        full.append((Unit(plane, row, column), square[:, : region.height, : region.width]))

    spec = layout.spec
    return TileGrid((spec.channels, spec.height, spec.width), spec.dtype, layout.unit_px, emit)


def parts_by_unit(layout: Layout, region: Region) -> Iterator[Region]:
    """The region cut along the borders of units."""
    side = layout.unit_px
    for y0 in range(region.y0 - region.y0 % side, region.y1, side):
        for x0 in range(region.x0 - region.x0 % side, region.x1, side):
            yield Region(max(y0, region.y0), min(y0 + side, region.y1), max(x0, region.x0), min(x0 + side, region.x1))
