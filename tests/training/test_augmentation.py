"""Random changes of patches, the same for source and target."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pix2pix_training.augmentation import apply_draw, draw_patch
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


def test_draws_of_intensities_are_shares_of_the_largest_change() -> None:
    config = AugmentationConfig(intensity_jitter=2.0)
    draws = [draw_patch(np.random.default_rng(seed), 6, 6, 6, config) for seed in range(200)]
    for shares in ([d.contrast for d in draws], [d.brightness for d in draws]):
        assert -1 <= min(shares) < -0.95 < 0.95 < max(shares) <= 1


def test_intensities_are_drawn_last_and_only_where_asked() -> None:
    without, with_them = (
        draw_patch(np.random.default_rng(0), 60, 60, 6, AugmentationConfig(intensity_jitter=jitter))
        for jitter in (0.0, 1.0)
    )
    assert (without.contrast, without.brightness) == (0, 0)
    assert with_them.brightness != 0
    assert replace(with_them, contrast=0.0, brightness=0.0) == without
