"""Batch norm on running averages is a fixed scale and shift, so it can be made part of the convolution before it."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from pix2pix_training.layers import StatisticsNorm


def fold_norms(network: nn.Module) -> None:
    """Fold each norm on running averages into the convolution just before it, in place.

    The network must be in eval mode; it stays the same function. Norms on other statistics are left alone.
    """
    for module in network.modules():
        children = list(module.named_children())
        for (_, conv), (name, norm) in pairwise(children):
            foldable = isinstance(norm, StatisticsNorm) and norm.uses_running_statistics
            if foldable and isinstance(conv, nn.Conv2d | nn.ConvTranspose2d):
                _fold(conv, cast(StatisticsNorm, norm))
                setattr(module, name, nn.Identity())


def _fold(conv: nn.Conv2d | nn.ConvTranspose2d, norm: StatisticsNorm) -> None:
    """In float64, so that the rounding of the product is the only one."""
    weight, bias = fuse_conv_bn_weights(
        conv.weight.double(),
        None if conv.bias is None else conv.bias.double(),
        cast(nn.Parameter, norm.running_mean).double(),
        cast(nn.Parameter, norm.running_var).double(),
        norm.eps,
        cast(nn.Parameter, norm.weight).double(),
        cast(nn.Parameter, norm.bias).double(),
        transpose=isinstance(conv, nn.ConvTranspose2d),
    )
    conv.bias = nn.Parameter(bias.to(conv.weight.dtype), requires_grad=False)
    conv.weight = nn.Parameter(weight.to(conv.weight.dtype), requires_grad=False)
