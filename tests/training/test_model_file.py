"""The model file: a faithful round trip, and refusal of everything that is not one."""

from __future__ import annotations

import json
import pickle
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pix2pix_training.errors import ModelFileError
from pix2pix_training.image_description import ImageDescription
from pix2pix_training.inference_config import Credits, InferenceConfig
from pix2pix_training.intensity import CategoryMapping, LinearMapping
from pix2pix_training.model_file import Model, TrainedDiscriminator, load_model, save_model
from pix2pix_training.network_config import DiscriminatorConfig, GeneratorConfig
from pix2pix_training.networks import Discriminator, build_generator, set_inference_mode


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    config = GeneratorConfig(source_channels=2, target_channels=3, base_width=2, depth=3, dropout="paper")
    return Model(
        generator_config=config,
        weights=build_generator(config).state_dict(),
        source=ImageDescription(
            mapping=LinearMapping(
                dtype="uint16", scope="training-set", channels=2, low=(1.5, 2.0), high=(9.0, 65535.0)
            ),
            channel_names=("phase", "DAPI"),
            pixel_size=(0.5, 0.25),
            unit="µm",
        ),
        target=ImageDescription(
            mapping=CategoryMapping(dtype="uint8", values=((0,), (4,), (9,)), colors=((0, 0, 0), (1, 2, 3), (9, 9, 9)))
        ),
        inference=InferenceConfig(statistics="image", dropout="seeded", seed=5),
        training={"step": 12},
        metrics={"mae": 0.5},
        credits=Credits(authors=("A. Author", "B. Author"), license="CC-BY-4.0", citation="doi:10.1234/5"),
    )


@pytest.fixture
def saved(model: Model, tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_model(model, path)
    return path


def rewrite_header(path: Path, **changes: Any) -> None:
    """Change entries of our header; None removes one. Weights stay as they are."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    container = json.loads(content[8 : 8 + length])
    header = json.loads(container["__metadata__"]["pix2pix"])
    for name, value in changes.items():
        if value is None:
            header.pop(name)
        else:
            header[name] = value
    container["__metadata__"]["pix2pix"] = json.dumps(header)
    text = json.dumps(container).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def test_round_trip_keeps_everything(model: Model, saved: Path) -> None:
    loaded = load_model(saved)
    assert all(torch.equal(loaded.weights[name], model.weights[name]) for name in model.weights)
    assert replace(loaded, weights={}) == replace(model, weights={})


def with_discriminator(model: Model) -> Model:
    config = DiscriminatorConfig(layers=1, base_width=2)
    weights = Discriminator(3, config).state_dict()
    return replace(model, discriminator=TrainedDiscriminator(config=config, conditional=False, weights=weights))


def test_round_trip_keeps_the_discriminator(model: Model, tmp_path: Path) -> None:
    carrying = with_discriminator(model)
    save_model(carrying, tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors")
    assert loaded.discriminator is not None and carrying.discriminator is not None
    found, expected = loaded.discriminator.weights, carrying.discriminator.weights
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert loaded.weights.keys() == model.weights.keys()
    assert replace(loaded.discriminator, weights={}) == replace(carrying.discriminator, weights={})


def test_a_discriminator_that_does_not_fit_is_refused(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_model(with_discriminator(model), path)
    rewrite_header(path, discriminator={"config": {"layers": 1, "base_width": 2}, "conditional": True})
    with pytest.raises(ModelFileError, match=r"'discriminator\.model\.0.weight' has shape"):
        load_model(path)
    rewrite_header(path, discriminator=None)
    with pytest.raises(ModelFileError, match=r"'discriminator\.model\.0.bias', which the network lacks"):
        load_model(path)


def test_generator_computes_the_same_function(model: Model, saved: Path) -> None:
    x = torch.randn(1, 2, 16, 16)
    network = build_generator(model.generator_config)
    network.load_state_dict(model.weights)
    set_inference_mode(network, model.inference)
    assert torch.equal(load_model(saved).generator()(x), network(x))


@pytest.mark.parametrize("size", [0, 5, 9, 200, -1, -500])
def test_truncated_files_are_refused(saved: Path, size: int) -> None:
    saved.write_bytes(saved.read_bytes()[:size])
    with pytest.raises(ModelFileError, match=r"truncated|damaged|incomplete"):
        load_model(saved)


def test_newer_version_is_refused_by_name(saved: Path) -> None:
    rewrite_header(saved, format_version=99)
    with pytest.raises(ModelFileError, match=r"model format 99.*update napari-pix2pix"):
        load_model(saved)


def test_pickle_in_disguise_is_not_opened(saved: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "executed",)

    saved.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ModelFileError, match="pickle"):
        load_model(saved)
    torch.save({"weights": torch.zeros(2)}, saved)
    with pytest.raises(ModelFileError, match="pickle"):
        load_model(saved)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"format": "something"}, "not a pix2pix model"),
        ({"generator": None}, "lacks 'generator'"),
        ({"generator": {"base_width": 10**6}}, "between 1 and 1024"),
        ({"generator": {"depth": "3"}}, "should be a int"),
        ({"generator": {"colour": 3}}, "unknown entry 'colour'"),
        ({"generator": {"base_width": 2, "depth": 4, "source_channels": 2}}, "weights lack"),
        ({"generator": {"base_width": 4, "depth": 3, "source_channels": 2}}, "has shape"),
        ({"source": {"mapping": {"kind": "python"}}}, "knows linear and categories"),
        ({"inference": {"statistics": "guess"}}, "choose one of"),
        ({"training": {"student": {"teacher": "x"}}}, "training.student lacks the entry 'teacher_width'"),
    ],
)
def test_implausible_headers_are_refused(saved: Path, changes: dict[str, Any], message: str) -> None:
    rewrite_header(saved, **changes)
    with pytest.raises(ModelFileError, match=message):
        load_model(saved)


def test_mapping_that_does_not_fit_the_network_is_refused(model: Model, tmp_path: Path) -> None:
    wrong = LinearMapping(dtype="uint8", scope="training-set", channels=1, low=(0.0,), high=(1.0,))
    save_model(replace(model, source=ImageDescription(mapping=wrong)), tmp_path / "m.safetensors")
    with pytest.raises(ModelFileError, match="does not fit the network"):
        load_model(tmp_path / "m.safetensors")


def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(model: Model, saved: Path) -> None:
    name = next(iter(model.weights))
    broken = replace(model, weights={**model.weights, name: torch.full_like(model.weights[name], torch.nan)})
    before = saved.read_bytes()
    with pytest.raises(ModelFileError, match="not finite"):
        save_model(broken, saved)
    assert saved.read_bytes() == before


def test_other_files_are_refused(tmp_path: Path) -> None:
    for path, message in ((tmp_path, "is a folder"), (tmp_path / "none", "does not exist")):
        with pytest.raises(ModelFileError, match=message):
            load_model(path)
    text = tmp_path / "text.safetensors"
    text.write_text("not a model at all, only text that is long enough")
    with pytest.raises(ModelFileError, match="not a model file"):
        load_model(text)
