"""What the tests of images share: whole arrays out of sources, and tiles out of whole arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_pix2pix.formats.writing import Tile
from pix2pix_training.array_source import ArraySource, plane_indices, whole_plane
from pix2pix_training.regions import Region

AnyArray = NDArray[Any]


def _pixels_of(source: ArraySource) -> AnyArray:
    planes = [source.read(whole_plane(source), plane) for plane in plane_indices(source)]
    return np.stack(planes).reshape(source.shape)


def _tiles_of(array: AnyArray, size: int) -> Iterator[Tile]:
    for plane in np.ndindex(array.shape[:-3]):
        for region in Region.whole(array.shape[-2], array.shape[-1]).tiles(size):
            yield plane, region, array[(*plane, slice(None), *region.slices)]


def _noise(shape: tuple[int, ...], dtype: str) -> AnyArray:
    generator = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return (generator.normal(size=shape) * 1000).astype(dtype)
    numbers = generator.integers(0, 2**62, shape)
    return numbers % 2 == 0 if dtype == "bool" else numbers.astype(dtype)


@pytest.fixture
def pixels_of() -> Callable[[ArraySource], AnyArray]:
    """All pixels of a source, in its shape."""
    return _pixels_of


@pytest.fixture
def tiles_of() -> Callable[[AnyArray, int], Iterator[Tile]]:
    """An array of axes ...CYX as the tiles that `write_image` takes."""
    return _tiles_of


@pytest.fixture
def noise() -> Callable[[tuple[int, ...], str], AnyArray]:
    """Random pixels over the whole range of a dtype."""
    return _noise
