"""`tolerance`: patches are compared with their targets where these fit best."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pix2pix_training.config import ObjectiveConfig, TrainingConfig
from pix2pix_training.errors import SettingsError
from pix2pix_training.network_config import DiscriminatorConfig, GeneratorConfig
from pix2pix_training.tolerance import fitting_target
from pix2pix_training.training_step import TrainingStep

MOVES = [(0, 0), (2, -1), (-3, 3)]


@pytest.fixture
def image() -> Tensor:
    torch.manual_seed(0)
    return torch.rand(3, 2, 40, 32) * 2 - 1


def moved(image: Tensor) -> Tensor:
    """Each patch rolled by its own move."""
    return torch.stack([patch.roll(move, (1, 2)) for patch, move in zip(image, MOVES, strict=True)])


def test_each_patch_is_compared_where_its_target_fits_best(image: Tensor) -> None:
    target, valid = fitting_target(image, moved(image), None, 3)
    assert (target == image)[valid.expand_as(image)].all()
    expected = torch.ones_like(valid)
    expected[1, :, -2:], expected[1, ..., :1] = False, False
    expected[2, :, :3], expected[2, ..., -3:] = False, False
    assert torch.equal(valid, expected)


def test_a_target_beyond_the_tolerance_is_nowhere_equal(image: Tensor) -> None:
    target, valid = fitting_target(image, moved(image), None, 1)
    assert torch.equal(target[0], image[0])
    assert valid[0].all()
    assert not (target[2] == image[2])[valid[2].expand_as(image[2])].any()


def test_invalid_pixels_stay_invalid_where_they_come_to_lie_and_count_for_nothing(image: Tensor) -> None:
    target, known = moved(image), torch.ones(3, 1, 40, 32, dtype=torch.bool)
    target[:, :, 10:20], known[:, :, 10:20] = 1.0, False
    fitted, valid = fitting_target(image, target, known, 3)
    assert (fitted == image)[valid.expand_as(image)].all()
    assert not valid[0, :, 10:20].any()
    assert not valid[1, :, 8:18].any()
    assert valid[1, :, :8, 1:].all()
    same, nothing = fitting_target(image, target, torch.zeros_like(known), 3)
    assert torch.equal(same, target)
    assert not nothing.any()


def test_where_nothing_tells_places_apart_the_target_stays() -> None:
    flat = torch.zeros(2, 1, 32, 32)
    target, valid = fitting_target(flat, flat + 0.5, None, 4)
    assert valid.all()
    assert torch.equal(target, flat + 0.5)


def test_a_step_counts_no_more_than_what_is_left_at_the_best_place() -> None:
    def l1(tolerance: int) -> float:
        config = TrainingConfig(
            generator=GeneratorConfig(base_width=4, depth=3),
            discriminator=DiscriminatorConfig(base_width=4, layers=2),
            objective=ObjectiveConfig(tolerance=tolerance),
            patch_size=32,
        )
        step = TrainingStep(config, torch.device("cpu"), torch.float32)
        source = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            target = step.generator(source).roll((2, 1), (2, 3))
        losses = step.run(source, target)
        assert all(bool(torch.isfinite(loss)) for loss in losses.values())
        return losses["G_L1"].item()

    assert l1(2) < 1e-3 < l1(0)


def test_patches_have_room_for_it() -> None:
    with pytest.raises(SettingsError, match="tolerance is 9; it must lie between 0 and 8"):
        ObjectiveConfig(tolerance=9)
    with pytest.raises(SettingsError, match="tolerance 8 is too large for patch_size 16; choose at most 4"):
        TrainingConfig(
            generator=GeneratorConfig(depth=3), objective=ObjectiveConfig(tolerance=8, gan_mode="none"), patch_size=16
        )
