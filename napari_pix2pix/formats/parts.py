"""Turns tiles of any size into the parts that a file is written in. Only parts that are not full yet are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from napari_pix2pix.formats.tile_grid import TileGrid
from napari_pix2pix.formats.writing import OutputSpec, Steps, Tile
from pix2pix_training.array_source import AnyArray
from pix2pix_training.regions import Region

Put = Callable[[tuple[int, ...], Region, AnyArray], object]
"""Takes a full part: its plane and region, and its pixels, shape (samples, region.height, region.width)."""


class PartGrid:
    """Collects the tiles of a plane into squares of `side` pixels, less at the end of rows and columns."""

    def __init__(self, spec: OutputSpec, plane: tuple[int, ...], side: int, put: Put) -> None:
        def emit(row: int, column: int, square: AnyArray) -> None:
            height, width = self._grid.extent(row, column)
            put(plane, Region.at(row * side, column * side, height, width), square[:, :height, :width])

        self._grid = TileGrid((spec.samples, spec.height, spec.width), spec.dtype, side, emit)

    def add(self, region: Region, pixels: AnyArray) -> None:
        """Take a tile; every pixel must come once."""
        self._grid.add(region, pixels)


def fill(tiles: Iterable[Tile], spec: OutputSpec, side: int, put: Put) -> Steps:
    """Hand on a whole image in parts, from tiles as `write_image` takes them."""
    current: tuple[int, ...] | None = None
    for plane, region, pixels in tiles:
        if plane != current:
            current, grid = plane, PartGrid(spec, plane, side, put)
        grid.add(region, pixels)
        yield
