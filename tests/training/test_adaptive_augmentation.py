"""What the discriminator sees is varied as much as it is too sure of real targets, and never what is learnt from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pix2pix_training.adaptive_augmentation import AdaptiveAugmentation
from pix2pix_training.config import ObjectiveConfig, TrainingConfig
from pix2pix_training.errors import SettingsError
from pix2pix_training.metrics_table import read_metrics
from pix2pix_training.model_file import load_model
from pix2pix_training.patch_config import AugmentationConfig
from pix2pix_training.training_step import TrainingStep
from tests.training.runs import TINY, trained

CPU = torch.device("cpu")
ADAPTIVE = replace(TINY, augmentation=AugmentationConfig(adaptive=0.6))


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def of_probability(value: float) -> AdaptiveAugmentation:
    varied = AdaptiveAugmentation(0.6, "vanilla", CPU)
    varied.probability.fill_(value)
    return varied


def test_nothing_is_varied_at_first() -> None:
    seen = torch.rand(2, 4, 32, 32)
    assert torch.equal(AdaptiveAugmentation(0.6, "vanilla", CPU)(seen), seen)


def test_all_channels_of_an_image_are_varied_alike_and_images_differ() -> None:
    image = torch.rand(1, 1, 32, 32).expand(8, 3, 32, 32)
    seen = of_probability(0.8)(image)
    assert torch.equal(seen[:, :1].expand_as(seen), seen)
    assert len({each.numpy().tobytes() for each in seen}) > 4
    assert not torch.equal(seen, image)


def test_pixels_are_moved_and_none_is_made_up() -> None:
    image = torch.rand(16, 1, 32, 32)
    seen = of_probability(0.8)(image)
    for before, after in zip(image.flatten(1).sort().values, seen.flatten(1).sort().values, strict=True):
        contrast = (after[-1] - after[0]) / (before[-1] - before[0])
        assert torch.allclose((after - after[0]) / contrast, before - before[0], atol=1e-4)


def test_gradients_flow_through() -> None:
    image = torch.rand(2, 1, 16, 16, requires_grad=True)
    of_probability(0.8)(image).sum().backward()  # type: ignore[no-untyped-call]
    assert image.grad is not None
    assert bool((image.grad > 0.5).all())


@pytest.mark.parametrize("mode, sure, unsure", [("vanilla", 3.0, -3.0), ("lsgan", 0.9, 0.1)])
def test_a_discriminator_that_is_too_sure_sees_more_variation(mode: str, sure: float, unsure: float) -> None:
    varied = AdaptiveAugmentation(0.6, mode, CPU)  # type: ignore[arg-type]
    for _ in range(500):
        varied.learn([torch.full((2, 1, 4, 4), sure), torch.full((2, 1, 2, 2), sure)])
    risen = float(varied.probability)
    assert 0.08 < risen <= 0.1
    for _ in range(100):
        varied.learn([torch.full((2, 1, 4, 4), unsure)])
    assert float(varied.probability) < risen
    for _ in range(20000):
        varied.learn([torch.full((2, 1, 4, 4), sure)])
    assert float(varied.probability) == pytest.approx(0.8)


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    trained(tmp_path / "whole", config=ADAPTIVE, steps=6)
    trained(tmp_path / "parts", config=ADAPTIVE, steps=4)
    trained(tmp_path / "parts", config=ADAPTIVE, steps=6, resume=True)
    whole, parts = (load_model(tmp_path / name / "model.safetensors").weights for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    states = [torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("whole", "parts")]
    assert states[0]["networks"]["varied"] == states[1]["networks"]["varied"]
    assert all("D_varied" in row for row in read_metrics(tmp_path / "whole" / "metrics.csv"))


def test_the_state_goes_on_where_it_was() -> None:
    first, second = (TrainingStep(ADAPTIVE, CPU, torch.float32) for _ in range(2))
    assert first._varied is not None and second._varied is not None
    first._varied.probability.fill_(0.25)
    second.load_state(first.state())
    assert float(second._varied.probability) == 0.25


@pytest.mark.parametrize("objective", [ObjectiveConfig(gan_mode="none"), ObjectiveConfig(gan_mode="wgangp")])
def test_it_needs_a_discriminator_that_tells_real_from_fake(objective: ObjectiveConfig) -> None:
    with pytest.raises(SettingsError, match="adaptive augmentation needs a discriminator"):
        TrainingConfig(objective=objective, augmentation=AugmentationConfig(adaptive=0.6))
