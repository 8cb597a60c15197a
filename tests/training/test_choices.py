"""A choice that is added to a ``Literal`` and nowhere else is an error where it is used, not taken for another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch

from pix2pix_training.augmentation import draw_patch
from pix2pix_training.config import ObjectiveConfig
from pix2pix_training.device import resolve_precision
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.layers import StatisticsNorm, keeps_running_statistics, make_activation, make_norm
from pix2pix_training.losses import adversarial_loss, needs_gradient_penalty
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import build_generator, noise_seed, noisy_levels
from pix2pix_training.patch_config import AugmentationConfig
from pix2pix_training.strided_convolution import doubling_convolution

NEW: Any = "one of tomorrow"


def _with(settings: Any, **changes: Any) -> Any:
    """A copy of frozen settings with values that their own check would refuse."""
    copy = object.__new__(type(settings))
    for f in fields(settings):
        object.__setattr__(copy, f.name, changes.get(f.name, getattr(settings, f.name)))
    return copy


def _statistics(kind: Any) -> object:
    norm = StatisticsNorm(1, affine=True).eval()
    norm.statistics = kind
    return norm(torch.zeros(1, 1, 4, 4))


USES: dict[str, Callable[[], object]] = {
    "GAN mode, loss": lambda: adversarial_loss(torch.zeros(1), True, NEW),
    "GAN mode, penalty": lambda: needs_gradient_penalty(NEW),
    "norm": lambda: make_norm(NEW, 1),
    "norm, bias": lambda: keeps_running_statistics(NEW),
    "output": lambda: make_activation(NEW),
    "statistics": lambda: _statistics(NEW),
    "decoder": lambda: doubling_convolution(NEW, 1, 1, bias=True),
    "architecture": lambda: build_generator(_with(GeneratorConfig(), architecture=NEW)),
    "dropout placement": lambda: noisy_levels(_with(GeneratorConfig(), dropout=NEW)),
    "dropout at translation": lambda: noise_seed(_with(InferenceConfig(), dropout=NEW)),
    "flips": lambda: draw_patch(np.random.default_rng(0), 8, 8, 4, _with(AugmentationConfig(), flips=NEW)),
    "precision": lambda: resolve_precision(NEW, torch.device("cpu")),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_a_choice_added_in_one_place_is_an_error(use: Callable[[], object]) -> None:
    with pytest.raises(AssertionError, match="one of tomorrow"):
        use()


def test_the_choices_of_today_are_told_apart() -> None:
    assert [needs_gradient_penalty(mode) for mode in ("vanilla", "lsgan", "wgangp", "hinge", "none")] == [
        False,
        False,
        True,
        False,
        False,
    ]
    logits = torch.tensor([-2.0, 3.0])
    losses = [adversarial_loss(logits, True, mode).item() for mode in ("vanilla", "lsgan", "wgangp", "hinge", "none")]
    assert len({round(loss, 6) for loss in losses}) == 5
    assert ObjectiveConfig().gan_mode == "vanilla"
