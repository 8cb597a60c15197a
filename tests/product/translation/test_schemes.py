"""Exact tiles of a ResNet by its receptive field."""

from __future__ import annotations

import pytest

from napari_pix2pix.translation.cost import receptive_radius
from napari_pix2pix.translation.schemes import halo_tiles, whole_tiles
from pix2pix_training.choices import Norm
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.network_config import GeneratorConfig
from tests.product.translation.conftest import assembled, of_all, random_generator, random_image, stages_of


def config(norm: Norm) -> GeneratorConfig:
    return GeneratorConfig(
        architecture="resnet", base_width=3, blocks=2, norm=norm, source_channels=2, target_channels=1,
        dropout="reference",
    )  # fmt: skip


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("size", [(5, 9), (130, 101), (96, 160)])
def test_halo_tiles_equal_the_whole_image(norm: Norm, size: tuple[int, int]) -> None:
    network = random_generator(config(norm), InferenceConfig(dropout="seeded", seed=3))
    image = random_image(2, *size)
    whole = assembled(whole_tiles(stages_of(network), *of_all(image, network.config), 64), image)
    tiles = halo_tiles(stages_of(network), *of_all(image, network.config), 32, receptive_radius(network.config))
    assert whole.std() > 0.02 or max(size) < 10
    assert (assembled(tiles, image) - whole).abs().max() < 1e-12


def test_the_halo_is_not_wider_than_needed() -> None:
    network = random_generator(config("batch"), InferenceConfig(dropout="seeded"))
    image = random_image(2, 130, 130)
    whole = assembled(whole_tiles(stages_of(network), *of_all(image, network.config), 64), image)
    narrow = halo_tiles(stages_of(network), *of_all(image, network.config), 32, receptive_radius(network.config) - 8)
    assert (assembled(narrow, image) - whole).abs().max() > 1e-12
