"""A trained generator, or a stage of one, rewritten: the same function in fewer and more portable operations.

Batch norm on running averages is a fixed scale and shift, so it is made part of the convolution before it. In half
precision the norms stay in float32; transposed convolutions become plain ones where a compiler lacks them (bfloat16).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import pairwise
from typing import Literal, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pix2pix_training.layers import StatisticsNorm
from pix2pix_training.networks import Generator
from pix2pix_training.quantisation import QuantisedConvolution
from pix2pix_training.stages import Stage, StageSpec
from pix2pix_training.strided_convolution import ResizeConvolution

ExportPrecision = Literal["fp32", "fp16", "bf16"]
DTYPES: dict[ExportPrecision, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
_VECTOR_LANES = 16
_FOLDED_AT_ONCE = 8
"""Rows of a weight, which fit into the cache of a processor as float64."""
L = TypeVar("L", bound=nn.Module)


def export_form(network: Generator, spec: StageSpec, precision: ExportPrecision) -> Stage:
    """A stage, on the CPU, of a copy of a network in eval mode; the network is left as it is.

    Inputs may have any type; convolutions run in `precision`, norms in float32. Those that take integers of 8 bits
    become nodes of ONNX.
    """
    stage = Stage(copy.deepcopy(network).cpu().float().eval(), spec)
    _replace(stage, ResizeConvolution, ResizeConvolution.as_transposed)
    _replace(stage, QuantisedConvolution, QuantisedConvolution.as_nodes)
    if precision == "bf16":
        _replace(stage, nn.ConvTranspose2d, DoublingConvolution)
    if precision != "fp32":
        _lower_precision(stage, DTYPES[precision])
    return stage


def _replace(module: nn.Module, kind: type[L], rewritten: Callable[[L], nn.Module]) -> None:
    for name, child in module.named_children():
        if isinstance(child, kind):
            setattr(module, name, rewritten(child))
        else:
            _replace(child, kind, rewritten)


def widen_narrow_layers(network: nn.Module) -> None:
    """Rewrite transposed convolutions with fewer outputs than a vector register has lanes, in place.

    As plain convolutions they have four times as many; the last layer of a U-Net takes less than half the time
    in OpenVINO then.
    """
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ConvTranspose2d) and child.out_channels < _VECTOR_LANES:
                setattr(module, name, DoublingConvolution(child))


class DoublingConvolution(nn.Module):
    """A transposed convolution of stride 2 that doubles the size, as a plain one: exactly the same sums.

    Output row 2 i - 1 + k collects tap k of input row i, so each of the two phases of the output is a convolution with
    two taps; the phases are computed as channels and then interleaved.

    Parameters
    ----------
    transposed : kernel 4, padding 1; or kernel 3, padding 1, output padding 1, which is kernel 4 with a last tap of 0.
    """

    def __init__(self, transposed: nn.ConvTranspose2d) -> None:
        super().__init__()
        taps = transposed.kernel_size[0]
        if (transposed.stride, transposed.padding, taps, transposed.output_padding) not in (
            ((2, 2), (1, 1), 4, (0, 0)),
            ((2, 2), (1, 1), 3, (1, 1)),
        ):
            raise ValueError(f"{transposed} does not double the size in the way that is rewritten here")
        weight = F.pad(transposed.weight.detach(), (0, 4 - taps, 0, 4 - taps))
        inputs, outputs = weight.shape[:2]
        # (in, out, tap row, phase row, tap column, phase column), the earlier input row holding the later taps.
        phases = weight.reshape(inputs, outputs, 2, 2, 2, 2).flip(2, 4)
        self.conv = nn.Conv2d(inputs, 4 * outputs, 2, padding=1, bias=transposed.bias is not None)
        self.conv.weight = nn.Parameter(phases.permute(1, 3, 5, 0, 2, 4).reshape(4 * outputs, inputs, 2, 2))
        if transposed.bias is not None:
            self.conv.bias = nn.Parameter(transposed.bias.detach().repeat_interleave(4))

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(x), 2)[..., 1:-1, 1:-1]


def _lower_precision(module: nn.Module, dtype: torch.dtype) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d | nn.ConvTranspose2d):
            setattr(module, name, _InPrecision(child.to(dtype), dtype, dtype))
        elif isinstance(child, StatisticsNorm):
            setattr(module, name, _InPrecision(child, torch.float32, dtype))
        else:
            _lower_precision(child, dtype)


class _InPrecision(nn.Module):
    """Runs a layer on its input converted to one type, and converts the result to another."""

    def __init__(self, layer: nn.Module, inner: torch.dtype, outer: torch.dtype) -> None:
        super().__init__()
        self.layer = layer
        self.inner = inner
        self.outer = outer

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.layer(x.to(self.inner))).to(self.outer)


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


@torch.no_grad()
def _fold(conv: nn.Conv2d | nn.ConvTranspose2d, norm: StatisticsNorm) -> None:
    """In float64, so that the rounding of the product is the only one."""
    mean, var = cast(Tensor, norm.running_mean).double(), cast(Tensor, norm.running_var).double()
    scale = cast(Tensor, norm.weight).double() * torch.rsqrt(var + norm.eps)
    bias = 0.0 if conv.bias is None else conv.bias.double()
    of_outputs = (1, -1, 1, 1) if isinstance(conv, nn.ConvTranspose2d) else (-1, 1, 1, 1)
    weight = torch.empty_like(conv.weight)
    tensors = conv.weight, scale.view(of_outputs).expand(weight.shape), weight
    for part, factor, folded in zip(*(torch.split(each, _FOLDED_AT_ONCE) for each in tensors), strict=True):
        torch.mul(part, factor, out=folded)
    conv.weight = nn.Parameter(weight, requires_grad=False)
    bias = (bias - mean) * scale + cast(Tensor, norm.bias).double()
    conv.bias = nn.Parameter(bias.to(weight.dtype), requires_grad=False)
