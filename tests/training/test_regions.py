"""Arithmetic of rectangles, against masks of the pixels that they hold."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pix2pix_training.regions import Region

PLANE = 14, 17
"""Rows and columns of the plane in which all rectangles lie."""


def spans(length: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(0, length), st.integers(0, length)).map(lambda ends: (min(ends), max(ends)))


@st.composite
def regions(draw: st.DrawFn) -> Region:
    return Region(*draw(spans(PLANE[0])), *draw(spans(PLANE[1])))


sides = st.integers(1, 9)


def pixels_of(region: Region, size: tuple[int, int] = PLANE) -> NDArray[np.bool_]:
    mask = np.zeros(size, bool)
    mask[region.slices] = True
    return mask


@given(regions(), regions())
def test_what_two_have_in_common(a: Region, b: Region) -> None:
    common = a.common(b)
    np.testing.assert_array_equal(pixels_of(common), pixels_of(a) & pixels_of(b))
    assert common.height >= 0
    assert common.width >= 0
    assert common.is_empty == (not pixels_of(common).any())
    if not b.is_empty:
        assert a.contains(b) == (common == b)


@given(regions(), regions())
def test_seen_from_another_and_placed_back(a: Region, b: Region) -> None:
    assert a.seen_from(b).placed_in(b) == a
    assert a.seen_from(b).size == a.size
    if b.contains(a):
        plane = np.arange(PLANE[0] * PLANE[1]).reshape(PLANE)
        np.testing.assert_array_equal(plane[b.slices][a.seen_from(b).slices], plane[a.slices])


@given(regions(), st.integers(0, 20))
def test_grown_is_every_pixel_so_near(region: Region, margin: int) -> None:
    grown = region.grown(margin, PLANE)
    assert Region.whole(*PLANE).contains(grown)
    if not region.is_empty:
        near = np.zeros(PLANE, bool)
        for y, x in region.places():
            near[max(0, y - margin) : y + margin + 1, max(0, x - margin) : x + margin + 1] = True
        np.testing.assert_array_equal(pixels_of(grown), near)


@given(regions(), st.integers(0, 3))
def test_shrunk_and_grown_again(region: Region, margin: int) -> None:
    inner = region.grown(-margin, PLANE)
    if not inner.is_empty:
        assert region.contains(inner.grown(margin, PLANE))


@given(regions(), sides)
def test_aligned_is_the_smallest_of_whole_cells(region: Region, side: int) -> None:
    aligned, touched = region.aligned(side), region.in_cells(side)
    assert aligned.contains(region)
    assert touched.of_cells(side) == aligned
    if not region.is_empty:
        found = {(y // side, x // side) for y, x in region.places()}
        assert list(touched.places()) == sorted(found)


@given(regions(), sides, st.one_of(st.none(), sides))
def test_tiles_cover_every_pixel_once_in_reading_order(region: Region, height: int, width: int | None) -> None:
    tiles = list(region.tiles(height, width))
    counts = sum((pixels_of(tile).astype(int) for tile in tiles), start=np.zeros(PLANE, int))
    np.testing.assert_array_equal(counts, pixels_of(region).astype(int))
    assert tiles == sorted(tiles, key=lambda tile: (tile.y0, tile.x0))
    for tile in tiles:
        assert tile.height == min(height, region.y1 - tile.y0)
        assert tile.width == min(width or height, region.x1 - tile.x0)
        assert (tile.y0 - region.y0) % height == 0


@given(regions(), sides)
def test_strips_are_tiles_as_wide_as_the_region(region: Region, rows: int) -> None:
    strips = list(region.strips(rows))
    assert sum(strip.pixels for strip in strips) == region.pixels
    assert all(strip.columns == region.columns for strip in strips)


@given(regions(), st.sampled_from([1, 2, 4]))
def test_quarters_are_cut_at_multiples(region: Region, alignment: int) -> None:
    region = region.aligned(alignment)
    quarters = region.quarters(alignment)
    assert sum(quarter.pixels for quarter in quarters) == region.pixels
    assert all(quarter.aligned(alignment) == quarter for quarter in quarters)
    assert all(region.contains(quarter) for quarter in quarters)
    if min(region.size) >= 2 * alignment:
        assert len(quarters) == 4


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
def test_at_a_place_of_a_size(y: int, x: int, height: int, width: int) -> None:
    region = Region.at(y, x, height, width)
    assert (region.y0, region.x0, region.size, region.pixels) == (y, x, (height, width), height * width)
    assert Region.whole(height, width) == region.seen_from(region)
