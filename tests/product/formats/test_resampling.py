"""Resampling that does not depend on how it is cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_pix2pix.formats.resampling import ResampledSource
from napari_pix2pix.formats.units import size_ratio, sizes_differ
from pix2pix_training.array_source import AnyArray, MemorySource, whole_plane
from pix2pix_training.regions import Region

_SIZES = st.integers(1, 40)


def _image(height: int, width: int, dtype: str = "uint8") -> AnyArray:
    values = np.random.default_rng(0).random((2, height, width)) * 255
    return values > 127 if dtype == "bool" else values.astype(dtype)


def _resampled(image: AnyArray, size: tuple[int, int], *, nearest: bool = False) -> AnyArray:
    source = ResampledSource(MemorySource(image), size, nearest=nearest)
    return source.read(whole_plane(source))


@settings(max_examples=60)
@given(_SIZES, _SIZES, _SIZES, _SIZES, st.integers(1, 15), st.booleans())
def test_regions_are_cut_from_the_whole(
    height: int, width: int, new_height: int, new_width: int, piece: int, nearest: bool
) -> None:
    source = ResampledSource(MemorySource(_image(height, width, "float32")), (new_height, new_width), nearest=nearest)
    whole = source.read(whole_plane(source))
    assert whole.shape == (2, new_height, new_width)
    for region in Region.whole(new_height, new_width).tiles(piece):
        np.testing.assert_array_equal(source.read(region), whole[(slice(None), *region.slices)])


@pytest.mark.parametrize("size", [(50, 33), (20, 15), (7, 64), (40, 30)])
def test_equals_the_antialiased_bilinear_filter_of_pillow(size: tuple[int, int]) -> None:
    image = _image(40, 30, "float32")
    expected = [np.asarray(Image.fromarray(channel).resize(size[::-1], Image.Resampling.BILINEAR)) for channel in image]
    np.testing.assert_allclose(_resampled(image, size), expected, atol=1e-3)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "bool", "float32", "float64"])
def test_constants_and_types_stay(dtype: str) -> None:
    image = np.full((1, 9, 13), 1 if dtype == "bool" else 77, dtype)
    for size in ((4, 5), (30, 20), (9, 13)):
        result = _resampled(image, size)
        assert result.dtype == np.dtype(dtype)
        np.testing.assert_allclose(result, np.full((1, *size), image[0, 0, 0]), rtol=1e-15 if dtype == "float64" else 0)


def test_nearest_invents_no_values() -> None:
    image = _image(12, 10)
    np.testing.assert_array_equal(_resampled(image, (36, 30), nearest=True), image.repeat(3, 1).repeat(3, 2))
    np.testing.assert_array_equal(_resampled(image, (12, 10), nearest=True), image)
    assert set(_resampled(image, (7, 9), nearest=True).ravel()) <= set(image.ravel())


def test_reads_no_more_than_needed() -> None:
    read: list[Region] = []

    class Watched(MemorySource):
        def read(self, region: Region, plane: tuple[int, ...] = ()) -> AnyArray:
            read.append(region)
            return super().read(region, plane)

    ResampledSource(Watched(_image(100, 100)), (50, 200), nearest=False).read(Region(10, 12, 20, 24))
    assert read == [Region(19, 26, 9, 14)]


def test_ratio_of_pixel_sizes() -> None:
    assert size_ratio((0.5, 0.25), "µm", (500, 500), "nm") == pytest.approx((1, 0.5))
    assert size_ratio((0.5, 0.25), None, (500, 500), "nm") is None
    assert size_ratio((0.5, 0.25), "furlong", (500, 500), "nm") is None
    assert sizes_differ((1, 0.5))
    assert not sizes_differ((1.05, 0.95))
