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
from napari.settings import get_settings
from PIL import Image
from qtpy.QtWidgets import QApplication, QScrollArea
from superqt import QCollapsible

from napari_pix2pix._widgets import preferences
from napari_pix2pix._widgets.job_widget import opened
from napari_pix2pix._widgets.train_widget import TrainWidget
from napari_pix2pix._widgets.training_job import run_state
from napari_pix2pix._widgets.translate_widget import TranslateWidget

_PLUGIN = "napari-pix2pix"
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
    parser.add_argument("--sizes", nargs="+", default=["1280x800"], help="of the window")
    parser.add_argument("--themes", nargs="+", default=["dark"], choices=["dark", "light"])
    parser.add_argument("--fonts", nargs="+", type=int, default=[9], help="sizes of the font in points")
    options = parser.parse_args()
    folder = options.folder.resolve()
    with ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work.mkdir(parents=True, exist_ok=True)
        os.chdir(work)  # so that pictures show short paths
        preferences._shared = preferences.RecentModels(Path("recent.json").resolve())
        get_settings(None)  # those of the user stay as they are
        kinds = list(product(options.sizes, options.themes, options.fonts))
        places = [folder / "-".join(map(str, kind)) if len(kinds) > 1 else folder for kind in kinds]
        first, *others = [_Pictures(place, *kind) for place, kind in zip(places, kinds, strict=True)]
        run = Path("pix2pix-runs") / "cells"
        make_run(first, run, options.steps)
        six_clicks(first, run)
        large_image(first, run / "model.safetensors")
        for pictures in others:
            train_for_a_moment(pictures)
            six_clicks(pictures, run)
            folded_parts(pictures, run)


class _Pictures:
    """Windows of a kind, and where their pictures go."""

    def __init__(self, folder: Path, size: str, theme: str, font: int) -> None:
        self.folder, self.theme, self.font = folder, theme, font
        self.size = tuple(map(int, size.split("x")))
        folder.mkdir(parents=True, exist_ok=True)

    def window(self) -> Any:
        get_settings().appearance.theme = self.theme
        get_settings().appearance.font_size = self.font
        viewer = napari.Viewer(show=True)
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


def make_run(pictures: _Pictures, run: Path, steps: int) -> None:
    """Pictures of the training are only taken where it happens, and not where the run is complete already."""
    if run_state(run) == "model":  # killed before its first checkpoint
        shutil.rmtree(run)
    is_new = run_state(run) == "nothing"
    viewer, widget = _train_form(pictures, run, is_new=is_new)
    _set_length(widget, steps)
    _wait(lambda: widget.train_button.isEnabled() or not is_new, seconds=120)
    (widget.train_button if is_new else widget.resume_button).click()
    _wait(lambda: not widget.is_running or _shows_much(widget), seconds=3600)
    if widget.is_running:
        pictures.save(viewer, "train-running")
    _wait(lambda: not widget.is_running, seconds=3600)
    viewer.close()


def _shows_much(widget: Any) -> bool:
    return widget.progress.preview.preview is not None and widget.progress.of_run.value() > _SHARE_BEFORE_PICTURE


def train_for_a_moment(pictures: _Pictures) -> None:
    """The forms before and in a run that is thrown away."""
    run = Path("pix2pix-runs") / "run-1"
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, run, ignore_errors=True)
        viewer, widget = _train_form(pictures, run, is_new=True)
        _set_length(widget, _STEPS_OF_VARIANT)
        _wait(widget.train_button.isEnabled, seconds=120)
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
    _wait(lambda: " steps in " in widget.settings.badge.text(), seconds=120)
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


def folded_parts(pictures: _Pictures, run: Path) -> None:
    """Both forms with all that is folded away, at their upper and their lower end."""
    viewer = pictures.window()
    viewer.open_sample(_PLUGIN, "pair")
    for name in ("Train", "Translate"):
        widget = pictures.docked(viewer, name)
        if name == "Translate":
            widget.set_model(run / "model.safetensors")
            _wait(lambda: widget.translate_button.isEnabled(), seconds=60)  # noqa: B023
        for fold in widget.findChildren(QCollapsible):
            fold.expand(animate=False)
        _settle(0.5)
        bar = widget.findChild(QScrollArea).verticalScrollBar()
        for part in range(-(-bar.maximum() // bar.pageStep()) + 1):
            bar.setValue(part * bar.pageStep())
            pictures.save(viewer, f"{name.lower()}-unfolded-{part}")
    viewer.close()


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
