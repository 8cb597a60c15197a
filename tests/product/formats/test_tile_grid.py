"""Tiles of any size become squares and halves, and nothing finished is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_pix2pix.formats.metadata import ImageMetadata
from napari_pix2pix.formats.pyramid import halved, halved_by_opacity, pyramid_sizes
from napari_pix2pix.formats.tile_grid import in_squares
from napari_pix2pix.formats.writing import OutputSpec, Tile
from pix2pix_training.regions import Region

AnyArray = NDArray[Any]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), tile=st.integers(1, 50))
def test_every_square_comes_once_and_complete(
    tiles_of: Callable[[AnyArray, int], Iterator[Tile]], height: int, width: int, tile: int
) -> None:
    image = np.arange(2 * height * width, dtype=np.int64).reshape(2, height, width)
    spec = OutputSpec(axes="CYX", shape=image.shape, dtype=image.dtype, metadata=ImageMetadata())
    squares: list[Region] = []

    def put(place: Region, pixels: AnyArray) -> None:
        squares.append(place)
        np.testing.assert_array_equal(pixels, image[:, *place.slices])

    collector = in_squares(spec, 8, put)
    for _, region, pixels in tiles_of(image, tile):
        collector.add(region, pixels)
    whole = Region.whole(height, width)
    assert sorted(squares, key=lambda place: (place.y0, place.x0)) == list(whole.tiles(8))


def test_sizes_of_a_pyramid() -> None:
    assert pyramid_sizes(5, 9, largest_px=2) == [(5, 9), (3, 5), (2, 3), (1, 2)]
    assert pyramid_sizes(5, 9, largest_px=9) == [(5, 9)]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "float16", "float32", "float64"])
def test_halving_averages_in_the_same_type(dtype: str) -> None:
    pixels = np.array([[[1, 2, 5], [3, 5, 5], [9, 9, 100]]], dtype)
    expected = np.array([[[11 / 4, 5], [9, 100]]])
    result = halved(pixels, average=True)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, expected if np.dtype(dtype).kind == "f" else np.rint(expected))


def test_halving_does_not_overflow() -> None:
    np.testing.assert_array_equal(halved(np.full((1, 4, 4), 255, np.uint8), average=True), 255)


@pytest.mark.parametrize("dtype", ["uint8", "bool"])
def test_classes_are_picked_not_averaged(dtype: str) -> None:
    pixels = np.array([[[1, 0, 1], [0, 0, 0]]], dtype)
    np.testing.assert_array_equal(halved(pixels, average=dtype == "bool"), [[[1, 1]]])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_values_that_are_not_finite_are_left_out_of_means(dtype: str) -> None:
    nan, inf = np.nan, np.inf
    pixels = np.array([[[1, nan, 5, inf], [3, 5, -inf, 7], [nan, nan, 1, 1], [nan, inf, 1, 1]]], dtype)
    np.testing.assert_array_equal(halved(pixels, average=True), np.array([[[3, 6], [nan, 1]]], dtype))


def test_one_channel_without_a_value_does_not_spoil_another() -> None:
    pixels = np.array([[[np.nan, 2], [4, 6]], [[1, 1], [1, 1]]], np.float32)
    np.testing.assert_array_equal(halved(pixels, average=True), [[[4]], [[1]]])


def test_transparent_nan_is_left_out_of_means() -> None:
    pixels = np.array([[[np.nan, 2], [4, 6]]], np.float32)
    means, opacity = halved_by_opacity(pixels, np.array([[0, 255], [255, 255]], np.uint8), average=True)
    np.testing.assert_array_equal(means, [[[4]]])
    np.testing.assert_array_equal(opacity, [[191]])
