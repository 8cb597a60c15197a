"""Windows around tiles."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from napari_pix2pix.translation.tiling import clipped, even_window_around, even_window_side, tiles_of, window_around


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 12), st.integers(0, 9))
def test_even_windows_reach_as_far_as_clipped_ones_and_have_the_sides_of_their_tiles(
    rows: int, columns: int, tile: int, halo: int
) -> None:
    for region in tiles_of((rows, columns), tile):
        even, least = (around(region, halo, (rows, columns)) for around in (even_window_around, window_around))
        assert clipped(even, (rows, columns)) == even
        assert even.y0 <= least.y0 and least.y1 <= even.y1 and even.x0 <= least.x0 and least.x1 <= even.x1
        assert even.height == even_window_side(region.height, halo, rows)
        assert even.width == even_window_side(region.width, halo, columns)
