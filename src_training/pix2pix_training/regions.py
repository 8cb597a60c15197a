"""Rectangles of pixels and all arithmetic on them. Knows only integers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

Size = tuple[int, int]
"""Rows and columns."""
Span = tuple[int, int]
"""From the first to behind the last along an axis."""


def cells(length: int, side: int) -> int:
    """How many cells of `side` cover a length."""
    return -(-length // side)


def clipped_span(span: Span, margin: int, length: int) -> Span:
    """A span with `margin` more at both ends, as far as the axis goes."""
    return max(0, span[0] - margin), min(length, span[1] + margin)


def aligned_span(span: Span, multiple: int) -> Span:
    """The smallest span around it whose ends are multiples of a number."""
    return span[0] // multiple * multiple, cells(span[1], multiple) * multiple


@dataclass(frozen=True, slots=True)
class Region:
    """Half-open rectangle of pixels, ``[y0, y1) x [x0, x1)``."""

    y0: int
    y1: int
    x0: int
    x1: int

    @classmethod
    def whole(cls, height: int, width: int) -> Self:
        """All of a plane."""
        return cls(0, height, 0, width)

    @classmethod
    def at(cls, y: int, x: int, height: int, width: int) -> Self:
        """The rectangle of that size whose first pixel is at row `y` and column `x`."""
        return cls(y, y + height, x, x + width)

    @property
    def height(self) -> int:
        return self.y1 - self.y0

    @property
    def width(self) -> int:
        return self.x1 - self.x0

    @property
    def size(self) -> Size:
        return self.height, self.width

    @property
    def pixels(self) -> int:
        return self.height * self.width

    @property
    def is_empty(self) -> bool:
        return self.height <= 0 or self.width <= 0

    @property
    def rows(self) -> Span:
        return self.y0, self.y1

    @property
    def columns(self) -> Span:
        return self.x0, self.x1

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the region in the last two axes of an array: ``array[..., *region.slices]``."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def contains(self, other: Region) -> bool:
        return self.y0 <= other.y0 and other.y1 <= self.y1 and self.x0 <= other.x0 and other.x1 <= self.x1

    def common(self, other: Region) -> Region:
        """The rectangle that lies in both; of height or width 0 where there is none."""
        y0, x0 = max(self.y0, other.y0), max(self.x0, other.x0)
        return Region(y0, max(y0, min(self.y1, other.y1)), x0, max(x0, min(self.x1, other.x1)))

    def seen_from(self, other: Region) -> Region:
        """The same rectangle in coordinates that begin at the first pixel of `other`."""
        return Region(self.y0 - other.y0, self.y1 - other.y0, self.x0 - other.x0, self.x1 - other.x0)

    def placed_in(self, other: Region) -> Region:
        """The rectangle whose coordinates begin at the first pixel of `other`, in those in which `other` is given."""
        return Region(self.y0 + other.y0, self.y1 + other.y0, self.x0 + other.x0, self.x1 + other.x0)

    def grown(self, margin: int, size: Size) -> Region:
        """With `margin` more on each side (less where it is negative), as far as a plane of `size` goes."""
        return Region(*clipped_span(self.rows, margin, size[0]), *clipped_span(self.columns, margin, size[1]))

    def aligned(self, multiple: int) -> Region:
        """The smallest rectangle around it whose edges are multiples of a number."""
        return Region(*aligned_span(self.rows, multiple), *aligned_span(self.columns, multiple))

    def in_cells(self, side: int) -> Region:
        """The cells of `side` pixels that it touches."""
        return Region(self.y0 // side, cells(self.y1, side), self.x0 // side, cells(self.x1, side))

    def of_cells(self, side: int) -> Region:
        """The pixels of a rectangle of cells of `side` pixels."""
        return Region(self.y0 * side, self.y1 * side, self.x0 * side, self.x1 * side)

    def places(self) -> Iterator[tuple[int, int]]:
        """Row and column of each of its pixels (or cells), in reading order."""
        return ((y, x) for y in range(*self.rows) for x in range(*self.columns))

    def tiles(self, height: int, width: int | None = None) -> Iterator[Region]:
        """Rectangles of a size (squares by default) that cover it in reading order, those at its ends smaller."""
        for y in range(self.y0, self.y1, height):
            for x in range(self.x0, self.x1, width or height):
                yield Region(y, min(y + height, self.y1), x, min(x + (width or height), self.x1))

    def strips(self, rows: int) -> Iterator[Region]:
        """Rectangles of so many of its rows, the last one of fewer."""
        return self.tiles(rows, max(1, self.width))

    def quarters(self, alignment: int) -> list[Region]:
        """Cut in two along each axis at a multiple of `alignment`; one part alone where it is too small."""
        rows, columns = _halves(self.rows, alignment), _halves(self.columns, alignment)
        return [Region(*row, *column) for row in rows for column in columns]


@dataclass(frozen=True, slots=True)
class PlaneRegion:
    """A region of the plane with this index of leading axes."""

    plane: tuple[int, ...]
    region: Region


def _halves(span: Span, alignment: int) -> list[Span]:
    start, stop = span
    middle = start + (stop - start) // 2 // alignment * alignment
    return [span] if middle == start else [(start, middle), (middle, stop)]
