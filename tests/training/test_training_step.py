"""One training step: its optimisers, and going on from a saved state."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from pix2pix_training.config import TrainingConfig
from pix2pix_training.network_config import DiscriminatorConfig, GeneratorConfig
from pix2pix_training.training_step import TrainingStep

SMALL = TrainingConfig(
    generator=GeneratorConfig(base_width=4, depth=3),
    discriminator=DiscriminatorConfig(base_width=4, layers=2),
    patch_size=32,
    steps=1,
)
CPU = torch.device("cpu")


@pytest.fixture
def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    shape = (2, 1, 3, 32, 32)
    return [tuple(torch.rand(shape, generator=generator) * 2 - 1) for _ in range(4)]


def run(step: TrainingStep, batches: list[tuple[Tensor, Tensor]]) -> list[dict[str, float]]:
    return [{name: value.item() for name, value in step.run(*batch).items()} for batch in batches]


def as_plain_adam_saves_it(state: dict[str, Any]) -> dict[str, Any]:
    """A state as written by an Adam that is not fused."""
    saved = copy.deepcopy(state)
    for name in ("optimizer_g", "optimizer_d"):
        for group in saved[name]["param_groups"]:
            group["fused"] = None
    return saved


def test_it_goes_on_from_the_state_of_a_plain_adam(batches: list[tuple[Tensor, Tensor]]) -> None:
    whole, first, second = (TrainingStep(SMALL, CPU, torch.float32) for _ in range(3))
    expected = run(whole, batches)
    run(first, batches[:2])
    second.load_state(as_plain_adam_saves_it(first.state()))
    assert run(second, batches[2:]) == expected[2:]
    assert all(group["fused"] for group in second.optimizer_g.param_groups)
