"""Random changes of patches, the same for source and target."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pix2pix_training.augmentation import apply_draw, change_intensity, draw_patch
from pix2pix_training.config import AugmentationConfig


@pytest.mark.parametrize("jitter", [1.0, 286 / 256])
def test_patch_is_a_crop_of_the_enlarged_image(jitter: float) -> None:
    """Compared with enlarging the whole image first, as the reference does."""
    image = torch.rand(1, 64, 64) * 2 - 1
    config = AugmentationConfig(flips="none", scale_jitter=jitter)
    size = round(64 * jitter)
    enlarged = torch.nn.functional.interpolate(image[None], (size, size), mode="bicubic", align_corners=False)[0]
    for seed in range(5):
        draw = draw_patch(np.random.default_rng(seed), 64, 64, 48, config)
        found = apply_draw(image[:, *draw.region.slices], draw, 48, smooth=True)
        y, x = draw.offset
        expected = enlarged[:, y : y + 48, x : x + 48].clamp(-1, 1)
        assert torch.allclose(found, expected, atol=1e-4)


def test_source_and_target_get_the_same_flips_and_turns() -> None:
    config = AugmentationConfig(flips="both", quarter_turns=True)
    image = torch.arange(36.0).reshape(1, 6, 6) / 36
    seen = set()
    for seed in range(60):
        draw = draw_patch(np.random.default_rng(seed), 6, 6, 6, config)
        turned = apply_draw(image, draw, 6, smooth=True)
        assert torch.equal(turned, apply_draw(image, draw, 6, smooth=False))
        seen.add(tuple(turned.flatten().tolist()))
    assert len(seen) == 8


def test_intensities_of_the_source_change_within_their_bounds() -> None:
    config = AugmentationConfig(contrast_jitter=0.25, brightness_jitter=0.1)
    draws = [draw_patch(np.random.default_rng(seed), 6, 6, 6, config) for seed in range(200)]
    assert 0.8 <= min(d.contrast for d in draws) < 0.85 < 1.2 < max(d.contrast for d in draws) <= 1.25
    assert -0.1 <= min(d.brightness for d in draws) < -0.08 < 0.08 < max(d.brightness for d in draws) <= 0.1
    pixels = torch.rand(2, 6, 6) * 2 - 1
    expected = draws[0].contrast * pixels + draws[0].brightness
    assert torch.equal(change_intensity(pixels, draws[0]), expected)


def test_intensities_stay_unless_asked() -> None:
    draw = draw_patch(np.random.default_rng(0), 6, 6, 6, AugmentationConfig())
    pixels = torch.rand(1, 6, 6)
    assert change_intensity(pixels, draw) is pixels
    with_jitter = AugmentationConfig(contrast_jitter=0.2, brightness_jitter=0.2)
    assert draw_patch(np.random.default_rng(0), 6, 6, 6, with_jitter).region == draw.region
