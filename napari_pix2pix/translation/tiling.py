"""Tiles of a plane and the windows around them. Knows only integers."""

from __future__ import annotations

from collections.abc import Iterator

from pix2pix_training.array_source import Region, regions_of

Size = tuple[int, int]
"""Rows and columns."""
Span = tuple[int, int]
"""From the first to behind the last along an axis."""


def whole(size: Size) -> Region:
    return Region(0, size[0], 0, size[1])


def tiles_of(region: Region, tile: int) -> Iterator[Region]:
    """Squares of `tile` that cover a region in reading order, the last of each row and column smaller."""
    return (square.placed_in(region) for square in regions_of(region.height, region.width, tile))


def tile_count(size: Size, tile: int) -> int:
    return _cells(size[0], tile) * _cells(size[1], tile)


def window_around(region: Region, halo: int, size: Size) -> Region:
    """The region with `halo` more on each side, clipped to the plane."""
    rows = span_around((region.y0, region.y1), halo, size[0])
    return Region(*rows, *span_around((region.x0, region.x1), halo, size[1]))


def span_around(span: Span, halo: int, length: int) -> Span:
    return max(0, span[0] - halo), min(length, span[1] + halo)


def even_window_around(region: Region, halo: int, bounds: Region, tile: int) -> Region:
    """The region with at least `halo` more on each side, as far as `bounds` go.

    `tile` is the side of the largest regions. What lies beyond a border, or is missing to a full tile, is added on the
    other side: all windows within the same bounds are of one size, for which stages can be compiled.
    """
    rows = _around(region.y0, halo, bounds.y0, bounds.y1, tile)
    return Region(*rows, *_around(region.x0, halo, bounds.x0, bounds.x1, tile))


def _around(start: int, halo: int, low: int, high: int, tile: int) -> tuple[int, int]:
    side = even_window_side(tile, halo, high - low)
    first = min(max(low, start - halo), high - side)
    return first, first + side


def even_window_side(tile: int, halo: int, length: int) -> int:
    """Side of `even_window_around` in a plane of some length."""
    return min(tile + 2 * halo, length)


def balanced_tile(tile: int, cell: int, size: Size) -> int:
    """The least tile, a multiple of `cell`, with which no more are needed along any side of a plane than with `tile`.

    The last tiles of rows and columns are about as large as the others then.
    """
    tile = max(cell, tile // cell * cell)
    return max(_cells(length, cell * _cells(length, tile)) * cell for length in size)


def _cells(length: int, cell: int) -> int:
    return -(-length // cell)


def scaled_down(region: Region, factor: int) -> Region:
    """The same region in cells of `factor`; its edges must be multiples of that."""
    return Region(region.y0 // factor, region.y1 // factor, region.x0 // factor, region.x1 // factor)


def rounded_out(region: Region, multiple: int) -> Region:
    """The smallest region around it whose edges are multiples of a number."""
    rows = rounded_out_span((region.y0, region.y1), multiple)
    return Region(*rows, *rounded_out_span((region.x0, region.x1), multiple))


def rounded_out_span(span: Span, multiple: int) -> Span:
    return span[0] // multiple * multiple, _cells(span[1], multiple) * multiple


def quarters(region: Region, alignment: int) -> list[Region]:
    """The region cut in two along each axis at a multiple of `alignment`; one part alone where it is too small."""
    rows, columns = (_halves(a, b, alignment) for a, b in ((region.y0, region.y1), (region.x0, region.x1)))
    return [Region(y0, y1, x0, x1) for y0, y1 in rows for x0, x1 in columns]


def _halves(start: int, stop: int, alignment: int) -> list[tuple[int, int]]:
    middle = start + (stop - start) // 2 // alignment * alignment
    return [(start, stop)] if middle == start else [(start, middle), (middle, stop)]
