"""Blending overlapping windows."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from napari_pix2pix.translation.blend import blended_tiles, spans, weights
from napari_pix2pix.translation.schemes import whole_tiles
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.network_config import GeneratorConfig
from tests.product.translation.conftest import assembled, of_all, random_generator, random_image, stages_of

CONFIG = GeneratorConfig(base_width=4, depth=3, source_channels=1, target_channels=2)


@pytest.mark.parametrize(("length", "side", "overlap"), [(64, 64, 16), (40, 64, 16), (200, 64, 16), (168, 64, 32)])
def test_windows_cover_the_axis_and_their_weights_sum_to_one(length: int, side: int, overlap: int) -> None:
    windows = spans(length, side, overlap)
    total = torch.zeros(length, dtype=torch.float64)
    for (start, stop), weight in zip(windows, weights(windows, length), strict=True):
        assert start % 8 == 0
        total[start:stop] += weight
    torch.testing.assert_close(total, torch.ones(length, dtype=torch.float64))
    assert all(a[1] - b[0] >= overlap for a, b in pairwise(windows))


def test_weights_are_smooth() -> None:
    for weight in weights(spans(512, 128, 64), 512):
        assert weight.diff().abs().max() < 0.03


def test_a_constant_network_stays_constant() -> None:
    network = random_generator(CONFIG, InferenceConfig())
    last = network.get_submodule("up.0.conv")
    assert isinstance(last, nn.ConvTranspose2d)
    nn.init.zeros_(last.weight)
    image = random_image(1, 130, 75)
    result = assembled(blended_tiles(stages_of(network), *of_all(image, CONFIG), 32, 8), image)
    assert last.bias is not None
    torch.testing.assert_close(result, torch.tanh(last.bias).float().reshape(1, 2, 1, 1).expand_as(result))


def test_wider_overlap_comes_closer_to_the_whole_image() -> None:
    network, image = random_generator(CONFIG, InferenceConfig()), random_image(1, 120, 150)
    whole = assembled(whole_tiles(stages_of(network), *of_all(image, CONFIG), 64), image)

    def error(overlap: int) -> Tensor:
        return (
            (assembled(blended_tiles(stages_of(network), *of_all(image, CONFIG), 64, overlap), image) - whole)
            .abs()
            .mean()
        )

    assert error(32) < error(8) < 0.05


def test_one_window_is_the_whole_image() -> None:
    network, image = random_generator(CONFIG, InferenceConfig()), random_image(1, 50, 61)
    whole = assembled(whole_tiles(stages_of(network), *of_all(image, CONFIG), 64), image)
    torch.testing.assert_close(
        assembled(blended_tiles(stages_of(network), *of_all(image, CONFIG), 64, 16), image), whole.float()
    )
