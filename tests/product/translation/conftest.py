"""Small generators with weights that hide nothing: norm parameters and running statistics are not at their defaults."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from napari_pix2pix.translation.backends.stage_runner import Stages, TorchRunner
from napari_pix2pix.translation.cost import down_macs, up_macs
from napari_pix2pix.translation.padded_image import PaddedImage
from pix2pix_training.array_source import AnyArray, MemorySource
from pix2pix_training.image_description import ImageDescription
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.intensity import LinearMapping, dtype_mapping
from pix2pix_training.invalid_pixels import FilledSource
from pix2pix_training.model_file import Model
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import Generator, build_generator, noise_layers, norm_layers, set_inference_mode
from pix2pix_training.regions import Region
from pix2pix_training.stages import StageSpec


@pytest.fixture(autouse=True)
def one_thread_without_gradients() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(threads)


def random_generator(config: GeneratorConfig, inference: InferenceConfig, seed: int = 0) -> Generator:
    """A float64 generator whose layers all matter."""
    torch.manual_seed(seed)
    network = build_generator(config).double()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0, 1.4 / (module.weight[0].numel() ** 0.5))
            if module.bias is not None:
                nn.init.normal_(module.bias, 0, 0.3)
    for norm in norm_layers(network):
        if norm.weight is not None and norm.bias is not None:
            nn.init.normal_(norm.weight, 1, 0.3)
            nn.init.normal_(norm.bias, 0, 0.3)
        if norm.running_mean is not None and norm.running_var is not None:
            nn.init.normal_(norm.running_mean, 0, 0.3)
            nn.init.uniform_(norm.running_var, 0.5, 2)
    set_inference_mode(network, inference)
    return network


def stages_of(network: Generator) -> Stages:
    """The stages of a network in PyTorch, with the noise that it draws itself."""
    seed = next((noise.seed for noise in noise_layers(network)), None)
    return Stages(network=network, runner=TorchRunner(network), seed=seed)


def random_model(config: GeneratorConfig, inference: InferenceConfig, *, dtype: str = "uint8", seed: int = 0) -> Model:
    mappings: list[LinearMapping] = [
        dtype_mapping(np.dtype(dtype), n) for n in (config.source_channels, config.target_channels)
    ]
    return Model(
        generator_config=config,
        weights={name: t.float() if t.is_floating_point() else t for name, t in
                 random_generator(config, inference, seed).state_dict().items()},
        source=ImageDescription(mapping=mappings[0]),
        target=ImageDescription(mapping=mappings[1]),
        inference=inference,
    )  # fmt: skip


def random_image(channels: int, height: int, width: int, dtype: str = "uint8", seed: int = 0) -> AnyArray:
    """Noise with a gradient, so that tiles differ in their statistics."""
    random = np.random.default_rng(seed)
    ramp = np.linspace(0, 1, height)[:, None] * np.linspace(0.2, 1, width)[None]
    values: Any = 0.5 * random.random((channels, height, width)) + 0.5 * ramp
    stored: AnyArray = (values * 255 if np.dtype(dtype).kind in "iu" else values).astype(dtype)
    return stored


def padded(image: AnyArray, config: GeneratorConfig) -> PaddedImage:
    return PaddedImage(
        FilledSource(MemorySource(image)),
        (),
        dtype_mapping(image.dtype, len(image)),
        stride=config.stride,
        device=torch.device("cpu"),
        dtype=torch.float64,
    )


def of_all(image: AnyArray, config: GeneratorConfig) -> tuple[PaddedImage, Region]:
    """An image, and all of it as a region."""
    opened = padded(image, config)
    return opened, opened.area


def stage_macs(config: GeneratorConfig, spec: StageSpec) -> float:
    """Multiply-accumulates of a stage of a U-Net per pixel of the image."""
    decoded = range(spec.level + 1, spec.top + 1) if spec.gives == "up" else range(0)
    return down_macs(config, spec.encoder_levels) + up_macs(config, decoded)


def assembled(tiles: Iterator[tuple[Region, Tensor]], image: AnyArray) -> Tensor:
    """Tiles put together; fails where they overlap, leave gaps, or do not come in bands of rows."""
    parts = list(tiles)
    whole = torch.full((1, parts[0][1].shape[1], *image.shape[1:]), torch.nan, dtype=parts[0][1].dtype)
    assert [(r.y0, r.x0) for r, _ in parts] == sorted((r.y0, r.x0) for r, _ in parts)
    assert len({r.y0 for r, _ in parts}) == len({(r.y0, r.y1) for r, _ in parts})
    for region, values in parts:
        assert values.shape[-2:] == (region.height, region.width)
        assert bool(whole[..., *region.slices].isnan().all())
        whole[..., *region.slices] = values
    assert not bool(whole.isnan().any())
    return whole
