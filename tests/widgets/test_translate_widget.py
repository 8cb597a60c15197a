"""The Translate widget in a viewer: every kind of layer, its place, cancelling, errors, closing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_pix2pix import load_model, translate_array
from tests.widgets.conftest import WaitUntil

PLACE: dict[str, Any] = {
    "scale": (0.5, 0.25),
    "translate": (10.0, -3.0),
    "rotate": 30.0,
    "shear": (0.1,),
    "affine": [[1.0, 0.2, 4.0], [0.0, 1.0, 5.0], [0.0, 0.0, 1.0]],
    "units": ("um", "um"),
    "axis_labels": ("y", "x"),
}


def assert_same_place(output: Any, source: Any) -> None:
    for name in ("scale", "translate", "rotate", "shear"):
        np.testing.assert_allclose(getattr(output, name), getattr(source, name), atol=1e-12, err_msg=name)
    np.testing.assert_allclose(output.affine.affine_matrix, source.affine.affine_matrix)
    assert output.units == source.units
    assert output.axis_labels == source.axis_labels


def test_two_dimensional_layer(viewer: Any, run: Any, grey_model: Path, rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (40, 56), np.uint8)
    source = viewer.add_image(image, name="cells", colormap="magma", metadata={"crs": "EPSG:25832"}, **PLACE)
    (output,) = run(grey_model, [source])
    np.testing.assert_array_equal(output.data, translate_array(image, load_model(grey_model))[0])
    assert_same_place(output, source)
    assert (output.name, output.colormap.name) == ("cells → grey", "magma")
    assert output.metadata["crs"] == "EPSG:25832"
    provenance = output.metadata["napari-pix2pix"]
    assert provenance["model"] == str(grey_model)
    assert provenance["source"] == "cells"
    assert provenance["scheme"] == "whole"


def test_rgb_layer(viewer: Any, run: Any, rgb_model: Path, rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (40, 48, 3), np.uint8)
    source = viewer.add_image(image, **PLACE)
    (output,) = run(rgb_model, [source])
    assert output.rgb
    expected = translate_array(np.moveaxis(image, -1, 0), load_model(rgb_model))
    np.testing.assert_array_equal(output.data, np.moveaxis(expected, 0, -1))
    assert_same_place(output, source)


@pytest.mark.parametrize("kind", ["numpy", "dask", "zarr"])
def test_stack(viewer: Any, run: Any, grey_model: Path, rng: np.random.Generator, kind: str) -> None:
    stack = rng.integers(0, 256, (3, 40, 48), np.uint8)
    source = viewer.add_image(
        _as(kind, stack),
        scale=(2, 0.5, 0.5),
        units=("um", "um", "um"),
        axis_labels=("z", "y", "x"),
        translate=(1, 2, 3),
    )
    (output,) = run(grey_model, [source])
    model = load_model(grey_model)
    np.testing.assert_array_equal(output.data, np.stack([translate_array(plane, model)[0] for plane in stack]))
    assert_same_place(output, source)


def _as(kind: str, array: np.ndarray[Any, Any]) -> Any:
    if kind == "dask":
        return pytest.importorskip("dask.array").from_array(array, chunks=(1, 16, 16))
    if kind == "zarr":
        return pytest.importorskip("zarr").array(array, chunks=(1, 16, 16))
    return array


def test_multiscale_layer_is_translated_at_full_resolution(
    viewer: Any, run: Any, grey_model: Path, rng: np.random.Generator
) -> None:
    image = rng.integers(0, 256, (64, 64), np.uint8)
    source = viewer.add_image([image, image[::2, ::2]], multiscale=True, scale=(0.5, 0.5))
    (output,) = run(grey_model, [source])
    np.testing.assert_array_equal(output.data, translate_array(image, load_model(grey_model))[0])
    assert_same_place(output, source)


def test_selected_layers_are_channels(viewer: Any, run: Any, rgb_model: Path, rng: np.random.Generator) -> None:
    channels = rng.integers(0, 256, (3, 40, 48), np.uint8)
    layers = [viewer.add_image(channel, **PLACE) for channel in channels]
    (output,) = run(rgb_model, layers)
    expected = translate_array(channels, load_model(rgb_model))
    np.testing.assert_array_equal(output.data, np.moveaxis(expected, 0, -1))
    assert_same_place(output, layers[0])


def test_channel_axis_of_a_layer(viewer: Any, run: Any, rgb_model: Path, rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (2, 3, 40, 48), np.uint8)
    source = viewer.add_image(image, axis_labels=("z", "c", "y", "x"), scale=(4, 1, 0.5, 0.25), translate=(7, 9, 1, 2))
    (output,) = run(rgb_model, [source])
    model = load_model(rgb_model)
    expected = np.stack([np.moveaxis(translate_array(plane, model), 0, -1) for plane in image])
    np.testing.assert_array_equal(output.data, expected)
    np.testing.assert_allclose(output.scale, (4, 0.5, 0.25))
    np.testing.assert_allclose(output.translate, (7, 1, 2))
    assert output.axis_labels == ("z", "y", "x")


def test_current_view(viewer: Any, translate: Any, run: Any, grey_model: Path, rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (2, 96, 96), np.uint8)
    source = viewer.add_image(image, scale=(1, 0.5, 0.5), rotate=(0, 0, 20))
    viewer.dims.set_current_step(0, 1)
    source.corner_pixels = np.array([[0, 8, 16], [0, 55, 79]])
    translate.part.kind.choose("view")
    (output,) = run(grey_model, [source])
    assert output.data.shape == (1, 48, 64)
    crop = image[1, 8:56, 16:80]
    np.testing.assert_array_equal(output.data[0], translate_array(crop, load_model(grey_model))[0])
    np.testing.assert_allclose(output.data_to_world((0, 0, 0)), source.data_to_world((1, 8, 16)))
    np.testing.assert_allclose(output.data_to_world((0, 47, 63)), source.data_to_world((1, 55, 79)))


@pytest.mark.parametrize(("kind", "planes"), [("slice", [2]), ("range", [1, 2])])
def test_selected_slices(
    viewer: Any, translate: Any, run: Any, grey_model: Path, rng: np.random.Generator, kind: str, planes: list[int]
) -> None:
    stack = rng.integers(0, 256, (4, 40, 48), np.uint8)
    source = viewer.add_image(stack, scale=(2, 0.5, 0.5), translate=(1, 2, 3), axis_labels=("z", "y", "x"))
    viewer.dims.set_current_step(0, 2)
    translate.picker.choose([source])
    translate.part.kind.choose(kind)
    translate.part.first.setValue(1)
    translate.part.last.setValue(2)
    (output,) = run(grey_model, [source])
    model = load_model(grey_model)
    np.testing.assert_array_equal(output.data, np.stack([translate_array(stack[i], model)[0] for i in planes]))
    np.testing.assert_allclose(output.data_to_world((0, 0, 0)), source.data_to_world((planes[0], 0, 0)))
    assert output.metadata["napari-pix2pix"]["extent"][0] == [planes[0], planes[-1] + 1]


def test_slices_are_offered_of_stacks_only(viewer: Any, translate: Any) -> None:
    image = viewer.add_image(np.zeros((40, 48), np.uint8))
    stack = viewer.add_image(np.zeros((5, 40, 48), np.uint8))
    translate.picker.choose([stack])
    assert translate.part.kind.count() == 4
    assert (translate.part.first.maximum(), translate.part.last.value()) == (4, 4)
    translate.picker.choose([image])
    assert translate.part.kind.count() == 2


def test_dropout_samples(
    viewer: Any, translate: Any, run: Any, tmp_path: Path, grey_model: Path, rng: np.random.Generator
) -> None:
    from dataclasses import replace

    from napari_pix2pix.translation.settings import TranslationSettings
    from pix2pix_training.model_file import save_model

    model = load_model(grey_model)
    noisy = replace(model, generator_config=replace(model.generator_config, dropout="paper"))
    save_model(noisy, tmp_path / "noisy.safetensors")
    source = viewer.add_image(rng.integers(0, 256, (40, 48), np.uint8))
    translate.settings.samples.setValue(3)
    mean, deviation = run(tmp_path / "noisy.safetensors", [source])
    settings = TranslationSettings(dropout="seeded", dropout_samples=3)
    expected = translate_array(source.data, load_model(tmp_path / "noisy.safetensors"), settings)
    np.testing.assert_array_equal(np.stack([mean.data, deviation.data]), expected)
    translate.set_model(grey_model)
    run(grey_model, [source])
    assert not translate.settings.samples.isEnabled()
    assert translate.settings.samples.value() == 1


def test_saved_result_keeps_what_the_layer_knows(
    viewer: Any,
    translate: Any,
    run: Any,
    grey_model: Path,
    tmp_path: Path,
    wait_until: WaitUntil,
    monkeypatch: pytest.MonkeyPatch,
    rng: np.random.Generator,
) -> None:
    from napari_pix2pix._widgets import translate_widget
    from napari_pix2pix.formats import open_image
    from pix2pix_training.regions import Region

    source = viewer.add_image(
        rng.integers(0, 256, (3, 40, 48), np.uint8),
        scale=(2, 0.5, 0.25),
        units=("um", "um", "um"),
        axis_labels=("z", "y", "x"),
    )
    assert not translate.save_button.isEnabled()
    (output,) = run(grey_model, [source])
    monkeypatch.setattr(translate_widget, "ask_image", lambda *_: str(tmp_path / "saved.ome.tif"))
    translate.save_button.click()
    wait_until(lambda: not translate.is_running)
    assert translate.state.text() == f"saved as {tmp_path / 'saved.ome.tif'}"
    with open_image(tmp_path / "saved.ome.tif") as saved:
        assert saved.axes == "ZCYX"
        np.testing.assert_array_equal(saved.read(Region(0, 40, 0, 48), (2,))[0], output.data[2])
        assert saved.metadata.pixel_size == pytest.approx((0.5, 0.25))
        assert saved.metadata.z_spacing == pytest.approx(2)
        assert saved.metadata.unit == "µm"
    monkeypatch.setattr(translate_widget, "ask_image", lambda *_: str(tmp_path / "none" / "saved.tif"))
    translate.save_button.click()
    wait_until(lambda: not translate.is_running)
    assert str(tmp_path / "none") in translate.state.text()
    monkeypatch.setattr(translate_widget, "ask_image", lambda *_: str(tmp_path / f"{'x' * 300}.tif"))
    translate.save_button.click()
    wait_until(lambda: not translate.is_running)
    assert translate.state.text().endswith("x.tif cannot be written: File name too long; choose another name")
    viewer.layers.remove(output)
    assert not translate.save_button.isEnabled()


def test_wrong_channels_are_told_in_words(
    viewer: Any, translate: Any, wait_until: WaitUntil, rgb_model: Path, rng: np.random.Generator
) -> None:
    viewer.add_image(rng.integers(0, 256, (40, 48), np.uint8))
    translate.set_model(rgb_model)
    translate.picker.choose(list(viewer.layers))
    wait_until(lambda: "expects 3" in translate.fit.text())
    assert not translate.translate_button.isEnabled()


def test_model_or_run_folder_dropped_on_the_form(
    translate: Any, wait_until: WaitUntil, grey_model: Path, tmp_path: Path
) -> None:
    """As Qt delivers a drop: to the widget under the mouse, and to those around it until one takes it."""
    from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
    from qtpy.QtGui import QDragEnterEvent, QDropEvent

    def drop(path: Path, target: Any) -> bool:
        data = QMimeData()
        data.setUrls([QUrl.fromLocalFile(str(path))])
        data.setText(QUrl.fromLocalFile(str(path)).toString())
        keys = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
        enter = QDragEnterEvent(QPoint(1, 1), Qt.DropAction.CopyAction, data, *keys)
        enter.ignore()
        while not target.acceptDrops():
            target = target.parent()
        target.dragEnterEvent(enter)
        if enter.isAccepted():
            target.dropEvent(QDropEvent(QPointF(1, 1), Qt.DropAction.CopyAction, data, *keys))
        return bool(enter.isAccepted())

    other = tmp_path / "image.tif"
    other.touch()
    for path, taken in ((grey_model, True), (other, False), (grey_model.parent, True)):
        translate.model.file.line.clear()
        assert drop(path, translate.model.file.line) == taken
        assert translate.model.path == (grey_model if taken else None)
    wait_until(lambda: translate.model.card is not None)


def test_damaged_model_is_told_in_words(viewer: Any, translate: Any, wait_until: WaitUntil, grey_model: Path) -> None:
    grey_model.write_bytes(grey_model.read_bytes()[:-100])
    viewer.add_image(np.zeros((40, 48), np.uint8))
    translate.set_model(grey_model)
    wait_until(lambda: "cannot be read" in translate.model.words.text() or "damaged" in translate.model.words.text())
    assert not translate.translate_button.isEnabled()


def test_a_late_answer_about_a_model_chosen_before(
    translate: Any, wait_until: WaitUntil, grey_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_pix2pix._widgets import model_choice
    from napari_pix2pix._widgets.model_card import load_card

    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(grey_model.read_bytes()[:-100])
    may_answer = threading.Event()

    def late(path: Path) -> Any:
        if path == damaged:
            assert may_answer.wait(60)
        return load_card(path)

    monkeypatch.setattr(model_choice, "load_card", late)
    inquiry = translate.model._inquiry
    translate.set_model(damaged)
    wait_until(lambda: inquiry._worker is not None)
    worker = inquiry._worker
    translate.set_model(grey_model)
    wait_until(lambda: "U-Net" in translate.model.words.text())
    ended: list[Any] = []
    worker.finished.connect(lambda: ended.append(None))
    may_answer.set()
    wait_until(lambda: bool(ended))
    assert "U-Net" in translate.model.words.text()


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), ValueError("unexpected")])
def test_error_in_the_worker_ends_the_work(
    viewer: Any, translate: Any, run: Any, grey_model: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    from napari.utils.notifications import notification_manager

    from napari_pix2pix.translation.translator import Translator

    def failing(*_: Any, **__: Any) -> Any:
        raise error
        yield

    monkeypatch.setattr(Translator, "tiles", failing)
    source = viewer.add_image(np.zeros((40, 48), np.uint8))
    assert run(grey_model, [source]) == []
    assert str(error) in translate.state.text()
    assert str(error) in notification_manager.records[-1].message
    assert translate.translate_button.isEnabled()
    notification_manager.records.clear()


def test_cancel(viewer: Any, translate: Any, wait_until: WaitUntil, grey_model: Path) -> None:
    source = viewer.add_image(np.random.default_rng(0).integers(0, 256, (5000, 64, 64), np.uint8))
    translate.set_model(grey_model)
    translate.picker.choose([source])
    wait_until(lambda: translate.translate_button.isEnabled())
    translate.translate_button.click()
    wait_until(lambda: translate.progress.value() > 0)
    translate.cancel_button.click()
    wait_until(lambda: not translate.is_running)
    assert translate.state.text() == "cancelled"
    assert list(viewer.layers) == [source]
    assert translate.translate_button.isEnabled()


@pytest.mark.parametrize("scheme", ["whole", "exact"])
def test_cancel_in_the_middle_of_an_image(
    viewer: Any,
    translate: Any,
    wait_until: WaitUntil,
    grey_model: Path,
    slow_layers: Callable[[], list[float]],
    scheme: str,
) -> None:
    source = viewer.add_image(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8))
    translate.set_model(grey_model)
    translate.picker.choose([source])
    translate.settings.scheme.choose(scheme)
    wait_until(lambda: translate.translate_button.isEnabled())
    begun = slow_layers()
    translate.translate_button.click()
    wait_until(lambda: bool(begun))
    so_far = len(begun)
    translate.cancel_button.click()
    assert translate.state.text() == "cancelling…"
    wait_until(lambda: not translate.is_running)
    assert len(begun) <= so_far + 1
    assert translate.state.text() == "cancelled"
    assert list(viewer.layers) == [source]


def test_closing_the_viewer_stops_the_work(
    viewer: Any, translate: Any, wait_until: WaitUntil, grey_model: Path
) -> None:
    viewer.add_image(np.zeros((5000, 64, 64), np.uint8) + np.arange(64, dtype=np.uint8))
    translate.set_model(grey_model)
    translate.picker.choose(list(viewer.layers))
    wait_until(lambda: translate.translate_button.isEnabled())
    translate.translate_button.click()
    wait_until(lambda: translate.progress.value() > 0)
    worker = translate._worker
    viewer.close()
    wait_until(lambda: not worker.is_running, 20)


def test_removing_the_widget_stops_the_work(
    viewer: Any, translate: Any, wait_until: WaitUntil, grey_model: Path
) -> None:
    viewer.add_image(np.zeros((5000, 64, 64), np.uint8) + np.arange(64, dtype=np.uint8))
    translate.set_model(grey_model)
    translate.picker.choose(list(viewer.layers))
    wait_until(lambda: translate.translate_button.isEnabled())
    translate.translate_button.click()
    worker = translate._worker
    viewer.window.remove_dock_widget(translate)
    wait_until(lambda: not worker.is_running, 20)
    viewer.layers.clear()


def test_layers_that_come_go_and_change_names(viewer: Any, translate: Any) -> None:
    layer = viewer.add_image(np.zeros((8, 8), np.uint8), name="one")
    viewer.add_points(np.zeros((1, 2)))
    assert [translate.picker.list.item(i).text() for i in range(translate.picker.list.count())] == ["one"]
    layer.name = "other"
    assert translate.picker.list.item(0).text() == "other"
    translate.picker.choose([layer])
    viewer.layers.remove(layer)
    assert translate.picker.layers == []
    assert not translate.translate_button.isEnabled()


def test_copied_command(viewer: Any, translate: Any, wait_until: WaitUntil, grey_model: Path) -> None:
    from qtpy.QtWidgets import QApplication

    viewer.add_image(np.zeros((40, 48), np.uint8), name="my cells")
    translate.set_model(grey_model)
    translate.picker.choose(list(viewer.layers))
    translate.settings.scheme.choose("blend")
    wait_until(lambda: translate.copy_button.isEnabled())
    translate.copy_button.click()
    words = QApplication.clipboard().text()
    assert words.startswith("napari-pix2pix translate my-cells.tif --model ")
    assert words.endswith("--out my-cells-translated.tif --scheme blend")
    translate.destination.choose(True)
    translate.out.set_path(Path("results/cells.ome.zarr"))
    translate.copy_button.click()
    assert QApplication.clipboard().text().endswith("--out results/cells.ome.zarr --scheme blend")


def test_the_bar_shows_a_share_before_the_first_of_several_tiles_is_done(translate: Any) -> None:
    """It was busy without a number until then, and all through an evaluation."""
    from napari_pix2pix.translation.progress import TilesDone

    translate.on_events([TilesDone(done=0, total=8)])
    assert (translate.progress.value(), translate.progress.maximum()) == (0, 8)
    assert translate.state.text() == "translating: 0 of 8 tiles"
    translate.on_events([TilesDone(done=0, total=1)])
    assert translate.progress.maximum() == 0
