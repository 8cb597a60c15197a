"""Bringing an image to a size that a generator accepts, the same way everywhere.

The padded image, not the image, is what "whole-image inference" runs on; every tiling must reproduce it.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pad_to_stride(x: Tensor, stride: int) -> Tensor:
    """(N, C, H, W) padded at the bottom and right to multiples of `stride`: reflected, replicated where too small."""
    for axis in (-1, -2):
        size = x.shape[axis]
        index = padded_index(size, stride).to(x.device)
        x = x.index_select(axis, index) if index.numel() != size else x
    return x


def padded_index(size: int, stride: int) -> Tensor:
    """For each row (or column) of the padded image, the row of the image that it repeats."""
    padded = -(-size // stride) * stride
    index = torch.arange(padded)
    if padded - size < size:
        return torch.where(index < size, index, 2 * (size - 1) - index)
    return index.clamp(max=size - 1)
