"""What torchrun starts for the tests: ``steps_in_processes.py OUT``, where each process leaves its result.

The same steps are made by one process on all patches, with `ALONE`.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from pix2pix_training.config import ObjectiveConfig, TrainingConfig
from pix2pix_training.distributed import Group, joined
from pix2pix_training.network_config import DiscriminatorConfig, GeneratorConfig
from pix2pix_training.networks import norm_layers
from pix2pix_training.patch_config import AugmentationConfig
from pix2pix_training.training_step import TrainingStep

PATCHES = 4
SMALL = TrainingConfig(
    generator=GeneratorConfig(base_width=4, depth=3, dropout="paper"),
    discriminator=DiscriminatorConfig(base_width=4, layers=2),
    patch_size=32,
)
CONFIGS = {
    "paper": SMALL,
    "renorm": replace(
        SMALL,
        generator=GeneratorConfig(base_width=4, depth=3, norm="batch-renorm"),
        objective=ObjectiveConfig(gan_mode="lsgan", l1_focus=1, feature_matching_weight=10),
    ),
    "critic": replace(SMALL, objective=ObjectiveConfig(gan_mode="wgangp")),
    "classes": replace(
        SMALL,
        objective=ObjectiveConfig(gan_mode="hinge", dice_weight=1),
        augmentation=AugmentationConfig(adaptive=0.6),
    ),
}
"""Each term that depends on more than the patches of a process occurs in one of them."""
WIDENED = 300
"""Batches after which batch renorm corrects by its running averages."""

Result = tuple[list[dict[str, float]], dict[str, Tensor]]


def trained(name: str, group: Group, steps: int) -> Result:
    """Losses of each step, and the weights and running statistics of both networks, in float64."""
    torch.set_default_dtype(torch.float64)
    try:
        return _trained(CONFIGS[name], group, steps)
    finally:
        torch.set_default_dtype(torch.float32)


def _trained(config: TrainingConfig, group: Group, steps: int) -> Result:
    step = TrainingStep(config, torch.device("cpu"), torch.float64, group)
    assert step.discriminator is not None
    for layer in norm_layers(step.generator):
        if layer.num_batches_tracked is not None:
            layer.num_batches_tracked.fill_(WIDENED)
    if "varied" in (state := step.state()):
        state["varied"]["probability"].fill_(0.5)
    numbers = torch.Generator().manual_seed(1)
    channels = (config.generator.source_channels, config.generator.target_channels)
    losses = list[dict[str, float]]()
    for _ in range(steps):
        source, target = (torch.rand(PATCHES, c, 32, 32, generator=numbers) * 2 - 1 for c in channels)
        own = step.run(group.own(source), group.own(target).sign())
        group.mean_(list(own.values()))
        losses.append({name: loss.item() for name, loss in own.items()})
    return losses, {**step.generator.state_dict(), **step.discriminator.state_dict(prefix="discriminator.")}


def main(out: str, steps: str) -> None:
    torch.set_num_threads(1)
    with joined("cpu") as (group, _):
        torch.save({name: trained(name, group, int(steps)) for name in CONFIGS}, Path(out) / f"{group.rank}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
