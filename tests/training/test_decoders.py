"""Decoders without transposed convolutions: the functions that they say they are, the halo that tiling relies on."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pix2pix_training.choices import Decoder
from pix2pix_training.errors import SettingsError
from pix2pix_training.export_form import fold_norms
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import build_generator, initialize_weights, norm_layers, set_inference_mode
from pix2pix_training.strided_convolution import ResizeConvolution, ShuffleConvolution, doubling_convolution

DECODERS: tuple[Decoder, ...] = ("transposed", "resize", "pixel-shuffle")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def images(channels: int = 3) -> Tensor:
    return torch.randn(2, channels, 6, 7, dtype=torch.float64)


@pytest.mark.parametrize("bias", [True, False])
def test_a_resize_convolution_is_nearest_neighbours_and_a_convolution(bias: bool) -> None:
    layer = ResizeConvolution(3, 5, bias=bias).double()
    x = images().requires_grad_(True)
    expected = F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), layer.weight, layer.bias, padding=1)
    assert torch.allclose(layer(x), expected, rtol=0, atol=1e-12)
    assert torch.allclose(layer.as_transposed()(x), expected, rtol=0, atol=1e-12)
    direction = torch.randn_like(expected)
    wanted = torch.autograd.grad((expected * direction).sum(), (x, layer.weight))
    found = torch.autograd.grad((layer(x) * direction).sum(), (x, layer.weight))
    assert all(torch.allclose(f, w, rtol=0, atol=1e-10) for f, w in zip(found, wanted, strict=True))


def test_a_shuffle_convolution_turns_channels_into_pixels() -> None:
    layer = ShuffleConvolution(3, 5, bias=True).double()
    x = images()
    cells = layer.expand(x).reshape(2, 5, 2, 2, 6, 7)
    pixels = cells.permute(0, 1, 4, 2, 5, 3).reshape(2, 5, 12, 14)
    assert torch.allclose(layer(x), F.conv2d(pixels, layer.weight, layer.bias, padding=1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("decoder, has_grid", [("transposed", True), ("resize", False), ("pixel-shuffle", False)])
def test_only_a_transposed_convolution_begins_with_a_grid(decoder: Decoder, has_grid: bool) -> None:
    network = nn.Sequential(doubling_convolution(decoder, 3, 4, bias=True)).double()
    initialize_weights(network)
    inner = network(torch.ones(1, 3, 8, 8, dtype=torch.float64))[..., 2:-2, 2:-2]
    assert bool(inner.std((2, 3)).max() > 1e-3 * inner.abs().max()) == has_grid


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("wrong", [0, 1, 3])
def test_wrong_features_at_a_cut_edge_reach_twice_as_far_and_one_more(decoder: Decoder, wrong: int) -> None:
    layer = doubling_convolution(decoder, 3, 4, bias=True).double()
    whole = torch.randn(1, 3, 20, 8, dtype=torch.float64)
    window = whole[..., 8:, :].clone()
    window[..., :wrong, :] += 1
    differs = (layer(window) - layer(whole)[..., 16:, :]).abs().amax((0, 1, 3)) > 1e-9
    assert differs.tolist() == [row < 2 * wrong + 1 for row in range(24)]


@torch.no_grad()
@pytest.mark.parametrize("decoder", DECODERS)
def test_folding_leaves_the_function(decoder: Decoder) -> None:
    network = build_generator(GeneratorConfig(base_width=3, depth=3, decoder=decoder)).double()
    for norm in norm_layers(network):
        for tensor in (norm.weight, norm.bias, norm.running_mean):
            assert tensor is not None
            tensor.add_(0.3 * torch.randn_like(tensor))
    set_inference_mode(network, InferenceConfig())
    x = torch.rand(1, 3, 16, 24, dtype=torch.float64)
    expected = network(x)
    assert expected.std() > 0.01
    fold_norms(network)
    assert not list(norm_layers(network))
    assert torch.allclose(network(x), expected, rtol=0, atol=1e-12)


def test_a_resnet_has_no_such_decoder() -> None:
    with pytest.raises(SettingsError, match="decoder 'resize' is for a U-Net"):
        GeneratorConfig(architecture="resnet", decoder="resize")
