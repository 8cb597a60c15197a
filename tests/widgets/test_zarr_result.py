"""Results that go straight into an OME-Zarr: shown while they fill, then complete, resumed after a cancel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_pix2pix import load_model, translate_array
from napari_pix2pix._widgets.lazy_result import LazyChannel, StoredImage
from napari_pix2pix.formats import OutputSpec, open_image, write_image
from napari_pix2pix.formats.metadata import AxisScale, ImageMetadata
from pix2pix_training.array_source import whole_plane
from pix2pix_training.regions import Region
from tests.widgets.conftest import WaitUntil


def test_lazy_channel_is_sliced_like_an_array() -> None:
    stored = np.arange(2 * 3 * 4 * 5 * 6).reshape(2, 3, 4, 5, 6)  # TCZYX
    channel = LazyChannel(stored, "TCZYX", "TZYX", 1)
    expected = stored[:, 1]
    assert channel.shape == expected.shape
    np.testing.assert_array_equal(np.asarray(channel), expected)
    np.testing.assert_array_equal(channel[1, np.int64(2), 1:3], expected[1, 2, 1:3])
    np.testing.assert_array_equal(channel[..., 3], expected[..., 3])
    colours = LazyChannel(stored, "TCZYX", "TZYXC")
    np.testing.assert_array_equal(colours[0, 1, :, 2:4], np.moveaxis(stored, 1, -1)[0, 1, :, 2:4])


@pytest.fixture
def started(
    viewer: Any, translate: Any, grey_model: Path, tmp_path: Path, wait_until: WaitUntil, rng: np.random.Generator
) -> Any:
    """The Translate widget at work on a stack of many slices, into a file."""
    stack = rng.integers(1, 256, (40, 64, 96), np.uint8)
    source = viewer.add_image(stack, name="cells", scale=(2, 0.5, 0.5), units=("um",) * 3, axis_labels=("z", "y", "x"))
    translate.set_model(grey_model)
    translate.picker.choose([source])
    translate.destination.choose(True)
    assert translate.out.path.name == "cells.ome.zarr"
    translate.out.set_path(tmp_path / "out.ome.zarr")
    wait_until(lambda: translate.translate_button.isEnabled())
    translate.translate_button.click()
    return translate


def test_result_fills_and_is_complete_under_its_name(
    viewer: Any, started: Any, grey_model: Path, tmp_path: Path, wait_until: WaitUntil
) -> None:
    source = viewer.layers[0]
    wait_until(lambda: len(viewer.layers) == 2)
    output = viewer.layers[1]
    wait_until(lambda: not started.is_running)
    assert viewer.layers[1] is output
    assert not (tmp_path / "out.ome.zarr.partial").exists()
    model = load_model(grey_model)
    expected = np.stack([translate_array(plane, model)[0] for plane in source.data])
    data = output.data[0] if output.multiscale else output.data
    np.testing.assert_array_equal(np.asarray(data), expected)
    assert "out.ome.zarr" in str(data.array.store)
    assert ".partial" not in str(data.array.store)
    np.testing.assert_allclose(output.scale, source.scale)
    assert output.metadata["napari-pix2pix"]["file"] == str(tmp_path / "out.ome.zarr")
    with open_image(tmp_path / "out.ome.zarr") as stored:
        np.testing.assert_array_equal(stored.read(whole_plane(stored), (7,))[0], expected[7])
        assert (stored.metadata.pixel_size, stored.metadata.z_spacing, stored.metadata.unit) == ((0.5, 0.5), 2, "µm")
    started.translate_button.click()
    wait_until(lambda: not started.is_running)
    assert "out.ome.zarr" in started.state.text()
    assert len(viewer.layers) == 2


def test_cancelled_leaves_no_result_and_is_gone_on_with(
    viewer: Any, started: Any, grey_model: Path, tmp_path: Path, wait_until: WaitUntil
) -> None:
    wait_until(lambda: len(viewer.layers) == 2)
    started.cancel_button.click()
    wait_until(lambda: not started.is_running)
    assert started.state.text() == "cancelled; Translate goes on from here"
    assert len(viewer.layers) == 1
    assert not (tmp_path / "out.ome.zarr").exists()
    assert (tmp_path / "out.ome.zarr.partial").exists()
    started.translate_button.click()
    wait_until(lambda: not started.is_running)
    expected = translate_array(viewer.layers[0].data[39], load_model(grey_model))[0]
    with open_image(tmp_path / "out.ome.zarr") as stored:
        np.testing.assert_array_equal(stored.read(whole_plane(stored), (39,))[0], expected)


@pytest.mark.parametrize("change", ["corner", "name"])
def test_content_of_a_layer_decides_whether_it_is_gone_on_with(
    viewer: Any, started: Any, grey_model: Path, tmp_path: Path, wait_until: WaitUntil, change: str
) -> None:
    """One pixel in a corner of the first plane, of 64 x 96 x 40; a name says nothing."""
    wait_until(lambda: len(viewer.layers) == 2)
    started.cancel_button.click()
    wait_until(lambda: not started.is_running)
    source = viewer.layers[0]
    if change == "corner":
        source.data[0, 0, 0] ^= 1
    else:
        source.name = "another"
    started.translate_button.click()
    wait_until(lambda: not started.is_running)
    if change == "name":
        assert started.state.kind == "good"
        return
    assert "was begun with another input" in started.state.text()
    assert started.state.kind == "error"
    assert not (tmp_path / "out.ome.zarr").exists()
    started.out.set_path(tmp_path / "new.ome.zarr")
    started.translate_button.click()
    wait_until(lambda: not started.is_running)
    expected = translate_array(source.data[0], load_model(grey_model))[0]
    with open_image(tmp_path / "new.ome.zarr") as stored:
        np.testing.assert_array_equal(stored.read(whole_plane(stored), (0,))[0], expected)


def test_stored_image_with_axes_of_other_names(tmp_path: Path, rng: np.random.Generator) -> None:
    scales = tuple(
        AxisScale(letter, name, None, 1.0, 0.0) for letter, name in {"Z": "depth", "Y": "row", "X": "col"}.items()
    )
    pixels = rng.integers(0, 256, (2, 3, 20, 30), np.uint8)
    spec = OutputSpec(axes="ZCYX", shape=pixels.shape, dtype=pixels.dtype, metadata=ImageMetadata(scales=scales))
    tiles = (((z,), Region(0, 20, 0, 30), pixels[z]) for z in range(2))
    stored = StoredImage(write_image(tmp_path / "a.zarr", spec, tiles, file_format="ome-zarr"), "ZCYX")
    np.testing.assert_array_equal(np.asarray(stored.channel(1)[0]), pixels[:, 1])
