"""Random changes of patches, the same for source and target."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from pix2pix_training.augmentation import (
    IntensityJitter,
    PatchDraw,
    apply_draw,
    apply_to_mask,
    apply_to_source,
    draw_patch,
)
from pix2pix_training.patch_config import AugmentationConfig


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


def plainly(pixels: Tensor, draw: PatchDraw, size: int, *, smooth: bool) -> Tensor:
    """Enlargement, flips and turns by PyTorch alone, as they were before torchvision had a part in it."""
    if draw.scale != (1.0, 1.0):
        steps = torch.arange(size) + 0.5
        y = (steps + draw.offset[0]) / draw.scale[0] - draw.region.y0
        x = (steps + draw.offset[1]) / draw.scale[1] - draw.region.x0
        grid_y, grid_x = torch.meshgrid(2 * y / draw.region.height - 1, 2 * x / draw.region.width - 1, indexing="ij")
        grid, mode = torch.stack([grid_x, grid_y], -1)[None], "bicubic" if smooth else "nearest"
        pixels = torch.nn.functional.grid_sample(
            pixels[None], grid, mode=mode, padding_mode="border", align_corners=False
        )[0].clamp(-1, 1)
    pixels = pixels.flip(-1) if draw.flip_horizontal else pixels
    pixels = pixels.flip(-2) if draw.flip_vertical else pixels
    return torch.rot90(pixels, draw.quarter_turns, (-2, -1))


@pytest.mark.parametrize("jitter", [1.0, 286 / 256])
@pytest.mark.parametrize("smooth", [True, False])
def test_enlargement_flips_and_turns_give_the_numbers_that_they_always_gave(jitter: float, smooth: bool) -> None:
    config = AugmentationConfig(flips="both", quarter_turns=True, scale_jitter=jitter)
    image = torch.rand(3, 50, 60, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for seed in range(20):
        draw = draw_patch(np.random.default_rng(seed), 50, 60, 48, config)
        pixels = image[:, *draw.region.slices]
        assert torch.equal(apply_draw(pixels, draw, 48, smooth=smooth), plainly(pixels, draw, 48, smooth=smooth))
        whole = torch.ones(1, draw.region.height, draw.region.width, dtype=torch.bool)
        assert apply_to_mask(whole, draw, 48).all()


def coordinates(height: int, width: int) -> Tensor:
    """The row and the column of each pixel, in hundredths."""
    return torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")) / 100


@pytest.mark.parametrize("scale", [1.0, 1.2])
def test_a_patch_is_turned_about_its_centre(scale: float) -> None:
    config = AugmentationConfig(flips="none", rotation=180, scale_jitter=scale)
    image = coordinates(96, 96)
    for seed in range(10):
        draw = draw_patch(np.random.default_rng(seed), 96, 96, 32, config)
        if draw.leaves_image:
            continue
        found = apply_draw(image[:, *draw.region.slices], draw, 32, smooth=True) * 100
        rows, columns = torch.meshgrid(torch.arange(32) - 15.5, torch.arange(32) - 15.5, indexing="ij")
        cos, sin = np.cos(np.radians(draw.angle)), np.sin(np.radians(draw.angle))
        enlarged = draw.scale[0]
        centre = [(first + 16) / enlarged - 0.5 for first in draw.offset]
        expected = torch.stack(
            [centre[0] + (cos * rows + sin * columns) / enlarged, centre[1] + (cos * columns - sin * rows) / enlarged]
        )
        assert float((found - expected).abs().max()) < 0.05, "pixels"


@pytest.mark.parametrize("changes", [{"rotation": 180.0}, {"elastic": 6.0}, {"rotation": 30.0, "elastic": 4.0}])
def test_geometry_moves_intensities_categories_and_masks_alike(changes: dict[str, float]) -> None:
    config = AugmentationConfig(flips="both", quarter_turns=True, scale_jitter=1.1, **changes)
    image = coordinates(48, 64)
    moved = 0
    for seed in range(20):
        draw = draw_patch(np.random.default_rng(seed), 48, 64, 32, config)
        pixels = image[:, *draw.region.slices]
        smooth, nearest = (apply_draw(pixels, draw, 32, smooth=smooth) * 100 for smooth in (True, False))
        valid = apply_to_mask(torch.ones(1, *pixels.shape[1:], dtype=torch.bool), draw, 32)[0]
        assert float((smooth - nearest).abs()[:, valid].max()) < 1.6, "two interpolations of at most 0.7 pixels each"
        assert bool(valid.all()) or draw.leaves_image
        plain = replace(draw, angle=0.0, elastic=0.0)
        moved += float((apply_draw(pixels, plain, 32, smooth=False) * 100 - nearest).abs().max()) > 1
    assert moved > 10


def test_what_comes_from_beyond_the_image_is_masked() -> None:
    config = AugmentationConfig(flips="none", rotation=45)
    draw = draw_patch(np.random.default_rng(2), 32, 32, 32, config)
    assert draw.leaves_image and abs(draw.angle) > 1
    valid = apply_to_mask(torch.ones(1, 32, 32, dtype=torch.bool), draw, 32)[0]
    assert bool(valid[10:22, 10:22].all())
    assert not bool(valid[[0, 0, -1, -1], [0, -1, 0, -1]].any()), "the corners"


def test_categories_stay_categories() -> None:
    config = AugmentationConfig(flips="both", rotation=90, elastic=5, scale_jitter=1.1)
    classes = torch.nn.functional.one_hot(torch.arange(64 * 64).reshape(64, 64) // 7 % 3).movedim(-1, 0) * 2.0 - 1
    for seed in range(10):
        draw = draw_patch(np.random.default_rng(seed), 64, 64, 48, config)
        patch = apply_draw(classes[:, *draw.region.slices], draw, 48, smooth=False)
        assert set(patch.flatten().tolist()) == {-1.0, 1.0}
        assert bool(((patch == 1).sum(0) == 1).all())


def test_bending_is_smooth_and_no_larger_than_asked() -> None:
    config = AugmentationConfig(flips="none", elastic=8)
    draws = [draw_patch(np.random.default_rng(seed), 100, 100, 64, config) for seed in range(40)]
    inner = [draw for draw in draws if not draw.leaves_image]
    largest = 0.0
    for draw in inner:
        found = apply_draw(coordinates(100, 100)[:, *draw.region.slices], draw, 64, smooth=True) * 100
        moves = found - coordinates(64, 64) * 100 - torch.tensor(draw.offset)[:, None, None]
        assert float(moves.abs().max()) <= draw.elastic + 0.01
        assert float(moves.diff(dim=1).abs().max()) < 1
        largest = max(largest, float(moves.abs().max()))
    assert largest > 3


def test_intensities_change_by_channel_and_are_blurred_and_noisy() -> None:
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)) - 0.5

    def changed(**settings: float) -> Tensor:
        draw = draw_patch(np.random.default_rng(0), 64, 64, 64, AugmentationConfig(**settings))  # type: ignore[arg-type]
        first, second = (apply_to_source(image, draw, None) for _ in range(2))
        assert torch.equal(first, second)
        return first

    assert torch.equal(changed(), image)
    jittered = changed(channel_jitter=0.5)
    for before, after in zip(image, jittered, strict=True):
        contrast = (after.std() / before.std()).item()
        assert 1 / 1.5 <= contrast <= 1.5 and abs(contrast - 1) > 0.01
        torch.testing.assert_close(after - contrast * before, (after - contrast * before).mean().expand(64, 64))
    assert len({round(float(channel.mean()), 3) for channel in jittered}) == 3
    assert changed(blur=2.0).std() < 0.7 * image.std()
    noise = changed(noise=0.3) - image
    assert 0 < float(noise.std()) < 0.3
    assert abs(float(noise.mean())) < 0.02


def test_jitter_of_all_channels_comes_before_the_others() -> None:
    draw = draw_patch(np.random.default_rng(0), 8, 8, 8, AugmentationConfig(intensity_jitter=1.0))
    jitter = IntensityJitter(mean=0.2, brightness=0.3, log_contrast=0.1)
    image = torch.rand(2, 8, 8)
    assert torch.equal(apply_to_source(image, draw, jitter), jitter.apply(image, draw))


def test_new_changes_leave_the_draws_of_others_as_they_are() -> None:
    usual = AugmentationConfig(flips="both", quarter_turns=True, scale_jitter=1.1, intensity_jitter=1.0)
    many = replace(usual, rotation=30, elastic=3, channel_jitter=0.2, blur=1, noise=0.1)
    for seed in range(5):
        before, after = (draw_patch(np.random.default_rng(seed), 60, 60, 32, config) for config in (usual, many))
        for name in ("offset", "scale", "flip_horizontal", "flip_vertical", "quarter_turns", "contrast", "brightness"):
            assert getattr(before, name) == getattr(after, name)


def test_hidden_squares_have_the_mean_of_the_patch() -> None:
    config = AugmentationConfig(flips="none", hidden=0.5)
    pixels = torch.rand(2, 64, 64)
    draws = [draw_patch(np.random.default_rng(seed), 64, 64, 64, config) for seed in (0, 0, 1)]
    first, again, other = (apply_to_source(pixels, draw, None) for draw in draws)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    squares = (first != pixels).all(0).reshape(4, 16, 4, 16).movedim(1, 2).flatten(2)
    assert bool((squares.all(-1) | ~squares.any(-1)).all())
    assert 3 < int(squares.all(-1).sum()) < 13
    assert torch.allclose(first[:, (first != pixels).all(0)], pixels.mean((1, 2))[:, None])
    assert torch.equal(apply_to_source(pixels, replace(draws[0], hidden=0.0), None), pixels)
