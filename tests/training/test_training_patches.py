"""Training runs on what is sampled from images: patches placed by content, planes with their neighbours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pix2pix_training.array_source import ArraySource, MemorySource
from pix2pix_training.config import ObjectiveConfig, TrainingConfig
from pix2pix_training.events import Finished, StepDone
from pix2pix_training.image_description import ImageTraits
from pix2pix_training.neighbouring_planes import NeighbouringPlanes
from pix2pix_training.network_config import DiscriminatorConfig, GeneratorConfig
from pix2pix_training.pairs import Pair, Split
from pix2pix_training.patch_config import SamplingConfig
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
            events.close()
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


def learned_mae(image: ArraySource, target: ArraySource, z_context: int, out: Path) -> float:
    pairs = (Pair(image, target, "stack"),)
    traits = ImageTraits(z_context=z_context)
    config = replace(
        TINY,
        steps=150,
        batch_size=2,
        learning_rate=3e-3,
        validate_every=150,
        objective=ObjectiveConfig(gan_mode="none"),
        sampling=SamplingConfig(),
    )
    *_, finished = train(config, TrainingData(split=Split(pairs, pairs), source_traits=traits), out)
    assert isinstance(finished, Finished)
    mae = finished.scores["mae"]
    assert mae is not None
    return mae


def test_neighbouring_planes_teach_what_a_plane_does_not_show(tmp_path: Path) -> None:
    """The target of each plane is the plane above it, which tells nothing of the plane itself."""
    coarse = np.random.default_rng(0).integers(0, 256, (5, 1, 16, 16)).astype(np.uint8)
    stack = coarse.repeat(4, 2).repeat(4, 3)
    target = MemorySource(stack[[1, 2, 3, 4, 4]], axes="ZCYX")
    plain = MemorySource(stack, axes="ZCYX")
    alone = learned_mae(plain, target, 0, tmp_path / "alone")
    together = learned_mae(NeighbouringPlanes(plain, 1), target, 1, tmp_path / "together")
    assert together < 0.6 * alone
