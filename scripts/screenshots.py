"""Pictures of the widgets at work; see ``scripts/screenshots``."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
from qtpy.QtWidgets import QApplication

from napari_pix2pix._widgets import recent_models

_PLUGIN = "napari-pix2pix"
_SIZE = (1280, 800)


def main(folder: Path) -> None:
    """Train on the paired sample, then translate the large one; a picture of each form and of each result."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        recent_models._shared = recent_models.RecentModels(Path(scratch) / "recent.json")
        model = train(folder, Path(scratch) / "cells")
        translate(folder, model)


def train(folder: Path, run: Path) -> Path:
    viewer = _window()
    viewer.open_sample(_PLUGIN, "pair")
    widget = _docked(viewer, "Train", 430)
    widget.out.set_path(run)
    _wait(lambda: widget.settings.base_width.value() == 32, seconds=30)
    _save(viewer, folder / "train-form.png")
    widget.settings.base_width.setValue(16)
    widget.settings.patch_size.setValue(128)
    widget.settings.preview_every.setValue(40)
    widget.settings.unit.choose("steps")
    widget.settings.length.setValue(400)
    widget.train_button.click()
    _wait(lambda: widget.progress.maximum() > 0 and widget.progress.value() > 650, seconds=600)
    _show_bottom(widget)
    _save(viewer, folder / "train-running.png")
    _wait(lambda: not widget.is_running, seconds=600)
    viewer.close()
    return run / "model.safetensors"


def translate(folder: Path, model: Path) -> None:
    viewer = _window()
    viewer.open_sample(_PLUGIN, "large")
    widget = _docked(viewer, "Translate", 380)
    widget.set_model(model)
    _wait(lambda: widget.translate_button.isEnabled(), seconds=30)
    widget.advanced.expand(animate=False)
    _save(viewer, folder / "translate-form.png")
    widget.advanced.collapse(animate=False)
    viewer.scene.camera.zoom *= 4
    _settle(0.5)
    widget.part.kind.choose("view")
    widget.translate_button.click()
    _wait(lambda: not widget.is_running, seconds=600)
    viewer.layers[0].visible = False
    _save(viewer, folder / "translate-done.png")
    viewer.close()


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
    viewer.window.screenshot(str(path), canvas_only=False, flash=False)
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
    main(Path(sys.argv[1]))
