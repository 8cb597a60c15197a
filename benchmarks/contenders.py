"""The ways of translating a large image that ``translation.py`` and ``seams.py`` compare.

Each takes a stored image in memory and gives the network's output in [-1, 1] as float32, in one piece or in tiles.
All run the same layers in float32 under `torch.inference_mode`. MONAI is no dependency of the project:
``pip install monai``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from napari_pix2pix.translation.settings import TranslationSettings
from napari_pix2pix.translation.translator import Translator
from pix2pix_training.array_source import AnyArray, MemorySource
from pix2pix_training.choices import Statistics
from pix2pix_training.image_description import ImageDescription
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.intensity import LinearMapping, dtype_mapping, resolved, to_tensor
from pix2pix_training.model_file import Model
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import Generator, build_generator, norm_layers, pad_to_stride
from pix2pix_training.regions import Region

Tiles = Iterator[tuple[Region, AnyArray]]
"""Regions of the image, and the output there: (C, region.height, region.width)."""
Prepared = Callable[[AnyArray], Tiles]
"""From an image (C, Y, X) in the stored dtype to the output."""

EXACT_HALO = 512
"""The 8-level U-Net depends on 511 pixels around; the next multiple of its stride."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What a contender may choose for speed: memory format, and windows per call of the network."""

    channels_last: bool = True
    batch: int = 1


def whole(model: Model, statistics: Statistics, variant: Variant) -> Prepared:
    """The plain forward pass over the whole image: the definition that the others are held against."""
    network = _network(model, statistics, variant)

    def run(image: AnyArray) -> Tiles:
        height, width = image.shape[1:]
        output = network(network_input(model, image, variant))
        yield Region.whole(height, width), output[0, :, :height, :width].numpy()

    return run


def tiled(model: Model, statistics: Statistics, variant: Variant, *, tile: int, halo: int) -> Prepared:
    """Tiles with a halo that is clipped at the image border; `tile` and `halo` are multiples of the stride."""
    network = _network(model, statistics, variant)

    def run(image: AnyArray) -> Tiles:
        height, width = image.shape[1:]
        x = network_input(model, image, variant)
        for region in Region.whole(height, width).tiles(tile):
            window = region.grown(halo, (x.shape[-2], x.shape[-1]))
            yield region, network(x[..., *window.slices])[0, :, *region.seen_from(window).slices].numpy()

    return run


def monai_windows(model: Model, statistics: Statistics, variant: Variant, *, window: int, overlap: float) -> Prepared:
    """MONAI's sliding window with Gaussian weights, the smoother of its two modes."""
    from monai.inferers import SlidingWindowInferer

    network = _network(model, statistics, variant)
    inferer = SlidingWindowInferer(window, variant.batch, overlap, mode="gaussian")

    def run(image: AnyArray) -> Tiles:
        height, width = image.shape[1:]
        output = cast(Tensor, inferer(network_input(model, image, variant), network))
        yield Region.whole(height, width), output[0, :, :height, :width].numpy()

    return run


def translated(translator: Translator) -> Prepared:
    """This project's translation, from stored pixels to tiles."""

    def run(image: AnyArray) -> Tiles:
        for _, region, pixels in translator.tiles(MemorySource(image)):
            yield region, pixels

    return run


def translator_of(model: Model, settings: TranslationSettings) -> Translator:
    """A translator in PyTorch on the CPU, in float32, that leaves the network's output as it is."""
    settings = replace(settings, device="cpu", precision="fp32", backend="torch")
    return Translator(with_float_output(model), settings)


def with_float_output(model: Model) -> Model:
    """The model with the network's output as it is, in float32, instead of quantised."""
    channels = model.generator_config.target_channels
    unchanged = LinearMapping(
        dtype="float32", scope="dtype", channels=channels, low=(-1.0,) * channels, high=(1.0,) * channels
    )
    return replace(model, target=ImageDescription(mapping=unchanged))


def assembled(tiles: Tiles, shape: tuple[int, int, int]) -> AnyArray:
    """Tiles put together in memory."""
    result = np.full(shape, np.nan, np.float32)
    for region, pixels in tiles:
        result[:, *region.slices] = pixels
    return result


def randomized_model(config: GeneratorConfig, seed: int = 0) -> Model:
    """Random weights, and norm parameters and running statistics far from their defaults, so that no error hides."""
    random = torch.Generator().manual_seed(seed)
    network = build_generator(config)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0, 1.4 / module.weight[0].numel() ** 0.5, random)
            if module.bias is not None:
                nn.init.normal_(module.bias, 0, 0.3, random)
    for norm in norm_layers(network):
        for tensor, mean in ((norm.weight, 1.0), (norm.bias, 0.0), (norm.running_mean, 0.0)):
            if tensor is not None:
                nn.init.normal_(tensor, mean, 0.3, random)
        if norm.running_var is not None:
            nn.init.uniform_(norm.running_var, 0.5, 2, random)
    return Model(
        generator_config=config,
        weights=network.state_dict(),
        source=ImageDescription(mapping=dtype_mapping(np.dtype(np.uint8), config.source_channels)),
        target=ImageDescription(mapping=dtype_mapping(np.dtype(np.uint8), config.target_channels)),
        inference=InferenceConfig(statistics="image" if config.norm == "instance" else "running"),
    )


def _network(model: Model, statistics: Statistics, variant: Variant) -> Generator:
    network = model.generator(InferenceConfig(statistics=statistics))
    return network.to(memory_format=_memory_format(variant))


def network_input(model: Model, image: AnyArray, variant: Variant) -> Tensor:
    """(1, C, H, W) in [-1, 1], padded to the network's stride."""
    stored = pad_to_stride(to_tensor(image)[None], model.generator_config.stride)
    x = resolved(model.source.mapping, MemorySource(image)).to_network(stored)
    return x.contiguous(memory_format=_memory_format(variant))


def _memory_format(variant: Variant) -> torch.memory_format:
    return torch.channels_last if variant.channels_last else torch.contiguous_format
