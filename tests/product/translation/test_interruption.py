"""A translation ends in the middle of a tile, or of a whole image, when it is asked to, and can be run again."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pix2pix.translation.settings import Backend, Scheme, TranslationSettings
from napari_pix2pix.translation.translator import Translator
from pix2pix_training.array_source import MemorySource
from pix2pix_training.cancel import Cancel, Interrupted
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.model_file import Model
from pix2pix_training.network_config import GeneratorConfig
from tests.product.translation.conftest import random_image, random_model

CONFIG = GeneratorConfig(base_width=4, depth=4, source_channels=1, target_channels=1)


class Countdown(Cancel):
    """Set from the given look on."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.left = looks

    def is_set(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.fixture(scope="module")
def model() -> Model:
    return random_model(CONFIG, InferenceConfig(statistics="image"))


@pytest.mark.parametrize("scheme", ["whole", "exact", "blend"])
def test_it_ends_within_a_tile_and_runs_again(model: Model, scheme: Scheme) -> None:
    source = MemorySource(random_image(1, 64, 96))
    translator = Translator(model, TranslationSettings(scheme=scheme, tile=32, backend="torch"))
    expected = [pixels for _, _, pixels in translator.tiles(source)]
    looks = 10**6
    counted = Countdown(looks)
    with translator.interruptible(counted):
        list(translator.tiles(source))
    layers = looks - counted.left
    assert layers >= 2 * CONFIG.depth
    for asked_at in (0, 3, layers - 1):
        countdown = Countdown(asked_at)
        with translator.interruptible(countdown), pytest.raises(Interrupted):
            list(translator.tiles(source))
        assert countdown.left == -1, "it went on"
    again = [pixels for _, _, pixels in translator.tiles(source)]
    np.testing.assert_array_equal(
        np.concatenate([p.ravel() for p in again]), np.concatenate([p.ravel() for p in expected])
    )


@pytest.mark.parametrize("backend", ["openvino"])
def test_other_backends_end_within_a_stage(model: Model, backend: Backend) -> None:
    pytest.importorskip("openvino")
    source = MemorySource(random_image(1, 64, 64))
    translator = Translator(model, TranslationSettings(scheme="exact", tile=32, backend=backend))
    with translator.interruptible(Cancel()):
        assert len(list(translator.tiles(source))) == 4
    with translator.interruptible(Countdown(5)), pytest.raises(Interrupted):
        list(translator.tiles(source))
