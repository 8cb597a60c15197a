"""Running statistics of norms that belong to the weights as they are, not to those of the steps before."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from pix2pix_training.networks import Generator, norm_layers


@torch.no_grad()
def calibrated(generator: Generator, sources: Sequence[Tensor]) -> Generator:
    """A copy whose norms have the mean statistics of `sources`; without dropout, and without drawing random numbers.

    Parameters
    ----------
    sources : each (N, C, H, W) in [-1, 1], on the generator's device; at most 100, up to which batch renorm is plain
        batch norm.
    """
    copied = copy.deepcopy(generator).requires_grad_(False).eval()
    norms = [(norm, norm.num_batches_tracked) for norm in norm_layers(copied)]
    counted = [(norm, norm.momentum, count) for norm, count in norms if count is not None]
    batches = [count.clone() for _, _, count in counted]
    for norm, _, count in counted:
        norm.train()
        count.zero_()
    for number, source in enumerate(sources, 1):
        for norm, _, _ in counted:
            norm.momentum = 1 / number
        copied(source)
    for (norm, momentum, count), before in zip(counted, batches, strict=True):
        norm.momentum = momentum
        count.copy_(before)
    return copied
