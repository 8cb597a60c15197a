"""What a generator costs in arithmetic and memory, counted from its layers. Knows no budget and no scheme.

Densities are elements per image pixel: features of level k with c channels have c / 4**k.
"""

from __future__ import annotations

from functools import lru_cache

from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.stages import StageSpec

_KERNEL_AREA = 16
_SMOOTHING_AREA = 9
MAX_TENSOR_ELEMENTS = 2**31 - 1
"""Many kernels index with 32 bits."""


def joined_channels(config: GeneratorConfig, level: int) -> int:
    """Channels that decoder `level` takes in."""
    own = config.feature_channels(level)
    return own if level == config.depth or config.architecture != "unet" else 2 * own


@lru_cache
def down_macs(config: GeneratorConfig, levels: range) -> float:
    """Multiply-accumulates per image pixel of some encoder levels."""
    return sum(_KERNEL_AREA * config.feature_channels(k - 1) * config.feature_channels(k) / 4.0**k for k in levels)


@lru_cache
def up_macs(config: GeneratorConfig, levels: range) -> float:
    """Multiply-accumulates per image pixel of some decoder levels."""
    return sum(_doubling_macs(config, joined_channels(config, k), config.up_channels(k - 1)) / 4.0**k for k in levels)


def _doubling_macs(config: GeneratorConfig, inputs: int, outputs: int) -> int:
    """Per pixel of the input; a resize convolution is computed as the transposed one that it equals."""
    if config.decoder == "pixel-shuffle":
        return 4 * outputs * (inputs + _SMOOTHING_AREA * outputs)
    return _KERNEL_AREA * inputs * outputs


def unet_macs(config: GeneratorConfig) -> float:
    levels = range(1, config.depth + 1)
    return down_macs(config, levels) + up_macs(config, levels)


def generator_macs(config: GeneratorConfig) -> float:
    """Multiply-accumulates per image pixel of any generator."""
    if config.architecture != "resnet":
        return unet_macs(config)
    width = config.base_width
    ends = 49 * width * (config.source_channels + config.target_channels)
    strided = 2 * 9 * width * 2 * width * (1 / 4 + 2 * 2 / 16)
    return ends + strided + config.blocks * 2 * 9 * (4 * width) ** 2 / 16


def stage_macs(config: GeneratorConfig, spec: StageSpec) -> float:
    """Multiply-accumulates per image pixel of a stage."""
    if config.architecture == "resnet":
        return generator_macs(config)
    return down_macs(config, spec.encoder_levels) + up_macs(config, spec.decoder_levels)


def feature_density(config: GeneratorConfig, level: int) -> float:
    return config.feature_channels(level) / 4.0**level


def up_density(config: GeneratorConfig, level: int) -> float:
    return config.up_channels(level) / 4.0**level


@lru_cache
def tensor_densities(config: GeneratorConfig, start: int, stop: int) -> tuple[float, ...]:
    """Elements per image pixel of each tensor made while levels `start` + 1 to `stop` are encoded, then decoded."""
    return tuple(
        density
        for level in range(start + 1, stop + 1)
        for density in (
            feature_density(config, level - 1),  # after the activation
            feature_density(config, level),
            joined_channels(config, level) / 4.0**level,
            up_density(config, level - 1),
        )
    )


@lru_cache
def encoding_peak(config: GeneratorConfig, start: int, stop: int) -> float:
    """Most elements alive, per image pixel, while levels `start` + 1 to `stop` are encoded and all kept."""
    alive = peak = feature_density(config, start)
    for level in range(start + 1, stop + 1):
        output, activated = feature_density(config, level), feature_density(config, level - 1)
        peak = max(peak, alive + output + max(activated, output))
        alive += output
    return peak


@lru_cache
def decoding_peak(config: GeneratorConfig, start: int, top: int) -> float:
    """Most elements alive while decoder levels `top` to `start` + 1 run, all features down to `top` being kept."""
    kept = sum(feature_density(config, k) for k in range(start, top + 1))
    peak = 0.0
    for level in range(top, start, -1):
        below, joined = up_density(config, level), joined_channels(config, level) / 4.0**level
        output = up_density(config, level - 1)
        peak = max(peak, kept + below + joined + output + max(joined, 2 * output if level > 1 else 0))
    return peak


def deep_peak(config: GeneratorConfig, level: int) -> float:
    """Most elements alive while everything below `level` runs at once; level 0 is the whole network."""
    if config.architecture == "resnet":
        return 3.2 * config.base_width + 2 * (config.source_channels + config.target_channels)
    return max(encoding_peak(config, level, config.depth), decoding_peak(config, level, config.depth))


def largest_tensor(config: GeneratorConfig) -> float:
    """Elements per image pixel of the largest single tensor of the whole network."""
    ends = max(config.source_channels, config.target_channels)
    if config.architecture == "resnet":
        return max(ends, config.base_width)
    return max(ends, *(joined_channels(config, k) / 4.0**k for k in range(1, config.depth + 1)))


def receptive_radius(config: GeneratorConfig) -> int:
    """Pixels around an output pixel that it depends on when norms are fixed, a multiple of the network's stride.

    ResNet: the 7 x 7 convolutions reach 3, the strided ones 1 and 2, each of two convolutions in a block 4, the
    transposed ones 4 and 2. U-Net: level k reaches ``2**(k - 1)`` down and as much up again, and a pixel can be the
    last one of its cell.
    """
    of_resnet = 3 + 1 + 2 + 2 * 4 * config.blocks + 4 + 2 + 3
    reach = of_resnet if config.architecture == "resnet" else 2 * config.stride - 1
    return -(-reach // config.stride) * config.stride
