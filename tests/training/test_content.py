"""The map of content: spreads of blocks, and the corners drawn from them."""

from __future__ import annotations

import numpy as np
import pytest

from pix2pix_training import content
from pix2pix_training.array_source import MemorySource
from pix2pix_training.content import ContentMap, block_side, block_spread
from pix2pix_training.intensity import CategoryMapping, LinearMapping


def linear(channels: int) -> LinearMapping:
    return LinearMapping(
        dtype="float32", scope="training-set", channels=channels, low=(-1.0,) * channels, high=(1.0,) * channels
    )


def test_spread_of_blocks_is_the_standard_deviation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "_SURVEY_TILE_PX", 32)  # so that several tiles are read
    pixels = (np.random.default_rng(0).random((2, 70, 84)) * 2 - 1).astype(np.float32)
    found = block_spread(MemorySource(pixels), (), linear(2), 16)
    assert found.shape == (5, 6)
    for row in range(5):
        for column in range(6):
            block = pixels[:, 16 * row : 16 * (row + 1), 16 * column : 16 * (column + 1)].astype(np.float64)
            assert found[row, column] == pytest.approx(np.sqrt(block.var((1, 2)).mean()), rel=1e-6)


def test_spread_of_a_plane_of_a_stack() -> None:
    stack = np.zeros((3, 1, 32, 32), np.float32)
    stack[1, 0, :16] = np.random.default_rng(0).random((16, 32))
    source = MemorySource(stack, axes="ZCYX")
    assert not block_spread(source, (0,), linear(1), 16).any()
    assert (block_spread(source, (1,), linear(1), 16) > 0).tolist() == [[True, True], [False, False]]


def test_categories_have_content_where_they_meet() -> None:
    labels = np.zeros((1, 32, 64), np.uint8)
    labels[..., 24:] = 200
    mapping = CategoryMapping(dtype="uint8", values=((0,), (200,)))
    assert (block_spread(MemorySource(labels), (), mapping, 16) > 0).tolist() == [[False, True, False, False]] * 2


def test_blocks_grow_with_the_images_so_that_memory_is_bounded() -> None:
    assert block_side(512 * 512) == 16
    for pixels in (10**9, 10**11, 10**13):
        side = block_side(pixels)
        assert pixels / side**2 <= content.MAX_BLOCKS < pixels / (side / 2) ** 2


def test_a_patch_as_large_as_the_plane_has_one_corner() -> None:
    corners = ContentMap(np.ones((4, 4)), block_px=16, plane=(64, 64), patch=(64.0, 64.0))
    rng = np.random.default_rng(0)
    assert all(0 <= f < 1 for _ in range(20) for f in corners.draw_corner(rng))


def test_a_plane_without_content_is_empty() -> None:
    assert ContentMap(np.zeros((4, 4)), block_px=16, plane=(64, 64), patch=(16.0, 16.0)).is_empty
    spread = np.zeros((4, 4))
    spread[3, 3] = 0.01
    assert not ContentMap(spread, block_px=16, plane=(64, 64), patch=(16.0, 16.0)).is_empty
