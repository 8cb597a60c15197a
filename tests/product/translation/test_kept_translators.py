"""Arrays through a model: what makes it ready is done once, and never stale."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from napari_pix2pix import Pix2Pix
from napari_pix2pix.translation import translator as translators
from napari_pix2pix.translation.pipeline import translate_array
from napari_pix2pix.translation.settings import TranslationSettings
from napari_pix2pix.translation.translator import KeptTranslators, Translator
from pix2pix_training.array_source import AnyArray
from pix2pix_training.error_network import ErrorNetwork, ErrorTraits
from pix2pix_training.errors import ImageError
from pix2pix_training.intensity import CategoryMapping
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import build_generator
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
    monkeypatch.setattr(translators, "_KEPT", KeptTranslators())
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


@pytest.mark.parametrize(
    ("axes", "channels"),
    [("YXC", 2), ("XYC", 2), ("CYX", 2), ("TCZYX", 2), ("TZYXC", 2), ("CXY", 2), ("ZYX", 1), ("YX", 1), ("YXC", 1)],
)
def test_a_result_has_the_axes_of_its_array(axes: str, channels: int) -> None:
    sizes = {"T": 2, "Z": 3, "C": channels, "Y": 20, "X": 24}
    array = np.random.default_rng(0).integers(0, 256, [sizes[letter] for letter in axes], np.uint8)
    np.testing.assert_array_equal(translate_array(array, identity_model(channels=channels), axes=axes), array)


def test_channels_that_an_array_lacks_come_before_rows_and_columns() -> None:
    model = identity_model(channels=3)
    classes = CategoryMapping(dtype="uint8", values=((0,), (1,), (2,)))
    model = replace(model, source=replace(model.source, mapping=classes))
    array = np.random.default_rng(0).integers(0, 3, (4, 20, 24), np.uint8)
    assert translate_array(array, model, axes="ZYX").shape == (4, 3, 20, 24)
    assert translate_array(array[0], model, axes="YX").shape == (3, 20, 24)


def test_channels_that_are_last_without_a_word_are_told_of() -> None:
    with pytest.raises(ImageError, match="if the channels of the array are its last axis, say so with axes"):
        translate_array(np.zeros((40, 50, 3), np.uint8), identity_model(channels=3))
    with pytest.raises(ImageError, match="if the channels of the array are its last axis, say so with axes"):
        Pix2Pix(identity_model(channels=3)).translate(np.zeros((40, 50, 3), np.uint8))


def test_what_is_sliced_like_an_array_is_read_part_by_part() -> None:
    class Lazy:
        """No more than a shape, a type and slicing."""

        shape, ndim, dtype = (60, 70), 2, np.dtype(np.uint8)
        largest = 0

        def __getitem__(self, index: Any) -> AnyArray:
            part: AnyArray = np.add.outer(np.arange(60), np.arange(70)).astype(np.uint8)[index]
            self.largest = max(self.largest, part.size)
            return part

    lazy: Any = Lazy()
    result = translate_array(lazy, identity_model(), TranslationSettings(scheme="exact", tile=16), axes="YX")
    np.testing.assert_array_equal(result, np.add.outer(np.arange(60), np.arange(70)))
    assert lazy.largest < 30 * 30


def test_what_makes_error_maps_is_made_ready_once(made: list[Translator], tmp_path: Path) -> None:
    model = identity_model()
    config = GeneratorConfig(source_channels=1, target_channels=1, base_width=2, depth=2)
    traits = ErrorTraits(config=config, coverage=0.9, factors=(1.0,), images=3)
    error = ErrorNetwork(traits=traits, weights=build_generator(config).state_dict())
    used = Pix2Pix(replace(model, error=error))
    Image.fromarray(IMAGE).save(tmp_path / "image.png")
    for number in range(2):
        used.translate(tmp_path / "image.png", tmp_path / f"{number}.png", error_map=True)
        used.error_map(IMAGE)
    assert len(made) == 2
