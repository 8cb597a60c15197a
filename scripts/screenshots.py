"""Pictures of the widgets at work; see ``scripts/screenshots``."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import napari
from PIL import Image
from qtpy.QtWidgets import QApplication

from napari_pix2pix._widgets import recent_models
from napari_pix2pix._widgets.training_job import run_state

_PLUGIN = "napari-pix2pix"
_SIZE = (1280, 800)
_PREVIEWS = 10
_SHARE_BEFORE_PICTURE = 650
"""Parts of 1000 of the training after which its picture is taken."""


def main() -> None:
    """The way of a first-time user on the paired sample, then the large sample, live and translated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("docs/images/napari"), help="for the pictures")
    parser.add_argument("--steps", type=int, default=300, help="length of the training")
    parser.add_argument("--work", type=Path, help="folder that keeps the run; what is done there is not done again")
    options = parser.parse_args()
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work.mkdir(parents=True, exist_ok=True)
        os.chdir(work)  # so that pictures show short paths
        recent_models._shared = recent_models.RecentModels(Path("recent.json").resolve())
        run = Path("pix2pix-runs") / "cells"
        train_and_translate(folder, run, options.steps)
        large_image(folder, run / "model.safetensors")


def train_and_translate(folder: Path, run: Path, steps: int) -> None:
    """Pictures of the training are only taken where it happens, and not where the run is complete already."""
    if run_state(run) == "model":  # killed before its first checkpoint
        shutil.rmtree(run)
    is_new = run_state(run) == "nothing"
    viewer = _window()
    viewer.open_sample(_PLUGIN, "pair")
    widget = _docked(viewer, "Train", 430)
    widget.out.set_path(run)
    _wait(lambda: widget.settings.base_width.value() == 32, seconds=60)
    if is_new:
        _save(viewer, folder / "train-form.png")
    widget.settings.base_width.setValue(16)
    widget.settings.patch_size.setValue(128)
    widget.settings.preview_every.setValue(max(1, steps // _PREVIEWS))
    widget.settings.unit.choose("steps")
    widget.settings.length.setValue(steps)
    (widget.train_button if is_new else widget.resume_button).click()
    _wait(lambda: not widget.is_running or widget.progress.value() > _SHARE_BEFORE_PICTURE, seconds=1800)
    if widget.is_running:
        _show_bottom(widget)
        _save(viewer, folder / "train-running.png")
    _wait(lambda: not widget.is_running, seconds=1800)
    for layer in [layer for layer in viewer.layers if layer.name.startswith("preview")]:
        viewer.layers.remove(layer)
    viewer.reset_view()
    widget.translate_button.click()
    translate = _translate_widget(viewer)
    _wait(lambda: translate.translate_button.isEnabled(), seconds=60)
    _save(viewer, folder / "translate-form.png")
    translate.translate_button.click()
    _wait(lambda: not translate.is_running, seconds=600)
    for layer in list(viewer.layers)[:3]:
        layer.visible = False
    _save(viewer, folder / "translate-done.png")
    viewer.close()


def large_image(folder: Path, model: Path) -> None:
    viewer = _window()
    viewer.open_sample(_PLUGIN, "large")
    widget = _docked(viewer, "Translate", 380)
    widget.set_model(model)
    _wait(lambda: widget.translate_button.isEnabled(), seconds=60)
    viewer.scene.camera.zoom *= 6
    widget.live.setChecked(True)
    _wait(lambda: len(viewer.layers) > 1 and not widget.live_view.is_running, seconds=300)
    viewer.layers[0].visible = False
    _save(viewer, folder / "live-view.png")
    widget.live.setChecked(False)
    viewer.layers[0].visible = True
    viewer.reset_view()
    widget.advanced.expand(animate=False)
    widget.translate_button.click()
    _wait(lambda: not widget.is_running, seconds=1800)
    viewer.layers[0].visible = False
    _save(viewer, folder / "large-done.png")
    viewer.close()


def _translate_widget(viewer: Any) -> Any:
    return next(widget for name, widget in viewer.window.dock_widgets.items() if name.startswith("Translate"))


def _window() -> Any:
    viewer = napari.Viewer(show=True)
    viewer.window.resize(*_SIZE)
    return viewer


def _docked(viewer: Any, name: str, width: int) -> Any:
    dock, widget = viewer.window.add_plugin_dock_widget(_PLUGIN, name)
    _settle(0.3)
    window = viewer.window._qt_window
    window.resizeDocks([dock], [width], _horizontal())
    viewer.window.resize(*_SIZE)
    return widget


def _horizontal() -> Any:
    from qtpy.QtCore import Qt

    return Qt.Orientation.Horizontal


def _show_bottom(widget: Any) -> None:
    from qtpy.QtWidgets import QScrollArea

    bar = widget.findChild(QScrollArea).verticalScrollBar()
    _settle(0.3)
    bar.setValue(bar.maximum())


def _save(viewer: Any, path: Path) -> None:
    _settle(1.0)
    pixels = viewer.window.screenshot(canvas_only=False, flash=False)
    Image.fromarray(pixels[..., :3]).quantize(256).save(path, optimize=True)  # a quarter of the size
    print(path)


def _settle(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)


def _wait(condition: Callable[[], bool], *, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("what the picture should show did not happen")
        _settle(0.05)


if __name__ == "__main__":
    main()
