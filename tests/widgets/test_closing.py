"""The window, a dock or the viewer goes away at whatever moment of the work behind the widgets: nothing is raised."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.widgets.conftest import WaitUntil

Prepare = Callable[[Any, Any, Any, Path], None]


def _folders(train: Any, translate: Any, viewer: Any, tmp_path: Path) -> None:
    for side in "ab":
        (tmp_path / side).mkdir()
        for number in range(20):
            tifffile.imwrite(tmp_path / side / f"{number}.tif", np.zeros((64, 64), np.uint8))
    train.images.kind.choose("folders")
    train.images.source_folder.set_path(tmp_path / "a")
    train.images.target_folder.set_path(tmp_path / "b")


def _values(train: Any, translate: Any, viewer: Any, tmp_path: Path) -> None:
    train.values._inquiry._start()


def _pace(train: Any, translate: Any, viewer: Any, tmp_path: Path) -> None:
    train.settings.badge._inquiry._start()


def _model(train: Any, translate: Any, viewer: Any, tmp_path: Path) -> None:
    translate.set_model(tmp_path / "grey" / "model.safetensors")


def _live(train: Any, translate: Any, viewer: Any, tmp_path: Path) -> None:
    viewer.layers[0].corner_pixels = np.array([[0, 0], [63, 95]])
    translate.live.setChecked(True)
    for _ in range(2):
        translate.live_view._look()


def _training(train: Any, translate: Any, viewer: Any, tmp_path: Path) -> None:
    train.train_button.click()


def _translation(train: Any, translate: Any, viewer: Any, tmp_path: Path) -> None:
    translate.translate_button.click()


MOMENTS = {
    "check of folders": _folders,
    "look at values": _values,
    "trial of steps": _pace,
    "reading of a model": _model,
    "live view": _live,
    "training": _training,
    "translation": _translation,
}


@pytest.mark.parametrize("how", ["dock", "viewer"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_closing_at_any_moment_raises_nothing(
    viewer: Any,
    train: Any,
    translate: Any,
    grey_model: Path,
    wait_until: WaitUntil,
    tmp_path: Path,
    moment: str,
    how: str,
) -> None:
    """pytest-qt fails the test for whatever is raised in a slot."""
    from qtpy.compat import isalive
    from qtpy.QtCore import QEvent
    from qtpy.QtWidgets import QApplication
    from superqt.utils import WorkerBase

    wait_until(lambda: train.train_button.isEnabled())
    if moment in ("live view", "translation"):
        translate.set_model(grey_model)
        wait_until(translate.translate_button.isEnabled)
    MOMENTS[moment](train, translate, viewer, tmp_path)
    layers = viewer.layers
    if how == "viewer":
        viewer.close()
    else:
        viewer.window.remove_dock_widget(train)
        viewer.window.remove_dock_widget(translate)
        train.deleteLater()
        translate.deleteLater()
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
    assert not isalive(train)
    assert not isalive(translate)
    wait_until(lambda: not WorkerBase._worker_set)
    if how == "dock":  # napari itself does not bear this without its window
        layers[0].name = "renamed"  # what others do with the layers is heard by nobody
        layers[0].translate = (3, 4)
        viewer.add_image(np.zeros((4, 4)))
    layers.clear()
    for _ in range(20):
        QApplication.processEvents()
    gc.collect()
