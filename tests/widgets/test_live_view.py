"""The live view: over the view, at its resolution, following it, and gone when it is switched off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_pix2pix import load_model, translate_array
from tests.widgets.conftest import WaitUntil


def look_at(viewer: Any, layer: Any, corners: list[list[int]], screen_pixels_per_pixel: float = 1.0) -> None:
    """What a draw of the canvas does, and what a user's mouse does to the camera."""
    layer.corner_pixels = np.array(corners)
    viewer.scene.camera.zoom = screen_pixels_per_pixel / layer.scale[-1]


def live_layers(viewer: Any) -> list[Any]:
    return [layer for layer in viewer.layers if layer.name.endswith("live view")]


@pytest.fixture
def cells(viewer: Any, rng: np.random.Generator) -> Any:
    return viewer.add_image(rng.integers(0, 256, (96, 128), np.uint8), name="cells", scale=(0.5, 0.5), rotate=20)


@pytest.fixture
def live(viewer: Any, cells: Any, translate: Any, grey_model: Path, wait_until: WaitUntil) -> Any:
    """The Translate widget with a model and a layer, its live view at rest on a part of it."""
    translate.set_model(grey_model)
    translate.picker.choose([cells])
    wait_until(lambda: translate.translate_button.isEnabled())
    look_at(viewer, cells, [[16, 32], [63, 79]])
    translate.live.setChecked(True)
    wait_until(lambda: len(live_layers(viewer)) == 1)
    return translate


def test_result_lies_over_the_view(viewer: Any, cells: Any, live: Any, grey_model: Path) -> None:
    (layer,) = live_layers(viewer)
    expected = translate_array(cells.data[16:64, 32:80], load_model(grey_model))[0]
    np.testing.assert_array_equal(layer.data, expected)
    np.testing.assert_allclose(layer.data_to_world((0, 0)), cells.data_to_world((16, 32)))
    np.testing.assert_allclose(layer.data_to_world((47, 47)), cells.data_to_world((63, 79)))
    assert live.live_words.text().startswith("live")
    assert layer not in live.picker.offered
    assert viewer.layers.selection.active is cells


def test_it_follows_the_view_in_place(
    viewer: Any, cells: Any, live: Any, grey_model: Path, wait_until: WaitUntil
) -> None:
    (layer,) = live_layers(viewer)
    look_at(viewer, cells, [[0, 0], [95, 127]], screen_pixels_per_pixel=0.5)
    wait_until(lambda: layer.data.shape == (48, 64))
    assert live_layers(viewer) == [layer]
    np.testing.assert_allclose(layer.data_to_world((0, 0)), cells.data_to_world((0.5, 0.5)))
    np.testing.assert_allclose(layer.data_to_world((47, 63)), cells.data_to_world((94.5, 126.5)))
    assert "at 1/2 of the full resolution" in live.live_words.text()


def test_multiscale_layer_is_shown_at_the_level_on_the_screen(
    viewer: Any, live: Any, grey_model: Path, wait_until: WaitUntil, rng: np.random.Generator
) -> None:
    fine = rng.integers(0, 256, (256, 256), np.uint8)
    coarse = fine[::4, ::4].copy()
    large = viewer.add_image([fine, coarse], multiscale=True, scale=(0.5, 0.5), translate=(3, 4))
    large._data_level = 1
    look_at(viewer, large, [[8, 16], [39, 63]], screen_pixels_per_pixel=0.25)
    live.picker.choose([large])
    expected = translate_array(coarse[8:40, 16:64], load_model(grey_model))[0]
    wait_until(lambda: np.array_equal(live_layers(viewer)[0].data, expected))
    (layer,) = live_layers(viewer)
    np.testing.assert_allclose(layer.data_to_world((0, 0)), large.data_to_world((32, 64)))
    np.testing.assert_allclose(layer.scale, (2, 2))


def test_a_moved_view_gives_up_the_request(
    viewer: Any, cells: Any, live: Any, wait_until: WaitUntil, slow_layers: Callable[[], list[float]]
) -> None:
    slow_layers()  # it is at work for as long as a test needs to see it
    look_at(viewer, cells, [[0, 0], [31, 31]])
    wait_until(lambda: live.live_view.is_running)
    worker = live.live_view._worker
    look_at(viewer, cells, [[0, 0], [31, 63]])
    live.live_view._look()
    assert worker.stop.is_set()
    wait_until(lambda: live_layers(viewer)[0].data.shape == (32, 64))


def test_another_choice_that_does_not_fit_is_told_in_words(
    viewer: Any, live: Any, rgb_model: Path, wait_until: WaitUntil
) -> None:
    live.set_model(rgb_model)
    wait_until(lambda: "the model expects 3" in live.live_words.text())
    assert live_layers(viewer) == []


def test_switched_off_nothing_is_left(
    viewer: Any, cells: Any, live: Any, wait_until: WaitUntil, slow_layers: Callable[[], list[float]]
) -> None:
    slow_layers()
    look_at(viewer, cells, [[0, 0], [31, 31]])
    wait_until(lambda: live.live_view.is_running)
    live.live.setChecked(False)
    wait_until(lambda: not live.live_view.is_running)
    assert list(viewer.layers) == [cells]
    assert live.live_words.text() == ""


def test_closing_the_widget_ends_it(viewer: Any, cells: Any, live: Any, wait_until: WaitUntil) -> None:
    viewer.window.remove_dock_widget(live)
    assert not live.live_view.is_on
    wait_until(lambda: not live.live_view.is_running)
    assert list(viewer.layers) == [cells]


def test_statistics_of_the_view_are_told(viewer: Any, live: Any, wait_until: WaitUntil) -> None:
    live.settings.statistics.choose("image")
    wait_until(lambda: "statistics of the view" in live.live_words.text())
