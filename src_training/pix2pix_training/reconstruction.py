"""Terms of the objective that compare a translation with its target beside L1, each 0 where the two are equal.

They are computed in float32 whatever the networks compute in: differences of small sums get lost in fewer bits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from pix2pix_training.config import RECONSTRUCTION_TERMS, SSIM_WINDOW_PX, ObjectiveConfig
from pix2pix_training.distributed import ALONE, Group
from pix2pix_training.metrics import ssim_maps

PYRAMID_LEVELS = 4
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the scales, the finest first (Wang, Simoncelli and Bovik 2003)."""
_DATA_RANGE = 2.0
_LEAST = 1e-4


def reconstruction_losses(
    fake: Tensor, target: Tensor, objective: ObjectiveConfig, group: Group = ALONE
) -> dict[str, Tensor]:
    """The terms that `objective` gives a weight, times that weight, by their names in ``metrics.csv``.

    Parameters
    ----------
    fake, target : (N, C, H, W) in [-1, 1]; of categories one channel for each, 1 for the one that a pixel belongs to.
    group : processes whose mean loss is that of the batch of all of them.
    """
    formulas: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "G_PYR": pyramid_l1,
        "G_SSIM": ms_ssim_loss,
        "G_CE": cross_entropy,
        "G_DICE": partial(dice_loss, group=group),
    }
    weights = {name: getattr(objective, setting) for name, setting in RECONSTRUCTION_TERMS.items()}
    return {name: w * formulas[name](fake.float(), target.float()) for name, w in weights.items() if w > 0}


def focused_l1(fake: Tensor, target: Tensor, focus: float, group: Group = ALONE) -> Tensor:
    """Mean of ``w |target - fake|`` with w as ``|target - fake| ** focus``, scaled to a mean of 1; with 0 plain L1.

    Large errors count for more. Where a target is dark but for a few bright objects, as fluorescence is, plain L1 is
    won by the background. The weights are constants of a step, as in the focal loss (Lin 2017) for classes.
    """
    if focus == 0:
        return F.l1_loss(fake, target)
    error = (fake - target).abs()
    weight = error.detach() ** focus
    mean = group.sum(weight.mean()) / group.size
    return (weight * error).mean() / mean.clamp_min(torch.finfo(error.dtype).tiny)


def pyramid_l1(fake: Tensor, target: Tensor) -> Tensor:
    """Mean L1 of the images averaged over blocks of 2, 4, 8 and 16 pixels, as far as they have as many.

    It weighs brightness and shape in the large, where L1 of pixels is busy with their noise.
    """
    difference = fake - target
    levels: list[Tensor] = []
    while len(levels) < PYRAMID_LEVELS and min(difference.shape[-2:]) >= 2:
        difference = F.avg_pool2d(difference, 2)
        levels.append(difference.abs().mean())
    return torch.stack(levels).mean() if levels else difference.abs().mean()


def ms_ssim_loss(fake: Tensor, target: Tensor) -> Tensor:
    """1 - MS-SSIM (Wang, Simoncelli and Bovik 2003), mean over images and channels; the range of values is 2.

    Five scales, each half as large as the one before. A patch that has room for fewer, with a window of 11 pixels,
    has these, with their weights scaled to a sum of 1. Contrast and structure count at each scale, at the coarsest
    brightness too; what is negative counts as nothing.
    """
    scales = min(len(MS_SSIM_WEIGHTS), (min(fake.shape[-2:]) // SSIM_WINDOW_PX).bit_length())
    weights = MS_SSIM_WEIGHTS[:scales]
    similarity = fake.new_ones(fake.shape[:2])
    for scale, weight in enumerate(weights):
        if scale > 0:
            fake, target = F.avg_pool2d(fake, 2), F.avg_pool2d(target, 2)
        maps = ssim_maps(fake, target, _DATA_RANGE)
        counted = (maps.ssim if scale == scales - 1 else maps.structure).mean((-2, -1))
        similarity = similarity * counted.clamp_min(_LEAST) ** (weight / sum(weights))
    return 1 - similarity.mean()


def cross_entropy(fake: Tensor, target: Tensor) -> Tensor:
    """Mean negative logarithm of the probability of the right category; see `_probabilities`."""
    chosen = (_probabilities(fake) * _chosen(target)).sum(1).clamp_min(_LEAST)
    return -(chosen.log() * _chosen(target).amax(1)).mean()


def dice_loss(fake: Tensor, target: Tensor, group: Group = ALONE) -> Tensor:
    """1 - the mean Dice coefficient of the categories in the batch, with probabilities for members (Milletari 2016).

    A category counts by its overlap and not by its area; those that do not occur in the target are left out.
    """
    found, wanted = _probabilities(fake), _chosen(target)
    overlap, area, found = (group.sum(image.sum((0, 2, 3))) for image in (found * wanted, wanted, found))
    dice = 2 * overlap / (found + area).clamp_min(_LEAST)
    return 1 - dice[area > 0].mean() if bool((area > 0).any()) else 0 * dice.sum()


def _probabilities(fake: Tensor) -> Tensor:
    """Outputs in [-1, 1] as probabilities of the categories: ``(x + 1) / 2``, scaled to a sum of 1."""
    positive = (fake.clamp(-1, 1) + 1) / 2
    return positive / positive.sum(1, keepdim=True).clamp_min(_LEAST)


def _chosen(target: Tensor) -> Tensor:
    """1 for the category of a pixel, else 0; all 0 where it has none."""
    return (target > 0).to(target.dtype)
