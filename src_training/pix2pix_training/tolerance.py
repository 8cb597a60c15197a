"""Targets that lie a few pixels beside their sources: each patch is compared with its target where it fits best."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor


def fitting_target(fake: Tensor, target: Tensor, valid: Tensor | None, tolerance: int) -> tuple[Tensor, Tensor]:
    """The target of each patch shifted to where the mean absolute difference is least, and which pixels are valid.

    Parameters
    ----------
    fake, target : (N, C, H, W), of more than 2 `tolerance` pixels along each side.
    valid : (N, 1, H, W) bool, or None where all are.
    tolerance : largest shift along each axis, in pixels, at least 1.

    Returns
    -------
    target : (N, C, H, W).
    valid : (N, 1, H, W) bool; False too for what a shift brings in from beyond the patch.
    """
    if valid is None:
        valid = torch.ones_like(target[:, :1], dtype=torch.bool)
    height, width = target.shape[-2:]
    inner = (..., slice(tolerance, height - tolerance), slice(tolerance, width - tolerance))
    fake = fake.detach()[inner]
    shifts = sorted(product(range(-tolerance, tolerance + 1), repeat=2), key=lambda at: at[0] ** 2 + at[1] ** 2)
    distances = []
    for y, x in shifts:  # the nearest first, which of equal fits is taken
        there = (..., slice(tolerance + y, height - tolerance + y), slice(tolerance + x, width - tolerance + x))
        counts = valid[there].sum((1, 2, 3))
        difference = ((fake - target[there]).abs() * valid[there]).sum((1, 2, 3)) / (counts * target.shape[1])
        distances.append(difference.nan_to_num(torch.inf))  # 0 / 0, where no pixel is valid
    best = torch.tensor(shifts, device=target.device)[torch.stack(distances).argmin(0)]
    rows, columns = (
        best[:, axis, None] + torch.arange(n, device=best.device) for axis, n in enumerate((height, width))
    )
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None]
    patch = torch.arange(len(target), device=best.device)[:, None, None]
    index = patch, slice(None), rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None]
    shifted, known = (image[index].movedim(-1, 1) for image in (target, valid))
    return shifted.contiguous(memory_format=torch.channels_last), known & inside[:, None]
