"""A model that changes nothing, so that every swapped channel, shifted or clipped value of an image shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from pix2pix_training.image_description import ImageDescription
from pix2pix_training.intensity import LinearMapping, Mapping, Scope, type_range
from pix2pix_training.model_file import Model
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import build_generator

_PHASES = [(y, x, sign) for y in range(2) for x in range(2) for sign in (1.0, -1.0)]


def identity_model(
    dtype: str = "uint8",
    *,
    channels: int = 1,
    ends: tuple[float, float] | None = None,
    scope: Scope = "training-set",
    names: Sequence[str] = (),
    mapping: Mapping | None = None,
    **traits: Any,
) -> Model:
    """A U-Net whose output is its input, in float32 exactly.

    Parameters
    ----------
    ends : what maps to -1 and 1, on both sides; by default the range of `dtype`.
    scope : of the source; the target always has `ends`.
    mapping : of the source, instead.
    traits : further fields of `ImageDescription`, for the source.
    """
    low, high = ends or type_range(np.dtype(dtype))
    linear = LinearMapping(
        dtype=dtype, scope="training-set", channels=channels, low=(low,) * channels, high=(high,) * channels
    )
    seen = mapping or (LinearMapping(dtype=dtype, scope="image", channels=channels) if scope == "image" else linear)
    return Model(
        generator_config=_config(channels),
        weights=_weights(channels),
        source=ImageDescription(mapping=seen, channel_names=tuple(names), **traits),
        target=ImageDescription(mapping=linear, channel_names=tuple(names)),
    )


def _config(channels: int) -> GeneratorConfig:
    return GeneratorConfig(
        source_channels=channels,
        target_channels=channels,
        base_width=len(_PHASES) * channels,
        depth=2,
        norm="none",
        output="linear",
    )


def _weights(channels: int) -> dict[str, torch.Tensor]:
    """Each pixel of a block of 2 x 2 has a feature for its positive and one for its negative part; deeper all is 0."""
    weights = {
        name: torch.zeros_like(tensor) for name, tensor in build_generator(_config(channels)).state_dict().items()
    }
    for channel in range(channels):
        for number, (y, x, sign) in enumerate(_PHASES, channel * len(_PHASES)):
            weights["down.0.conv.weight"][number, channel, 1 + y, 1 + x] = sign
            weights["up.0.conv.weight"][number, channel, 1 + y, 1 + x] = sign
    return weights
