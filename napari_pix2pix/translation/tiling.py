"""Tiles of a plane and the windows around them. Knows only integers."""

from __future__ import annotations

from pix2pix_training.regions import Region, Size, cells


def tile_count(size: Size, tile: int) -> int:
    return cells(size[0], tile) * cells(size[1], tile)


def even_window_around(region: Region, halo: int, bounds: Region, tile: int) -> Region:
    """The region with at least `halo` more on each side, as far as `bounds` go.

    `tile` is the side of the largest regions. What lies beyond a border, or is missing to a full tile, is added on the
    other side: all windows within the same bounds are of one size, for which stages can be compiled.
    """
    height, width = (even_window_side(tile, halo, length) for length in bounds.size)
    y = min(max(bounds.y0, region.y0 - halo), bounds.y1 - height)
    x = min(max(bounds.x0, region.x0 - halo), bounds.x1 - width)
    return Region.at(y, x, height, width)


def even_window_side(tile: int, halo: int, length: int) -> int:
    """Side of `even_window_around` in a plane of some length."""
    return min(tile + 2 * halo, length)


def balanced_tile(tile: int, cell: int, size: Size) -> int:
    """The least tile, a multiple of `cell`, with which no more are needed along any side of a plane than with `tile`.

    The last tiles of rows and columns are about as large as the others then.
    """
    tile = max(cell, tile // cell * cell)
    return max(cells(length, cell * cells(length, tile)) * cell for length in size)
