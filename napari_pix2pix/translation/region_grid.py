"""Regions: the units of work that an image is cut into, each translated on its own. Knows only integers and layers.

Which regions there are depends on the image, the network and the settings alone, so whoever computes one gives the same
pixels. A region's window is what the network must see for it: its receptive field around, in phase with its strides,
ending at the border of the image.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from napari_pix2pix.translation import cost
from napari_pix2pix.translation.settings import LEAST_REGION_PX
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.regions import Region, Size, Span, aligned_span, cells, clipped_span

MULTIPLE_PX = 256
"""Sides of regions are multiples of it, so that they own whole chunks of any output."""
_USUAL_MULTIPLE_PX = 1024
_MOST_OVERHEAD = 1.11
_MOST_OVERHEAD_AFTER_GATHERING = 1.07
"""Arithmetic around regions, relative to the image; tiles within a region add up to 0.04."""
DEEP_FROM = 4
"""Decoder levels from here on may run over all of a window; those above, where the result needs them."""


@dataclass(frozen=True)
class Cut:
    """A region along one axis: where it lies in the image, and its window in the padded image."""

    span: Span
    window: Span

    @property
    def length(self) -> int:
        return self.span[1] - self.span[0]

    @property
    def seen(self) -> int:
        return self.window[1] - self.window[0]

    @property
    def needed(self) -> Span:
        """The region in its window."""
        return self.span[0] - self.window[0], self.span[1] - self.window[0]


@dataclass(frozen=True)
class RegionKind:
    """Regions that lie in the same way in windows of the same size, and how many of them there are."""

    rows: Cut
    columns: Cut
    count: int = 1


@dataclass(frozen=True)
class RegionGrid:
    """The regions of an image.

    Attributes
    ----------
    size : rows and columns of the image.
    side : rows and columns of a region; the last ones may be smaller.
    halo : what the network sees around a region.
    stride : of the network.
    """

    size: Size
    side: Size
    halo: int
    stride: int

    @cached_property
    def rows(self) -> tuple[Cut, ...]:
        return self._cuts(0)

    @cached_property
    def columns(self) -> tuple[Cut, ...]:
        return self._cuts(1)

    def _cuts(self, axis: int) -> tuple[Cut, ...]:
        length, side = self.size[axis], self.side[axis]
        padded = -(-length // self.stride) * self.stride
        spans = ((start, min(start + side, length)) for start in range(0, length, side))
        return tuple(Cut(span, aligned_span(clipped_span(span, self.halo, padded), self.stride)) for span in spans)

    @property
    def count(self) -> int:
        return len(self.rows) * len(self.columns)

    @property
    def largest(self) -> tuple[Cut, Cut]:
        """Rows and columns of the region with the largest window."""
        return max(self.rows, key=lambda cut: cut.seen), max(self.columns, key=lambda cut: cut.seen)

    @property
    def window(self) -> Size:
        """Rows and columns of the largest window."""
        rows, columns = self.largest
        return rows.seen, columns.seen

    @cached_property
    def window_area(self) -> int:
        """Pixels of all windows."""
        return sum(cut.seen for cut in self.rows) * sum(cut.seen for cut in self.columns)

    @property
    def window_overhead(self) -> float:
        """Area of all windows relative to the padded image."""
        return self.window_area / self.padded_area

    @property
    def padded_area(self) -> int:
        return self.rows[-1].window[1] * self.columns[-1].window[1]

    @cached_property
    def kinds(self) -> list[RegionKind]:
        rows, columns = _alike(self.rows), _alike(self.columns)
        return [RegionKind(row, column, n * m) for row, n in rows for column, m in columns]


def _alike(cuts: Sequence[Cut]) -> list[tuple[Cut, int]]:
    """A cut of each kind, and how many there are."""
    counts = Counter((cut.seen, cut.needed) for cut in cuts)
    return [(cut, counts.pop(kind)) for cut in cuts if (kind := (cut.seen, cut.needed)) in counts]


def one_region(size: Size, config: GeneratorConfig) -> RegionGrid:
    return RegionGrid(size, size, cost.receptive_radius(config), config.stride)


def region_grid(size: Size, config: GeneratorConfig, asked: int | None = None, *, gathers: bool = False) -> RegionGrid:
    """The regions of an image.

    Parameters
    ----------
    asked : side in pixels, rounded up to `MULTIPLE_PX`. Else the image is cut into equal parts of at least
        `LEAST_REGION_PX` a side (so, images below twice that not at all), as many as add no more than a little
        arithmetic.
    gathers : the statistics of the image are gathered before, which is as much arithmetic again.
    """
    halo = cost.receptive_radius(config)
    if asked is not None:
        side = -(-asked // MULTIPLE_PX) * MULTIPLE_PX
        return RegionGrid(size, (min(side, size[0]), min(side, size[1])), halo, config.stride)
    least, most = LEAST_REGION_PX, _MOST_OVERHEAD_AFTER_GATHERING if gathers else _MOST_OVERHEAD
    while True:
        grid = RegionGrid(size, (_even(size[0], least), _even(size[1], least)), halo, config.stride)
        if grid.count == 1 or _overhead(grid, config) <= most:
            return grid
        least += _USUAL_MULTIPLE_PX


def _even(length: int, least: int) -> int:
    """Side of equal parts that are no smaller than `least`; the length where it cannot be cut."""
    parts = max(1, length // least)
    return length if parts == 1 else math.ceil(length / parts / _USUAL_MULTIPLE_PX) * _USUAL_MULTIPLE_PX


def _overhead(grid: RegionGrid, config: GeneratorConfig) -> float:
    """Arithmetic relative to the image; encoders, and the deepest levels of decoders, run over all of a window."""
    if config.architecture == "resnet":
        return 1.0
    deep = range(min(DEEP_FROM, config.depth), config.depth + 1)
    in_windows = cost.down_macs(config, range(1, config.depth + 1)) + cost.up_macs(config, deep)
    return 1 + (grid.window_overhead - 1) * in_windows / cost.unet_macs(config)


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
