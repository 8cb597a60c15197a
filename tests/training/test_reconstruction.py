"""Terms of the objective beside L1: what they are by formula, and that a step trains on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from pix2pix_training.array_source import MemorySource
from pix2pix_training.config import ObjectiveConfig, TrainingConfig
from pix2pix_training.errors import SettingsError
from pix2pix_training.metrics import ssim_maps
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.pairs import Pair, Split
from pix2pix_training.reconstruction import (
    cross_entropy,
    dice_loss,
    focused_l1,
    ms_ssim_loss,
    pyramid_l1,
    reconstruction_losses,
)
from pix2pix_training.training import TrainingData, train
from pix2pix_training.training_step import TrainingStep

WEIGHTS = ("pyramid_weight", "ssim_weight", "cross_entropy_weight", "dice_weight")


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    """Two images (2, 2, 64, 48) in [-1, 1], alike but for noise."""
    torch.manual_seed(0)
    target = torch.rand(2, 2, 64, 48) * 2 - 1
    return (0.8 * target + 0.1 * torch.rand_like(target)).clamp(-1, 1), target


@pytest.fixture
def classes() -> tuple[Tensor, Tensor]:
    """Outputs and one-hot targets of three categories, (1, 3, 8, 8)."""
    torch.manual_seed(1)
    chosen = torch.randint(3, (1, 8, 8))
    return torch.rand(1, 3, 8, 8) * 2 - 1, 2.0 * torch.nn.functional.one_hot(chosen, 3).permute(0, 3, 1, 2) - 1


def test_structural_similarity_equals_that_of_scikit_image(images: tuple[Tensor, Tensor]) -> None:
    found = ssim_maps(*images, 2.0).ssim.mean().item()
    expected = [
        structural_similarity(  # type: ignore[no-untyped-call]
            a, b, data_range=2.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for a, b in zip(*(image.flatten(0, 1).double().numpy() for image in images), strict=True)
    ]
    assert found == pytest.approx(np.mean(expected), abs=1e-6)


def test_one_scale_of_ms_ssim_is_ssim(images: tuple[Tensor, Tensor]) -> None:
    a, b = (image[..., :21, :21] for image in images)
    similarity = ssim_maps(a, b, 2.0).ssim.mean((-2, -1)).clamp_min(1e-4)
    assert ms_ssim_loss(a, b).item() == pytest.approx(1 - similarity.mean().item(), abs=1e-6)


def test_ms_ssim_is_the_product_over_scales() -> None:
    torch.manual_seed(2)
    target = torch.rand(1, 1, 48, 48)
    fake = (0.7 * target + 0.2 * torch.rand_like(target)).clamp(-1, 1)
    weights = np.array([0.0448, 0.2856, 0.3001])
    halves = [(fake, target)]
    for _ in range(2):
        halves.append(tuple(torch.nn.functional.avg_pool2d(image, 2) for image in halves[-1]))  # type: ignore[arg-type]
    parts = [ssim_maps(*pair, 2.0) for pair in halves]
    counted = [parts[0].structure.mean().item(), parts[1].structure.mean().item(), parts[2].ssim.mean().item()]
    assert min(counted) > 0
    expected = 1 - np.prod(counted ** (weights / weights.sum()))
    assert ms_ssim_loss(fake, target).item() == pytest.approx(expected, abs=1e-6)


def test_focus_weighs_large_errors() -> None:
    target = torch.zeros(1, 1, 1, 4)
    fake = torch.tensor([[[[0.0, 0.1, 0.1, 0.8]]]])
    assert focused_l1(fake, target, 0).item() == pytest.approx(0.25)
    assert focused_l1(fake, target, 1).item() == pytest.approx((0.01 + 0.01 + 0.64) / 1.0)
    assert focused_l1(target, target, 1).item() == 0


def test_pyramid_sees_brightness_and_not_noise() -> None:
    checks = torch.ones(1, 1, 32, 32)
    checks[..., ::2, ::2] = checks[..., 1::2, 1::2] = -1
    assert pyramid_l1(checks, torch.zeros_like(checks)).item() == 0
    assert pyramid_l1(checks + 0.25, checks).item() == pytest.approx(0.25)


def test_terms_of_categories_by_formula(classes: tuple[Tensor, Tensor]) -> None:
    fake, target = classes
    positive = (fake + 1) / 2
    probabilities, chosen = positive / positive.sum(1, keepdim=True), (target + 1) / 2
    expected = torch.nn.functional.nll_loss(probabilities.log(), chosen.argmax(1))
    assert cross_entropy(fake, target).item() == pytest.approx(expected.item())
    overlap = 2 * (probabilities * chosen).sum((0, 2, 3)) / (probabilities + chosen).sum((0, 2, 3))
    assert dice_loss(fake, target).item() == pytest.approx(1 - overlap.mean().item())


@pytest.mark.parametrize("loss", [pyramid_l1, ms_ssim_loss, cross_entropy, dice_loss])
def test_equal_images_have_no_loss(classes: tuple[Tensor, Tensor], loss: object) -> None:
    target = classes[1].repeat(1, 1, 4, 4)
    assert loss(target, target).item() == pytest.approx(0, abs=1e-6)  # type: ignore[operator]


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_trains_on_each_term(classes: tuple[Tensor, Tensor], name: str, dtype: torch.dtype) -> None:
    """What a step gains in a term, it gains because the term has a weight."""
    target = classes[1].repeat(1, 1, 4, 4)
    torch.manual_seed(3)
    source = torch.rand(1, 1, 32, 32) * 2 - 1
    objective = ObjectiveConfig(gan_mode="none", l1_weight=0.0, **{name: 3.0})  # type: ignore[arg-type]
    network = GeneratorConfig(source_channels=1, target_channels=3, base_width=4, depth=3)
    config = TrainingConfig(generator=network, objective=objective, patch_size=32, learning_rate=2e-3)
    step = TrainingStep(config, torch.device("cpu"), dtype)
    losses = [step.run(source, target) for _ in range(12)]
    (term,) = {*losses[0]} - {"G_L1"}
    assert losses[0]["G_L1"].item() == 0
    assert losses[-1][term].item() < 0.97 * losses[0][term].item()


def test_weights_multiply_and_terms_without_one_are_left_out(classes: tuple[Tensor, Tensor]) -> None:
    fake, target = classes
    assert reconstruction_losses(fake, target, ObjectiveConfig()) == {}
    found = reconstruction_losses(fake, target, ObjectiveConfig(dice_weight=5.0))
    assert {name: term.item() for name, term in found.items()} == {"G_DICE": pytest.approx(5 * dice_loss(fake, target))}


def test_terms_of_categories_are_refused_for_a_range(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    source, target = (MemorySource(rng.integers(0, 256, (64, 64), np.uint8)) for _ in range(2))
    config = TrainingConfig(
        generator=GeneratorConfig(depth=3, base_width=4),
        objective=ObjectiveConfig(dice_weight=1.0),
        patch_size=32,
        steps=1,
    )
    with pytest.raises(SettingsError, match=r"dice_weight are for targets of categories.*target_values"):
        list(train(config, TrainingData(split=Split((Pair(source, target, "a"),), ())), tmp_path / "run", device="cpu"))


def test_a_patch_below_the_window_of_ssim_is_refused() -> None:
    objective = ObjectiveConfig(gan_mode="none", ssim_weight=1.0)
    with pytest.raises(SettingsError, match=r"patch_size 8 is too small for ssim_weight, which needs 11; choose 16"):
        TrainingConfig(generator=GeneratorConfig(depth=3), objective=objective, patch_size=8)
