"""Every kind of layer as training images: it is trained on rightly, or told in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from pix2pix_training.intensity import CategoryMapping
from pix2pix_training.model_file import load_model
from tests.widgets.conftest import WaitUntil, trained_on


def blobs(columns: int, rows: int = 4, enlarged: int = 1) -> np.ndarray[Any, Any]:
    """Labels of `columns` x `rows` objects, numbered, 96 x 128 pixels or a multiple of that."""
    labels = np.zeros((96 * enlarged, 128 * enlarged), np.int32)
    height, width = 96 * enlarged // rows, 128 * enlarged // columns
    for number in range(rows * columns):
        y, x = number // columns * height, number % columns * width
        labels[y + 2 : y + height - 2, x + 2 : x + width - 2] = number + 1
    return labels


@pytest.mark.parametrize("kind", ["labels", "image"])
def test_instance_labels_are_said_with_their_number_and_foreground_is_offered(
    viewer: Any, train: Any, pair: list[Any], wait_until: WaitUntil, kind: str
) -> None:
    objects = blobs(7)
    target = viewer.add_labels(objects) if kind == "labels" else viewer.add_image(objects.astype(np.uint8))
    target.scale, target.units = pair[0].scale, pair[0].units
    train.choose_layers(pair[:1], [target])
    wait_until(lambda: "28 objects in the labels: one class each?" in train.values.message.text())
    assert train.values.message.kind == "warning"
    assert train.values.foreground_button.isVisibleTo(train)
    train.values.foreground_button.click()
    assert train.settings.target_values.value == "foreground"
    wait_until(lambda: train.values.message.text() == "Labelled or not.")
    assert not train.values.foreground_button.isVisibleTo(train)
    mapping = trained_on(train, pair[0], target, wait_until).target.mapping
    assert isinstance(mapping, CategoryMapping)
    assert mapping.foreground
    train.choose_layers(pair[:1], pair[1:])
    assert train.settings.target_values.value == "auto", "the offer was about other images"


def test_more_objects_than_there_can_be_classes_are_refused_with_the_offer(
    viewer: Any, train: Any, pair: list[Any], wait_until: WaitUntil
) -> None:
    target = viewer.add_labels(blobs(18, 16, enlarged=3))
    train.choose_layers([viewer.add_image(target.data.astype(np.uint16))], [target])
    wait_until(lambda: "more than 255 different values" in train.values.message.text())
    assert train.values.message.kind == "error"
    assert "“Target values: labelled or not”" in train.values.message.text()
    assert not train.train_button.isEnabled()
    train.values.foreground_button.click()
    wait_until(lambda: train.train_button.isEnabled())


def test_number_of_classes_is_said(viewer: Any, train: Any, pair: list[Any], wait_until: WaitUntil) -> None:
    classes = viewer.add_labels(np.asarray(pair[0].data) // 100, scale=pair[0].scale, units=pair[0].units)
    train.choose_layers(pair[:1], [classes])
    wait_until(lambda: train.values.message.text() == "3 classes in the target.")
    assert train.values.message.kind == "plain"
    train.choose_layers(pair[:1], pair[1:])
    assert train.values.message.text() == "Looking at the values of the images…", "nothing is said of another choice"
    wait_until(lambda: train.values.message.text() == "Intensities in the target.")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("high", [1, 255])
def test_small_integer_masks_as_image_layers_are_classes_and_said(
    viewer: Any, train: Any, pair: list[Any], wait_until: WaitUntil, dtype: type[Any], high: int
) -> None:
    mask = ((np.asarray(pair[0].data) > 127) * high).astype(dtype)
    target = viewer.add_image(mask, name="mask", scale=pair[0].scale, units=pair[0].units)
    train.choose_layers(pair[:1], [target])
    wait_until(lambda: "the target has 2 different values" in train.values.message.text())
    assert "--" not in train.values.message.text()
    mapping = trained_on(train, pair[0], target, wait_until).target.mapping
    assert isinstance(mapping, CategoryMapping)
    assert mapping.values == ((0,), (high,))
    assert "the target has 2 different values" in train.values.message.text()
    assert train.remarks.lines == (), "nothing is said twice"


def test_a_constant_target_is_refused_before_the_run(
    viewer: Any, train: Any, pair: list[Any], wait_until: WaitUntil
) -> None:
    flat = viewer.add_image(np.full((96, 128), 7, np.uint8), scale=pair[0].scale, units=pair[0].units)
    train.choose_layers(pair[:1], [flat])
    wait_until(lambda: "nothing to learn" in train.values.message.text())
    assert not train.train_button.isEnabled()


@pytest.mark.parametrize("axes", ["zyx", "tzyx"])
@pytest.mark.parametrize("types", [("float32", "float32"), ("uint8", "float32"), ("float32", "uint8")])
def test_stacks_with_float_pixels_are_trained_on(
    viewer: Any, train: Any, pair: list[Any], wait_until: WaitUntil, axes: str, types: tuple[str, str]
) -> None:
    plane = np.asarray(pair[0].data)
    stack = np.stack([plane, 255 - plane]) if axes == "zyx" else np.stack([[plane, plane // 2], [plane, 255 - plane]])
    source = viewer.add_image(stack.astype(types[0]), name="a", axis_labels=tuple(axes))
    target = viewer.add_image((255 - stack).astype(types[1]), name="b", axis_labels=tuple(axes))
    model = trained_on(train, source, target, wait_until)
    assert model.source.axes == f"{axes[:-2].upper()}CYX"
    assert (model.source.mapping.dtype, model.target.mapping.dtype) == types


def test_pixels_without_data_of_a_float_stack_are_left_out(
    viewer: Any, train: Any, pair: list[Any], wait_until: WaitUntil
) -> None:
    stack = np.stack([np.asarray(pair[0].data, np.float32)] * 2)
    stack[1, :40] = np.nan
    source = viewer.add_image(stack, name="a")
    target = viewer.add_image(np.nan_to_num(255 - stack), name="b")
    assert trained_on(train, source, target, wait_until).training["step"] == 2


@pytest.mark.parametrize("kind", ["numpy", "dask", "multiscale"])
def test_cyx_is_trained_on_as_channels(
    viewer: Any, train: Any, pair: list[Any], wait_until: WaitUntil, kind: str
) -> None:
    plane = np.asarray(pair[0].data)
    image: Any = np.stack([plane, plane // 2, 255 - plane])
    if kind == "dask":
        image = pytest.importorskip("dask.array").from_array(image, chunks=(1, 32, 32))
    if kind == "multiscale":
        image = [image, image[:, ::2, ::2]]
    scale: dict[str, Any] = {"scale": (1, 0.5, 0.5), "units": ("pixel", "um", "um")}
    source = viewer.add_image(image, axis_labels=("c", "y", "x"), multiscale=kind == "multiscale", **scale)
    train.settings.length.setValue(2)
    train.choose_layers([source], pair[1:])
    assert "Source: 96 x 128 pixels, 3 channels, uint8, 0.5\N{NO-BREAK SPACE}µm." in train.images.message.text()
    model = trained_on(train, source, pair[1], wait_until)
    assert (model.source.channels, model.source.axes) == (3, "CYX")
    assert (model.source.pixel_size, model.source.unit) == ((0.5, 0.5), "µm")


def test_tczyx_is_trained_on_as_channels_of_planes(
    viewer: Any, train: Any, pair: list[Any], wait_until: WaitUntil
) -> None:
    plane = np.asarray(pair[0].data)
    image = np.broadcast_to(plane, (2, 2, 3, 96, 128)).copy()
    source = viewer.add_image(image, name="a", axis_labels=("t", "c", "z", "y", "x"))
    target = viewer.add_image(255 - image[:, 0], name="b", axis_labels=("t", "z", "y", "x"))
    train.choose_layers([source], [target])
    assert "Source: 2 x 3 planes (T, Z) of 96 x 128 pixels, 2 channels, uint8." in train.images.message.text()
    model = trained_on(train, source, target, wait_until)
    assert (model.source.channels, model.target.channels, model.source.axes) == (2, 1, "TZCYX")


def test_float_rgb_is_trained_on_as_three_colours(
    viewer: Any, train: Any, pair: list[Any], wait_until: WaitUntil, rng: np.random.Generator
) -> None:
    colours = viewer.add_image(rng.random((96, 128, 3), np.float32), rgb=True)
    model = trained_on(train, colours, colours_like(viewer, colours), wait_until)
    assert model.source.channel_names == ("red", "green", "blue")
    assert model.source.mapping.dtype == "float32"


def colours_like(viewer: Any, colours: Any) -> Any:
    return viewer.add_image(1 - np.asarray(colours.data), rgb=True, name="negative")


def test_transparent_pixels_of_rgba_layers_are_not_trained_on(
    viewer: Any, train: Any, pair: list[Any], wait_until: WaitUntil, rng: np.random.Generator
) -> None:
    image = rng.integers(0, 100, (96, 128, 4), np.uint8)
    image[..., 3] = 255
    image[:, 64:] = (200, 200, 200, 0)
    source = viewer.add_image(image, rgb=True, name="a")
    train.settings.source_values.choose("training-set")
    mapping: Any = trained_on(train, source, pair[1], wait_until).source.mapping
    assert max(mapping.high) < 100


def test_nodata_of_a_geotiff_layer_is_not_trained_on(
    viewer: Any, train: Any, pair: list[Any], tmp_path: Path, wait_until: WaitUntil, rng: np.random.Generator
) -> None:
    rasterio = pytest.importorskip("rasterio")
    image = rng.integers(10, 100, (1, 96, 128), np.uint8)
    image[:, :, 64:] = 255
    place = {"crs": "EPSG:32633", "transform": rasterio.transform.from_origin(5e5, 4.2e6, 2, 2)}
    options: dict[str, Any] = {"height": 96, "width": 128, "count": 1, "dtype": "uint8", "nodata": 255, **place}
    with rasterio.open(tmp_path / "field.tif", "w", driver="GTiff", **options) as file:
        file.write(image)
    source = viewer.open(str(tmp_path / "field.tif"), plugin="napari")[0]
    train.settings.source_values.choose("training-set")
    model = trained_on(train, source, pair[1], wait_until)
    mapping: Any = model.source.mapping
    assert max(mapping.high) < 100
    assert (model.source.pixel_size, model.source.unit) == ((2, 2), "m")


def test_names_of_the_channels_of_a_file_are_kept(
    viewer: Any, train: Any, pair: list[Any], tmp_path: Path, wait_until: WaitUntil, rng: np.random.Generator
) -> None:
    image = rng.integers(0, 256, (2, 96, 128), np.uint8)
    metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}}
    tifffile.imwrite(tmp_path / "cells.ome.tif", image, metadata=metadata)
    source = viewer.open(str(tmp_path / "cells.ome.tif"), plugin="napari")[0]
    train.choose_layers([source], pair[1:])
    train.images.source.axis.choose(0)
    model = trained_on(train, source, pair[1], wait_until)
    assert model.source.channel_names == ("DAPI", "GFP")


def test_a_run_is_not_gone_on_with_on_other_pixels(
    viewer: Any, train: Any, pair: list[Any], tmp_path: Path, wait_until: WaitUntil
) -> None:
    """One pixel of the source layer, in a corner."""
    from napari.utils.notifications import notification_manager

    trained_on(train, pair[0], pair[1], wait_until)
    pair[0].data[0, 0] ^= 1
    train.settings.length.setValue(4)
    train.resume_button.click()
    wait_until(lambda: not train.is_running)
    assert train.state.kind == "error"
    assert "phase" in train.state.text()
    assert "have changed" in train.state.text()
    pair[0].data[0, 0] ^= 1
    train.resume_button.click()
    wait_until(lambda: not train.is_running)
    assert load_model(tmp_path / "run" / "model.safetensors").training["step"] == 4
    notification_manager.records.clear()


def test_result_of_labels_is_not_covered_by_the_true_labels(
    viewer: Any, train: Any, pair: list[Any], wait_until: WaitUntil
) -> None:
    place = {"scale": pair[0].scale, "units": pair[0].units}
    classes = viewer.add_labels(np.asarray(pair[0].data) // 100, name="true", **place)
    elsewhere = viewer.add_labels(np.ones((8, 8), np.uint8), name="small")
    trained_on(train, pair[0], classes, wait_until)
    assert "validation IoU" in train.state.text()
    rgba = classes.colormap.map(np.arange(3))
    colours = {tuple(color) for color in (255 * rgba[:, :3] * rgba[:, 3:]).round().astype(int).tolist()}
    assert {
        tuple(pixel) for pixel in train.progress.preview.preview.images["target"].reshape(-1, 3).tolist()
    } == colours
    train.translate_button.click()
    translate = viewer.window.dock_widgets["Translate (pix2pix)"]
    wait_until(translate.translate_button.isEnabled)
    translate.translate_button.click()
    wait_until(lambda: not translate.is_running)
    assert translate.state.text().endswith("; hidden to show it: stain, true")
    assert not classes.visible
    assert elsewhere.visible
    assert pair[0].visible
    assert viewer.layers[-1].visible
