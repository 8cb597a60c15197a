"""State_dicts leave under the reference's names: they load strictly into its module layout, and come back unchanged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.textbook import NestedUNet, patchgan
from pix2pix_training.errors import SettingsError
from pix2pix_training.image_description import ImageDescription
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.intensity import dtype_mapping
from pix2pix_training.model_file import Model, TrainedDiscriminator
from pix2pix_training.network_config import DiscriminatorConfig, GeneratorConfig
from pix2pix_training.networks import Discriminator, build_generator
from pix2pix_training.reference_import import import_model
from pix2pix_training.reference_weights import (
    discriminator_state,
    generator_from_reference,
    generator_state,
    write_state_dict,
)


def model_of(config: GeneratorConfig, discriminator: TrainedDiscriminator | None = None) -> Model:
    torch.manual_seed(1)
    mapping = dtype_mapping(np.dtype(np.uint8), 3)
    return Model(
        generator_config=config,
        weights=build_generator(config).state_dict(),
        source=ImageDescription(mapping=mapping),
        target=ImageDescription(mapping=mapping),
        discriminator=discriminator,
    )


@pytest.mark.parametrize("norm", ["batch", "batch-renorm", "instance"])
@pytest.mark.parametrize("depth", [5, 7])
def test_unet_loads_strictly_into_nested_blocks_and_computes_the_same(norm: str, depth: int, tmp_path: Path) -> None:
    config = GeneratorConfig(base_width=2, depth=depth, norm=norm, dropout="paper")  # type: ignore[arg-type]
    model = model_of(config)
    write_state_dict(generator_state(model), tmp_path / "net_G.pth")
    network = NestedUNet(3, 3, 2, depth, instance=norm == "instance")
    network.load_state_dict(torch.load(tmp_path / "net_G.pth", weights_only=True), strict=True)
    x = torch.randn(1, 3, 2**depth, 2 ** (depth + 1))
    own = model.generator(InferenceConfig(statistics="image" if norm == "instance" else "running"))
    network.train(norm == "instance")  # instance norm has no averages to use
    with torch.no_grad():
        assert torch.allclose(own(x), network(x), atol=1e-6)


@pytest.mark.parametrize(
    "config, message",
    [
        (DiscriminatorConfig(base_width=2, norm="batch-renorm"), "no discriminator with norm 'batch-renorm'"),
        (DiscriminatorConfig(base_width=2, scales=2), "no discriminator of several scales"),
        (DiscriminatorConfig(base_width=2, spectral_norm=True), "or with spectral norm"),
    ],
)
def test_discriminators_that_the_reference_lacks_are_refused(config: DiscriminatorConfig, message: str) -> None:
    carried = TrainedDiscriminator(config=config, weights=Discriminator(6, config).state_dict())
    with pytest.raises(SettingsError, match=message):
        discriminator_state(model_of(GeneratorConfig(base_width=2, depth=5), carried))


def test_discriminator_loads_strictly_into_a_plain_patchgan(tmp_path: Path) -> None:
    config = DiscriminatorConfig(base_width=2)
    weights = Discriminator(6, config).state_dict()
    model = model_of(GeneratorConfig(base_width=2, depth=5), TrainedDiscriminator(config=config, weights=weights))
    write_state_dict(discriminator_state(model), tmp_path / "net_D.pth")
    plain = torch.nn.ModuleDict({"model": patchgan(6, 2)})
    plain.load_state_dict(torch.load(tmp_path / "net_D.pth", weights_only=True), strict=True)
    assert torch.equal(plain.state_dict()["model.11.weight"], weights["model.11.weight"])


@pytest.mark.parametrize(
    "generator, discriminator",
    [
        ("unet_d5_ngf8_bn", "patchgan_n3_ndf8_bn"),
        ("unet_d6_ngf4_bn_dropout_1to2", None),
        ("unet_d5_ngf8_in", None),
        ("resnet_3blocks_ngf8_in", "pixelgan_ndf8_bn"),
    ],
)
def test_files_of_the_reference_come_back_unchanged(
    generator: str, discriminator: str | None, reference_folder: Path, tmp_path: Path
) -> None:
    paths = [reference_folder / f"{name}.pth" for name in (generator, discriminator) if name is not None]
    model = import_model(*paths)
    for path, state_of in zip(paths, (generator_state, discriminator_state), strict=False):
        write_state_dict(state_of(model), tmp_path / path.name)
        before = torch.load(path, weights_only=True)
        after = torch.load(tmp_path / path.name, weights_only=True)
        assert after.keys() == before.keys()
        assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_resize_decoder_leaves_as_the_transposed_one_that_it_equals() -> None:
    model = model_of(GeneratorConfig(base_width=2, depth=5, decoder="resize"))
    state = generator_state(model)
    config = replace(model.generator_config, decoder="transposed")
    again = replace(model, generator_config=config, weights=generator_from_reference(state, config))
    x = torch.rand(1, 3, 32, 64) * 2 - 1
    with torch.inference_mode():
        expected = model.generator(model.inference)(x)
        assert torch.allclose(again.generator(model.inference)(x), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", ["unet", "resnet"])
def test_networks_without_norms_are_exported_where_they_have_no_biases(architecture: Any) -> None:
    model = model_of(GeneratorConfig(architecture=architecture, base_width=2, depth=5, blocks=3, norm="none"))
    inner = "model.1.bias" if architecture == "resnet" else "up.2.conv.bias"
    outer = "model.20.bias" if architecture == "resnet" else "up.0.conv.bias"
    model.weights[outer].fill_(0.5)
    with pytest.raises(SettingsError, match="no biases in networks without norm layers, and this one has learnt some"):
        generator_state(replace(model, weights={**model.weights, inner: torch.ones_like(model.weights[inner])}))
    plain = {name: value if name == outer else _unbiased(name, value) for name, value in model.weights.items()}
    state = generator_state(replace(model, weights=plain))
    assert [bool((value == 0.5).all()) for name, value in state.items() if name.endswith("bias")] == [True]


def _unbiased(name: str, value: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(value) if name.endswith("bias") else value


@pytest.mark.parametrize(
    "config, message",
    [
        (GeneratorConfig(architecture="encoder-decoder", depth=5), "no encoder-decoder"),
        (GeneratorConfig(base_width=2, depth=4), "5 down-samplings or more, and this one has 4"),
        (GeneratorConfig(base_width=2, depth=5, output="linear"), "tanh"),
        (GeneratorConfig(base_width=2, depth=5, decoder="pixel-shuffle"), "no decoder with pixel shuffle"),
    ],
)
def test_networks_that_the_reference_lacks_are_refused(config: GeneratorConfig, message: str) -> None:
    with torch.device("meta"):
        model = model_of(config)
    with pytest.raises(SettingsError, match=message):
        generator_state(model)
    with pytest.raises(SettingsError, match="carries no discriminator"):
        discriminator_state(model)
