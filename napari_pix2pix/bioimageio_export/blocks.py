"""Which sizes of input a generator takes, and by how much blocks must overlap to give what the whole image gives."""

from __future__ import annotations

from dataclasses import dataclass

from napari_pix2pix.translation.cost import receptive_radius
from pix2pix_training.config import GeneratorConfig, InferenceConfig


@dataclass(frozen=True, kw_only=True)
class BlockSizes:
    """Sides of an input are ``minimum + n * step`` pixels.

    Where `halo` is positive, a block's output is that of the whole image except for `halo` pixels at each of its sides.
    Where it is 0, the output depends on the whole image, and blocks would give something else.
    """

    minimum: int
    step: int
    halo: int

    def side_of_at_least(self, pixels: int) -> int:
        return self.minimum + -(-max(0, pixels - self.minimum) // self.step) * self.step


def block_sizes(config: GeneratorConfig, inference: InferenceConfig) -> BlockSizes:
    """Blocks that start at multiples of the network's stride are in phase with the whole image."""
    stride = config.stride
    if config.norm != "none" and inference.statistics != "running":
        smallest = 2 * stride if config.architecture == "resnet" else stride  # a ResNet reflects at a quarter of it
        return BlockSizes(minimum=smallest, step=stride, halo=0)
    halo = receptive_radius(config)
    return BlockSizes(minimum=2 * halo + stride, step=stride, halo=halo)
