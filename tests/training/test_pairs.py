"""Pairs that fit together, and splits without overlap."""

from __future__ import annotations

import numpy as np
import pytest

from pix2pix_training.array_source import CroppedSource, MemorySource, SelectedChannels, StackedChannels, whole_plane
from pix2pix_training.errors import ImageError, SettingsError
from pix2pix_training.pairs import Pair, check_consistent, split_fraction, split_region, split_regions
from pix2pix_training.regions import Region


def coordinates(height: int, width: int, name: str = "image") -> MemorySource:
    """An image whose two channels are the row and the column of each pixel."""
    return MemorySource(np.array(np.mgrid[:height, :width], np.int32), name=name)


def pair(height: int, width: int, name: str = "image") -> Pair:
    return Pair(coordinates(height, width, name), coordinates(height, width, name), name)


def touched(pair: Pair) -> set[tuple[int, int]]:
    height, width = pair.source.shape[-2:]
    rows, columns = pair.source.read(Region(0, height, 0, width))
    return set(zip(rows.ravel().tolist(), columns.ravel().tolist(), strict=True))


def test_pairs_of_different_sizes_are_refused() -> None:
    with pytest.raises(ImageError, match="equal height and width"):
        Pair(coordinates(8, 8), coordinates(8, 9), "x")
    with pytest.raises(ImageError, match="equal length"):
        Pair(MemorySource(np.zeros((2, 1, 4, 4)), axes="ZCYX"), MemorySource(np.zeros((3, 1, 4, 4)), axes="ZCYX"), "x")


def test_sets_of_different_channels_or_types_are_refused() -> None:
    one = Pair(MemorySource(np.zeros((1, 8, 8))), coordinates(8, 8), "one")
    with pytest.raises(ImageError, match="same number of channels"):
        check_consistent([pair(8, 8), one])
    other = Pair(MemorySource(np.zeros((2, 8, 8), np.uint8), name="u8"), coordinates(8, 8), "one")
    with pytest.raises(ImageError, match="same type"):
        check_consistent([pair(8, 8), other])
    with pytest.raises(ImageError, match="no pairs"):
        check_consistent([])


def test_fraction_holds_out_whole_pairs() -> None:
    pairs = [pair(8, 8, str(i)) for i in range(20)]
    split = split_fraction(pairs, 0.1, patch_size=4, seed=0)
    assert len(split.validation) == 2
    assert {p.name for p in split.training} | {p.name for p in split.validation} == {str(i) for i in range(20)}
    assert split == split_fraction(pairs, 0.1, patch_size=4, seed=0)
    with pytest.raises(SettingsError, match="leaves none"):
        split_fraction(pairs[:2], 0.99, patch_size=4, seed=0)


@pytest.mark.parametrize("size", [(100, 60), (60, 100)])
def test_band_of_a_single_pair_is_a_patch_away_from_training(size: tuple[int, int]) -> None:
    split = split_fraction([pair(*size)], 0.1, patch_size=16, seed=0)
    axis = size.index(100)
    last_trained = max(p[axis] for t in split.training for p in touched(t))
    first_held_out = min(p[axis] for p in touched(split.validation[0]))
    assert first_held_out - last_trained == 16 + 1


def test_image_too_small_for_a_band_is_trained_on_whole() -> None:
    split = split_fraction([pair(40, 40)], 0.1, patch_size=16, seed=0)
    assert not split.validation
    assert split.training[0].source.shape == (2, 40, 40)


def test_region_is_held_out_with_a_gap_on_all_sides() -> None:
    split = split_region(pair(120, 100), Region(50, 70, 40, 60), patch_size=16)
    held_out = touched(split.validation[0])
    assert len(held_out) == 20 * 20
    for part in split.training:
        for y, x in touched(part):
            assert y < 50 - 16 or y >= 70 + 16 or x < 40 - 16 or x >= 60 + 16
    assert len(split.training) == 4


def test_region_without_room_is_refused() -> None:
    with pytest.raises(SettingsError, match="leaves no room"):
        split_region(pair(40, 40), Region(10, 30, 10, 30), patch_size=16)
    with pytest.raises(ImageError, match="does not lie within"):
        split_region(pair(40, 40), Region(10, 50, 10, 30), patch_size=8)


def test_training_within_rectangles_keeps_away_from_the_one_held_out() -> None:
    image = pair(120, 100)
    split = split_regions(
        image, (Region(0, 60, 0, 30), Region(90, 110, 70, 100)), Region(50, 70, 40, 60), patch_size=16
    )
    everything = image.source.read(Region(0, 120, 0, 100))[0]
    expected = [everything[:34, :30], everything[90:110, 70:100], everything[34:60, :24]]
    found = [part.source.read(whole_plane(part.source))[0] for part in split.training]
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(split.validation[0].source.read(Region(0, 20, 0, 20))[0], everything[50:70, 40:60])
    with pytest.raises(SettingsError, match="leaves no room"):
        split_regions(image, (Region(45, 75, 35, 65),), Region(50, 70, 40, 60), patch_size=16)


def test_views_of_sources() -> None:
    base = coordinates(10, 12, "base")
    crop = CroppedSource(base, Region(2, 8, 3, 9))
    assert crop.read(Region(0, 1, 0, 1)).ravel().tolist() == [2, 3]
    assert SelectedChannels(base, [1]).read(Region(4, 5, 6, 7)).ravel().tolist() == [6]
    stacked = StackedChannels([base, SelectedChannels(base, [0])])
    assert stacked.shape == (3, 10, 12)
    assert stacked.read(Region(4, 5, 6, 7)).ravel().tolist() == [4, 6, 4]
    with pytest.raises(ImageError, match="no channel 2"):
        SelectedChannels(base, [2])
    with pytest.raises(ImageError, match="cannot be channels of one image"):
        StackedChannels([base, coordinates(10, 13)])
    depth, time = (MemorySource(np.zeros((2, 1, 4, 4)), axes=axes, name=axes) for axes in ("ZCYX", "TCYX"))
    with pytest.raises(ImageError, match=r"TCYX: its shape \(2, .* of axes TCYX differs from ZCYX with .* of ZCYX"):
        StackedChannels([depth, time])
    with pytest.raises(ImageError, match="must name Y and X"):
        MemorySource(np.zeros((2, 2, 2)), axes="ZXC")
