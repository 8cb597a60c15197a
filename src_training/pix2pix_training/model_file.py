"""The one model file that users share: weights and a JSON header in a single ``.safetensors``.

Loading never executes code from the file, and checks every number and shape before it builds anything.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping as MappingType
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from pix2pix_training.atomic import atomic_write
from pix2pix_training.error_network import ErrorNetwork, ErrorTraits
from pix2pix_training.errors import InputError, ModelFileError, SettingsError
from pix2pix_training.image_description import ImageDescription, ImageTraits
from pix2pix_training.inference_config import Credits, InferenceConfig
from pix2pix_training.intensity import CategoryMapping, LinearMapping, Mapping
from pix2pix_training.network_config import DiscriminatorConfig, GeneratorConfig
from pix2pix_training.networks import (
    Discriminator,
    Generator,
    build_generator,
    discriminator_channels,
    set_inference_mode,
)
from pix2pix_training.novelty import NoveltyMeasure, NoveltyTraits, tensor_shapes
from pix2pix_training.quantisation import Int8Traits, are_roundings_of, int8_problem
from pix2pix_training.strict_json import read_table
from pix2pix_training.student_record import student_record_of
from pix2pix_training.validated import from_dict, validated

FORMAT = "pix2pix-model"
FORMAT_VERSION = 2
"""Of files with tensors that version 1 does not know; others are still written as version 1."""
_MAX_HEADER_BYTES = 10_000_000
_FURTHER = ("discriminator.", "error.", "novelty.")
"""Before the names of the tensors of what a file holds beside its generator."""
_FLOATS = ("F16", "BF16", "F32", "F64")
_INTEGERS = ("I32", "I64")
_NUMBER = (int, float)
_PROVENANCE: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("step", "training_pairs", "validation_pairs"), (int,)),
    **dict.fromkeys(("epochs", "seconds"), _NUMBER),
    **dict.fromkeys(("torch", "python", "device"), (str,)),
    **dict.fromkeys(("config", "images", "student"), (dict,)),
    "imported_from": (list,),
}
"""Types of entries of `Model.training`."""


@validated
class DiscriminatorTraits:
    """Shape of a discriminator, and whether it sees the source beside the target."""

    config: DiscriminatorConfig
    conditional: bool = True


@dataclass(frozen=True, kw_only=True)
class TrainedDiscriminator(DiscriminatorTraits):
    """A discriminator that a model file carries along, to continue training; translation does not use it."""

    weights: dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Model:
    """A trained generator with all that is needed to apply it.

    `training` is provenance and `metrics` validation scores; both are free-form JSON for people to read.
    """

    generator_config: GeneratorConfig
    weights: dict[str, Tensor]
    source: ImageDescription
    target: ImageDescription
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    training: MappingType[str, Any] = field(default_factory=dict)
    metrics: MappingType[str, Any] = field(default_factory=dict)
    credits: Credits = field(default_factory=Credits)
    discriminator: TrainedDiscriminator | None = None
    error: ErrorNetwork | None = None
    novelty: NoveltyMeasure | None = None
    int8: Int8Traits | None = None

    def generator(self, inference: InferenceConfig | None = None) -> Generator:
        """A new network with the weights, in eval mode, set to `inference` (default: the model's own)."""
        with torch.device("meta"):  # without the random weights that a new network begins with
            network = build_generator(self.generator_config)
        own = {
            name: self.weights[name].to("cpu", tensor.dtype, copy=True, memory_format=torch.contiguous_format)
            for name, tensor in network.state_dict().items()
        }
        network.load_state_dict(own, assign=True)
        set_inference_mode(network, inference or self.inference)
        return network


def model_digest(model: Model) -> str:
    """A checksum of all that decides what the model makes of an image: generator, weights, mappings, inference mode."""
    header = {
        "generator": asdict(model.generator_config),
        "source": _description_to_json(model.source),
        "target": _description_to_json(model.target),
        "inference": asdict(model.inference),
        **_int8_to_json(model.int8),
    }
    content = blake2b(json.dumps(header, sort_keys=True).encode(), digest_size=16)
    for name, tensor in sorted(model.weights.items()):
        content.update(name.encode())
        content.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return content.hexdigest()


def save_model(model: Model, path: str | Path) -> None:
    """Write atomically: the file is either the old one or the new one, whole. Refuses weights that are not finite."""
    further = {"discriminator.": model.discriminator, "error.": model.error, "novelty.": model.novelty}
    tensors = dict(model.weights)
    for prefix, part in further.items():
        tensors |= {} if part is None else _prefixed(prefix, part.weights)
    _require_finite(tensors, str(path))
    path = Path(path)
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = serialize(stored, metadata={"pix2pix": json.dumps(model_header(model), allow_nan=False)})
    with atomic_write(path) as partial:
        partial.write_bytes(content)


def model_header(model: Model) -> dict[str, Any]:
    """All of a model but its tensors, as plain data for JSON; docs/reference/models.md describes the entries."""
    return {
        "format": FORMAT,
        "format_version": 1 if model.error is None and model.novelty is None else FORMAT_VERSION,
        "generator": asdict(model.generator_config),
        "source": _description_to_json(model.source),
        "target": _description_to_json(model.target),
        "inference": asdict(model.inference),
        "training": dict(model.training),
        "metrics": {name: _finite_or_none(value) for name, value in model.metrics.items()},
        "credits": asdict(model.credits),
        "discriminator": _discriminator_to_json(model.discriminator),
        **({} if model.error is None else {"error": asdict(model.error.traits)}),
        **({} if model.novelty is None else {"novelty": asdict(model.novelty.traits)}),
        **_int8_to_json(model.int8),
    }


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def load_model(path: str | Path) -> Model:
    """Read a model file.

    Raises `ModelFileError` for a file that is missing, damaged, of another kind or of a newer version.
    """
    path = Path(path)
    header = _read_header(path)
    try:
        described = _described(header)
    except KeyError as error:
        raise ModelFileError(f"{path}: the header lacks {error}; the file is damaged") from error
    except InputError as error:
        raise ModelFileError(f"{path}: the header is not valid: {error}") from error
    tensors = _read_weights(path, _expected_tensors(described))
    weights = {name: tensor for name, tensor in tensors.items() if not name.startswith(_FURTHER)}
    of_discriminator, of_error, of_novelty = (
        {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        for prefix in _FURTHER
    )
    return replace(
        described,
        weights=weights,
        discriminator=described.discriminator and replace(described.discriminator, weights=of_discriminator),
        error=described.error and replace(described.error, weights=of_error),
        novelty=described.novelty and replace(described.novelty, weights=of_novelty),
    )


def saved_model_step(path: Path) -> int | None:
    """The step of training that a model file is of; None where it holds no model, or one that does not say."""
    try:
        step = _read_header(path)["training"]["step"]
    except (ModelFileError, KeyError, TypeError):
        return None
    return step if type(step) is int else None


def _described(header: MappingType[str, Any]) -> Model:
    """The model that a header describes, without weights yet; each entry is checked."""
    config = from_dict(GeneratorConfig, header["generator"], where="generator")
    inference = from_dict(InferenceConfig, header["inference"], where="inference")
    if inference.statistics == "running" and config.norm == "instance":
        raise SettingsError("inference.statistics is 'running', and instance norm has no running statistics")
    sides = {
        name: (_description_from_json(header[name], name), channels)
        for name, channels in (("source", config.source_channels), ("target", config.target_channels))
    }
    for name, (side, channels) in sides.items():
        if side.mapping.network_channels != channels:
            raise SettingsError(f"the intensity mapping of the {name} does not fit the network; the file is damaged")
    return Model(
        generator_config=config,
        weights={},
        source=sides["source"][0],
        target=sides["target"][0],
        inference=inference,
        training=_provenance_from_json(header.get("training", {})),
        metrics=_metrics_from_json(header.get("metrics", {})),
        credits=from_dict(Credits, header.get("credits", {}), where="credits"),
        discriminator=_discriminator_from_json(header.get("discriminator")),
        error=_error_from_json(header.get("error"), config, sides["target"][0]),
        novelty=_novelty_from_json(header.get("novelty")),
        int8=_int8_from_json(header.get("int8"), config, inference),
    )


def _read_header(path: Path) -> dict[str, Any]:
    """The JSON header of a model file, with its format and version checked."""
    _check_container(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ModelFileError(
            f"{path}: the model file is damaged or incomplete ({error}); get a new copy of it"
        ) from error
    if "pix2pix" not in metadata:
        raise ModelFileError(
            f"{path}: a safetensors file, but not a pix2pix model; use a model.safetensors from `train`"
        )
    try:
        header = read_table(metadata["pix2pix"])
    except ValueError as error:
        raise ModelFileError(f"{path}: the header of the model file is damaged ({error})") from error
    if header.get("format") != FORMAT:
        raise ModelFileError(f"{path}: not a pix2pix model")
    version = header.get("format_version")
    if type(version) is not int or version < 1:
        raise ModelFileError(f"{path}: the header of the model file is damaged (format_version is {version!r})")
    if version > FORMAT_VERSION:
        raise ModelFileError(
            f"{path}: has model format {version}, this version reads up to {FORMAT_VERSION}; update napari-pix2pix"
        )
    return header


def _check_container(path: Path) -> None:
    """Refuse what is not a safetensors file, before any parser sees it."""
    if not path.exists():
        raise ModelFileError(f"{path}: does not exist; give the model.safetensors of a training run")
    if path.is_dir():
        raise ModelFileError(f"{path}: is a folder; give the model.safetensors in it")
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror})") from error
    header_bytes = int.from_bytes(start[:8], "little")
    if len(start) < 9 or start[8:9] != b"{" or header_bytes > path.stat().st_size:
        if start[:2] == b"PK" or start[:1] == b"\x80":
            raise ModelFileError(
                f"{path}: a Python pickle, which could run code, so it is not opened; use a model file"
            )
        raise ModelFileError(f"{path}: not a model file, or truncated; get a new copy of it")
    if header_bytes > _MAX_HEADER_BYTES:
        raise ModelFileError(f"{path}: a header of {header_bytes} bytes is not plausible; the file is damaged")


def _prefixed(prefix: str, weights: MappingType[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in weights.items()}


@dataclass(frozen=True)
class _TensorKind:
    """Shape of a tensor, and whether it holds floats or integers."""

    shape: tuple[int, ...]
    is_float: bool


def _expected_tensors(model: Model) -> dict[str, _TensorKind]:
    """What the file of a model holds, by name; nothing is allocated."""
    config, discriminator = model.generator_config, model.discriminator
    with torch.device("meta"):
        tensors = build_generator(config).state_dict()
        if discriminator is not None:
            channels = discriminator_channels(config, conditional=discriminator.conditional)
            tensors |= _prefixed("discriminator.", Discriminator(channels, discriminator.config).state_dict())
        if model.error is not None:
            tensors |= _prefixed("error.", build_generator(model.error.traits.config).state_dict())
        if model.novelty is not None:
            shapes = tensor_shapes(model.novelty.traits, config.source_channels)
            tensors |= _prefixed("novelty.", {name: torch.empty(shape) for name, shape in shapes.items()})
    return {name: _TensorKind(tuple(tensor.shape), tensor.is_floating_point()) for name, tensor in tensors.items()}


def _read_weights(path: Path, expected: MappingType[str, _TensorKind]) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            found = {name: tuple(each.get_shape()) for name, each in slices.items()}
            if found != {name: kind.shape for name, kind in expected.items()}:
                wanted = {name: kind.shape for name, kind in expected.items()}
                raise ModelFileError(f"{path}: {_mismatch(wanted, found)}; the file is damaged")
            for name, each in slices.items():
                if each.get_dtype() not in (_FLOATS if expected[name].is_float else _INTEGERS):
                    raise ModelFileError(f"{path}: {name!r} is of type {each.get_dtype()}; the file is damaged")
            weights = {name: file.get_tensor(name) for name in found}
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{path}: the weights cannot be read ({error}); get a new copy of the file") from error
    _require_finite(weights, str(path))
    return weights


def _mismatch(expected: MappingType[str, Any], found: MappingType[str, Any]) -> str:
    for name in expected:
        if name not in found:
            return f"the weights lack {name!r}, which the network has"
        if expected[name] != found[name]:
            return f"{name!r} has shape {found[name]}, the network needs {expected[name]}"
    return f"the weights have {sorted(set(found) - set(expected))[0]!r}, which the network lacks"


def _require_finite(weights: MappingType[str, Tensor], where: str) -> None:
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not _is_finite(tensor):
            raise ModelFileError(f"{where}: {name!r} holds values that are not finite; the model cannot be used")


def _is_finite(tensor: Tensor) -> bool:
    """A sum that is finite has no other terms; one that is not may have overflowed."""
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())


def _discriminator_to_json(discriminator: TrainedDiscriminator | None) -> dict[str, Any] | None:
    if discriminator is None:
        return None
    return {"config": asdict(discriminator.config), "conditional": discriminator.conditional}


def _discriminator_from_json(data: Any) -> TrainedDiscriminator | None:
    """Without weights yet."""
    if data is None:
        return None
    traits = from_dict(DiscriminatorTraits, data, where="discriminator")
    return TrainedDiscriminator(config=traits.config, conditional=traits.conditional, weights={})


def _error_from_json(data: Any, config: GeneratorConfig, target: ImageDescription) -> ErrorNetwork | None:
    """Without weights yet."""
    if data is None:
        return None
    traits = from_dict(ErrorTraits, data, where="error")
    own = traits.config
    if (own.source_channels, own.target_channels) != (config.source_channels, config.target_channels):
        raise SettingsError("the error network has other channels than the generator; the file is damaged")
    if not isinstance(target.mapping, LinearMapping):
        raise SettingsError("there is an error network for a target of categories; the file is damaged")
    return ErrorNetwork(traits=traits, weights={})


def _novelty_from_json(data: Any) -> NoveltyMeasure | None:
    """Without weights yet."""
    return None if data is None else NoveltyMeasure(traits=from_dict(NoveltyTraits, data, where="novelty"), weights={})


def _int8_to_json(int8: Int8Traits | None) -> dict[str, Any]:
    return {} if int8 is None else {"int8": asdict(int8)}


def _int8_from_json(data: Any, config: GeneratorConfig, inference: InferenceConfig) -> Int8Traits | None:
    if data is None:
        return None
    traits = from_dict(Int8Traits, data, where="int8")
    if int8_problem(config, inference) is not None or not are_roundings_of(config, traits.roundings):
        raise SettingsError("the roundings of int8 are not those of the generator; the file is damaged")
    return traits


def _provenance_from_json(data: Any) -> dict[str, Any]:
    """Free-form, but for the entries that are shown."""
    if not isinstance(data, dict):
        raise SettingsError(f"training is {data!r:.60}, which should be a table")
    for name, kinds in _PROVENANCE.items():
        if name in data and (not isinstance(data[name], kinds) or isinstance(data[name], bool)):
            raise SettingsError(f"training.{name} is {data[name]!r:.60}, which is not what it should be")
    if not all(isinstance(name, str) for name in data.get("imported_from", ())):
        raise SettingsError("training.imported_from should be a list of names")
    student_record_of(data)
    return data


def _metrics_from_json(data: Any) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise SettingsError(f"metrics is {data!r:.60}, which should be a table")
    for name, value in data.items():
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            raise SettingsError(f"metrics.{name} is {value!r:.60}, which should be a number")
    return data


def _description_to_json(description: ImageDescription) -> dict[str, Any]:
    kind = "linear" if isinstance(description.mapping, LinearMapping) else "categories"
    mapping = asdict(description.mapping)
    if not mapping.get("foreground", True):
        del mapping["foreground"]  # versions that do not know it read all other categories
    return {**asdict(description), "mapping": {"kind": kind, **mapping}}


def _description_from_json(data: Any, where: str) -> ImageDescription:
    if not isinstance(data, dict) or not isinstance(data.get("mapping"), dict):
        raise SettingsError(f"{where} is not a table with a mapping")
    mapping = dict(data["mapping"])
    kind = mapping.pop("kind", None)
    kinds: dict[str, type[Mapping]] = {"linear": LinearMapping, "categories": CategoryMapping}
    if not isinstance(kind, str) or kind not in kinds:
        raise SettingsError(f"{where}.mapping.kind is {kind!r:.60}; this version knows linear and categories")
    fields = {name: value for name, value in data.items() if name != "mapping"}
    description = from_dict(ImageTraits, fields, where=where)
    if not re.fullmatch("[A-Z]{0,8}CYX", description.axes):
        raise SettingsError(f"{where}.axes is {description.axes!r:.60}; they end in CYX")
    return ImageDescription(mapping=from_dict(kinds[kind], mapping, where=f"{where}.mapping"), **vars(description))
