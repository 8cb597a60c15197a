"""Planes with their neighbours: which ones, in which order, and what becomes of invalid pixels."""

from __future__ import annotations

import numpy as np
import pytest

from pix2pix_training.array_source import MemorySource, whole_plane
from pix2pix_training.errors import ImageError
from pix2pix_training.invalid_pixels import FilledSource
from pix2pix_training.neighbouring_planes import NeighbouringPlanes, with_neighbouring_planes
from pix2pix_training.regions import Region


def stack(*leading: int, channels: int = 1) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    """Each pixel holds 100 * plane + channel."""
    planes = np.arange(np.prod(leading)).reshape(*leading, 1, 1, 1)
    return np.asarray(100 * planes + np.arange(channels)[:, None, None] + np.zeros((4, 5)), np.int32)


def seen(image: NeighbouringPlanes, plane: tuple[int, ...]) -> list[int]:
    pixels = image.read(Region(1, 2, 2, 3), plane)
    assert pixels.shape == (image.shape[-3], 1, 1)
    return [int(value) for value in pixels.ravel()]


def test_channels_are_those_of_the_planes_in_order_of_z() -> None:
    image = NeighbouringPlanes(MemorySource(stack(4, channels=2), axes="ZCYX"), 1)
    assert image.shape == (4, 6, 4, 5)
    assert seen(image, (1,)) == [0, 1, 100, 101, 200, 201]


def test_the_last_planes_are_repeated() -> None:
    image = NeighbouringPlanes(MemorySource(stack(3), axes="ZCYX"), 2)
    assert seen(image, (0,)) == [0, 0, 0, 100, 200]
    assert seen(image, (2,)) == [0, 100, 200, 200, 200]


def test_neighbours_are_of_the_same_time() -> None:
    image = NeighbouringPlanes(MemorySource(stack(2, 3), axes="TZCYX"), 1)
    assert seen(image, (1, 0)) == [300, 300, 400]
    assert seen(image, (0, 2)) == [100, 200, 200]


def test_the_only_axis_counts_as_depth_unless_it_is_time() -> None:
    assert seen(NeighbouringPlanes(MemorySource(stack(3), axes="QCYX"), 1), (1,)) == [0, 100, 200]
    for axes, shape in (("TCYX", (3,)), ("TQCYX", (2, 3)), ("CYX", ()), ("ZCYX", (1,))):
        with pytest.raises(ImageError, match="no Z stack of several planes, and 1 neighbouring planes"):
            NeighbouringPlanes(MemorySource(stack(*shape), axes=axes), 1)


def test_no_context_is_the_image_itself() -> None:
    image = MemorySource(stack(3), axes="ZCYX")
    assert with_neighbouring_planes(image, 0) is image


@pytest.mark.parametrize(("dtype", "nodata", "hole"), [("float32", None, np.nan), ("uint16", 9, 9)])
def test_a_pixel_is_invalid_where_its_own_plane_is(dtype: str, nodata: float | None, hole: float) -> None:
    planes = np.stack([np.full((2, 8, 8), value) for value in (20, 30, 40)]).astype(dtype)
    planes[0, :, 0, 0] = hole  # of the plane below
    planes[1, :, 3, 3] = hole  # of the plane itself
    image = FilledSource(NeighbouringPlanes(MemorySource(planes, axes="ZCYX", nodata=nodata), 1))
    pixels, invalid = image.read_with_mask(whole_plane(image), (1,))
    assert invalid is not None
    assert np.argwhere(invalid).tolist() == [[3, 3]]
    assert pixels[:, 0, 0].tolist() == [30, 30, 30, 30, 40, 40], "the neighbour's hole shows the plane itself"
    assert pixels[:, 3, 3].round().tolist() == [20, 20, 30, 30, 40, 40], "filled with what is around it"
