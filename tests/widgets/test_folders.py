"""Translating the images of a folder from the form: which, where to, failures in words, results to open."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_pix2pix import load_model, translate_array
from tests.widgets.conftest import WaitUntil


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Three images, one that is cut short, and one of another name."""
    path = tmp_path / "images"
    path.mkdir()
    for name in ("a_phase", "b_phase", "c_phase", "d_other"):
        tifffile.imwrite(path / f"{name}.tif", rng.integers(0, 256, (40, 48), np.uint8))
    (path / "b_phase.tif").write_bytes((path / "b_phase.tif").read_bytes()[:50])
    return path


def test_a_folder_is_asked_for(translate: Any) -> None:
    translate.kind.choose("folder")
    assert translate.folder.message.isVisibleTo(translate)
    assert (translate.folder.message.text(), translate.folder.message.kind) == ("Choose a folder of images.", "plain")
    assert not translate.translate_button.isEnabled()


@pytest.fixture
def translate_folder(translate: Any, grey_model: Path, folder: Path, wait_until: WaitUntil) -> Callable[[], Any]:
    """Translate those called like *_phase.tif; the widget."""

    def translated() -> Any:
        translate.set_model(grey_model)
        translate.kind.choose("folder")
        translate.folder.folder.set_path(folder)
        translate.folder.pattern.setText("*_phase.tif")
        wait_until(translate.translate_button.isEnabled)
        translate.translate_button.click()
        wait_until(lambda: not translate.is_running)
        return translate

    return translated


def test_folder_with_one_bad_file(
    viewer: Any, translate_folder: Callable[[], Any], folder: Path, grey_model: Path
) -> None:
    translate = translate_folder()
    out = folder.with_name("images-translated")
    assert translate.folder.out.path == out
    assert translate.state.text() == f"2 of 3 images are in {out}; 1 failed"
    assert translate.state.kind == "warning"
    assert translate.folder_results.failures.text().startswith(f"b_phase.tif: {folder / 'b_phase.tif'}")
    assert translate.remarks.lines == ()  # which said it while the others were translated
    assert sorted(path.name for path in out.iterdir()) == ["a_phase.tif", "c_phase.tif"]
    image = tifffile.imread(folder / "a_phase.tif")
    expected = translate_array(image, load_model(grey_model))[0]
    np.testing.assert_array_equal(tifffile.imread(out / "a_phase.tif"), expected)
    assert translate.folder_results.isVisibleTo(translate)
    translate.folder_results.open_button.click()
    np.testing.assert_array_equal(np.asarray(viewer.layers[-1].data), expected)
    assert viewer.layers[-1].name == "a_phase"


@pytest.mark.parametrize("existing", ["resume", "overwrite"])
def test_results_that_are_there_are_kept_or_replaced(
    translate: Any, translate_folder: Callable[[], Any], folder: Path, existing: str
) -> None:
    translate_folder()
    done = folder.with_name("images-translated") / "a_phase.tif"
    before = done.stat().st_mtime_ns
    translate.folder.existing.choose(existing)
    translate_folder()
    assert translate.state.text().startswith("2 of 3 images")
    kept = f"{done} (and 1 more) is complete already, nothing to do"
    assert translate.remarks.lines == ((kept,) if existing == "resume" else ())
    assert (done.stat().st_mtime_ns == before) == (existing == "resume")


def test_the_form_says_what_is_in_the_folder(
    translate: Any, grey_model: Path, folder: Path, tmp_path: Path, wait_until: WaitUntil
) -> None:
    message = translate.folder.message
    translate.set_model(grey_model)
    translate.kind.choose("folder")
    assert not translate.picker.isVisibleTo(translate)
    assert message.text() in ("", "Choose a folder of images.")
    translate.folder.folder.set_path(folder)
    wait_until(lambda: message.text() == "4 images.")
    translate.folder.pattern.setText("*.png")
    wait_until(lambda: message.kind == "error")
    assert message.text() == f"none of the 4 images in {folder} is called like *.png."
    assert not translate.translate_button.isEnabled()
    translate.folder.folder.set_path(tmp_path / "none")
    wait_until(lambda: message.text() == f"{tmp_path / 'none'} is not a folder.")
    translate.folder.folder.set_path(folder)
    translate.folder.pattern.setText("*")
    translate.folder.out.set_path(tmp_path / "images" / ".." / "images")
    wait_until(lambda: message.text().startswith("Results would take the place of the images."))
    assert (message.kind, translate.translate_button.isEnabled()) == ("error", False)
    translate.folder.file_format.choose("png")
    assert message.text() == "4 images."
    translate.kind.choose("layers")
    assert translate.picker.isVisibleTo(translate)


def test_a_folder_is_cancelled_and_gone_on_with(
    translate: Any, translate_folder: Callable[[], Any], folder: Path, slow_layers: Callable[[], list[float]]
) -> None:
    begun = slow_layers()
    from qtpy.QtCore import QTimer

    watch = QTimer()
    watch.setInterval(10)
    watch.timeout.connect(lambda: translate.cancel_button.click() if begun else None)
    watch.start()
    translate_folder()
    watch.stop()
    assert translate.state.text() == "cancelled; Translate goes on from here"


@pytest.mark.parametrize("file_format", ["png", "ome-zarr"])
def test_results_in_another_format_are_opened(
    viewer: Any, translate: Any, translate_folder: Callable[[], Any], folder: Path, file_format: str
) -> None:
    translate.folder.file_format.choose(file_format)
    translate_folder()
    translate.folder_results.open_button.click()
    layer = viewer.layers[-1]
    pixels = layer.data[0] if layer.multiscale else layer.data
    assert np.asarray(pixels).shape == (40, 48)


def test_copied_command_of_a_folder(
    translate: Any, grey_model: Path, folder: Path, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shlex

    from qtpy.QtWidgets import QApplication

    from napari_pix2pix.cli.application import run as run_command

    translate.set_model(grey_model)
    translate.kind.choose("folder")
    translate.folder.folder.set_path(folder)
    translate.folder.file_format.choose("png")
    wait_until(translate.copy_button.isEnabled)
    translate.copy_button.click()
    command = shlex.split(QApplication.clipboard().text())
    assert run_command(command[1:]) == 0
    names = sorted(path.name for path in folder.with_name("images-translated").iterdir())
    assert names == ["a_phase.png", "c_phase.png", "d_other.png"]
