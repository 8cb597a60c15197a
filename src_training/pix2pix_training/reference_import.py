"""Opening checkpoints of the PyTorch reference implementation: what network they hold is told from keys and shapes."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pix2pix_training.config import DropoutMode, GeneratorConfig, InferenceConfig, Norm, Statistics
from pix2pix_training.errors import ModelFileError, SettingsError
from pix2pix_training.intensity import dtype_mapping
from pix2pix_training.model_file import ImageDescription, Model
from pix2pix_training.networks import build_generator
from pix2pix_training.reference_weights import generator_from_reference

_MAX_DEPTH = 10


def import_generator(path: Path, *, statistics: Statistics | None = None, dropout: DropoutMode = "off") -> Model:
    """A model from a generator's state_dict as the reference saves it (also from DataParallel, or from a GPU).

    Images are taken to be 8-bit, as the reference's are.

    Parameters
    ----------
    statistics : "running" or "image"; by default "image", the reference's usual test mode.
    dropout : "seeded" puts the reference's dropout where a U-Net has it; the file does not say if it was trained so.

    Raises
    ------
    ModelFileError
        The file is missing, needs code execution to be read, or holds another network.
    """
    state = read_state_dict(path)
    config = infer_generator(state, path)
    if dropout == "seeded" and config.dropout == "none":
        if config.architecture == "resnet":
            raise SettingsError(f"{path}: this ResNet was built without dropout; leave dropout off")
        config = GeneratorConfig(**{**vars(config), "dropout": "reference"})
    weights = _completed(generator_from_reference(state, config), config, path)
    return Model(
        generator_config=config,
        weights=weights,
        source=ImageDescription(mapping=dtype_mapping(np.dtype(np.uint8), config.source_channels)),
        target=ImageDescription(mapping=dtype_mapping(np.dtype(np.uint8), config.target_channels)),
        inference=InferenceConfig(statistics=statistics or "image", dropout=dropout),
        training={"imported_from": path.name},
    )


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
    except (RuntimeError, EOFError, ValueError, OSError, KeyError) as error:
        raise ModelFileError(
            f"{path}: not a readable PyTorch checkpoint; give a file such as latest_net_G.pth"
        ) from error
    if isinstance(saved, Mapping) and isinstance(saved.get("state_dict"), Mapping):
        saved = saved["state_dict"]
    if not isinstance(saved, Mapping) or not saved or not all(isinstance(v, Tensor) for v in saved.values()):
        raise ModelFileError(f"{path}: holds no state_dict of a network; give a file such as latest_net_G.pth")
    return {str(name).removeprefix("module."): value for name, value in saved.items()}


def infer_generator(state: Mapping[str, Tensor], path: Path) -> GeneratorConfig:
    """The generator that a state_dict with the reference's names belongs to."""
    if "model.model.0.weight" in state:
        return _inferred_unet(state)
    if "model.1.weight" in state and any(".conv_block." in name for name in state):
        return _inferred_resnet(state)
    if "model.0.weight" in state or "net.0.weight" in state:
        raise ModelFileError(f"{path}: holds a discriminator; a model needs a generator, such as latest_net_G.pth")
    raise ModelFileError(f"{path}: not a generator of the reference implementation (first entry {next(iter(state))!r})")


def _inferred_unet(state: Mapping[str, Tensor]) -> GeneratorConfig:
    first, last = state["model.model.0.weight"], state["model.model.3.weight"]
    depth, block = 1, "model.model.1.model"
    while f"{block}.1.weight" in state and depth < _MAX_DEPTH:
        depth += 1
        block += ".3.model"
    return GeneratorConfig(
        architecture="unet",
        source_channels=first.shape[1],
        target_channels=last.shape[1],
        base_width=first.shape[0],
        depth=depth,
        norm=_inferred_norm(state, "model.model.0.bias"),
    )


def _inferred_resnet(state: Mapping[str, Tensor]) -> GeneratorConfig:
    first = state["model.1.weight"]
    blocks = {m[1] for name in state if (m := re.match(r"model\.(\d+)\.conv_block\.", name))}
    has_dropout = any(k.endswith(".conv_block.6.weight") and v.ndim == 4 for k, v in state.items())
    last = max((int(m[1]), name) for name in state if (m := re.fullmatch(r"model\.(\d+)\.weight", name)))[1]
    return GeneratorConfig(
        architecture="resnet",
        source_channels=first.shape[1],
        target_channels=state[last].shape[0],
        base_width=first.shape[0],
        blocks=len(blocks),
        norm=_inferred_norm(state, "model.1.bias"),
        dropout="reference" if has_dropout else "none",
    )


def _inferred_norm(state: Mapping[str, Tensor], bias_of_first_convolution: str) -> Norm:
    """Convolutions have a bias where the norm is not affine; then there is instance norm."""
    return "instance" if bias_of_first_convolution in state else "batch"


def _completed(weights: Mapping[str, Tensor], config: GeneratorConfig, path: Path) -> dict[str, Tensor]:
    """Weights in the names and shapes of the network; counters that old versions did not save are added."""
    with torch.device("meta"):
        expected = build_generator(config).state_dict()
    result: dict[str, Tensor] = {}
    for name, wanted in expected.items():
        if name in weights:
            result[name] = weights[name]
        elif name.endswith("num_batches_tracked"):
            result[name] = torch.tensor(0, dtype=torch.long)
        else:
            raise ModelFileError(f"{path}: the weights lack {name!r}, which a network of {config} has")
        if result[name].shape != wanted.shape:
            found = tuple(result[name].shape)
            raise ModelFileError(
                f"{path}: {name!r} has shape {found}, a network of {config} needs {tuple(wanted.shape)}"
            )
    return result
