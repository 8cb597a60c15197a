"""Settings of a translation."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from napari_pix2pix.translation.settings import TranslationSettings, resolved_inference
from pix2pix_training.errors import SettingsError
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.machine import available_memory_bytes, default_budget_bytes, peak_memory_bytes
from pix2pix_training.network_config import GeneratorConfig
from tests.product.translation.conftest import random_model


@pytest.mark.parametrize(
    "choices",
    [
        {"scheme": "fast"}, {"tile": 3}, {"tile": 2.5}, {"max_memory": 0}, {"statistics": "global"}, {"seed": -1},
        {"dropout_samples": 0}, {"dropout_samples": 3, "dropout": "off"}, {"split_level": 0}, {"backend": "jax"},
        {"scheme": "exact", "statistics": "tile"}, {"precision": "fp8"}, {"tile": True},
    ],
)  # fmt: skip
def test_what_is_not_allowed_is_refused_in_one_line(choices: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=next(iter(choices))) as error:
        TranslationSettings(**choices)
    assert "\n" not in str(error.value)


def test_the_model_decides_what_is_left_open() -> None:
    model = random_model(GeneratorConfig(base_width=2, depth=3, dropout="paper"), InferenceConfig(seed=7))
    assert resolved_inference(TranslationSettings(), model) == InferenceConfig(seed=7)
    chosen = resolved_inference(TranslationSettings(statistics="image", dropout="seeded", seed=1), model)
    assert chosen == InferenceConfig(statistics="image", dropout="seeded", seed=1)


def test_instance_norm_has_no_running_statistics() -> None:
    model = random_model(GeneratorConfig(base_width=2, depth=3, norm="instance"), InferenceConfig(statistics="image"))
    with pytest.raises(SettingsError, match="no running statistics"):
        resolved_inference(TranslationSettings(statistics="running"), model)


def test_samples_of_a_network_without_noise_are_refused() -> None:
    model = random_model(GeneratorConfig(base_width=2, depth=3), InferenceConfig(dropout="seeded"))
    with pytest.raises(SettingsError, match="no dropout layers"):
        resolved_inference(TranslationSettings(dropout_samples=3), model)


def test_memory_is_measured() -> None:
    assert 2**24 < available_memory_bytes() < 2**50
    assert default_budget_bytes(torch.device("cpu")) <= available_memory_bytes()
    assert 2**24 < peak_memory_bytes() < 2**45
