"""Models that see neighbouring planes, on layers of napari."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_pix2pix._widgets.layer_sources import LazyArraySource
from napari_pix2pix._widgets.model_card import card_of, fit_problem
from napari_pix2pix._widgets.translation_job import Translated, TranslationRequest, translation_events
from napari_pix2pix.translation.pipeline import translate_array
from pix2pix_training.errors import ImageError
from pix2pix_training.model_file import load_model, save_model
from tests.product.conftest import model_for


@pytest.fixture
def model_path(tmp_path: Path) -> Path:
    """A model of one channel, seen in three planes."""
    plain = model_for(3, 1)
    path = tmp_path / "model.safetensors"
    save_model(replace(plain, source=replace(plain.source, z_context=1)), path)
    return path


def test_a_stack_is_translated_with_its_neighbours(model_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (3, 24, 32), np.uint8)
    source = LazyArraySource(array, name="stack", axes="ZYX")
    assert fit_problem(card_of(load_model(model_path), model_path), source) is None
    *_, result = translation_events(TranslationRequest(model=model_path, source=source))
    assert isinstance(result, Translated)
    assert isinstance(result.pixels, np.ndarray)
    expected = translate_array(array[:, None], load_model(model_path), axes="ZCYX")
    np.testing.assert_array_equal(result.pixels, expected)


def test_the_card_says_how_many_planes_are_seen(model_path: Path) -> None:
    rows = dict(card_of(load_model(model_path), model_path).rows())
    assert rows["Source"] == "1 channel, uint8, 1 neighbouring in Z on each side"


def test_a_single_slice_is_refused_in_one_line(model_path: Path) -> None:
    array = np.zeros((3, 24, 32), np.uint8)
    source = LazyArraySource(array, name="stack", axes="ZYX", extent=((1, 2), (0, 24), (0, 32)))
    problem = fit_problem(card_of(load_model(model_path), model_path), source)
    assert problem is not None
    assert problem.startswith("stack with axes ZCYX is no Z stack of several planes")
    with pytest.raises(ImageError, match="stack with axes ZCYX is no Z stack of several planes") as caught:
        list(translation_events(TranslationRequest(model=model_path, source=source)))
    assert "\n" not in str(caught.value)
