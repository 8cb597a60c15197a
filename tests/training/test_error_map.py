"""Error maps as a part of models: kept in the file, and a model of their own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from pix2pix_training.error_map import error_model, half_width_dtype
from pix2pix_training.error_network import ErrorNetwork, ErrorTraits
from pix2pix_training.errors import ModelFileError, SettingsError
from pix2pix_training.image_description import ImageDescription
from pix2pix_training.intensity import LinearMapping, foreground_mapping
from pix2pix_training.model_file import Model, load_model, save_model
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import build_generator


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    own = GeneratorConfig(source_channels=1, target_channels=2, base_width=4, depth=2)
    errors = GeneratorConfig(source_channels=1, target_channels=2, base_width=2, depth=2)
    return Model(
        generator_config=own,
        weights=build_generator(own).state_dict(),
        source=ImageDescription(mapping=linear("uint8", 1, 0.0, 255.0)),
        target=ImageDescription(mapping=linear("int16", 2, -100.0, 900.0), channel_names=("DAPI", "GFP")),
        error=ErrorNetwork(
            traits=ErrorTraits(config=errors, coverage=0.9, factors=(1.5, 2.0), images=3, measured=0.89),
            weights=build_generator(errors).state_dict(),
        ),
    )


def linear(dtype: str, channels: int, low: float, high: float) -> LinearMapping:
    return LinearMapping(
        dtype=dtype, scope="training-set", channels=channels, low=(low,) * channels, high=(high,) * channels
    )


def test_the_file_keeps_the_error_network(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    assert loaded.error is not None and model.error is not None
    assert loaded.error.traits == model.error.traits
    assert loaded.error.weights.keys() == model.error.weights.keys()
    assert all(torch.equal(loaded.error.weights[name], tensor) for name, tensor in model.error.weights.items())
    assert loaded.weights.keys() == model.weights.keys()


@pytest.mark.parametrize("with_error", [True, False])
def test_only_a_file_with_an_error_network_is_of_version_2(model: Model, tmp_path: Path, with_error: bool) -> None:
    path = tmp_path / "model.safetensors"
    save_model(model if with_error else replace(model, error=None), path)
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["pix2pix"])
    assert header["format_version"] == (2 if with_error else 1)
    assert ("error" in header) == with_error


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"factors": (1.0,)}, "a factor for each channel"),
        ({"config": GeneratorConfig(source_channels=3, target_channels=2, base_width=2, depth=2)}, "other channels"),
        ({"config": GeneratorConfig(source_channels=1, target_channels=2, depth=2, norm="instance")}, "another norm"),
    ],
)
def test_an_error_network_that_does_not_fit_is_refused(
    model: Model, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    assert model.error is not None
    with pytest.raises((ModelFileError, SettingsError), match=words):
        traits = replace(model.error.traits, **change)
        save_model(replace(model, error=replace(model.error, traits=traits)), tmp_path / "model.safetensors")
        load_model(tmp_path / "model.safetensors")


def test_half_widths_are_in_units_of_the_target(model: Model) -> None:
    errors = error_model(model)
    mapping = errors.target.mapping
    assert (mapping.dtype, errors.target.channel_names) == ("uint16", ("DAPI error", "GFP error"))
    x = torch.tensor([-1.0, 0.0, 1.0]).reshape(1, 1, 1, 3).expand(1, 2, 1, 3)
    widths = mapping.from_network(x)[0, :, 0].to(torch.int64)
    # An error of 2 where targets lie in [-1, 1] is one of 1000 here; factors are 1.5 and 2, the least error is 0.02.
    assert widths.tolist() == [[15, 765, 1515], [20, 1020, 2020]]


def test_a_model_without_error_map_says_how_to_get_one(model: Model) -> None:
    with pytest.raises(SettingsError, match="calibrate MODEL --source"):
        error_model(replace(model, error=None))
    classes = ImageDescription(mapping=foreground_mapping())
    with pytest.raises(SettingsError, match="are categories"):
        error_model(replace(model, error=None, target=classes))


@pytest.mark.parametrize(
    ("target", "dtype"),
    [("uint8", "uint8"), ("int8", "uint8"), ("bool", "uint8"), ("int32", "uint32"), ("float16", "float16")],
)
def test_half_widths_have_the_type_of_the_target_without_sign(target: str, dtype: str) -> None:
    assert half_width_dtype(target) == dtype
