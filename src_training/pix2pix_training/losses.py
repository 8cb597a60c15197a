"""The objective: adversarial terms and L1 (paper, section 3.1; further GAN modes as in the literature named below)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import assert_never

import torch
import torch.nn.functional as F
from torch import Tensor

from pix2pix_training.choices import GanMode
from pix2pix_training.config import ObjectiveConfig
from pix2pix_training.distributed import ALONE, Group
from pix2pix_training.networks import Discriminator
from pix2pix_training.reconstruction import focused_l1

GRADIENT_PENALTY_WEIGHT = 10.0
Varied = Callable[[Tensor], Tensor]
"""Changes images (N, C, H, W) and keeps their shape."""


@dataclass(frozen=True)
class DiscriminatorLoss:
    """`total` is what the discriminator minimises; `fake` and `real` are its two terms before the factor 0.5.

    `logits_of_real` are those of the target, by scale.
    """

    total: Tensor
    fake: Tensor
    real: Tensor
    logits_of_real: tuple[Tensor, ...]


@dataclass(frozen=True)
class GeneratorLoss:
    """`total` is what the generator minimises; `l1` and `feature_matching` include their weights."""

    total: Tensor
    gan: Tensor
    l1: Tensor
    feature_matching: Tensor


def discriminator_loss(
    discriminator: Discriminator,
    source: Tensor,
    target: Tensor,
    fake: Tensor,
    objective: ObjectiveConfig,
    varied: Varied | None = None,
    group: Group = ALONE,
) -> DiscriminatorLoss:
    """Loss of the discriminator on a translated and a real image, in two separate forwards; summed over its scales.

    The factor 0.5 slows the discriminator relative to the generator (paper, section 3.3).

    Parameters
    ----------
    source, target, fake : (N, C, H, W) in [-1, 1]; gradients do not flow into `fake`.
    varied : what becomes of what the discriminator sees.
    group : processes whose mean loss is that of the batch of all of them.
    """
    fake = fake.detach()
    on_fake = _summed(judge(discriminator, source, fake, objective, varied), False, objective.gan_mode)
    logits_of_real = judge(discriminator, source, target, objective, varied)
    on_real = _summed(logits_of_real, True, objective.gan_mode)
    total = 0.5 * (on_fake + on_real)
    if needs_gradient_penalty(objective.gan_mode):
        total = total + _gradient_penalty(discriminator, source, target, fake, objective, group)
    return DiscriminatorLoss(total=total, fake=on_fake, real=on_real, logits_of_real=tuple(logits_of_real))


def needs_gradient_penalty(mode: GanMode) -> bool:
    match mode:
        case "wgangp":
            return True
        case "vanilla" | "lsgan" | "hinge" | "none":
            return False
        case _:
            assert_never(mode)


def generator_loss(
    discriminator: Discriminator | None,
    source: Tensor,
    target: Tensor,
    fake: Tensor,
    objective: ObjectiveConfig,
    varied: Varied | None = None,
    group: Group = ALONE,
) -> GeneratorLoss:
    """``gan_weight * L_GAN + l1_weight * mean|target - fake|``, and feature matching; the GAN term non-saturating.

    L1 is focused where the objective says so; further terms are those of `reconstruction_losses`. `varied` as for
    `discriminator_loss`; features are matched as they are.
    """
    l1 = objective.l1_weight * focused_l1(fake, target, objective.l1_focus, group)
    nothing = torch.zeros_like(l1)
    if discriminator is None:
        return GeneratorLoss(total=l1, gan=nothing, l1=l1, feature_matching=nothing)
    # the generator's hinge is that of the critic, its signed mean (Lim and Ye 2017)
    mode: GanMode = "wgangp" if objective.gan_mode == "hinge" else objective.gan_mode
    gan = _summed(judge(discriminator, source, fake, objective, varied), True, mode)
    matching = nothing
    if objective.feature_matching_weight > 0:
        matching = objective.feature_matching_weight * feature_distance(discriminator, source, target, fake, objective)
    return GeneratorLoss(total=objective.gan_weight * gan + l1 + matching, gan=gan, l1=l1, feature_matching=matching)


def judge(
    discriminator: Discriminator,
    source: Tensor,
    image: Tensor,
    objective: ObjectiveConfig,
    varied: Varied | None = None,
) -> list[Tensor]:
    """Logits of the discriminator by scale; it sees the source too unless the objective is unconditional."""
    seen = _seen(source, image, objective)
    return discriminator.logits(seen if varied is None else varied(seen))


def feature_distance(
    discriminator: Discriminator, source: Tensor, target: Tensor, fake: Tensor, objective: ObjectiveConfig
) -> Tensor:
    """Mean absolute difference of the discriminator's features between target and translation.

    Summed over the layers (pix2pixHD, equation 4), the mean over the scales; those of the target are constants.
    """
    with torch.no_grad():
        wanted = discriminator.features(_seen(source, target, objective))
    found = discriminator.features(_seen(source, fake, objective))
    distances = [F.l1_loss(f, w) for fs, ws in zip(found, wanted, strict=True) for f, w in zip(fs, ws, strict=True)]
    return torch.stack(distances).sum() / len(found)


def _seen(source: Tensor, image: Tensor, objective: ObjectiveConfig) -> Tensor:
    return torch.cat([source, image], 1) if objective.conditional else image


def _summed(logits: Sequence[Tensor], is_real: bool, mode: GanMode) -> Tensor:
    return torch.stack([adversarial_loss(scale, is_real, mode) for scale in logits]).sum()


def adversarial_loss(logits: Tensor, is_real: bool, mode: GanMode) -> Tensor:
    """Mean loss of logits that should say real, or fake.

    vanilla: binary cross-entropy (Goodfellow 2014); lsgan: squared error to 1 or 0 (Mao 2017); wgangp: the signed mean
    (Gulrajani 2017); hinge: the discriminator's hinge (Lim and Ye 2017); none: no such loss.
    """
    signed = -logits if is_real else logits
    match mode:
        case "vanilla":
            return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(is_real)))
        case "lsgan":
            return F.mse_loss(logits, torch.full_like(logits, float(is_real)))
        case "wgangp":
            return signed.mean()
        case "hinge":
            return F.relu(1 + signed).mean()
        case "none":
            return torch.zeros_like(signed.mean())
        case _:
            assert_never(mode)


def _gradient_penalty(
    discriminator: Discriminator,
    source: Tensor,
    target: Tensor,
    fake: Tensor,
    objective: ObjectiveConfig,
    group: Group,
) -> Tensor:
    """Squared distance of the critic's gradient norm from 1, between real and fake (Gulrajani 2017, equation 3)."""
    count = group.size * target.shape[0]
    share = group.own(torch.rand(count, 1, 1, 1, device=target.device, dtype=target.dtype))
    between = (share * target + (1 - share) * fake).requires_grad_(True)
    logits = judge(discriminator, source, between, objective)
    (gradient,) = torch.autograd.grad([scale.sum() for scale in logits], between, create_graph=True)
    norms = torch.linalg.vector_norm(gradient.flatten(1) + 1e-16, dim=1)
    return GRADIENT_PENALTY_WEIGHT * F.mse_loss(norms, torch.ones_like(norms))
