"""State_dicts of the PyTorch reference implementation: their names, and files of them that it opens.

The reference nests each U-Net level in the one above; here the levels are lists. ResNet and PatchGAN keep the names.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor

from pix2pix_training.atomic import atomic_write
from pix2pix_training.errors import ModelFileError, SettingsError
from pix2pix_training.model_file import Model
from pix2pix_training.network_config import DiscriminatorConfig, GeneratorConfig
from pix2pix_training.networks import build_generator
from pix2pix_training.strided_convolution import ResizeConvolution, transposed_weight

_LEAST_DEPTH = 5
StateDict = Mapping[str, Tensor]


def generator_from_reference(state: StateDict, config: GeneratorConfig) -> dict[str, Tensor]:
    """State_dict for `build_generator(config)` from one with the reference's names."""
    if config.architecture == "resnet":
        return dict(state)
    return _renamed(state, {reference: own for own, reference in _unet_modules(config.depth).items()})


def generator_to_reference(state: StateDict, config: GeneratorConfig) -> dict[str, Tensor]:
    """State_dict with the reference's names from that of a generator of ours."""
    if config.architecture == "resnet":
        return dict(state)
    return _renamed(state, _unet_modules(config.depth))


def discriminator_from_reference(state: StateDict, config: DiscriminatorConfig) -> dict[str, Tensor]:
    """State_dict for `Discriminator` from one with the reference's names (a PixelGAN is called "net" there)."""
    prefix = "net." if config.layers == 0 else "model."
    return {"model." + _without_prefix(key, prefix): value for key, value in state.items()}


def discriminator_to_reference(state: StateDict, config: DiscriminatorConfig) -> dict[str, Tensor]:
    """State_dict with the reference's names from that of a `Discriminator`."""
    prefix = "net." if config.layers == 0 else "model."
    return {prefix + _without_prefix(key, "model."): value for key, value in state.items()}


def _unet_modules(depth: int) -> dict[str, str]:
    """Reference name of each layer of a U-Net, by ours.

    The outermost block holds [conv, block, relu, conv]; a middle one [relu, conv, norm, block, relu, conv, norm]; the
    innermost [relu, conv, relu, conv, norm].
    """
    names: dict[str, str] = {}
    block = "model.model"
    for level in range(1, depth + 1):
        outermost, innermost = level == 1, level == depth
        down_conv, up_conv = (0, 3) if outermost else (1, 3) if innermost else (1, 5)
        names[f"down.{level - 1}.conv"] = f"{block}.{down_conv}"
        names[f"up.{level - 1}.conv"] = f"{block}.{up_conv}"
        if not outermost:
            names[f"up.{level - 1}.norm"] = f"{block}.{up_conv + 1}"
            if not innermost:
                names[f"down.{level - 1}.norm"] = f"{block}.2"
        block += f".{1 if outermost else 3}.model"
    return names


def _renamed(state: StateDict, modules: Mapping[str, str]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        module, _, parameter = key.rpartition(".")
        if module not in modules:
            raise ModelFileError(f"the weights have an unexpected entry {key!r} for a U-Net of this depth")
        renamed[f"{modules[module]}.{parameter}"] = value
    return renamed


def _without_prefix(key: str, prefix: str) -> str:
    if not key.startswith(prefix):
        raise ModelFileError(
            f"the weights have an unexpected entry {key!r}; those of a discriminator start with {prefix!r}"
        )
    return key.removeprefix(prefix)


def generator_state(model: Model) -> dict[str, Tensor]:
    """The generator's state_dict under the reference's names, as ``latest_net_G.pth`` has them.

    These are weights alone: intensity mapping, statistics and dropout mode stay behind. The reference maps 8-bit pixels
    from [0, 255] to [-1, 1]. A batch renorm becomes the batch norm that it is outside of training, and a resize
    convolution the transposed one that it equals.

    Raises
    ------
    SettingsError
        The reference has no such network.
    """
    config = model.generator_config
    _require_counterpart(config)
    weights = generator_to_reference(_with_transposed_convolutions(model), config)
    return _without_zero_biases(weights, _biased(config)) if config.norm == "none" else weights


def _with_transposed_convolutions(model: Model) -> dict[str, Tensor]:
    with torch.device("meta"):
        modules = dict(build_generator(model.generator_config).named_modules())
    resized = {f"{name}.weight" for name, module in modules.items() if isinstance(module, ResizeConvolution)}
    return {name: transposed_weight(w) if name in resized else w for name, w in model.weights.items()}


def discriminator_state(model: Model) -> dict[str, Tensor]:
    """The discriminator's state_dict under the reference's names, as ``latest_net_D.pth`` has them.

    Raises
    ------
    SettingsError
        The model carries no discriminator, or the reference has no such network.
    """
    if model.discriminator is None:
        raise SettingsError("the model carries no discriminator to export; leave --discriminator out")
    if model.discriminator.config.norm == "batch-renorm":
        raise SettingsError(
            f"the reference implementation has no discriminator with norm {model.discriminator.config.norm!r}; "
            "leave --discriminator out"
        )
    if model.discriminator.config.scales > 1 or model.discriminator.config.spectral_norm:
        raise SettingsError(
            "the reference implementation has no discriminator of several scales or with spectral norm; leave "
            "--discriminator out"
        )
    config = model.discriminator.config
    weights = discriminator_to_reference(model.discriminator.weights, config)
    if config.norm != "none":
        return weights
    last = max(int(name.split(".")[1]) for name in weights)
    biased = {"net.0"} if config.layers == 0 else {"model.0", f"model.{last}"}
    return _without_zero_biases(weights, biased)


def _biased(config: GeneratorConfig) -> set[str]:
    """Modules of the reference's generator that have a bias without norm layers too."""
    if config.architecture == "unet":
        return {"model.model.3"}
    return {f"model.{17 + config.blocks}"}


def _without_zero_biases(state: Mapping[str, Tensor], biased: Collection[str]) -> dict[str, Tensor]:
    """Without those of modules that have no bias in the reference, where there is no norm."""
    result = {}
    for name, tensor in state.items():
        module, _, kind = name.rpartition(".")
        if kind != "bias" or module in biased:
            result[name] = tensor
        elif bool((tensor != 0).any()):
            raise SettingsError(
                "the reference implementation has no biases in networks without norm layers, and this one has learnt "
                "some; export to onnx instead"
            )
    return result


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
    elif config.output != "tanh":
        problem = "only generators with tanh output"
    elif config.decoder == "pixel-shuffle":
        problem = "no decoder with pixel shuffle"
    elif config.architecture == "unet" and config.depth < _LEAST_DEPTH:
        problem = f"only U-Nets with {_LEAST_DEPTH} down-samplings or more, and this one has {config.depth}"
    if problem is not None:
        raise SettingsError(f"the reference implementation has {problem}; export to onnx instead")
