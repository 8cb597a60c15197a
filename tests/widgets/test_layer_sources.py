"""Layers as images: axes, extents and lazy reading, on stand-ins for layers, without napari."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_pix2pix._widgets.layer_axes import axis_letters, full_extent, labelled_channel_axis
from napari_pix2pix._widgets.layer_sources import LazyArraySource, pair_problem, source_of
from napari_pix2pix.translation.output_description import content_identity
from pix2pix_training.array_source import MemorySource
from pix2pix_training.cancel import Cancel, Interrupted
from pix2pix_training.errors import ImageError
from pix2pix_training.regions import Region
from tests.widgets.stand_ins import Layer


class Recording:
    """An array that remembers what was read of it."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array
        self.shape = array.shape
        self.dtype = array.dtype
        self.reads: list[tuple[Any, ...]] = []

    def __getitem__(self, index: tuple[Any, ...]) -> np.ndarray[Any, Any]:
        self.reads.append(index)
        part: np.ndarray[Any, Any] = self.array[index]
        return part


ARRAY = np.arange(3 * 2 * 5 * 6, dtype=np.uint16).reshape(3, 2, 5, 6)
REGION = Region(1, 4, 2, 6)


def test_plane_of_a_two_dimensional_layer() -> None:
    source = source_of([Layer(ARRAY[0, 0], ("y", "x"))])
    assert (source.axes, source.shape, source.dtype.name) == ("CYX", (1, 5, 6), "uint16")
    assert np.array_equal(source.read(REGION), ARRAY[0, 0][None, 1:4, 2:6])


@pytest.mark.parametrize("channel_axis", [0, 1])
def test_channel_axis_comes_first_in_what_is_read(channel_axis: int) -> None:
    source = source_of([Layer(ARRAY, ("z", "c", "y", "x"))], channel_axis=channel_axis)
    moved = np.moveaxis(ARRAY, channel_axis, 1)
    assert source.shape == moved.shape
    for plane in range(moved.shape[0]):
        assert np.array_equal(source.read(REGION, (plane,)), moved[plane][:, 1:4, 2:6])


def test_rgba_layer_gives_its_three_colours() -> None:
    colours = np.random.default_rng(0).integers(0, 255, (4, 5, 6, 4), np.uint8)
    source = source_of([Layer(colours, ("t", "y", "x"), rgb=True)])
    assert (source.axes, source.shape) == ("TCYX", (4, 3, 5, 6))
    assert np.array_equal(source.read(REGION, (2,)), np.moveaxis(colours[2, 1:4, 2:6, :3], -1, 0))


def test_several_layers_are_the_channels_in_the_order_given() -> None:
    layers = [Layer(ARRAY[0, 1], ("y", "x"), "a"), Layer(ARRAY[0, 0], ("-2", "-1"), "b")]
    source = source_of(layers)
    assert source.shape == (2, 5, 6)
    assert np.array_equal(source.read(REGION), ARRAY[0, ::-1, 1:4, 2:6])


def test_layers_of_other_size_are_refused() -> None:
    with pytest.raises(ImageError, match="b: its shape"):
        source_of([Layer(ARRAY[0, 0], ("y", "x"), "a"), Layer(ARRAY[0, 0, 1:], ("y", "x"), "b")])


def test_extent_shifts_every_axis() -> None:
    source = source_of([Layer(ARRAY, ("t", "c", "y", "x"))], channel_axis=1, extent=((2, 3), (1, 5), (2, 6)))
    assert source.shape == (1, 2, 4, 4)
    assert np.array_equal(source.read(Region(1, 3, 0, 2), (0,)), ARRAY[2, :, 2:4, 2:4])


def test_only_the_region_is_read() -> None:
    lazy = Recording(ARRAY)
    LazyArraySource(lazy, name="lazy", axes="TCYX").read(REGION, (1,))
    assert lazy.reads == [(1, slice(None), slice(1, 4), slice(2, 6))]


def test_multiscale_layer_is_read_at_full_resolution() -> None:
    layer = Layer([ARRAY[0, 0], ARRAY[0, 0, ::2, ::2]], ("y", "x"), multiscale=True)
    assert source_of([layer]).shape == (1, 5, 6)
    assert full_extent(layer, None) == ((0, 5), (0, 6))


def test_what_is_read_may_be_changed() -> None:
    array = ARRAY.copy()
    source_of([Layer(array[0, 0], ("y", "x"))]).read(REGION)[:] = 0
    assert np.array_equal(array, ARRAY)


def test_complex_pixels_are_refused() -> None:
    with pytest.raises(ImageError, match="complex64"):
        source_of([Layer(np.zeros((4, 4), np.complex64), ("y", "x"))])


@pytest.mark.parametrize(
    ("labels", "channel_axis", "letters"),
    [
        (("-2", "-1"), None, "YX"),
        (("z", "y", "x"), None, "ZYX"),
        (("-3", "-2", "-1"), None, "ZYX"),
        (("-4", "-3", "-2", "-1"), None, "TZYX"),
        (("-5", "-4", "-3", "-2", "-1"), None, "ATZYX"),
        (("-4", "-3", "-2", "-1"), 1, "ZCYX"),
        (("a", "-3", "-2", "-1"), None, "AZYX"),
        (("z", "-3", "-2", "-1"), None, "ZTYX"),
        (("time", "plane", "y", "x"), None, "TZYX"),
        (("c", "z", "y", "x"), None, "AZYX"),
        (("z", "z", "y", "x"), None, "ZAYX"),
    ],
)
def test_axis_letters(labels: tuple[str, ...], channel_axis: int | None, letters: str) -> None:
    assert axis_letters(Layer(None, labels), channel_axis) == letters


def test_an_unlabelled_axis_in_seconds_is_time() -> None:
    layer = Layer(None, ("-3", "-2", "-1"), units=("millisecond", "micrometer", "micrometer"))
    assert axis_letters(layer) == "TYX"


def test_channel_axis_is_guessed_from_its_label() -> None:
    assert labelled_channel_axis(Layer(ARRAY, ("z", "channel", "y", "x"))) == 1
    assert labelled_channel_axis(Layer(ARRAY, ("z", "t", "y", "x"))) is None


def test_spatial_axis_cannot_hold_channels() -> None:
    with pytest.raises(ImageError, match="axis 2 cannot hold the channels"):
        source_of([Layer(ARRAY, ("t", "c", "y", "x"))], channel_axis=2)


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ((1, 64, 64), (2, 64, 64), None),
        ((1, 64, 64), (1, 64, 60), "target 64 x 60"),
        ((3, 1, 64, 64), (4, 1, 64, 64), "planes 3, target 4"),
        ((1, 20, 64), (1, 20, 64), "smaller than a patch of 32"),
    ],
)
def test_pair_problem(source: tuple[int, ...], target: tuple[int, ...], words: str | None) -> None:
    problem = pair_problem(MemorySource(np.zeros(source)), MemorySource(np.zeros(target)), 32)
    assert (problem is None) if words is None else (problem is not None and words in problem)


def test_content_identity_counts_every_pixel_and_no_name() -> None:
    image = np.zeros((3, 2, 700, 900), np.uint16)
    first = content_identity(MemorySource(image, name="a", axes="ZCYX"), Cancel())
    assert content_identity(MemorySource(image, name="b", axes="ZCYX"), Cancel()) == first
    for index in ((0, 0, 0, 0), (2, 1, 699, 899), (1, 0, 350, 5)):
        changed = image.copy()
        changed[index] = 1
        assert content_identity(MemorySource(changed, name="a", axes="ZCYX"), Cancel()) != first
    assert content_identity(MemorySource(image, axes="ZCYX", nodata=0), Cancel()) != first
    opacity = np.full((3, 700, 900), 255, np.uint8)
    assert content_identity(MemorySource(image, axes="ZCYX", opacity=opacity), Cancel()) != first


def test_looking_at_the_content_can_be_cancelled() -> None:
    cancel = Cancel()
    cancel.set()
    with pytest.raises(Interrupted):
        content_identity(MemorySource(np.zeros((8, 8), np.uint8)), cancel)


def test_a_layer_that_fails_midway_is_named() -> None:
    class Share:
        shape, dtype = (8, 8), np.dtype(np.uint8)

        def __getitem__(self, key: object) -> object:
            raise OSError("network share went away")

    source = LazyArraySource(Share(), name="cells", axes="YX")
    with pytest.raises(ImageError, match=r"^cells: its pixels cannot be read \(network share went away\)"):
        source.read(Region(0, 4, 0, 4))
