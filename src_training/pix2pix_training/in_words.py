"""Networks, mappings and modes in words, the same wherever people read of them."""

from __future__ import annotations

from collections.abc import Sequence

from pix2pix_training.config import (
    Architecture,
    Decoder,
    DropoutPlacement,
    GeneratorConfig,
    InferenceConfig,
    Norm,
    Statistics,
)
from pix2pix_training.intensity import PERCENTILES, LinearMapping, Mapping
from pix2pix_training.model_file import TrainedDiscriminator
from pix2pix_training.validated import labels

_RECEPTIVE_FIELDS_PX = (1, 16, 34, 70, 142, 286, 574)
_SHOWN_CHANNELS = 4


def architecture_name(config: GeneratorConfig) -> str:
    return labels(Architecture)[config.architecture]


def describe_generator(config: GeneratorConfig) -> str:
    size = f"{config.blocks} blocks" if config.architecture == "resnet" else f"{config.depth} down-samplings"
    output = "" if config.output == "tanh" else f", {config.output} output"
    decoder = "" if config.decoder == "transposed" else f", decoder by {labels(Decoder)[config.decoder]}"
    channels = f"{config.source_channels} -> {config.target_channels} channels"
    return (
        f"{architecture_name(config)}, {size}, base width {config.base_width}, {labels(Norm)[config.norm]}, "
        f"{labels(DropoutPlacement)[config.dropout]}{decoder}, {channels}{output}"
    )


def describe_discriminator(discriminator: TrainedDiscriminator) -> str:
    config = discriminator.config
    side = _RECEPTIVE_FIELDS_PX[config.layers]
    kind = "PixelGAN" if config.layers == 0 else f"PatchGAN of {config.layers} layers ({side} x {side} pixels)"
    seen = "source and target" if discriminator.conditional else "the target alone"
    scales = f", {config.scales} scales" if config.scales > 1 else ""
    norms = labels(Norm)[config.norm] + (" and spectral norm" if config.spectral_norm else "")
    return f"{kind}{scales}, base width {config.base_width}, {norms}, sees {seen}"


def describe_mapping(mapping: Mapping) -> str:
    """Type of the stored pixels, and what of them becomes [-1, 1]."""
    if not isinstance(mapping, LinearMapping):
        if mapping.foreground:
            return f"{mapping.dtype}, 1 where there is a label, else 0"
        colours = " with colours" if mapping.colors else ""
        return f"{mapping.dtype}, {len(mapping.values)} categories{colours}"
    if not mapping.low:
        low, high = PERCENTILES
        return f"{mapping.dtype}, percentiles {low} to {high} of each image to [-1, 1]"
    ranges = [f"{low:.6g}..{high:.6g}" for low, high in zip(mapping.low, mapping.high, strict=True)]
    return f"{mapping.dtype}, {_listed(_collapsed(ranges))} to [-1, 1]"


def describe_inference(inference: InferenceConfig) -> str:
    noise = "dropout off" if inference.dropout == "off" else f"dropout noise from seed {inference.seed}"
    return f"norms use {labels(Statistics)[inference.statistics]}, {noise}"


def _collapsed(items: Sequence[str]) -> Sequence[str]:
    return items[:1] if len(set(items)) == 1 else items


def _listed(items: Sequence[str]) -> str:
    more = f" and {len(items) - _SHOWN_CHANNELS} more" if len(items) > _SHOWN_CHANNELS else ""
    return ", ".join(items[:_SHOWN_CHANNELS]) + more
