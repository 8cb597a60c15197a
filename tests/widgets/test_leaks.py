"""What is left when the widgets have worked and are closed: nothing."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import ref

import numpy as np
import pytest

from tests.widgets.conftest import WaitUntil

Ref = Callable[[], Any]
_OURS = "napari_pix2pix"


def at_work(viewer: Any, wait_until: WaitUntil, run_folder: Path) -> tuple[list[Ref], list[Ref]]:
    """Train, translate and look live with both widgets; references to the widgets, and to all layers."""
    image = np.random.default_rng(0).integers(0, 256, (64, 96), np.uint8)
    layers = [viewer.add_image(image, name="phase"), viewer.add_image(255 - image, name="stain")]
    train = viewer.window.add_plugin_dock_widget("napari-pix2pix", "Train")[1]
    train.out.set_path(run_folder)
    train.settings.depth.setValue(3)
    train.settings.base_width.setValue(4)
    train.settings.patch_size.setValue(32)
    train.settings.unit.choose("steps")
    train.settings.length.setValue(2)
    wait_until(train.train_button.isEnabled)
    train.train_button.click()
    wait_until(lambda: not train.is_running)
    train.translate_button.click()
    translate = next(w for w in viewer.window.dock_widgets.values() if type(w).__name__ == "TranslateWidget")
    wait_until(lambda: translate.translate_button.isEnabled())
    translate.translate_button.click()
    wait_until(lambda: not translate.is_running)
    layers[0].corner_pixels = np.array([[0, 0], [63, 95]])
    translate.live.setChecked(True)
    wait_until(lambda: translate.live_words.text().startswith("live"))
    assert len(viewer.layers) == 4
    return [ref(train), ref(translate)], [ref(layer) for layer in viewer.layers]


def settle(qtbot: Any) -> None:
    """Let Qt delete what it has been asked to, and Python collect what nobody holds."""
    from qtpy.QtCore import QEvent
    from qtpy.QtWidgets import QApplication

    for _ in range(3):
        qtbot.wait(20)
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
        gc.collect()


def own_widgets() -> list[Any]:
    from qtpy.QtWidgets import QApplication

    return [widget for widget in QApplication.allWidgets() if type(widget).__module__.startswith(_OURS)]


def alive(references: list[Ref]) -> list[Any]:
    return [thing for reference in references if (thing := reference()) is not None]


def own_objects(*names: str) -> list[Any]:
    """Objects of these classes of this project, wherever they are held."""
    return [
        thing
        for thing in gc.get_objects()
        if type(thing).__name__ in names and type(thing).__module__.startswith((_OURS, "pix2pix_training"))
    ]


@pytest.mark.parametrize("how", ["widgets", "viewer"])
def test_nothing_is_left(viewer: Any, wait_until: WaitUntil, qtbot: Any, tmp_path: Path, how: str) -> None:
    from superqt.utils import WorkerBase

    threads, earlier = set(threading.enumerate()), own_widgets()  # a failed test keeps its own for the report
    networks = own_objects("UNet", "Translator", "Discriminator")
    widgets, layers = at_work(viewer, wait_until, tmp_path / "run")
    if how == "viewer":
        viewer.close()
    else:
        for widget in alive(widgets):
            viewer.window.remove_dock_widget(widget)
        del widget
    wait_until(lambda: not WorkerBase._worker_set)
    settle(qtbot)
    assert alive(widgets) == []
    assert [widget for widget in own_widgets() if widget not in earlier] == []
    assert [t for t in threading.enumerate() if t not in threads and not isinstance(t, threading._DummyThread)] == []
    assert len(own_objects("UNet", "Translator", "Discriminator")) <= len(networks)
    viewer.layers.clear()
    settle(qtbot)
    assert [layer.name for layer in alive(layers)] == []


def test_open_widgets_do_not_hold_what_the_user_removes(
    viewer: Any, wait_until: WaitUntil, qtbot: Any, tmp_path: Path
) -> None:
    widgets, layers = at_work(viewer, wait_until, tmp_path / "run")
    live = widgets[1]().live
    viewer.layers.clear()
    wait_until(lambda: not live.isChecked())  # the live view has looked for its layer
    settle(qtbot)
    assert len(alive(widgets)) == 2
    assert [layer.name for layer in alive(layers)] == []
