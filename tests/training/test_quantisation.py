"""Convolutions of 8-bit integers: what they compute exactly, and which networks can."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pix2pix_training.choices import Decoder
from pix2pix_training.errors import SettingsError
from pix2pix_training.export_form import fold_norms, widen_narrow_layers
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import Generator, UNet, build_generator, initialize_weights
from pix2pix_training.quantisation import (
    IMAGE_IN_8_BITS,
    STEPS,
    Int8Traits,
    QuantisedConvolution,
    RangeSurvey,
    convolution_names,
    has_finer_image,
    int8_problem,
    quantise,
    rounding_of,
    weight_steps,
    without_last,
)
from pix2pix_training.stages import image_rounding
from pix2pix_training.validated import from_dict


def unet(decoder: Decoder = "transposed") -> Generator:
    torch.manual_seed(0)
    config = GeneratorConfig(source_channels=2, target_channels=1, base_width=4, depth=3, decoder=decoder)
    network = build_generator(config).eval()
    initialize_weights(network)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0, 1.4 / module.weight[0].numel() ** 0.5)
    fold_norms(network)
    return network


def quantised(network: Generator, x: torch.Tensor, *, last: bool = True) -> Generator:
    survey = RangeSurvey(network)
    survey.add(x)
    roundings = survey.roundings()
    quantise(network, roundings if last else without_last(roundings))
    return network


@pytest.mark.parametrize("decoder", ["transposed", "resize"])
@pytest.mark.parametrize("widened", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_convolutions_are_rounded_with_or_without_the_last_and_the_function_stays_nearly(
    decoder: Decoder, widened: bool, last: bool
) -> None:
    network, x = unet(decoder), torch.rand(2, 2, 64, 48) * 2 - 1
    with torch.inference_mode():
        expected = network(x)
        if widened:
            widen_narrow_layers(network)
        result = quantised(network, x, last=last)(x)
    rounded = [m for m in network.modules() if isinstance(m, QuantisedConvolution)]
    assert len(rounded) == len(convolution_names(network.config)) - (not last) == 5 + last
    assert 0 < (result - expected).abs().mean().item() < (0.02 if last else 0.01)


def test_sums_are_those_of_integers() -> None:
    """Float32 holds them all, so their order does not matter: float64 gives the same."""
    network, x = unet(), torch.rand(1, 2, 64, 64) * 2 - 1
    with torch.inference_mode():
        quantised(network, x)
        for module in network.modules():
            if isinstance(module, QuantisedConvolution) and module.conv.bias is not None:
                module.conv.bias.zero_()
        modules = [m for m in network.modules() if isinstance(m, QuantisedConvolution)]
        seen: dict[nn.Module, torch.Tensor] = {}
        for module in modules:
            module.register_forward_pre_hook(lambda m, given: seen.update({m: given[0]}))
        network(x)
        for module in modules:
            single = module(seen[module])
            assert torch.equal(module.double()(seen[module].double()).float(), single)
            integers = module.conv.weight / module.steps.view([-1 if d == module.axis else 1 for d in range(4)])
            assert torch.equal(integers, integers.round()) and integers.abs().max() <= 127


def test_integers_of_features_give_the_same_as_the_features() -> None:
    network, x = unet(), torch.rand(1, 2, 64, 64) * 2 - 1
    with torch.inference_mode():
        quantised(network, x)
        for module in [m for m in network.modules() if isinstance(m, QuantisedConvolution)][1:]:
            features = torch.randn(1, module.conv.in_channels, 8, 8) * module.rounding.step * 100
            integers = module.rounding(features)
            assert integers.dtype is torch.uint8
            assert torch.equal(module(integers), module(features))


def test_steps_are_powers_of_two_with_the_least_square_error() -> None:
    torch.manual_seed(0)
    weight = torch.randn(6, 5, 4, 4)
    for axis in (0, 1):
        steps = weight_steps(weight, axis)
        assert torch.equal(torch.exp2(torch.log2(steps).round()), steps)
        rows = weight.transpose(0, axis).flatten(1)

        def error(step: torch.Tensor, rows: torch.Tensor = rows) -> torch.Tensor:
            step = step[:, None]
            return ((rows / step).round().clamp(-127, 127) * step - rows).square().sum(1)

        assert bool((error(steps) <= error(2 * steps)).all() and (error(steps) <= error(steps / 2)).all())


def test_the_image_is_seen_in_finer_steps() -> None:
    network, x = unet(), torch.rand(1, 2, 16, 16) * 2 - 1
    first, *others = [m for m in quantised(network, x).modules() if isinstance(m, QuantisedConvolution)]
    assert first.rounding.largest == 4096
    assert {module.rounding.largest for module in others} == {STEPS}


def test_images_brighter_than_those_that_were_seen_are_not_clipped() -> None:
    survey = RangeSurvey(unet())
    survey.add(torch.full((1, 2, 16, 16), -0.9))
    assert survey.roundings()["encoder_1"] == (-11, 2048)  # 4096 steps of 2 ** -11: from -1 to 1


def test_roundings_of_another_network_are_refused() -> None:
    with pytest.raises(SettingsError, match="compile the model again"):
        quantise(unet(), {"encoder_1": (-3, 0)})
    network = unet()
    zero_beyond_the_steps = dict.fromkeys(convolution_names(network.config), (-3, STEPS + 1))
    with pytest.raises(SettingsError, match="compile the model again"):
        quantise(network, zero_beyond_the_steps)


@pytest.mark.parametrize("value", [1e30, torch.inf, torch.nan])
def test_values_that_no_steps_reach_over_are_refused(value: float) -> None:
    network = unet()
    survey = RangeSurvey(network)
    survey.add(torch.full((1, 2, 16, 16), value))
    survey.add(torch.zeros(1, 2, 16, 16))
    with pytest.raises(SettingsError, match="layer encoder_1 of the model takes are too large for precision int8"):
        survey.roundings()


@pytest.mark.parametrize(
    "rounding, words",
    [
        ((61, 0), r"encoder_1\[0\] is 61; it must lie between -60 and 60"),
        ((0, -1), r"encoder_1\[1\] is -1; it must lie between 0 and 16777216"),
        ((0,), r"encoder_1 should have 2 entries, not 1"),
        ((0, 1, 2), r"encoder_1 should have 2 entries, not 3"),
        ((0, "x"), r"encoder_1\[1\] is 'x', a str; it should be a int"),
    ],
)
def test_a_rounding_that_is_none_is_one_line(rounding: object, words: str) -> None:
    traits = {"roundings": {"encoder_1": rounding}, "parts": 2, "deviation": 0.0, "worst": 0.0}
    with pytest.raises(SettingsError, match=words):
        from_dict(Int8Traits, traits)


@pytest.mark.parametrize(
    "config, inference, words",
    [
        (GeneratorConfig(architecture="resnet"), InferenceConfig(), "ResNet"),
        (GeneratorConfig(decoder="pixel-shuffle"), InferenceConfig(), "pixel-shuffle"),
        (GeneratorConfig(), InferenceConfig(statistics="image"), "statistics of each image"),
        (GeneratorConfig(dropout="reference"), InferenceConfig(dropout="seeded"), "dropout"),
        (GeneratorConfig(norm="none"), InferenceConfig(statistics="image"), None),
        (GeneratorConfig(), InferenceConfig(), None),
    ],
)
def test_what_cannot_compute_in_integers_is_said(
    config: GeneratorConfig, inference: InferenceConfig, words: str | None
) -> None:
    problem = int8_problem(config, inference)
    assert problem is None if words is None else problem is not None and words in problem


@pytest.mark.parametrize("channels", [17, 40])
def test_images_of_many_channels_have_no_finer_steps_and_the_same_as_ever(channels: int) -> None:
    """17 to 32 channels have the steps of images in 8 bits, but one more of them."""
    config = GeneratorConfig(source_channels=channels, target_channels=1, base_width=2, depth=2)
    network = build_generator(config).eval()
    fold_norms(network)
    survey = RangeSurvey(network)
    survey.add(torch.zeros(1, channels, 4, 4))
    quantise(network, survey.roundings())
    assert isinstance(network, UNet)
    assert not has_finer_image(config)
    if channels == 17:
        assert survey.roundings()["encoder_1"] == IMAGE_IN_8_BITS
        assert image_rounding(network) is None
        assert rounding_of(network.down_block(1).conv).rounded(torch.ones(1, 1, 1, 1)).item() == 1
