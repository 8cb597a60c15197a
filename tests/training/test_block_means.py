"""Filling of invalid pixels: the same however an image is read, and no pixel read more often than needed."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pix2pix_training.array_source import MemorySource, Opacity, StackedChannels, plane_size, whole_plane
from pix2pix_training.errors import NoValidPixelError
from pix2pix_training.invalid_pixels import FilledSource
from pix2pix_training.regions import Region

AnyArray = NDArray[Any]


class _Counting(MemorySource):
    """Counts how often each pixel is read."""

    def __init__(self, array: AnyArray, **options: Any) -> None:
        super().__init__(array, **options)
        self.reads = np.zeros(self.shape[-2:], int)

    def read_with_opacity(self, region: Region, plane: tuple[int, ...] = ()) -> tuple[AnyArray, Opacity | None]:
        self.reads[region.slices] += 1
        return super().read_with_opacity(region, plane)


def _holey(dtype: str = "float32", *, seed: int = 0) -> AnyArray:
    """Scattered invalid pixels, a wide empty border, and islands of data in the middle of nothing; 2 channels."""
    rng = np.random.default_rng(seed)
    image = rng.integers(1, 100, (2, 900, 2300)).astype(dtype)
    hole: Any = np.nan if dtype.startswith("float") else 0
    image[:, 100:, 1100:] = hole
    image[:, 500:520, 2000:2010] = 7
    image[0, 700, 1500] = 9
    image[:, rng.random((900, 2300)) < 0.01] = hole
    image[1, 30:40, 5] = hole
    return image


def _filled(source: FilledSource, size: int, *, backwards: bool = False) -> AnyArray:
    result: AnyArray = np.empty(source.shape, source.dtype)
    regions = list(Region.whole(*plane_size(source)).tiles(size))
    for region in reversed(regions) if backwards else regions:
        result[:, *region.slices] = source.read(region)
    return result


@pytest.mark.parametrize("dtype", ["float32", "uint8", "int16"])
def test_fill_does_not_depend_on_how_it_is_read(dtype: str) -> None:
    image = _holey(dtype)
    nodata = None if dtype == "float32" else 0
    results = [
        _filled(FilledSource(MemorySource(image, nodata=nodata)), size, backwards=backwards)
        for size, backwards in itertools.product((100, 333, 2300), (False, True))
    ]
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])
    valid = np.isfinite(image).all(0) if nodata is None else (image != 0).any(0)
    np.testing.assert_array_equal(results[0][:, valid], image[:, valid])
    assert np.isfinite(results[0].astype(float)).all()


def test_a_field_far_from_data_gets_the_nearest_block() -> None:
    image = np.full((1, 64, 64 * 60), np.nan, np.float32)
    image[:, :, :64], image[:, :, -64:] = 1, 5
    filled = _filled(FilledSource(MemorySource(image)), 500)
    assert (filled[..., : 64 * 29] == 1).all()
    assert (filled[..., 64 * 31 :] == 5).all()


def test_valid_reals_are_read_once() -> None:
    source = _Counting(np.random.default_rng(0).random((1, 700, 800)).astype(np.float32))
    _filled(FilledSource(source), 128)
    assert (source.reads == 1).all()


def test_scattered_invalid_pixels_cost_their_blocks_at_the_borders_of_reads() -> None:
    image = np.random.default_rng(0).random((1, 1000, 1000)).astype(np.float32)
    image[:, 500, 505] = image[:, 10, 10] = np.nan
    source = _Counting(image)
    _filled(FilledSource(source), 250)  # (10, 10) lies in a block that the first read covers, (500, 505) does not
    assert source.reads.max() == 2
    assert (source.reads == 2).sum() == 64 * 64


def test_wide_gaps_cost_one_more_read_at_most() -> None:
    source = _Counting(_holey())
    _filled(FilledSource(source), 200)
    assert source.reads.max() <= 3  # in a block at the border of reads that lies in a field, too
    assert source.reads.mean() < 2.2


def test_no_valid_pixel_is_an_error_that_is_found_at_once() -> None:
    image = np.full((2, 300, 200), np.nan)
    image[0, :, :100], image[1, :, 100:] = 1, 2  # none of them is valid in both
    with pytest.raises(NoValidPixelError, match="not one valid pixel"):
        FilledSource(MemorySource(image)).read(Region(0, 10, 0, 10))
    with pytest.raises(NoValidPixelError):
        FilledSource(MemorySource(image)).require_valid_pixel()


def test_a_single_valid_pixel_is_found() -> None:
    image = np.zeros((1, 3000, 2000), np.uint8)
    image[:, 2999, 0] = 5
    source = FilledSource(MemorySource(image, nodata=0))
    source.require_valid_pixel()
    assert (source.read(Region(0, 100, 0, 100)) == 5).all()


def test_transparent_pixels_are_filled_and_keep_their_opacity() -> None:
    image = np.full((1, 130, 130), 200, np.uint8)
    opacity = np.full((130, 130), 255, np.uint8)
    image[:, :64, :64], opacity[:64, :64], opacity[100, 100] = 3, 0, 90
    pixels, seen = FilledSource(MemorySource(image, opacity=opacity)).read_with_opacity(Region(0, 130, 0, 130))
    assert (pixels == 200).all()
    np.testing.assert_array_equal(seen, opacity)
    pixels, seen = FilledSource(MemorySource(image, opacity=opacity)).read_with_opacity(Region(70, 90, 70, 90))
    assert seen is None


@pytest.mark.parametrize("dtype", ["uint64", "int64"])
def test_the_greatest_numbers_of_64_bits_do_not_overflow(dtype: str) -> None:
    image = np.full((1, 10, 10), np.iinfo(dtype).max, dtype)
    image[0, 0] = 0
    filled = FilledSource(MemorySource(image, nodata=0)).read(whole_plane(MemorySource(image)))
    assert (filled > np.iinfo(dtype).max // 2).all()


def test_channels_in_files_have_data_where_all_have() -> None:
    first, second = np.full((1, 8, 8), 5, np.uint8), np.full((2, 8, 8), 7, np.uint16)
    first[0, :2] = 0
    second[:, :, :3] = 9
    second[0, 7, 7] = 9  # in one of its channels only
    stacked = StackedChannels([MemorySource(first, nodata=0), MemorySource(second, nodata=9)])
    pixels, opacity = FilledSource(stacked).read_with_opacity(whole_plane(stacked))
    expected = np.full((8, 8), 255)
    expected[:2] = expected[:, :3] = 0
    np.testing.assert_array_equal(opacity, expected)
    assert stacked.nodata is None
    assert set(np.unique(pixels)) == {5, 7, 9}


@pytest.mark.parametrize("values, told", [((np.inf, -np.inf), True), ((np.nan, np.nan), False)])
def test_infinite_values_are_told_of_once(
    values: tuple[float, float], told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = np.ones((1, 64, 64), np.float32)
    pixels[0, 3, 4], pixels[0, 40, 50] = values
    source = FilledSource(MemorySource(pixels, name="a"))
    for region in (Region(0, 32, 0, 64), Region(32, 64, 0, 64)):
        filled, invalid = source.read_with_mask(region)
        assert (filled == 1).all()
        assert invalid is not None and invalid.sum() == 1
    assert [record.getMessage() for record in caplog.records] == (
        ["a: infinite values are taken for missing ones, as NaN is"] if told else []
    )
