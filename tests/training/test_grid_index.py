"""The grid index sees the lines that a decoder draws, and nothing in images without them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pix2pix_training.array_source import AnyArray
from pix2pix_training.metrics import GRID_PERIODS, detail_ratio, grid_index, grid_ratio


def smooth_noise(channels: int = 1, height: int = 256, width: int = 256, seed: int = 0) -> AnyArray:
    noise = np.random.default_rng(seed).normal(size=(channels, height, width))
    smooth: AnyArray = gaussian_filter(noise, (0, 1, 1))
    return smooth


@pytest.mark.parametrize("period", GRID_PERIODS)
@pytest.mark.parametrize("axis", [1, 2])
def test_lines_of_a_period_stand_out_at_that_period(period: int, axis: int) -> None:
    plain = smooth_noise()
    lines = np.moveaxis(np.zeros_like(plain), axis, 0)
    lines[::period] = 0.1 * period
    before, after = grid_index(plain), grid_index(plain + np.moveaxis(lines, 0, axis))
    assert before is not None
    assert after is not None
    assert after[period] > 3 * before[period]


def test_images_without_a_grid_have_an_index_near_one() -> None:
    found = [grid_index(smooth_noise(3, 160, 300, seed)) for seed in range(8)]
    means = {period: np.mean([index[period] for index in found if index]) for period in GRID_PERIODS}
    assert all(0.5 < value < 2.5 for value in means.values()), means


def test_the_index_does_not_depend_on_contrast_and_brightness() -> None:
    image = smooth_noise(2)
    first, second = grid_index(image), grid_index(1000 * image + 5000)
    assert first is not None
    assert second == pytest.approx(first, rel=1e-6)


def test_small_and_constant_images_say_nothing() -> None:
    assert grid_index(smooth_noise(1, 63, 500)) is None
    assert grid_index(np.full((3, 128, 128), 7, np.uint16)) is None


def test_the_grid_of_results_is_told_relative_to_that_of_targets() -> None:
    targets = [smooth_noise(seed=seed) for seed in range(3)]
    lines = np.zeros((1, 256, 256))
    lines[..., ::4] = 0.4
    assert grid_ratio(targets, targets) == dict.fromkeys(GRID_PERIODS, 1.0)
    found = grid_ratio([image + lines for image in targets], targets)
    assert found is not None
    assert found[4] > 3
    assert grid_ratio(targets, [image[:, :32] for image in targets]) is None


def test_detail_is_the_power_at_short_periods_relative_to_the_target() -> None:
    target = smooth_noise(2)
    rough = target + np.random.default_rng(1).normal(0, 0.3, target.shape)
    blurred: AnyArray = gaussian_filter(target, (0, 1, 1))
    found = [detail_ratio(image, target) for image in (target, 2 * target + 5, rough, blurred)]
    assert found[0] == pytest.approx(1)
    assert found[1] == pytest.approx(4)
    assert found[2] is not None
    assert found[2] > 2
    assert found[3] is not None
    assert found[3] < 0.5


def test_noise_that_is_hardly_seen_is_no_texture() -> None:
    y, x = np.mgrid[:128, :128] / 64
    smooth = np.sin(y)[None] + np.cos(x)[None]
    noise = np.random.default_rng(0).normal(0, 1, smooth.shape)
    quiet, loud = (detail_ratio(smooth + scale * noise, smooth) for scale in (0.003, 0.1))
    assert quiet is not None
    assert quiet < 1
    assert loud is not None
    assert loud > 10
    assert detail_ratio(noise, np.zeros_like(noise)) is None
