"""Training runs on patches placed by content: resumed, and with constant ones skipped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pix2pix_training.array_source import MemorySource
from pix2pix_training.config import DiscriminatorConfig, GeneratorConfig, SamplingConfig, TrainingConfig
from pix2pix_training.events import Finished, StepDone
from pix2pix_training.pairs import Pair, Split
from pix2pix_training.training import TrainingData, train

TINY = TrainingConfig(
    generator=GeneratorConfig(base_width=4, depth=3),
    discriminator=DiscriminatorConfig(base_width=4, layers=1),
    sampling=SamplingConfig(placement="content"),
    patch_size=32,
    steps=6,
)


@pytest.fixture
def data() -> TrainingData:
    """Noise, and a target that is empty in its left half."""
    rng = np.random.default_rng(0)
    source = rng.integers(0, 256, (1, 96, 192)).astype(np.uint8)
    target = 255 - source
    target[..., :96] = 0
    return TrainingData(split=Split((Pair(MemorySource(source), MemorySource(target), "half"),), ()))


def generator_of(run: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = torch.load(run / "last.pt", weights_only=True)["networks"]["generator"]
    return weights


def test_a_stopped_and_resumed_run_sees_the_same_patches(data: TrainingData, tmp_path: Path) -> None:
    list(train(TINY, data, tmp_path / "whole"))
    events = train(TINY, data, tmp_path / "parts")
    for event in events:
        if isinstance(event, StepDone) and event.step == 4:
            events.close()  # type: ignore[attr-defined]
    list(train(TINY, data, tmp_path / "parts", resume=True))
    whole, parts = generator_of(tmp_path / "whole"), generator_of(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_the_number_of_skipped_patches_is_reported(data: TrainingData, tmp_path: Path) -> None:
    uniform = replace(TINY, sampling=SamplingConfig(), steps=20)
    *_, finished = train(uniform, data, tmp_path / "uniform")
    assert isinstance(finished, Finished)
    assert finished.skipped_patches > 3
    keeping = replace(TINY, sampling=SamplingConfig(skip_constant=False))
    *_, finished = train(keeping, data, tmp_path / "keeping")
    assert isinstance(finished, Finished)
    assert finished.skipped_patches == 0
