"""Arrays with their axes in any order are the same images."""

from __future__ import annotations

import numpy as np
import pytest

from pix2pix_training.array_source import MemorySource
from pix2pix_training.axis_order import AxisOrder, axis_order
from pix2pix_training.errors import ImageError
from pix2pix_training.regions import Region

SIZES = {"T": 2, "Z": 3, "C": 4, "Y": 5, "X": 6, "Q": 7}


@pytest.mark.parametrize(
    ("axes", "normal"),
    [
        ("YX", "CYX"),
        ("YXC", "CYX"),
        ("XY", "CYX"),
        ("TCZYX", "TZCYX"),
        ("CZYX", "ZCYX"),
        ("ZTYXC", "TZCYX"),
        ("YXZ", "ZCYX"),
        ("TQYX", "QTCYX"),
        ("yxs", "CYX"),
    ],
)
def test_any_order_is_read_as_planes_of_channels(axes: str, normal: str) -> None:
    letters = axes.upper().replace("S", "C")
    array = np.arange(np.prod([SIZES[letter] for letter in letters])).reshape([SIZES[letter] for letter in letters])
    source = MemorySource(array, axes=axes)
    assert source.axes == normal
    expected = np.einsum(f"{letters}->{normal.replace('C', '' if 'C' not in letters else 'C')}", array)
    if "C" not in letters:
        expected = np.expand_dims(expected, -3)
    assert source.shape == expected.shape
    plane = tuple(n - 1 for n in source.shape[:-3])
    region = Region(1, 4, 2, 6)
    np.testing.assert_array_equal(source.read(region, plane), expected[plane][:, 1:4, 2:6])


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ("YX", r"the axes 'YX' are 2, and its shape \(2, 3, 4\) has 3; give one letter"),
        ("YYX", "must be different letters"),
        ("Y X", "must be different letters"),
        ("ZCX", "must name Y and X"),
        ("", "are 0"),
    ],
)
def test_axes_that_do_not_fit_are_refused(axes: str, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        axis_order(axes, (2, 3, 4), "array")


@pytest.mark.parametrize(("shape", "letters"), [((5, 6), "YX"), ((4, 5, 6), "CYX"), ((2, 4, 5, 6), "ACYX")])
def test_without_axes_the_last_are_channels_rows_and_columns(shape: tuple[int, ...], letters: str) -> None:
    assert axis_order(None, shape, "array") == AxisOrder(letters)
    with pytest.raises(ImageError, match="is no image"):
        axis_order(None, (5,), "array")


def test_arrays_without_pixels_are_refused() -> None:
    with pytest.raises(ImageError, match="has no pixels"):
        MemorySource(np.zeros((1, 0, 4)))
