"""State_dicts of the PyTorch reference implementation, in and out.

The reference nests each U-Net level in the one above; here the levels are lists. ResNet and PatchGAN keep the names.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from pix2pix_training.config import DiscriminatorConfig, GeneratorConfig
from pix2pix_training.errors import ModelFileError

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
