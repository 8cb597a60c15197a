"""Arrays through a model: what makes it ready is done once, and never stale."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from napari_pix2pix.translation import arrays
from napari_pix2pix.translation.arrays import KeptTranslators, translate_array
from napari_pix2pix.translation.pipeline import Translator
from napari_pix2pix.translation.settings import TranslationSettings
from pix2pix_training.array_source import AnyArray
from tests.identity_model import identity_model

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8)


@pytest.fixture(autouse=True)
def outside_inference_mode() -> Iterator[None]:
    """Tensors that are made in inference mode do not tell when they are changed."""
    with torch.inference_mode(False):
        yield


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Translator]:
    """The translators that are made, in order."""
    result: list[Translator] = []

    make = Translator.__init__

    def counted(translator: Translator, *choice: Any) -> None:
        make(translator, *choice)
        result.append(translator)

    monkeypatch.setattr(Translator, "__init__", counted)
    monkeypatch.setattr(arrays, "_KEPT", KeptTranslators())
    return result


def test_a_model_is_made_ready_once(made: list[Translator]) -> None:
    model = identity_model()
    for _ in range(3):
        np.testing.assert_array_equal(translate_array(IMAGE, model)[0], IMAGE)
    assert len(made) == 1
    translate_array(IMAGE, model, TranslationSettings(scheme="whole"))
    translate_array(IMAGE, model, TranslationSettings(scheme="auto"))
    assert len(made) == 2
    translate_array(IMAGE, replace(model, metrics={}))
    assert len(made) == 3


@pytest.mark.parametrize("exchanged", [False, True])
def test_a_model_whose_weights_were_changed_is_made_ready_anew(made: list[Translator], exchanged: bool) -> None:
    model = identity_model()
    translate_array(IMAGE, model)
    if exchanged:
        model.weights["up.0.conv.bias"] = torch.full((1,), 3.0)
    else:
        model.weights["up.0.conv.bias"].fill_(3.0)
    assert (translate_array(IMAGE, model) == 255).all()


def test_what_is_kept_for_a_model_goes_with_it(made: list[Translator]) -> None:
    kept = KeptTranslators()
    model = identity_model()
    with kept.lent(model, TranslationSettings()):
        pass
    assert len(kept) == 1
    del model
    gc.collect()
    assert len(kept) == 0


def test_no_more_than_a_few_are_kept() -> None:
    kept = KeptTranslators(most=2)
    models = [identity_model() for _ in range(3)]
    for model in models:
        with kept.lent(model, TranslationSettings()):
            pass
    assert len(kept) == 2


def test_threads_never_share_a_translator() -> None:
    kept, model = KeptTranslators(), identity_model()
    lent: list[Translator] = []
    both = threading.Barrier(2)

    def borrow() -> None:
        with kept.lent(model, TranslationSettings()) as translator:
            lent.append(translator)
            both.wait(10)

    threads = [threading.Thread(target=borrow) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lent[0] is not lent[1]


def test_threads_get_the_same_pixels() -> None:
    model = identity_model()
    results: list[AnyArray] = []

    def work() -> None:
        results.extend(translate_array(IMAGE, model) for _ in range(3))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 9
    assert all((result[0] == IMAGE).all() for result in results)


def test_a_translator_can_be_given_itself(made: list[Translator]) -> None:
    translator = Translator(identity_model())
    result: AnyArray = translate_array(IMAGE, translator)
    np.testing.assert_array_equal(result[0], IMAGE)
    assert made == [translator]
