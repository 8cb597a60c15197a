"""Windows around tiles."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from napari_pix2pix.translation.region_grid import balanced_tile, even_window_around, even_window_side, tile_count
from pix2pix_training.regions import Region


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 12), st.integers(0, 9))
def test_even_windows_reach_as_far_as_clipped_ones_and_are_of_one_size(
    rows: int, columns: int, tile: int, halo: int
) -> None:
    for region in Region.whole(rows, columns).tiles(tile):
        even = even_window_around(region, halo, Region.whole(rows, columns), tile)
        least = region.grown(halo, (rows, columns))
        assert even.common(Region.whole(rows, columns)) == even
        assert even.y0 <= least.y0 and least.y1 <= even.y1 and even.x0 <= least.x0 and least.x1 <= even.x1
        assert even.height == even_window_side(tile, halo, rows)
        assert even.width == even_window_side(tile, halo, columns)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 50), st.sampled_from([1, 2, 4, 8]))
def test_balanced_tiles_are_the_least_that_are_no_more(rows: int, columns: int, tile: int, cell: int) -> None:
    size = rows * cell, columns * cell
    balanced = balanced_tile(tile, cell, size)
    at_most = max(cell, tile // cell * cell)
    assert balanced % cell == 0
    assert balanced <= at_most
    assert tile_count(size, balanced) == tile_count(size, at_most)
    if balanced > cell:
        assert tile_count(size, balanced - cell) > tile_count(size, at_most)
