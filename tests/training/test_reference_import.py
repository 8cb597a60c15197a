"""Checkpoints of the reference implementation open as models that compute the same."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.textbook import NestedUNet, patchgan
from pix2pix_training.config import ObjectiveConfig, TrainingConfig
from pix2pix_training.errors import ModelFileError, SettingsError
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.model_file import load_model, save_model
from pix2pix_training.network_config import DiscriminatorConfig, GeneratorConfig
from pix2pix_training.networks import Discriminator, build_generator
from pix2pix_training.reference_import import import_model, infer_discriminator, infer_generator
from pix2pix_training.reference_weights import discriminator_state, discriminator_to_reference, generator_state
from pix2pix_training.training_step import TrainingStep, settings_of
from pix2pix_training.validated import from_dict


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("instance", [False, True])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_unet_is_recognised_and_computes_the_same(instance: bool, prefix: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = NestedUNet(4, 2, 3, 5, instance=instance)
    path = tmp_path / "net_G.pth"
    torch.save({prefix + name: value for name, value in network.state_dict().items()}, path)
    save_model(import_model(path), tmp_path / "model.safetensors")
    model = load_model(tmp_path / "model.safetensors")
    norm = "instance" if instance else "batch"
    assert model.generator_config == GeneratorConfig(
        source_channels=4,
        target_channels=2,
        base_width=3,
        depth=5,
        norm=norm,  # type: ignore[arg-type]
    )
    x = torch.randn(1, 4, 32, 64)
    with torch.no_grad():
        assert torch.allclose(model.generator()(x), network.train()(x), atol=1e-6)


@pytest.mark.parametrize("depth", [5, 7])
def test_unet_of_the_reference_without_norm_is_opened(depth: int, tmp_path: Path) -> None:
    """As ``--norm none`` trains it: no norm layers, and no biases where another network has a norm."""
    torch.manual_seed(0)
    network = NestedUNet(2, 1, 3, depth, normless=True)
    torch.save(network.state_dict(), tmp_path / "latest_net_G.pth")
    model = import_model(tmp_path / "latest_net_G.pth")
    assert (model.generator_config.norm, model.generator_config.depth) == ("none", depth)
    save_model(model, tmp_path / "m.safetensors")
    x = torch.randn(1, 2, 128, 128)
    with torch.no_grad():
        assert torch.allclose(load_model(tmp_path / "m.safetensors").generator()(x), network(x), atol=1e-6)
    again = generator_state(model)
    assert again.keys() == network.state_dict().keys()
    assert all(torch.equal(again[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize("layers", [0, 3])
def test_networks_of_the_reference_without_norm_are_opened_together(layers: int, tmp_path: Path) -> None:
    """A ResNet and its discriminator, without norms and biases."""
    generator = build_generator(GeneratorConfig(architecture="resnet", blocks=2, base_width=2, norm="none"))
    config = DiscriminatorConfig(layers=layers, base_width=2, norm="none")
    discriminator = discriminator_to_reference(Discriminator(6, config).state_dict(), config)
    biased = {"model.1.bias", "model.19.bias"} | ({"net.0.bias"} if layers == 0 else {"model.0.bias", "model.11.bias"})
    for name, state in (("G.pth", generator.state_dict()), ("D.pth", discriminator)):
        kept = {k: v for k, v in state.items() if not k.endswith("bias") or (k in biased and k != "model.1.bias")}
        torch.save(kept, tmp_path / name)
    model = import_model(tmp_path / "G.pth", tmp_path / "D.pth")
    assert (model.generator_config.norm, model.generator_config.blocks) == ("none", 2)
    assert model.discriminator is not None
    assert model.discriminator.config == config
    assert bool((model.weights["model.1.bias"] == 0).all())
    for name, found in (("D.pth", discriminator_state(model)), ("G.pth", generator_state(model))):
        assert found.keys() == torch.load(tmp_path / name, weights_only=True).keys()


@pytest.mark.parametrize("dropout", ["none", "reference"])
@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("blocks", [6, 9])
def test_resnet_is_recognised(dropout: str, norm: str, blocks: int, tmp_path: Path) -> None:
    config = GeneratorConfig(architecture="resnet", blocks=blocks, base_width=2, norm=norm, dropout=dropout)  # type: ignore[arg-type]
    torch.save(build_generator(config).state_dict(), tmp_path / "net_G.pth")
    found = import_model(tmp_path / "net_G.pth").generator_config
    assert (found.architecture, found.blocks, found.norm, found.dropout) == ("resnet", blocks, norm, dropout)


@pytest.mark.parametrize(
    "name", ["unet_d5_ngf8_bn", "unet_d6_ngf4_bn_dropout_1to2", "unet_d5_ngf8_in", "resnet_3blocks_ngf8_in"]
)
def test_checkpoints_of_the_reference_reproduce_its_output(name: str, reference_folder: Path) -> None:
    vectors = np.load(reference_folder / f"{name}.npz")
    statistics = "running" if "_bn" in name else "image"
    model = import_model(reference_folder / f"{name}.pth", statistics=statistics)  # type: ignore[arg-type]
    expected = torch.from_numpy(vectors["y_eval"])
    with torch.no_grad():
        found = model.generator()(torch.from_numpy(vectors["x"]))
    assert relative_error(found, expected) < 1e-5


def resnet_file(folder: Path) -> Path:
    """A generator from three channels to three, as small as can be."""
    path = folder / "latest_net_G.pth"
    torch.save(build_generator(GeneratorConfig(architecture="resnet", blocks=1, base_width=1)).state_dict(), path)
    return path


@pytest.mark.parametrize("name", ["patchgan_n3_ndf8_bn", "pixelgan_ndf8_bn"])
def test_discriminators_of_the_reference_reproduce_its_output(
    name: str, reference_folder: Path, tmp_path: Path
) -> None:
    vectors = np.load(reference_folder / f"{name}.npz")
    save_model(import_model(resnet_file(tmp_path), reference_folder / f"{name}.pth"), tmp_path / "m.safetensors")
    found = load_model(tmp_path / "m.safetensors").discriminator
    assert found is not None
    assert found.config == DiscriminatorConfig(base_width=8, layers=3 if name.startswith("patch") else 0)
    network = Discriminator(6, found.config)
    network.load_state_dict(found.weights)
    with torch.no_grad():
        x = torch.from_numpy(vectors["x"])
        assert relative_error(network.eval()(x), torch.from_numpy(vectors["y_eval"])) < 1e-5


@pytest.mark.parametrize("layers", [0, 1, 3, 5])
@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_discriminator_is_recognised(layers: int, norm: str, conditional: bool, prefix: str, tmp_path: Path) -> None:
    config = DiscriminatorConfig(layers=layers, base_width=2, norm=norm)  # type: ignore[arg-type]
    network = Discriminator(6 if conditional else 3, config)
    state = {prefix + k: v for k, v in discriminator_to_reference(network.state_dict(), config).items()}
    torch.save(state, tmp_path / "latest_net_D.pth")
    found = import_model(resnet_file(tmp_path), tmp_path / "latest_net_D.pth").discriminator
    assert found is not None
    assert (found.config, found.conditional) == (config, conditional)
    assert all(torch.equal(found.weights[name], value) for name, value in network.state_dict().items())


def test_published_networks_are_recognised_by_names_and_shapes(reference_folder: Path) -> None:
    names = json.loads((reference_folder / "key_names.json").read_text())
    states = {
        network: {name: torch.empty(shape, device="meta") for name, shape in entries.items()}
        for network, entries in names.items()
    }
    assert infer_generator(states["unet_256_batch"]) == GeneratorConfig()
    assert infer_discriminator(states["basic_batch"]) == (DiscriminatorConfig(), 6)


@pytest.mark.parametrize("mode", ["vanilla", "lsgan"])
def test_training_goes_on_where_the_reference_stopped(mode: str, reference_folder: Path, tmp_path: Path) -> None:
    """Generator and discriminator from files, then the same twelve steps as the reference took."""
    initial = torch.load(reference_folder / f"trace_{mode}_init.pth", weights_only=True)
    for name in "GD":
        torch.save(initial[name], tmp_path / f"net_{name}.pth")
    vectors = np.load(reference_folder / f"trace_{mode}.npz")
    model = import_model(tmp_path / "net_G.pth", tmp_path / "net_D.pth")
    settings = settings_of(model)
    settings["objective"]["gan_mode"] = mode
    config = from_dict(TrainingConfig, {**settings, "patch_size": 64, "steps": 12})
    step = TrainingStep(config, torch.device("cpu"), torch.float32)
    step.start_from(model)
    assert step.discriminator is not None
    for network in (step.generator, step.discriminator):
        network.double()  # in float32 rounding takes such a trace further from the reference's
    sources, targets = (torch.from_numpy(vectors[name]).double() for name in "AB")
    for number in range(12):
        step.run(sources[number], targets[number])
    with torch.no_grad():
        found = step.generator.eval()(sources[0])
    assert relative_error(found, torch.from_numpy(vectors["final_eval"])) < 1e-5


def test_a_discriminator_of_another_kind_starts_anew_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save({f"model.{k}": v for k, v in patchgan(6, 2).state_dict().items()}, tmp_path / "net_D.pth")
    model = import_model(resnet_file(tmp_path), tmp_path / "net_D.pth")
    config = from_dict(TrainingConfig, {**settings_of(model), "patch_size": 64})
    assert model.discriminator is not None

    def starts_anew(config: TrainingConfig, message: str) -> None:
        caplog.clear()
        step = TrainingStep(config, torch.device("cpu"), torch.float32)
        assert step.discriminator is not None
        before = {name: value.clone() for name, value in step.discriminator.state_dict().items()}
        step.start_from(model)
        assert torch.equal(step.generator.state_dict()["model.1.weight"], model.weights["model.1.weight"])
        assert all(torch.equal(value, before[name]) for name, value in step.discriminator.state_dict().items())
        assert message in caplog.text

    wider = replace(config, discriminator=DiscriminatorConfig(base_width=3))
    starts_anew(wider, "another discriminator (base_width 2 in the model, 3 asked), so that of the run starts anew")
    starts_anew(replace(config, objective=ObjectiveConfig(conditional=False)), "conditional True in the model, False")


def test_a_discriminator_that_does_not_belong_to_the_generator_is_refused(tmp_path: Path) -> None:
    generator, path = resnet_file(tmp_path), tmp_path / "net_D.pth"

    def refused(state: dict[str, torch.Tensor], message: str) -> None:
        torch.save(state, path)
        with pytest.raises(ModelFileError, match=message):
            import_model(generator, path)

    foreign = {f"model.{k}": v for k, v in patchgan(5, 2).state_dict().items()}
    refused(foreign, "sees 5 channels, but its generator's source and target have 6 .target alone: 3")
    refused(build_generator(GeneratorConfig(base_width=1, depth=2)).state_dict(), "not a discriminator")
    refused({**foreign, "model.0.weight": torch.zeros(3)}, r"'model.0.weight' has shape \(3,\)")
    surplus = {f"model.{k}": v for k, v in patchgan(6, 2).state_dict().items()}
    refused({**surplus, "model.2.scale": torch.zeros(3)}, "'model.2.scale', which such a network lacks")


def test_a_checkpoint_saved_on_a_gpu_opens_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
    torch.save(NestedUNet(1, 1, 2, 4).state_dict(), tmp_path / "gpu.pth")
    monkeypatch.undo()
    weights = import_model(tmp_path / "gpu.pth").weights
    assert {tensor.device.type for tensor in weights.values()} == {"cpu"}


def test_the_file_format_of_old_versions_opens(tmp_path: Path) -> None:
    state = NestedUNet(1, 1, 2, 4).state_dict()
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert import_model(tmp_path / "old.pth").generator_config.depth == 4


def test_averages_that_old_instance_norms_saved_are_left_out(tmp_path: Path) -> None:
    """PyTorch 0.3 kept them, and the reference drops them when it loads such a file."""
    state = build_generator(
        GeneratorConfig(architecture="resnet", blocks=1, base_width=2, norm="instance")
    ).state_dict()
    torch.save(
        {**state, "model.2.running_mean": torch.ones(2), "model.2.running_var": torch.ones(2)}, tmp_path / "G.pth"
    )
    assert import_model(tmp_path / "G.pth").weights.keys() == state.keys()


@pytest.mark.parametrize("instance, statistics", [(False, "running"), (False, "image"), (True, "image")])
def test_statistics_are_set_as_asked(instance: bool, statistics: str, tmp_path: Path) -> None:
    torch.save(NestedUNet(1, 1, 2, 4, instance=instance).state_dict(), tmp_path / "G.pth")
    model = import_model(tmp_path / "G.pth", statistics=statistics)  # type: ignore[arg-type]
    assert model.inference == InferenceConfig(statistics=statistics)  # type: ignore[arg-type]


def test_running_statistics_are_refused_where_there_are_none(tmp_path: Path) -> None:
    torch.save(NestedUNet(1, 1, 2, 4, instance=True).state_dict(), tmp_path / "G.pth")
    with pytest.raises(SettingsError, match="keeps no running statistics"):
        import_model(tmp_path / "G.pth", statistics="running")


def test_old_checkpoints_without_counters_open(tmp_path: Path) -> None:
    state = {k: v for k, v in NestedUNet(1, 1, 2, 4).state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pth")
    assert import_model(tmp_path / "old.pth").generator_config.depth == 4


def test_dropout_is_placed_where_asked(tmp_path: Path) -> None:
    torch.save(NestedUNet(1, 1, 2, 6).state_dict(), tmp_path / "unet.pth")
    model = import_model(tmp_path / "unet.pth", dropout="seeded")
    assert (model.generator_config.dropout, model.inference.dropout) == ("reference", "seeded")
    resnet = build_generator(GeneratorConfig(architecture="resnet", blocks=1, base_width=1))
    torch.save(resnet.state_dict(), tmp_path / "resnet.pth")
    with pytest.raises(SettingsError, match="without dropout"):
        import_model(tmp_path / "resnet.pth", dropout="seeded")


def test_what_is_no_generator_is_refused(tmp_path: Path) -> None:
    def refused(content: Any, message: str) -> None:
        torch.save(content, tmp_path / "x.pth")
        with pytest.raises(ModelFileError, match=message) as caught:
            import_model(tmp_path / "x.pth")
        assert "\n" not in str(caught.value)

    refused({f"model.{k}": v for k, v in patchgan(6, 2).state_dict().items()}, "holds a discriminator")
    refused(nn.Linear(2, 2).state_dict(), "not a generator of the reference")
    refused({"epoch": 3}, "no state_dict")
    refused(nn.Linear(2, 2), "execute code")
    refused({**NestedUNet(1, 1, 2, 4).state_dict(), "model.scale": torch.ones(1)}, r"x.pth: .*'model.scale'")
    wide = {"model.model.0.weight": torch.zeros(2000, 1, 1, 1), "model.model.3.weight": torch.zeros(1, 1, 1, 1)}
    refused(wide, "x.pth: base_width is 2000")
    incomplete = NestedUNet(1, 1, 2, 4).state_dict()
    del incomplete["model.model.1.model.5.weight"]
    refused(incomplete, "lack")
    (tmp_path / "x.pth").write_bytes(pickle.dumps(Path("x")))
    with pytest.raises(ModelFileError):
        import_model(tmp_path / "x.pth")
    with pytest.raises(ModelFileError, match="does not exist"):
        import_model(tmp_path / "none.pth")
