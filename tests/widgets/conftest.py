"""A viewer in a real window, where napari, Qt and a display are there; else the tests that need one are skipped."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pix2pix_training.model_file import Model, load_model, save_model
from tests.product.conftest import model_for

WaitUntil = Callable[..., None]
_NEVER_MS = 10**8
_MODULES = ("napari", "pytestqt", "qtpy")


def _missing() -> str | None:
    absent = [name for name in _MODULES if find_spec(name) is None]
    if absent:
        return f"needs {', '.join(absent)}: pip install -e '.[test-widgets]'"
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
        return "needs a display, or the program Xvfb"
    return None


@pytest.fixture
def viewer(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty viewer with this plugin; the list of recent models is the test's own."""
    if (reason := _missing()) is not None:
        pytest.skip(reason)
    from napari_pix2pix._widgets import pace_badge, preferences

    monkeypatch.setattr(preferences, "_shared", preferences.RecentModels(tmp_path / "state" / "recent.json"))
    monkeypatch.setattr(pace_badge, "_REST_MS", _NEVER_MS)  # trials of steps would slow the tests down
    _register_plugin()
    _forget_preferences(monkeypatch)
    yield request.getfixturevalue("make_napari_viewer")(show=False)
    from qtpy.QtCore import QEvent
    from qtpy.QtWidgets import QApplication
    from superqt.utils import WorkerBase

    WorkerBase.await_workers(20_000)
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)  # widgets that the test has closed


def _register_plugin() -> None:
    """napari's test fixtures hide installed plugins; bring this one back from the manifest beside the sources."""
    from npe2 import PluginManager, PluginManifest

    import napari_pix2pix

    manifest = PluginManifest.from_file(Path(napari_pix2pix.__file__).with_name("napari.yaml"))
    manager = PluginManager.instance()
    if manifest.name not in manager:
        manager.register(manifest)


def _forget_preferences(monkeypatch: pytest.MonkeyPatch) -> None:
    """Preferences of plugins are at their defaults, and stay in memory."""
    from napari import settings

    monkeypatch.setattr(settings, "_PLUGIN_SETTINGS", {})
    settings.get_plugin_settings(path_dir=None)


@pytest.fixture
def wait_until(viewer: Any, request: pytest.FixtureRequest) -> WaitUntil:
    """Process events until a condition holds."""
    qtbot = request.getfixturevalue("qtbot")

    def wait(condition: Callable[[], bool], seconds: float = 180) -> None:
        qtbot.waitUntil(condition, timeout=int(seconds * 1000))

    return wait


@pytest.fixture
def translate(viewer: Any) -> Any:
    """The Translate widget, opened through the manifest."""
    return viewer.window.add_plugin_dock_widget("napari-pix2pix", "Translate")[1]


@pytest.fixture
def run(viewer: Any, translate: Any, wait_until: WaitUntil) -> Callable[[Path, list[Any]], list[Any]]:
    """Translate layers with a model; the new layers."""

    def translated(model: Path, layers: list[Any]) -> list[Any]:
        before = list(viewer.layers)
        translate.set_model(model)
        translate.picker.choose(layers)
        wait_until(lambda: translate.translate_button.isEnabled())
        translate.translate_button.click()
        assert translate.is_running
        wait_until(lambda: not translate.is_running)
        return [layer for layer in viewer.layers if layer not in before]

    return translated


@pytest.fixture
def pair(viewer: Any) -> list[Any]:
    """A source and its negative, 96 x 128, 8-bit, half a micrometre per pixel."""
    coarse = np.random.default_rng(0).integers(0, 256, (24, 32), np.uint8)
    image = np.kron(coarse, np.ones((4, 4), np.uint8))
    place: dict[str, Any] = {"scale": (0.5, 0.5), "units": ("um", "um")}
    return [viewer.add_image(image, name="phase", **place), viewer.add_image(255 - image, name="stain", **place)]


@pytest.fixture
def train(viewer: Any, pair: list[Any], tmp_path: Path, wait_until: WaitUntil) -> Any:
    """The Train widget, set to a tiny network and few steps, when it has looked at the values of the pair."""
    widget = viewer.window.add_plugin_dock_widget("napari-pix2pix", "Train")[1]
    settings = widget.settings
    widget.out.set_path(tmp_path / "run")
    settings.depth.setValue(3)
    settings.base_width.setValue(4)
    settings.patch_size.setValue(32)
    settings.form.native("validate_every").setValue(3)
    settings.unit.choose("steps")
    settings.length.setValue(6)
    wait_until(widget.train_button.isEnabled)
    return widget


def trained_on(train: Any, source: Any, target: Any, wait_until: WaitUntil) -> Model:
    """The model of a run of two steps, validated once."""
    train.settings.length.setValue(2)
    train.choose_layers([source], [target])
    wait_until(train.train_button.isEnabled)
    train.train_button.click()
    wait_until(lambda: not train.is_running)
    assert "done: 2 steps" in train.state.text()
    return load_model(train.out.path / "model.safetensors")


@pytest.fixture
def grey_model(tmp_path: Path) -> Path:
    path = tmp_path / "grey" / "model.safetensors"
    path.parent.mkdir()
    save_model(model_for(1, 1), path)
    return path


@pytest.fixture
def rgb_model(tmp_path: Path) -> Path:
    path = tmp_path / "rgb" / "model.safetensors"
    path.parent.mkdir()
    save_model(model_for(3, 3), path)
    return path


@pytest.fixture
def slow_layers(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[float]]:
    """Lets each layer of a network take a while from now on; the list gets the time at which each was begun."""
    from torch import nn

    def begin() -> list[float]:
        forward, begun = nn.Conv2d.forward, list[float]()

        def slow(layer: nn.Conv2d, features: Any) -> Any:
            begun.append(time.monotonic())
            time.sleep(0.3)
            return forward(layer, features)

        monkeypatch.setattr(nn.Conv2d, "forward", slow)
        return begun

    return begin


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
