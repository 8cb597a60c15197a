"""A generator taken to pieces is the same function, whatever its norms use and wherever its noise comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pix2pix_training.choices import Architecture, DropoutPlacement, Norm, Statistics
from pix2pix_training.export_form import fold_norms
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.layers import StatisticsNorm, dropout_noise
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import Generator, UNet, build_generator, norm_layers, set_inference_mode
from pix2pix_training.quantisation import RangeSurvey, quantise, with_image_in_8_bits
from pix2pix_training.stages import (
    Rounded,
    Stage,
    StageSpec,
    activated_inputs,
    decoder_norm,
    encoder_norm,
    image_rounding,
    rounded_at,
    scale_and_shift,
    stage_inputs,
    stage_output,
    whole_stage,
)

SEED = 3
DEPTH = 5


def generator(config: GeneratorConfig, statistics: Statistics = "running", *, seeded: bool = False) -> Generator:
    """In float64, with weights, norm parameters and running averages that all matter."""
    torch.manual_seed(0)
    network = build_generator(config).double()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, 0, 1.4 / (module.weight[0].numel() ** 0.5))
        for norm in norm_layers(network):
            for tensor in (norm.weight, norm.bias, norm.running_mean):
                if tensor is not None:
                    tensor.add_(0.3 * torch.randn_like(tensor))
            if norm.running_var is not None:
                norm.running_var.uniform_(0.5, 2)
    set_inference_mode(
        network, InferenceConfig(statistics=statistics, dropout="seeded" if seeded else "off", seed=SEED)
    )
    return network


def unet_config(
    norm: Norm = "batch", architecture: Architecture = "unet", dropout: DropoutPlacement = "none"
) -> GeneratorConfig:
    return GeneratorConfig(
        architecture=architecture,
        source_channels=2,
        target_channels=1,
        base_width=3,
        depth=DEPTH,
        norm=norm,
        dropout=dropout,
    )


def image(config: GeneratorConfig) -> Tensor:
    stride = config.stride
    return torch.rand(1, config.source_channels, 2 * stride, 3 * stride, dtype=torch.float64) * 2 - 1


def run(network: Generator, spec: StageSpec, available: Mapping[str, Tensor], size: tuple[int, int]) -> Tensor:
    """Run a stage over a whole image of `size` on what is available by name, with noise made for it."""
    inputs = []
    for tensor in stage_inputs(network.config, spec):
        if tensor.noise_of is not None:
            assert tensor.level is not None
            shape = (tensor.channels, size[0] >> tensor.level, size[1] >> tensor.level)
            inputs.append(dropout_noise(SEED, tensor.noise_of, shape, (0, 0), torch.device("cpu")).double())
        else:
            inputs.append(available[tensor.name])
        channels = inputs[-1].shape[1]
        assert channels == tensor.channels
    result: Tensor = Stage(network, spec)(*inputs)
    facts = stage_output(network.config, spec)
    assert facts.level is not None
    assert result.shape == (1, facts.channels, size[0] >> facts.level, size[1] >> facts.level)
    return result


def gathered(norm: nn.Module, raw: Tensor) -> Tensor:
    assert isinstance(norm, StatisticsNorm)
    return scale_and_shift(norm, raw.mean((0, 2, 3)), raw.var((0, 2, 3), correction=0))


@torch.inference_mode()
@pytest.mark.parametrize("architecture", ["unet", "encoder-decoder", "resnet"])
@pytest.mark.parametrize(
    "norm, statistics",
    [("batch", "running"), ("batch", "image"), ("batch-renorm", "running"), ("instance", "image")],
)
@pytest.mark.parametrize("seeded", [False, True])
def test_the_whole_stage_is_the_network(
    architecture: Architecture, norm: Norm, statistics: Statistics, seeded: bool
) -> None:
    config = unet_config(norm, architecture, "reference" if architecture == "resnet" else "paper")
    network, x = generator(config, statistics, seeded=seeded), image(config)
    expected = network(x)
    staged = run(network, whole_stage(config, noise=seeded), {"features": x}, (x.shape[-2], x.shape[-1]))
    assert expected.std() > 0.02
    assert torch.allclose(staged, expected, rtol=0, atol=1e-12)


@torch.inference_mode()
@pytest.mark.parametrize("architecture", ["unet", "encoder-decoder"])
@pytest.mark.parametrize("split", [1, 2, 4, 5])
@pytest.mark.parametrize("norm, folded", [("batch", False), ("batch", True), ("batch-renorm", True), ("none", False)])
def test_three_stages_on_running_averages(architecture: Architecture, split: int, norm: Norm, folded: bool) -> None:
    config = unet_config(norm, architecture, "paper")
    network, x = generator(config, seeded=True), image(config)
    expected = network(x)
    if folded:
        fold_norms(network)
        assert not list(norm_layers(network))
    size = (x.shape[-2], x.shape[-1])
    known = {"features": x}
    known["encoded"] = run(
        network, StageSpec(gives="encoded", level=split, top=split, start=0, noise=True), known, size
    )
    if split < DEPTH:
        deep = StageSpec(gives="up", level=split, top=DEPTH, start=split, noise=True)
        known["up"] = run(network, deep, {"features": known["encoded"]}, size)
    skips = network.config.architecture == "unet" and split > 1
    last = StageSpec(
        gives="up",
        level=0,
        top=split,
        start=0 if skips else None,
        encoded=config.architecture == "unet" or split == DEPTH,
        up=split < DEPTH,
        noise=True,
    )
    assert torch.allclose(run(network, last, known, size), expected, rtol=0, atol=1e-12)


@torch.inference_mode()
@pytest.mark.parametrize("architecture", ["unet", "encoder-decoder"])
@pytest.mark.parametrize("image_too", [False, True])
@pytest.mark.parametrize("split", [1, 2, 4, 5])
def test_stages_that_give_integers_are_the_network_that_takes_them(
    architecture: Architecture, split: int, image_too: bool
) -> None:
    network = generator(unet_config(architecture=architecture)).float()
    x = image(network.config).float()
    fold_norms(network)
    survey = RangeSurvey(network)
    survey.add(x)
    quantise(network, with_image_in_8_bits(survey.roundings()) if image_too else survey.roundings())
    assert isinstance(network, UNet)
    rounded = rounded_at(network, split)
    assert rounded is (Rounded.FEATURES_AND_IMAGE if image_too else Rounded.FEATURES)
    size, has_skips = (x.shape[-2], x.shape[-1]), architecture == "unet"
    rounding = image_rounding(network)
    seen = x if rounding is None else rounding(x)

    encoding = StageSpec(gives="encoded", level=split, top=split, start=0, rounded=rounded)
    given = run(network, encoding, {"features": seen}, size)
    assert given.dtype is torch.uint8
    assert given.shape[1] == stage_output(network.config, encoding).channels
    channels = network.config.feature_channels(split)
    known = {"features": seen, "encoded": given[:, -channels:]}
    if split < DEPTH:
        deep = StageSpec(gives="up", level=split, top=DEPTH, start=split, rounded=rounded)
        known["up"] = run(network, deep, {"features": given[:, :channels]}, size)
        assert known["up"].dtype is torch.uint8
    last = StageSpec(
        gives="up",
        level=0,
        top=split,
        start=0 if has_skips and split > 1 else None,
        encoded=has_skips or split == DEPTH,
        up=split < DEPTH,
        rounded=rounded,
    )
    assert torch.equal(run(network, last, known, size), network(x))


@torch.inference_mode()
@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_stages_on_gathered_statistics(norm: Norm) -> None:
    """Level by level, each norm's statistics taken from the output of the stage before."""
    config, split = unet_config(norm, dropout="paper"), 3
    network, x = generator(config, "image", seeded=True), image(config)
    assert isinstance(network, UNet)
    size, known = (x.shape[-2], x.shape[-1]), {"features": x}
    for level in range(1, split + 1):
        spec = StageSpec(gives="encoded", level=level, top=level, start=0, given_norms=True, noise=True)
        known["encoded"] = run(network, spec, known, size)
        if level > 1:
            known[encoder_norm(level)] = gathered(network.down_block(level).norm, known["encoded"])
    deep = StageSpec(gives="up", level=split, top=DEPTH, start=split, noise=True)
    known["up"] = run(network, deep, {"features": known["encoded"]}, size)
    known[decoder_norm(split + 1)] = gathered(network.up_block(split + 1).norm, known["up"])
    for level in range(split, 0, -1):
        spec = StageSpec(
            gives="up",
            level=level - 1,
            top=split,
            start=0 if split > 1 and level < split else None,
            encoded=True,
            up=True,
            given_norms=True,
            noise=True,
        )
        raw = run(network, spec, known, size)
        if level > 1:
            known[decoder_norm(level)] = gathered(network.up_block(level).norm, raw)
    assert torch.allclose(raw, network(x), rtol=0, atol=1e-12)


@torch.inference_mode()
@pytest.mark.parametrize("architecture", ["unet", "encoder-decoder", "resnet"])
def test_folding_leaves_the_function(architecture: Architecture) -> None:
    config = unet_config(architecture=architecture)
    network, x = generator(config), image(config)
    expected = network(x)
    fold_norms(network)
    assert not list(norm_layers(network))
    assert torch.allclose(network(x), expected, rtol=0, atol=1e-12)


@torch.inference_mode()
def test_norms_on_image_statistics_are_not_folded() -> None:
    network = generator(unet_config(), "image")
    count = len(list(norm_layers(network)))
    fold_norms(network)
    assert len(list(norm_layers(network))) == count


def test_a_stage_has_only_the_weights_that_it_needs() -> None:
    network = generator(unet_config())
    spec = StageSpec(gives="encoded", level=2, top=2, start=0)
    names = {tuple(p.shape) for p in Stage(network, spec).parameters() if p.ndim == 4}
    assert names == {(3, 2, 4, 4), (6, 3, 4, 4)}


@pytest.mark.parametrize("folded, names", [(True, ["activated", "joined"]), (False, ["features", "encoded", "up"])])
def test_activations_at_the_entrance_can_be_left_to_the_caller(folded: bool, names: list[str]) -> None:
    network = generator(unet_config())
    if folded:
        fold_norms(network)
    spec = StageSpec(gives="up", level=2, top=4, start=2, encoded=True, up=True)
    given = {
        tensor.name: torch.randn(1, tensor.channels, 32 >> tensor.level, 48 >> tensor.level, dtype=torch.float64)
        for tensor in stage_inputs(network.config, spec)
        if tensor.level is not None
    }
    finished = given | {
        "activated": F.leaky_relu(given["features"], 0.2),
        "joined": F.relu(torch.cat([given["encoded"], given["up"]], 1)),
    }
    tensors = activated_inputs(network, spec)
    assert [tensor.name for tensor in tensors] == names
    assert [finished[tensor.name].shape[1] for tensor in tensors] == [tensor.channels for tensor in tensors]
    with torch.inference_mode():
        result = Stage(network, spec, activated=True)(*(finished[tensor.name] for tensor in tensors))
        expected = Stage(network, spec)(*given.values())
    assert torch.allclose(result, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("changes", [{"given_norms": True}, {"noise": True}])
def test_norms_and_noise_come_before_an_activation(changes: dict[str, Any]) -> None:
    network = generator(unet_config(dropout="paper"))
    spec = StageSpec(gives="up", level=1, top=2, encoded=True, up=True, **changes)
    assert activated_inputs(network, spec) == stage_inputs(network.config, spec)
