"""A result can be seen: nothing covers it, it has the colours of the true targets, and its image is a click away."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_pix2pix import load_model
from pix2pix_training.model_file import save_model
from tests.product.conftest import model_for


@pytest.fixture
def stain_model(tmp_path: Path) -> Path:
    """One channel in, "nuclei" and "cytoplasm" out, 16 bits of which little is used."""
    path = tmp_path / "cells" / "model.safetensors"
    path.parent.mkdir()
    save_model(model_for(1, 2, "uint8", "uint16"), path)
    model = load_model(path)
    save_model(replace(model, target=replace(model.target, channel_names=("nuclei", "cytoplasm"))), path)
    return path


def test_true_targets_are_hidden_and_lend_their_look(
    viewer: Any, run: Any, translate: Any, stain_model: Path, rng: np.random.Generator
) -> None:
    phase = viewer.add_image(rng.integers(0, 256, (40, 48), np.uint8), name="phase")
    nuclei = viewer.add_image(
        rng.integers(0, 900, (40, 48), np.uint16), name="nuclei", colormap="green", contrast_limits=(100, 800)
    )
    elsewhere = viewer.add_image(np.zeros((20, 20)), name="elsewhere", translate=(100, 0))
    first, second = run(stain_model, [phase])
    assert [layer.visible for layer in (phase, nuclei, elsewhere, first, second)] == [True, False, True, True, True]
    assert translate.state.text().endswith("hidden to show it: nuclei")
    assert (first.colormap.name, tuple(first.contrast_limits)) == ("green", (100, 800))
    low, high = second.contrast_limits
    assert (low, high) == pytest.approx((second.data.min(), np.percentile(second.data, 99.9)))


def test_an_earlier_result_does_not_shine_through(
    viewer: Any, run: Any, stain_model: Path, rng: np.random.Generator
) -> None:
    phase = viewer.add_image(rng.integers(0, 256, (40, 48), np.uint8), name="phase")
    earlier = run(stain_model, [phase])
    later = run(stain_model, [phase])
    assert [layer.visible for layer in earlier + later] == [False, False, True, True]


def test_slider_between_image_and_result(
    viewer: Any, run: Any, translate: Any, stain_model: Path, rng: np.random.Generator
) -> None:
    assert not translate.result.comparison.isVisibleTo(translate)
    outputs = run(stain_model, [viewer.add_image(rng.integers(0, 256, (40, 48), np.uint8))])
    assert translate.result.comparison.isVisibleTo(translate)
    translate.result.comparison.before.click()
    assert [layer.opacity for layer in outputs] == [0, 0]
    translate.result.comparison.slider.setValue(50)
    assert [layer.opacity for layer in outputs] == [0.5, 0.5]
    translate.result.comparison.after.click()
    assert [layer.opacity for layer in outputs] == [1, 1]
    for layer in outputs:
        viewer.layers.remove(layer)
    assert not translate.result.comparison.isVisibleTo(translate)


def test_one_click_shows_the_true_targets_and_another_one_the_result(
    viewer: Any, run: Any, translate: Any, stain_model: Path, rng: np.random.Generator
) -> None:
    phase = viewer.add_image(rng.integers(0, 256, (40, 48), np.uint8), name="phase")
    truth = [
        viewer.add_image(rng.integers(0, 900, (40, 48), np.uint16), name=name, blending="additive")
        for name in ("nuclei", "cytoplasm")
    ]
    elsewhere = viewer.add_image(np.zeros((20, 20)), name="elsewhere")
    panel = translate.result
    assert not panel.truth.isVisibleTo(translate)
    for _ in range(2):  # the true targets are hidden already, the second time
        result = run(stain_model, [phase])
        assert panel.truth.isVisibleTo(translate)
        panel.truth.click()
        shown = [layer for layer in viewer.layers if layer.visible]
        assert shown == [*truth, elsewhere], "and nothing below that would shine through"
        panel.truth.click()
        assert [layer for layer in viewer.layers if layer.visible] == [phase, elsewhere, *result]
    panel.truth.click()
    panel.comparison.before.click()
    assert [layer for layer in viewer.layers if layer.visible] == [phase, elsewhere, *result]
    panel.truth.click()
    for layer in result:
        viewer.layers.remove(layer)
    assert not panel.truth.isVisibleTo(translate)
    assert phase.visible, "as before"


def test_true_targets_that_come_after_the_model_are_known(
    viewer: Any, translate: Any, stain_model: Path, wait_until: Any
) -> None:
    translate.set_model(stain_model)
    wait_until(lambda: translate.model.card is not None)
    truth = [viewer.add_image(np.zeros((40, 48), np.uint16), name=name) for name in ("nuclei", "cytoplasm")]
    assert translate.model_actions.targets.layers == truth


def test_an_even_result_has_a_contrast(viewer: Any, run: Any, stain_model: Path) -> None:
    for output in run(stain_model, [viewer.add_image(np.zeros((40, 48), np.uint8))]):
        assert output.contrast_limits[0] < output.contrast_limits[1]
