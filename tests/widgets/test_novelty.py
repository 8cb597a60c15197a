"""What the Translate widget says of images that are unlike those of training, and the layer that shows where."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pix2pix_training.model_file import save_model
from tests.product.conftest import model_for
from tests.product.translation.test_novelty_map import measure_of_textures, texture


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "cells" / "model.safetensors"
    path.parent.mkdir()
    save_model(replace(model_for(1, 1), novelty=measure_of_textures()), path)
    return path


def test_a_strange_part_is_said_and_shown_on_request(
    viewer: Any, run: Any, translate: Any, wait_until: Any, model: Path
) -> None:
    pixels = texture(40)
    pixels[:, 128:] //= 5
    layer = viewer.add_image(pixels, name="phase", scale=(0.5, 0.5), translate=(10, 20))
    run(model, [layer])
    badge = translate.result.novelty
    assert badge.isVisibleTo(translate)
    assert badge.words.text().endswith("% of the image is unlike what the model was trained on.")
    assert badge.words.text().startswith("About ")
    assert badge.words.kind == "warning"
    assert any("“Show where” shows where" in line for line in translate.remarks.lines)

    on_top = viewer.add_image(np.zeros((4, 4)), name="on top")
    before = list(viewer.layers)
    badge.button.click()
    wait_until(lambda: not translate.is_running)
    (shown,) = [each for each in viewer.layers if each not in before]
    assert shown.name == f"{before[1].name}: p-value of novelty"
    assert list(viewer.layers) == [*before[:2], shown, on_top], "what belongs to a result lies together"
    assert shown not in translate.picker.images
    assert shown.data.shape == (8, 8)
    assert (shown.data[:, 5:] < 0.01).all()
    np.testing.assert_allclose(shown.scale, (16, 16))
    corners = shown.data_to_world((-0.5, -0.5)), shown.data_to_world((7.5, 7.5))
    np.testing.assert_allclose(corners, (layer.data_to_world((-0.5, -0.5)), layer.data_to_world((255.5, 255.5))))
    assert not badge.words.text().startswith("About ")
    assert translate.state.kind == "good"


def test_the_words_go_with_the_choice_that_they_are_about(viewer: Any, run: Any, translate: Any, model: Path) -> None:
    layer, other = (viewer.add_image(texture(seed), name=str(seed)) for seed in (41, 42))
    run(model, [layer])
    assert translate.result.novelty.words.kind == "plain"
    assert translate.result.novelty.isVisibleTo(translate)
    translate.picker.choose([other])
    assert not translate.result.novelty.isVisibleTo(translate)
    assert translate.result.novelty.subject is None


def test_a_model_that_cannot_tell_says_nothing(viewer: Any, run: Any, translate: Any, tmp_path: Path) -> None:
    save_model(model_for(1, 1), tmp_path / "model.safetensors")
    run(tmp_path / "model.safetensors", [viewer.add_image(texture(43))])
    assert not translate.result.novelty.isVisibleTo(translate)


def test_a_share_near_none_is_said_in_good_words(viewer: Any, qtbot: Any) -> None:
    """ "About less than 0.1 % of the image" was said."""
    from napari_pix2pix._widgets.novelty_badge import NoveltyBadge

    badge = NoveltyBadge()
    qtbot.addWidget(badge)
    for share, said in ((0.0, "Less than 0.1 % of the image is"), (0.25, "About 25 % of the image is")):
        badge.tell(share, None, None)
        assert badge.words.text().startswith(said)
