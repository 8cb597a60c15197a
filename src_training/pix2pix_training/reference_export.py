"""Writing state_dicts that the PyTorch reference implementation opens."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from pix2pix_training.atomic import atomic_write
from pix2pix_training.config import GeneratorConfig
from pix2pix_training.errors import SettingsError
from pix2pix_training.model_file import Model
from pix2pix_training.reference_weights import discriminator_to_reference, generator_to_reference

_LEAST_DEPTH = 5


def generator_state(model: Model) -> dict[str, Tensor]:
    """The generator's state_dict under the reference's names, as ``latest_net_G.pth`` has them.

    These are weights alone: intensity mapping, statistics and dropout mode stay behind. The reference maps 8-bit pixels
    from [0, 255] to [-1, 1]. A batch renorm becomes the batch norm that it is outside of training.

    Raises
    ------
    SettingsError
        The reference has no such network.
    """
    _require_counterpart(model.generator_config)
    return generator_to_reference(model.weights, model.generator_config)


def discriminator_state(model: Model) -> dict[str, Tensor]:
    """The discriminator's state_dict under the reference's names, as ``latest_net_D.pth`` has them.

    Raises
    ------
    SettingsError
        The model carries no discriminator, or the reference has no such network.
    """
    if model.discriminator is None:
        raise SettingsError("the model carries no discriminator to export; leave --discriminator out")
    if model.discriminator.config.norm not in ("batch", "instance"):
        raise SettingsError(
            f"the reference implementation has no discriminator with norm {model.discriminator.config.norm!r}; "
            "leave --discriminator out"
        )
    if model.discriminator.config.scales > 1 or model.discriminator.config.spectral_norm:
        raise SettingsError(
            "the reference implementation has no discriminator of several scales or with spectral norm; leave "
            "--discriminator out"
        )
    return discriminator_to_reference(model.discriminator.weights, model.discriminator.config)


def write_state_dict(state: Mapping[str, Tensor], path: Path) -> None:
    """Write names and tensors for ``torch.load(..., weights_only=True)``, atomically."""
    content = io.BytesIO()
    torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, content)
    with atomic_write(path) as partial:
        partial.write_bytes(content.getbuffer())


def _require_counterpart(config: GeneratorConfig) -> None:
    problem = None
    if config.architecture == "encoder-decoder":
        problem = "no encoder-decoder without skip connections"
    elif config.norm == "none":
        problem = "no such generator without norm layers"
    elif config.output != "tanh":
        problem = "only generators with tanh output"
    elif config.decoder != "transposed":
        problem = "only decoders of transposed convolutions"
    elif config.architecture == "unet" and config.depth < _LEAST_DEPTH:
        problem = f"only U-Nets with {_LEAST_DEPTH} down-samplings or more, and this one has {config.depth}"
    if problem is not None:
        raise SettingsError(f"the reference implementation has {problem}; export to onnx instead")
