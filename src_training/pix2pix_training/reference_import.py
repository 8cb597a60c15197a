"""Opening checkpoints of the PyTorch reference implementation: what network they hold is told from keys and shapes."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pix2pix_training.choices import DropoutMode, Norm, Statistics
from pix2pix_training.errors import ModelFileError, SettingsError
from pix2pix_training.image_description import ImageDescription
from pix2pix_training.inference_config import Credits, InferenceConfig
from pix2pix_training.intensity import dtype_mapping
from pix2pix_training.model_file import Model, TrainedDiscriminator
from pix2pix_training.network_config import DiscriminatorConfig, GeneratorConfig
from pix2pix_training.networks import Discriminator, build_generator, discriminator_channels
from pix2pix_training.reference_weights import discriminator_from_reference, generator_from_reference

_MAX_DEPTH = 10
_RUNNING = ("running_mean", "running_var", "num_batches_tracked")


def import_model(
    generator: Path,
    discriminator: Path | None = None,
    *,
    statistics: Statistics = "image",
    dropout: DropoutMode = "off",
    seed: int = 0,
    credits: Credits | None = None,
) -> Model:
    """A model from the state_dicts that the reference saves (also from DataParallel, or from a GPU).

    Images are taken to be 8-bit, as the reference's are.

    Parameters
    ----------
    generator : for example ``latest_net_G.pth``.
    discriminator : for example ``latest_net_D.pth``, to continue training with.
    statistics : "running" or "image", the reference's usual test mode.
    dropout : "seeded" puts the reference's dropout where a U-Net has it; the file does not say if it was trained so.
    seed : of its noise.

    Raises
    ------
    ModelFileError
        A file is missing, needs code execution to be read, or holds another network.
    SettingsError
        The generator cannot run in the mode that is asked for.
    """
    state = read_state_dict(generator)
    with _blamed_on(generator):
        config = infer_generator(state)
    if statistics == "running" and config.norm == "instance":
        raise SettingsError(f"{generator}: has instance norm, which keeps no running statistics; use statistics image")
    if dropout == "seeded" and config.dropout == "none":
        if config.architecture == "resnet":
            raise SettingsError(f"{generator}: this ResNet was built without dropout; leave dropout off")
        config = replace(config, dropout="reference")
    with _blamed_on(generator):
        weights = _generator_weights(state, config)
    return Model(
        generator_config=config,
        weights=weights,
        source=ImageDescription(mapping=dtype_mapping(np.dtype(np.uint8), config.source_channels)),
        target=ImageDescription(mapping=dtype_mapping(np.dtype(np.uint8), config.target_channels)),
        inference=InferenceConfig(statistics=statistics, dropout=dropout, seed=seed),
        training={"imported_from": [path.name for path in (generator, discriminator) if path is not None]},
        credits=credits or Credits(),
        discriminator=None if discriminator is None else _imported_discriminator(discriminator, config),
    )


@contextmanager
def _blamed_on(path: Path) -> Iterator[None]:
    """Put the name of the file in front of what is wrong with it."""
    try:
        yield
    except (ModelFileError, SettingsError) as error:
        raise ModelFileError(f"{path}: {error}") from error


def _generator_weights(state: Mapping[str, Tensor], config: GeneratorConfig) -> dict[str, Tensor]:
    with torch.device("meta"):
        network = build_generator(config)
    return _completed(generator_from_reference(_without_unused(state, config.norm), config), network, config.norm)


def _imported_discriminator(path: Path, generator: GeneratorConfig) -> TrainedDiscriminator:
    """The discriminator that was trained with a generator."""
    state = read_state_dict(path)
    with _blamed_on(path):
        config, channels = infer_discriminator(state)
        kinds = {discriminator_channels(generator, conditional=kind): kind for kind in (False, True)}
        if channels not in kinds:
            raise ModelFileError(
                f"this discriminator sees {channels} channels, but its generator's source and target have "
                f"{max(kinds)} (target alone: {min(kinds)}); give the one that was trained with the generator"
            )
        with torch.device("meta"):
            network = Discriminator(channels, config)
        weights = discriminator_from_reference(_without_unused(state, config.norm), config)
        completed = _completed(weights, network, config.norm)
        return TrainedDiscriminator(config=config, conditional=kinds[channels], weights=completed)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Names and tensors of a checkpoint, without executing code from it; a prefix "module." is taken off."""
    try:
        saved: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelFileError(f"{path}: does not exist") from error
    except pickle.UnpicklingError as error:
        raise ModelFileError(
            f"{path}: would need to execute code to be opened, so it is refused; save its state_dict alone"
        ) from error
    except Exception as error:  # what is damaged raises anything
        raise ModelFileError(
            f"{path}: not a readable PyTorch checkpoint; give a file such as latest_net_G.pth"
        ) from error
    if isinstance(saved, Mapping) and isinstance(saved.get("state_dict"), Mapping):
        saved = saved["state_dict"]
    if not isinstance(saved, Mapping) or not saved or not all(isinstance(v, Tensor) for v in saved.values()):
        raise ModelFileError(f"{path}: holds no state_dict of a network; give a file such as latest_net_G.pth")
    return {str(name).removeprefix("module."): value for name, value in saved.items()}


def infer_generator(state: Mapping[str, Tensor]) -> GeneratorConfig:
    """The generator that a state_dict with the reference's names belongs to."""
    if "model.model.0.weight" in state:
        return _inferred_unet(state)
    if "model.1.weight" in state and any(".conv_block." in name for name in state):
        return _inferred_resnet(state)
    if "model.0.weight" in state or "net.0.weight" in state:
        raise ModelFileError(
            "holds a discriminator; give a generator, such as latest_net_G.pth, and this one beside it as "
            "--discriminator"
        )
    raise ModelFileError(f"not a generator of the reference implementation (first entry {next(iter(state))!r})")


def _inferred_unet(state: Mapping[str, Tensor]) -> GeneratorConfig:
    first = _convolution(state, "model.model.0")
    depth, block = 1, "model.model.1.model"
    while f"{block}.1.weight" in state and depth < _MAX_DEPTH:
        depth += 1
        block += ".3.model"
    return GeneratorConfig(
        architecture="unet",
        source_channels=first.shape[1],
        target_channels=_convolution(state, "model.model.3").shape[1],
        base_width=first.shape[0],
        depth=depth,
        norm=_inferred_norm(state, "model.model.0.bias"),
    )


def _inferred_resnet(state: Mapping[str, Tensor]) -> GeneratorConfig:
    first = _convolution(state, "model.1")
    blocks = {m[1] for name in state if (m := re.match(r"model\.(\d+)\.conv_block\.", name))}
    has_dropout = any(k.endswith(".conv_block.6.weight") and v.ndim == 4 for k, v in state.items())
    last = max(int(m[1]) for name in state if (m := re.fullmatch(r"model\.(\d+)\.weight", name)))
    return GeneratorConfig(
        architecture="resnet",
        source_channels=first.shape[1],
        target_channels=_convolution(state, f"model.{last}").shape[0],
        base_width=first.shape[0],
        blocks=len(blocks),
        norm=_inferred_norm(state, "model.1.bias"),
        dropout="reference" if has_dropout else "none",
    )


def infer_discriminator(state: Mapping[str, Tensor]) -> tuple[DiscriminatorConfig, int]:
    """The discriminator that a state_dict with the reference's names belongs to, and how many channels it sees."""
    if "net.0.weight" in state:
        prefix, layers = "net", 0
    elif "model.0.weight" in state:
        convolutions = [name for name, value in state.items() if re.fullmatch(r"model\.\d+\.weight", name)
                        and value.ndim == 4]  # fmt: skip
        prefix, layers = "model", len(convolutions) - 2  # the first one and the last
    else:
        raise ModelFileError(
            f"not a discriminator of the reference implementation (first entry {next(iter(state))!r}); give "
            "a file such as latest_net_D.pth"
        )
    first = _convolution(state, f"{prefix}.0")
    norm = _inferred_norm(state, f"{prefix}.2.bias")
    return DiscriminatorConfig(layers=layers, base_width=first.shape[0], norm=norm), first.shape[1]


def _convolution(state: Mapping[str, Tensor], module: str) -> Tensor:
    """The weight of a convolution, (outputs, inputs, height, width), or inputs first where it is transposed."""
    weight = state.get(f"{module}.weight")
    if weight is None or weight.ndim != 4:
        found = "is missing" if weight is None else f"has shape {tuple(weight.shape)}"
        raise ModelFileError(f"not a network of the reference implementation ('{module}.weight' {found})")
    return weight


def _inferred_norm(state: Mapping[str, Tensor], bias_before_norm: str) -> Norm:
    """Batch norm has weights; convolutions have a bias before instance norm, which has none; without a norm neither."""
    if any(name.endswith(".weight") and value.ndim == 1 for name, value in state.items()):
        return "batch"
    return "instance" if bias_before_norm in state else "none"


def _without_unused(state: Mapping[str, Tensor], norm: Norm) -> dict[str, Tensor]:
    """Instance norms of old versions saved averages that nothing uses; they are left out, as the reference does."""
    return {name: value for name, value in state.items() if norm == "batch" or not name.endswith(_RUNNING)}


def _completed(weights: Mapping[str, Tensor], network: nn.Module, norm: Norm) -> dict[str, Tensor]:
    """Weights in the names and shapes of the network.

    Counters that old versions did not save are added, and biases of 0: without a norm the reference has no biases
    where another network has a norm, but ours have.
    """
    expected = network.state_dict()
    result: dict[str, Tensor] = {}
    for name, wanted in expected.items():
        if name in weights:
            result[name] = weights[name]
        elif name.endswith("num_batches_tracked"):
            result[name] = torch.tensor(0, dtype=torch.long)
        elif norm == "none" and name.endswith(".bias"):
            result[name] = torch.zeros(wanted.shape)
        else:
            raise ModelFileError(f"the weights lack {name!r}, which such a network has")
        if result[name].shape != wanted.shape:
            found = tuple(result[name].shape)
            raise ModelFileError(f"{name!r} has shape {found}, such a network needs {tuple(wanted.shape)}")
    if unexpected := sorted(weights.keys() - expected.keys()):
        raise ModelFileError(f"the weights have {unexpected[0]!r}, which such a network lacks")
    return result
