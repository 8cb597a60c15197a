"""Discriminators beyond the paper's: spectral norm, several scales, and the matching of their features."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pix2pix_training.choices import GanMode
from pix2pix_training.config import ObjectiveConfig, TrainingConfig
from pix2pix_training.errors import SettingsError
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.layers import SpectralConv2d
from pix2pix_training.losses import adversarial_loss, discriminator_loss, feature_distance, generator_loss
from pix2pix_training.network_config import DiscriminatorConfig, GeneratorConfig
from pix2pix_training.networks import Discriminator, initialize_weights

SMALL = DiscriminatorConfig(layers=2, base_width=4, norm="instance")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def discriminator(config: DiscriminatorConfig, channels: int = 2) -> Discriminator:
    network = Discriminator(channels, config)
    initialize_weights(network)
    return network


def images(size: int = 64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    source, target, fake = torch.rand(3, 1, 1, size, size) * 2 - 1
    return source, target, fake


def test_spectral_norm_makes_the_largest_singular_value_one() -> None:
    layer = SpectralConv2d(3, 8, 4, 2, 1, bias=True).train()
    x = torch.randn(1, 3, 16, 16)
    for _ in range(50):
        layer(x)
    largest = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
    plain = F.conv2d(x, layer.weight, None, 2, 1) / largest
    assert layer.bias is not None
    assert torch.allclose(layer(x), plain + layer.bias[:, None, None], atol=1e-4)


def test_spectral_norm_iterates_in_training_alone() -> None:
    layer = SpectralConv2d(3, 8, 4, 2, 1, bias=True)
    before = layer.left.clone()
    layer.eval()(torch.randn(1, 3, 8, 8))
    assert torch.equal(layer.left, before)
    layer.train()(torch.randn(1, 3, 8, 8))
    assert not torch.equal(layer.left, before)


def test_spectral_norm_is_of_every_convolution() -> None:
    network = discriminator(DiscriminatorConfig(layers=3, base_width=2, spectral_norm=True))
    plain = discriminator(DiscriminatorConfig(layers=3, base_width=2))
    found = {name.removesuffix(".left") for name in network.state_dict() if name.endswith(".left")}
    weights = {
        n.removesuffix(".weight") for n, w in plain.state_dict().items() if n.endswith(".weight") and w.ndim == 4
    }
    assert found == weights


def test_scales_see_the_image_at_half_and_quarter_size() -> None:
    network = discriminator(DiscriminatorConfig(layers=3, base_width=2, scales=3))
    logits = network.logits(torch.randn(1, 2, 256, 256))
    assert [scale.shape[-1] for scale in logits] == [30, 14, 6]
    names = {name.split(".")[0] for name in network.state_dict()}
    assert names == {"model", "coarser"}
    assert {n.split(".")[0] for n in discriminator(SMALL).state_dict()} == {"model"}


def test_the_coarser_image_is_the_mean_of_nine_pixels() -> None:
    network = discriminator(DiscriminatorConfig(layers=0, base_width=2, norm="none", scales=2))
    x = torch.randn(1, 2, 8, 8)
    mean = F.conv2d(x, torch.ones(2, 1, 3, 3) / 9, stride=2, padding=1, groups=2)
    coarse = network.logits(x)[1]
    assert torch.allclose(coarse[..., 1:, 1:], network.coarser[0](mean)[..., 1:, 1:], atol=1e-6)
    # at the border the mean is of fewer pixels, not of zeros
    assert not torch.allclose(coarse[..., 0, :], network.coarser[0](mean)[..., 0, :], atol=1e-6)


@pytest.mark.parametrize("mode", ["vanilla", "lsgan", "hinge"])
def test_losses_are_summed_over_the_scales(mode: GanMode) -> None:
    network = discriminator(DiscriminatorConfig(layers=1, base_width=2, norm="instance", scales=2))
    objective = ObjectiveConfig(gan_mode=mode)
    source, target, fake = images()
    loss = discriminator_loss(network, source, target, fake, objective)
    scales = network.logits(torch.cat([source, fake], 1))
    assert loss.fake.item() == pytest.approx(sum(adversarial_loss(s, False, mode).item() for s in scales), rel=1e-5)
    gan = generator_loss(network, source, target, fake, objective).gan
    if mode == "hinge":
        assert gan.item() == pytest.approx(-sum(s.mean().item() for s in scales), rel=1e-5)
    else:
        assert gan.item() == pytest.approx(sum(adversarial_loss(s, True, mode).item() for s in scales), rel=1e-5)


def test_the_gradient_penalty_is_of_all_scales_together() -> None:
    network = discriminator(DiscriminatorConfig(layers=1, base_width=2, norm="instance", scales=2))
    source, target, fake = images()
    loss = discriminator_loss(network, source, target, fake, ObjectiveConfig(gan_mode="wgangp"))
    loss.total.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


def test_equal_images_have_equal_features() -> None:
    network = discriminator(DiscriminatorConfig(layers=2, base_width=4, norm="instance", scales=2))
    source, target, fake = images()
    objective = ObjectiveConfig(feature_matching_weight=10.0)
    assert feature_distance(network, source, target, target, objective) == 0
    fake.requires_grad_(True)
    loss = generator_loss(network, source, target, fake, objective)
    distance = feature_distance(network, source, target, fake, objective)
    assert loss.feature_matching.item() == pytest.approx(10 * distance.item())
    assert loss.total.item() == pytest.approx((loss.gan + loss.l1 + loss.feature_matching).item())
    distance.backward()  # type: ignore[no-untyped-call]
    assert fake.grad is not None
    assert fake.grad.abs().max() > 0


def test_feature_distance_is_the_sum_over_layers_and_the_mean_over_scales() -> None:
    source, target, fake = images()
    objective = ObjectiveConfig(conditional=False)
    network = discriminator(DiscriminatorConfig(layers=1, base_width=2, norm="instance", scales=2), channels=1)
    pairs = zip(network.features(fake), network.features(target), strict=True)
    sums = [sum(F.l1_loss(f, t).item() for f, t in zip(fs, ts, strict=True)) for fs, ts in pairs]
    assert len(sums) == 2
    assert feature_distance(network, source, target, fake, objective).item() == pytest.approx(sum(sums) / 2, rel=1e-5)


def test_a_patch_too_small_for_the_discriminator_is_refused() -> None:
    discriminator = DiscriminatorConfig(layers=2, scales=2)
    config = GeneratorConfig(depth=3)
    TrainingConfig(generator=config, discriminator=discriminator, patch_size=24)
    with pytest.raises(SettingsError, match="patch_size 16 is too small for this discriminator, which needs 24"):
        TrainingConfig(generator=config, discriminator=discriminator, patch_size=16)
    alone = ObjectiveConfig(gan_mode="none")
    TrainingConfig(
        generator=config, discriminator=discriminator, objective=alone, patch_size=16, inference=InferenceConfig()
    )


@pytest.mark.parametrize("layers, scales", [(0, 1), (1, 1), (2, 3), (3, 2)])
def test_the_smallest_patch_has_one_logit(layers: int, scales: int) -> None:
    config = DiscriminatorConfig(layers=layers, base_width=1, norm="none", scales=scales)
    network = discriminator(config)
    smallest = config.smallest_patch
    assert network.logits(torch.randn(1, 2, smallest, smallest))[-1].shape[-2:] == (1, 1)


def test_feature_matching_without_a_discriminator_is_refused() -> None:
    with pytest.raises(SettingsError, match="feature_matching_weight needs a discriminator"):
        ObjectiveConfig(gan_mode="none", feature_matching_weight=1.0)
