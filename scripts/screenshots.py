"""Pictures of the widgets at work; see ``scripts/screenshots``."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import Any

import napari
from PIL import Image
from qtpy.QtWidgets import QApplication

from napari_pix2pix._widgets import preferences
from napari_pix2pix._widgets.job_widget import opened
from napari_pix2pix._widgets.train_widget import TrainWidget
from napari_pix2pix._widgets.training_job import run_state
from napari_pix2pix._widgets.translate_widget import TranslateWidget

_PLUGIN = "napari-pix2pix"
_SIZES = ((1280, 800), (1920, 1080))
_THEMES = ("dark", "light")
_PREVIEWS = 10
_SHARE_BEFORE_PICTURE = 650
"""Parts of 1000 of the training after which its picture is taken."""
_STEPS_OF_VARIANT = 30


def main() -> None:
    """The way of a first-time user on the paired sample, then the large sample, live and translated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("docs/images/napari"), help="for the pictures")
    parser.add_argument("--steps", type=int, default=300, help="length of the training")
    parser.add_argument("--work", type=Path, help="folder that keeps the run; what is done there is not done again")
    parser.add_argument(
        "--variants", action="store_true", help="both themes and sizes too, in folders named after them"
    )
    options = parser.parse_args()
    folder = options.folder.resolve()
    with ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work.mkdir(parents=True, exist_ok=True)
        os.chdir(work)  # so that pictures show short paths
        preferences._shared = preferences.RecentModels(Path("recent.json").resolve())
        run = Path("pix2pix-runs") / "cells"
        make_run(folder, run, options.steps)
        six_clicks(_Pictures(folder, _SIZES[0], _THEMES[0]), run)
        for size, theme in product(_SIZES, _THEMES) if options.variants else ():
            pictures = _Pictures(folder / f"{theme}-{size[0]}x{size[1]}", size, theme)
            train_for_a_moment(pictures)
            six_clicks(pictures, run)


class _Pictures:
    """Windows of a size and theme, and where their pictures go."""

    def __init__(self, folder: Path, size: tuple[int, int], theme: str) -> None:
        self.folder, self.size, self.theme = folder, size, theme
        folder.mkdir(parents=True, exist_ok=True)

    def window(self) -> Any:
        viewer = napari.Viewer(show=True)
        viewer.theme = self.theme
        viewer.window.resize(*self.size)
        return viewer

    def docked(self, viewer: Any, name: str) -> Any:
        widget = opened(viewer, name, {"Train": TrainWidget, "Translate": TranslateWidget}[name])
        _settle(0.3)
        viewer.window.resize(*self.size)
        return widget

    def save(self, viewer: Any, name: str) -> None:
        _settle(1.0)
        pixels = viewer.window.screenshot(canvas_only=False, flash=False)
        path = self.folder / f"{name}.png"
        picture = Image.fromarray(pixels[..., :3])
        picture.quantize(256, kmeans=1).save(path, optimize=True)  # a quarter of the size
        print(path)


def make_run(folder: Path, run: Path, steps: int) -> None:
    """Pictures of the training are only taken where it happens, and not where the run is complete already."""
    if run_state(run) == "model":  # killed before its first checkpoint
        shutil.rmtree(run)
    is_new = run_state(run) == "nothing"
    pictures = _Pictures(folder, _SIZES[0], _THEMES[0])
    viewer, widget = _train_form(pictures, run, is_new=is_new)
    _set_length(widget, steps)
    (widget.train_button if is_new else widget.resume_button).click()
    _wait(lambda: not widget.is_running or _shows_much(widget), seconds=3600)
    if widget.is_running:
        pictures.save(viewer, "train-running")
    _wait(lambda: not widget.is_running, seconds=3600)
    viewer.close()


def _shows_much(widget: Any) -> bool:
    return widget.preview.preview is not None and widget.progress.value() > _SHARE_BEFORE_PICTURE


def train_for_a_moment(pictures: _Pictures) -> None:
    """The forms before and in a run that is thrown away."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        viewer, widget = _train_form(pictures, Path(folder) / "run", is_new=True)
        _set_length(widget, _STEPS_OF_VARIANT)
        widget.train_button.click()
        _wait(lambda: not widget.is_running or _shows_much(widget), seconds=3600)
        pictures.save(viewer, "train-running")
        _wait(lambda: not widget.is_running, seconds=3600)
        viewer.close()


def _train_form(pictures: _Pictures, run: Path, *, is_new: bool) -> tuple[Any, Any]:
    viewer = pictures.window()
    viewer.open_sample(_PLUGIN, "pair")
    widget = pictures.docked(viewer, "Train")
    widget.out.set_path(run)
    _wait(lambda: widget.settings.base_width.value() == 32, seconds=120)
    if is_new:
        pictures.save(viewer, "train-form")
    return viewer, widget


def _set_length(widget: Any, steps: int) -> None:
    widget.settings.base_width.setValue(16)
    widget.settings.patch_size.setValue(128)
    widget.settings.form.native("validate_every").setValue(max(1, steps // _PREVIEWS))
    widget.settings.unit.choose("steps")
    widget.settings.length.setValue(steps)


def six_clicks(pictures: _Pictures, run: Path) -> None:
    """From the finished run to a result; then a large image, live and translated."""
    viewer = pictures.window()
    viewer.open_sample(_PLUGIN, "pair")
    widget = pictures.docked(viewer, "Train")
    widget.out.set_path(run)
    widget.translate_button.click()
    translate = opened(viewer, "Translate", TranslateWidget)
    _wait(lambda: translate.translate_button.isEnabled(), seconds=60)
    pictures.save(viewer, "translate-form")
    translate.translate_button.click()
    _wait(lambda: not translate.is_running, seconds=600)
    pictures.save(viewer, "translate-done")
    translate.kind.choose("folder")
    pictures.save(viewer, "translate-folder")
    viewer.close()
    large_image(pictures, run / "model.safetensors")


def large_image(pictures: _Pictures, model: Path) -> None:
    viewer = pictures.window()
    viewer.open_sample(_PLUGIN, "large")
    widget = pictures.docked(viewer, "Translate")
    widget.set_model(model)
    _wait(lambda: widget.translate_button.isEnabled(), seconds=60)
    viewer.scene.camera.zoom *= 6
    widget.live.setChecked(True)
    _wait(lambda: len(viewer.layers) > 1 and not widget.live_view.is_running, seconds=300)
    pictures.save(viewer, "live-view")
    widget.live.setChecked(False)
    viewer.reset_view()
    widget.translate_button.click()
    _wait(lambda: not widget.is_running, seconds=1800)
    pictures.save(viewer, "large-done")
    viewer.close()


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
