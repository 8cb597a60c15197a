"""What users get: the exact scheme in float32 with large tiles, against one plain forward pass.

`test_exact.py` shows in float64 that the scheme is right; here rounding errors are bounded, in [-1, 1] and in 8 bits.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from napari_pix2pix.translation.pipeline import translate_array
from napari_pix2pix.translation.settings import TranslationSettings
from napari_pix2pix.translation.translator import Translator
from pix2pix_training.array_source import AnyArray
from pix2pix_training.choices import Norm, Statistics
from pix2pix_training.image_description import ImageDescription
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.intensity import LinearMapping
from pix2pix_training.model_file import Model
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import build_generator, initialize_weights
from tests.product.translation.conftest import random_image, random_model

TOLERANCE = 1e-4
"""In [-1, 1]."""
TILES = (256, 512, 1024, 2048)
TARGET_CHANNELS = 2


def config_of(depth: int, norm: Norm, channels: int, base_width: int = 4) -> GeneratorConfig:
    return GeneratorConfig(
        source_channels=channels, target_channels=TARGET_CHANNELS, base_width=base_width, depth=depth, norm=norm
    )


@cache
def randomized(config: GeneratorConfig) -> Model:
    return random_model(config, InferenceConfig(statistics="image"))


@cache
def trained(config: GeneratorConfig) -> Model:
    """Weights and running statistics from a few steps towards a smoothed negative of the image."""
    torch.manual_seed(0)
    with torch.inference_mode(False), torch.enable_grad():
        network = build_generator(config).train()
        initialize_weights(network)
        optimizer = torch.optim.Adam(network.parameters(), 2e-3, (0.5, 0.999))
        side = 2**config.depth
        for step in range(12):
            image = torch.from_numpy(random_image(config.source_channels, side, 2 * side, "float32", seed=step))
            source = 2 * image[None] - 1
            target = -F.avg_pool2d(source.mean(1, keepdim=True), 5, 1, 2).expand(-1, TARGET_CHANNELS, -1, -1)
            loss = (network(source) - target).abs().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    weights = {name: tensor.detach() for name, tensor in network.state_dict().items()}
    return replace(randomized(config), weights=weights)


def plain_forward(model: Model, image: AnyArray, statistics: Statistics) -> Tensor:
    """The definition, without any code of `translation`: pad at the bottom and right, run once, crop."""
    x: Any = image.astype(np.float32) / 127.5 - 1
    stride = model.generator_config.stride
    for axis in (1, 2):
        size = x.shape[axis]
        missing = -size % stride
        pad = [(0, missing) if a == axis else (0, 0) for a in range(3)]
        x = np.pad(x, pad, mode="reflect" if missing < size else "edge")
    output: Tensor = model.generator(InferenceConfig(statistics=statistics))(torch.from_numpy(x)[None])
    return output[0, :, : image.shape[1], : image.shape[2]]


def with_float_output(model: Model) -> Model:
    """The model with the network's output as it is, instead of 8 bits."""
    low, high = (-1.0,) * TARGET_CHANNELS, (1.0,) * TARGET_CHANNELS
    unchanged = LinearMapping(dtype="float32", scope="dtype", channels=TARGET_CHANNELS, low=low, high=high)
    return replace(model, target=ImageDescription(mapping=unchanged))


def assert_equal_to_the_whole(model: Model, image: AnyArray, chosen: TranslationSettings) -> None:
    """Within the tolerance in [-1, 1]; the same 8 bits wherever the whole image is not about to be rounded over."""
    assert chosen.statistics is not None
    expected = plain_forward(model, image, chosen.statistics).numpy()
    assert expected.std() > 50 * TOLERANCE, "the comparison would show nothing"
    found = translate_array(image, with_float_output(model), chosen)
    assert np.abs(found - expected).max() <= TOLERANCE
    exact_bits: NDArray[Any] = (expected.astype(np.float64) + 1) * 127.5
    to_boundary = np.abs(exact_bits - np.floor(exact_bits) - 0.5) / 127.5
    differing = translate_array(image, model, chosen) != np.rint(exact_bits)
    assert not bool((differing & (to_boundary > TOLERANCE)).any())


@st.composite
def cases(draw: st.DrawFn, widths: tuple[int, ...]) -> tuple[Model, AnyArray, TranslationSettings]:
    """Long, narrow images of odd sizes: at least one tile border lies inside, whatever the tile."""
    depth, tile = draw(st.integers(5, 8), "depth"), draw(st.sampled_from(TILES), "tile")
    norm: Norm = draw(st.sampled_from(["batch", "instance"]), "norm")
    config = config_of(depth, norm, draw(st.integers(1, 5), "channels"), draw(st.sampled_from(widths), "width"))
    model = draw(st.sampled_from([randomized, trained]), "weights")(config)
    statistics: Statistics = draw(st.sampled_from(["running", "image"])) if norm == "batch" else "image"
    long, narrow = tile + draw(st.integers(2, 90), "beyond the tile"), draw(st.integers(30, 130), "narrow")
    size = draw(st.sampled_from([(long, narrow), (narrow, long)]), "size")
    chosen = TranslationSettings(
        scheme="exact",
        tile=tile,
        statistics=statistics,
        split_level=draw(st.sampled_from([None, 1, 2, 3, 4]), "split level"),
        max_memory=draw(st.sampled_from([2**30, 2**32]), "memory"),
    )
    return model, random_image(config.source_channels, *size, seed=draw(st.integers(0, 9))), chosen


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases(widths=(4,)))
def test_any_large_tile(case: tuple[Model, AnyArray, TranslationSettings]) -> None:
    assert_equal_to_the_whole(*case)


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases(widths=(4, 8, 16)))
def test_any_large_tile_many_times(case: tuple[Model, AnyArray, TranslationSettings]) -> None:
    assert_equal_to_the_whole(*case)


@pytest.mark.parametrize("statistics", ["running", "image"])
def test_little_memory(statistics: Statistics) -> None:
    """Planes on disk, and the deep part split again and again."""
    model, image = trained(config_of(8, "batch", 3)), random_image(3, 900, 700)
    chosen = TranslationSettings(scheme="exact", statistics=statistics, max_memory=3_500_000)
    plan = Translator(model, chosen).plan((900, 700))
    assert plan.planes_on_disk
    assert len(plan.splits) > 1
    assert_equal_to_the_whole(model, image, chosen)


@pytest.mark.slow
@pytest.mark.parametrize("statistics", ["running", "image"])
@pytest.mark.parametrize("weights", [randomized, trained])
def test_the_network_of_the_paper(weights: Any, statistics: Statistics) -> None:
    model, image = weights(config_of(8, "batch", 3, base_width=64)), random_image(3, 1101, 830)
    for tile, level in ((256, 2), (512, 3), (768, 4)):
        chosen = TranslationSettings(scheme="exact", statistics=statistics, tile=tile, split_level=level)
        assert_equal_to_the_whole(model, image, chosen)
