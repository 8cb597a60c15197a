"""Stages, statistics and positioned noise of the generators."""

from __future__ import annotations

from typing import cast

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pix2pix_training.choices import Statistics
from pix2pix_training.errors import SettingsError
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.layers import BatchRenorm, dropout_noise, join
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import (
    UNet,
    build_generator,
    initialize_weights,
    noise_layers,
    norm_layers,
    pad_to_stride,
    set_inference_mode,
)


def small_unet(**changes: object) -> UNet:
    torch.manual_seed(0)
    config = GeneratorConfig(**{"base_width": 4, "depth": 4, "source_channels": 1, **changes})  # type: ignore[arg-type]
    network = UNet(config)
    initialize_weights(network)
    return network


@pytest.mark.parametrize("depth", range(3, 10))
def test_any_depth_runs(depth: int) -> None:
    network = small_unet(depth=depth, base_width=1).eval()
    assert network(torch.randn(1, 1, 2**depth, 2**depth)).shape == (1, 3, 2**depth, 2**depth)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_joined_features_have_dense_gradients(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    parts = [torch.randn(2, channels, 4, 6).requires_grad_() for channels in (3, 5)]
    gradient = torch.randn(2, 8, 4, 6).contiguous(memory_format=layout)
    joined = join(*parts)
    assert torch.equal(joined, torch.cat(parts, 1))
    found = torch.autograd.grad(joined, parts, gradient)
    for ours, expected in zip(found, torch.split(gradient, [3, 5], 1), strict=True):
        assert torch.equal(ours, expected)
        assert ours.is_contiguous(memory_format=layout)


def test_resnet_keeps_the_size() -> None:
    network = build_generator(GeneratorConfig(architecture="resnet", blocks=2, base_width=2, dropout="reference"))
    assert network.eval()(torch.randn(1, 3, 20, 24)).shape == (1, 3, 20, 24)


@pytest.mark.parametrize(
    "placement, depth, levels",
    [("paper", 8, [6, 7, 8]), ("reference", 8, [5, 6, 7]), ("reference", 6, [5]), ("none", 8, [])],
)
def test_dropout_lies_where_paper_and_reference_have_it(placement: str, depth: int, levels: list[int]) -> None:
    network = small_unet(dropout=placement, depth=depth, base_width=1)
    assert [noise.layer for noise in noise_layers(network)] == levels


def test_image_statistics_equal_training_mode_at_batch_one() -> None:
    network = small_unet()
    x = torch.randn(1, 1, 32, 32)
    expected = network.train()(x)
    set_inference_mode(network, InferenceConfig(statistics="image"))
    assert torch.allclose(network(x), expected, atol=1e-6)


def test_running_statistics_are_refused_where_there_are_none() -> None:
    with pytest.raises(SettingsError, match="no running statistics"):
        set_inference_mode(small_unet(norm="instance"), InferenceConfig(statistics="running"))


def trained_norm(batches: int) -> tuple[BatchRenorm, torch.Tensor]:
    """A norm that has seen as many batches, and one that differs from its averages more than its bounds allow."""
    torch.manual_seed(0)
    norm = BatchRenorm(2)
    nn.init.normal_(cast(torch.Tensor, norm.weight), 1, 0.2)
    nn.init.normal_(cast(torch.Tensor, norm.bias))
    norm.running_mean, norm.running_var = torch.tensor([0.5, -0.5]), torch.tensor([1.0, 4.0])
    norm.num_batches_tracked = torch.tensor(batches)
    return norm, 50 * torch.randn(2, 2, 9, 9) + 100


def test_batch_renorm_starts_as_batch_norm() -> None:
    norm, x = trained_norm(BatchRenorm.PLAIN_UNTIL)
    expected = F.batch_norm(x, None, None, norm.weight, norm.bias, True)
    assert torch.allclose(norm.train()(x), expected, atol=1e-5)


def test_batch_renorm_within_its_bounds_gives_in_training_what_it_gives_at_inference() -> None:
    norm, x = trained_norm(BatchRenorm.RELAXED_AT)
    x = x / 30 - 3
    expected = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False)
    assert torch.allclose(norm.train()(x), expected, atol=1e-5)


@pytest.mark.parametrize("batches, share", [(BatchRenorm.RELAXED_AT, 1.0), (300, 0.5)])
def test_batch_renorm_clips_its_correction(batches: int, share: float) -> None:
    norm, x = trained_norm(batches)
    plain = F.batch_norm(x, None, None, None, None, True)
    r, d = 1 + (BatchRenorm.R_MAX - 1) * share, BatchRenorm.D_MAX * share
    weight, bias = cast(torch.Tensor, norm.weight), cast(torch.Tensor, norm.bias)
    expected = (plain * r + d) * weight[:, None, None] + bias[:, None, None]
    assert torch.allclose(norm.train()(x), expected, atol=1e-4)


def test_batch_renorm_takes_its_correction_as_constant() -> None:
    """The gradient is that of a batch norm times r: that of the averages would differ, as a shift of x would matter."""
    norm, x = trained_norm(BatchRenorm.RELAXED_AT)
    x = (x / 30 - 3).requires_grad_(True)
    direction = torch.randn_like(x)
    r = (x.var((0, 2, 3), correction=0) / cast(torch.Tensor, norm.running_var)).sqrt().detach()
    plain = F.batch_norm(x, None, None, cast(torch.Tensor, norm.weight) * r, None, True)
    (expected,) = torch.autograd.grad((plain * direction).sum(), x)
    (gradient,) = torch.autograd.grad((norm.train()(x) * direction).sum(), x)
    assert torch.allclose(gradient, expected, atol=1e-4)
    assert gradient.sum((0, 2, 3)).abs().max() < 1e-3 < gradient.abs().max()


def test_batch_renorm_averages_all_first_batches_alike() -> None:
    norm = BatchRenorm(1).train()
    batches = [torch.randn(1, 1, 5, 5) * scale + shift for scale, shift in ((1, 0), (2, 3), (3, -1))]
    for batch in batches:
        norm(batch)
    means = torch.stack([batch.mean() for batch in batches])
    variances = torch.stack([batch.var(correction=0) for batch in batches])
    assert torch.allclose(cast(torch.Tensor, norm.running_mean), means.mean(), atol=1e-6)
    assert torch.allclose(cast(torch.Tensor, norm.running_var), variances.mean(), atol=1e-5)


@pytest.mark.parametrize("statistics", ["running", "image", "tile"])
def test_batch_renorm_is_a_batch_norm_at_inference(statistics: Statistics) -> None:
    renormed = small_unet(norm="batch-renorm")
    for _ in range(3):
        renormed.train()(torch.randn(1, 1, 32, 32))
    plain = small_unet()
    plain.load_state_dict(renormed.state_dict(), strict=True)
    x = torch.randn(1, 1, 32, 32)
    for network in (renormed, plain):
        set_inference_mode(network, InferenceConfig(statistics=statistics))
    assert torch.equal(renormed(x), plain(x))


def noise(shape: tuple[int, int, int], *, seed: int = 7, origin: tuple[int, int] = (0, 0)) -> torch.Tensor:
    return dropout_noise(seed, 5, shape, origin, torch.device("cpu"))


def test_noise_depends_on_position_and_seed_alone() -> None:
    whole = noise((3, 20, 24))
    assert torch.equal(noise((3, 12, 19), origin=(8, 5)), whole[..., 8:, 5:])
    assert not torch.equal(noise((3, 20, 24), seed=8), whole)


def test_noise_is_fair_and_keeps_the_mean() -> None:
    values = noise((8, 200, 200))
    assert set(torch.unique(values).tolist()) == {0.0, 2.0}
    assert values.mean().item() == pytest.approx(1, abs=0.01)
    neighbours = (values[..., 1:] * values[..., :-1]).mean().item()
    assert neighbours == pytest.approx(1, abs=0.02)


def test_seeded_dropout_repeats_and_off_is_off() -> None:
    network = small_unet(dropout="paper")
    x = torch.randn(1, 1, 32, 32)
    outputs = []
    for inference in (InferenceConfig(dropout="seeded"), InferenceConfig(dropout="seeded"), InferenceConfig()):
        set_inference_mode(network, inference)
        outputs.append(network(x))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


def test_weights_are_initialised_as_in_the_paper() -> None:
    network = small_unet(base_width=32)
    weight = network.down_block(3).conv.weight
    assert weight.mean().item() == pytest.approx(0, abs=1e-3)
    assert weight.std().item() == pytest.approx(0.02, rel=0.02)
    scale = next(norm_layers(network)).weight
    assert scale is not None
    assert scale.mean().item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("size, padded, mode", [(5, 8, "reflect"), (8, 8, "none"), (2, 8, "replicate")])
def test_padding_reflects_where_it_can(size: int, padded: int, mode: str) -> None:
    x = torch.arange(size, dtype=torch.float32).expand(1, 1, size, size)
    result = pad_to_stride(x, 8)[0, 0, 0]
    assert result.shape == (padded,)
    expected = {"reflect": [3.0, 2.0, 1.0], "replicate": [1.0] * 6, "none": []}[mode]
    assert result[size:].tolist() == expected
