"""The layer of an error map, and the interval under the cursor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_pix2pix import Pix2Pix
from napari_pix2pix._widgets.messages import Message, Remarks
from napari_pix2pix._widgets.run_progress import RunProgress
from pix2pix_training.error_network import ErrorNetwork, ErrorTraits
from pix2pix_training.events import LearningErrors
from pix2pix_training.model_file import save_model
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import build_generator
from tests.product.conftest import model_for
from tests.product.translation.test_novelty_map import texture


@pytest.fixture
def model(tmp_path: Path) -> Path:
    config = GeneratorConfig(source_channels=1, target_channels=1, base_width=2, depth=2)
    traits = ErrorTraits(config=config, coverage=0.9, factors=(0.5,), images=3)
    error = ErrorNetwork(traits=traits, weights=build_generator(config).state_dict())
    path = tmp_path / "cells" / "model.safetensors"
    path.parent.mkdir()
    save_model(replace(model_for(1, 1), error=error), path)
    return path


def test_the_interval_is_named_under_the_cursor(
    viewer: Any, run: Any, translate: Any, wait_until: Any, model: Path
) -> None:
    pixels = texture(40)
    run(model, [viewer.add_image(pixels, name="phase", scale=(0.5, 0.5), translate=(10, 20))])
    result = viewer.layers[-1]
    button = translate.result.error_map
    assert button.isVisibleTo(translate)
    button.click()
    wait_until(lambda: not translate.is_running)
    errors = viewer.layers[-1]
    assert errors is not result
    assert errors.name == f"{result.name}: error map"
    np.testing.assert_array_equal(errors.data, Pix2Pix(model).error_map(pixels, axes="YX"))
    words = f"{result.data[7, 30]} ± {errors.data[7, 30]}"
    place = result.data_to_world((7, 30))
    for layer in (result, errors):
        assert layer.get_status(place, world=True)["value"] == words
    errors.visible = False
    assert words in result.get_status(place, world=True)["coordinates"]
    assert "±" not in result.get_status((0, 0), world=True)["coordinates"]
    viewer.layers.remove(errors)
    assert result.get_status(place, world=True)["value"] == str(result.data[7, 30])


def test_the_button_shows_a_map_that_is_there_and_makes_one_that_is_gone(
    viewer: Any, run: Any, translate: Any, wait_until: Any, model: Path
) -> None:
    run(model, [viewer.add_image(texture(40), name="phase")])
    panel = translate.result
    panel.error_map.click()
    wait_until(lambda: not translate.is_running)
    errors = viewer.layers[-1]
    panel.comparison.after.click()
    assert not errors.visible, "it would cover the result"
    panel.error_map.click()
    assert (errors.visible, translate.is_running, len(viewer.layers)) == (True, False, 3)
    viewer.layers.remove(errors)
    panel.error_map.click()
    wait_until(lambda: not translate.is_running)
    assert viewer.layers[-1].name == errors.name


@pytest.mark.parametrize("height", [600, 1200])
def test_an_error_map_moves_nothing_in_the_form(
    viewer: Any, run: Any, translate: Any, wait_until: Any, model: Path, height: int
) -> None:
    from qtpy.QtCore import QPoint
    from qtpy.QtWidgets import QAbstractButton, QApplication

    def places() -> dict[Any, int]:
        for _ in range(3):
            QApplication.processEvents()
            viewer.window._qt_window.grab()  # lays it out, shown or not
        bar = translate.area.verticalScrollBar()
        assert (bar.maximum() > 0) == (height < 1000)
        fields = [translate.picker.list, *translate.findChildren(QAbstractButton)]
        offered = [each for each in fields if each.isVisibleTo(translate) and each is not translate.translate_button]
        return {field: field.mapTo(translate, QPoint()).y() for field in offered}

    viewer.window.resize(1280, height)
    layers = [viewer.add_image(texture(number), name=name) for number, name in enumerate(("phase", "stain", "other"))]
    run(model, layers[:1])
    translate.remarks.add("one line")
    translate.remarks.add("another one")
    places()
    translate.area.verticalScrollBar().setValue(10_000)
    before = places()
    assert len(before) > 10
    translate.result.error_map.click()
    assert translate.is_running
    assert places() == before
    wait_until(lambda: not translate.is_running)
    assert len(viewer.layers) == 5
    assert places() == before


def test_no_map_is_offered_where_the_model_has_none(viewer: Any, run: Any, translate: Any, tmp_path: Path) -> None:
    save_model(model_for(1, 1), tmp_path / "model.safetensors")
    run(tmp_path / "model.safetensors", [viewer.add_image(texture(43))])
    assert not translate.result.error_map.isVisibleTo(translate)


def test_the_form_of_training_tells_how_far_the_error_map_is(qtbot: Any) -> None:
    progress = RunProgress(Message(), Remarks())
    for widget in (progress.state, progress.of_epoch, progress.of_run, progress.preview, progress.plot):
        qtbot.addWidget(widget)
    progress.show([LearningErrors(step=8, fraction=0.25)])
    assert progress.state.text() == "learning how large errors are…"
    assert progress.of_epoch.value() == progress.of_epoch.maximum() // 4


def test_a_report_shows_the_error_map_and_how_many_targets_lie_within(
    viewer: Any, run: Any, translate: Any, wait_until: Any, model: Path, tmp_path: Path
) -> None:
    pixels = texture(40)
    run(model, [viewer.add_image(pixels, name="phase")])
    output = viewer.layers[-1].data.astype(float)
    rng = np.random.default_rng(0)
    target = np.clip(output + rng.normal(0, 60, output.shape), 0, 255).astype(np.uint8)
    actions = translate.model_actions
    actions.targets.choose([viewer.add_image(target, name="truth")])
    actions.evaluate_button.click()
    wait_until(lambda: not translate.is_running)
    actions.wants_report.emit(tmp_path / "report.html")
    wait_until(lambda: not translate.is_running)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    within = np.abs(output - target) <= Pix2Pix(model).error_map(pixels, axes="YX")
    assert 0.1 < within.mean() < 0.9
    assert "Error maps, the half-widths of the intervals" in page
    assert f"{within.mean():.3g}" in page
