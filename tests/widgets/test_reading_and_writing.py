"""Files opened as layers with all they say, and layers saved with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_pix2pix.formats import open_image
from pix2pix_training.array_source import whole_plane
from tests.widgets.test_kinds_of_layers import geotiff


def opened(viewer: Any, path: Path) -> list[Any]:
    from napari_pix2pix._widgets.layer_files import add_file

    before = list(viewer.layers)
    add_file(viewer, path)
    return [layer for layer in viewer.layers if layer not in before]


def test_geotiff_is_shown_where_and_as_large_as_it_is(viewer: Any, tmp_path: Path, rng: np.random.Generator) -> None:
    from napari_pix2pix._widgets.layer_facts import file_facts

    pixels = rng.integers(1, 256, (1, 60, 70), np.uint8)
    place = geotiff(tmp_path / "field.tif", pixels, nodata=0)
    (layer,) = opened(viewer, tmp_path / "field.tif")
    np.testing.assert_array_equal(np.asarray(layer.data), pixels[0])
    train = viewer.window.add_plugin_dock_widget("napari-pix2pix", "Train")[1]
    assert train.images.source.layers == [layer], "an image like others, and no result"
    assert tuple(layer.scale) == (2, 2)
    assert [str(unit) for unit in layer.units] == ["meter", "meter"]
    facts = file_facts(layer)
    assert facts is not None
    assert facts.nodata == 0
    assert facts.metadata.georeference is not None
    assert facts.metadata.georeference.transform == tuple(place["transform"])[:6]


def test_open_command_asks_for_files(
    viewer: Any, tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari.utils.notifications import notification_manager
    from qtpy.QtWidgets import QFileDialog

    from napari_pix2pix._widgets.commands import open_placed

    geotiff(tmp_path / "field.tif", rng.integers(1, 256, (1, 40, 48), np.uint8))
    (tmp_path / "bad.tif").write_bytes(b"II*\0")
    names = [str(tmp_path / "bad.tif"), str(tmp_path / "field.tif")]
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *_: (names, ""))
    open_placed(viewer)
    assert [layer.name for layer in viewer.layers] == ["field"]
    assert "bad.tif" in notification_manager.records[-1].message
    notification_manager.records.clear()


def test_colours_and_planes_are_read_where_they_are_looked_at(tmp_path: Path, rng: np.random.Generator) -> None:
    from napari_pix2pix._widgets.layer_files import layers_of_file

    colours = rng.integers(0, 256, (40, 48, 3), np.uint8)
    tifffile.imwrite(tmp_path / "rgb.tif", colours, photometric="rgb")
    ((array, look, kind),) = layers_of_file(tmp_path / "rgb.tif")
    assert (kind, look["rgb"], array.shape) == ("image", True, (40, 48, 3))
    np.testing.assert_array_equal(array[3:9, ::2], colours[3:9, ::2])
    stack = rng.integers(0, 60000, (3, 2, 40, 48), np.uint16)
    tifffile.imwrite(tmp_path / "stack.ome.tif", stack, metadata={"axes": "ZCYX", "Channel": {"Name": ["a", "b"]}})
    layers = layers_of_file(tmp_path / "stack.ome.tif")
    assert [look["name"] for _, look, _ in layers] == ["a", "b"]
    for channel, (data, _, _) in enumerate(layers):
        assert data.shape == (3, 40, 48)
        np.testing.assert_array_equal(data[1], stack[1, channel])
        np.testing.assert_array_equal(data[1:, 5, -4:], stack[1:, channel, 5, -4:])
        np.testing.assert_array_equal(np.asarray(data), stack[:, channel])


def test_ome_zarr_is_opened_by_its_reader_with_its_levels(
    viewer: Any, tmp_path: Path, rng: np.random.Generator
) -> None:
    pixels = rng.integers(0, 256, (600, 700), np.uint8)
    layer = viewer.add_image(
        pixels, scale=(0.5, 0.25), units=("um", "um"), translate=(3, 4), axis_labels=("y", "x"), name="cells"
    )
    (path,) = layer.save(str(tmp_path / "cells.ome.zarr"), plugin="napari-pix2pix")
    (again,) = viewer.open(path, plugin="napari-pix2pix")
    np.testing.assert_array_equal(np.asarray(again.data[0] if again.multiscale else again.data), pixels)
    np.testing.assert_allclose(again.scale, (0.5, 0.25))
    np.testing.assert_allclose(again.translate, (3, 4))
    assert again.units == layer.units


def test_writer_keeps_what_a_layer_says(viewer: Any, tmp_path: Path, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 60000, (4, 40, 48), np.uint16)
    layer = viewer.add_image(pixels, scale=(2, 0.5, 0.25), units=("um",) * 3, axis_labels=("z", "y", "x"))
    (path,) = layer.save(str(tmp_path / "stack.ome.tif"), plugin="napari-pix2pix")
    with open_image(path) as saved:
        assert (saved.axes, saved.metadata.pixel_size, saved.metadata.z_spacing) == ("ZCYX", (0.5, 0.25), 2)
        np.testing.assert_array_equal(saved.read(whole_plane(saved), (2,))[0], pixels[2])
    labels = viewer.add_labels(rng.integers(0, 9, (40, 48)).astype(np.int32), scale=(0.5, 0.5), units=("um", "um"))
    (path,) = labels.save(str(tmp_path / "labels.ome.tif"), plugin="napari-pix2pix")
    with open_image(path) as saved:
        np.testing.assert_array_equal(saved.read(whole_plane(saved))[0], labels.data)


def test_writer_says_what_a_file_cannot_say(viewer: Any, tmp_path: Path) -> None:
    from napari.utils.notifications import notification_manager

    layer = viewer.add_image(np.zeros((40, 48), np.uint8), translate=(3, 4))
    layer.save(str(tmp_path / "moved.ome.tif"), plugin="napari-pix2pix")
    assert "does not say where the first pixel lies" in notification_manager.records[-1].message
    notification_manager.records.clear()


def test_folders_that_are_no_ome_zarr_are_left_to_others(tmp_path: Path) -> None:
    from napari_pix2pix._widgets.layer_files import image_reader

    assert image_reader(str(tmp_path)) is None
    assert image_reader([str(tmp_path)]) is None


def test_levels_of_a_slide(tmp_path: Path) -> None:
    openslide = pytest.importorskip("openslide")
    from napari_pix2pix._widgets.layer_files import FileArray
    from napari_pix2pix.formats.slide import SlideSource
    from pix2pix_training.regions import Region

    fine = np.random.default_rng(0).integers(0, 256, (1024, 1536, 3), np.uint8)
    path = tmp_path / "slide.svs"
    with tifffile.TiffWriter(path) as tif:
        for level in (fine, fine[::4, ::4]):
            description = f"Aperio Image Library\r\n{level.shape[1]}x{level.shape[0]} |AppMag = 20|MPP = 0.5"
            tif.write(level, tile=(256, 256), photometric="rgb", description=description, metadata=None)
    assert openslide.OpenSlide.detect_format(path) == "aperio"
    with open_image(path) as slide:
        assert isinstance(slide, SlideSource)
        assert slide.downsampling == pytest.approx((1, 4))
        coarse = FileArray(slide, None, 1)
        assert coarse.shape == (256, 384, 3)
        np.testing.assert_array_equal(coarse[10:20, 30:50], fine[40:80:4, 120:200:4])
        np.testing.assert_array_equal(slide.read(Region(0, 8, 0, 8)), np.moveaxis(fine[:8, :8], -1, 0))
