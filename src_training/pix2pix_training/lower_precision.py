"""Computing in bfloat16 or float16, also on processors that have no instructions for it.

There PyTorch computes bfloat16 one number at a time, a hundred times slower than float32. The same is had at nearly the
speed of float32 by rounding: bfloat16 is float32 without its lower 16 bits, and the product of two bfloat16 numbers is
exact in float32, in which native instructions sum it up too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pix2pix_training.device import has_bfloat16

_CONVOLUTIONS = {torch.conv2d, torch.conv_transpose2d}
_PRODUCTS = {torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.mm, Tensor.mm}


def computing_in(dtype: torch.dtype, device: torch.device) -> AbstractContextManager[Any]:
    """A context in which float32 networks on `device` do their convolutions and products of matrices in `dtype`.

    Autocast, but on a CPU without instructions for bfloat16: there values are `Rounded`, and stay float32. A network of
    another type than float32 computes in that, and `dtype` is its own.
    """
    if dtype not in (torch.bfloat16, torch.float16):
        return nullcontext()
    if dtype is torch.bfloat16 and device.type == "cpu" and not has_bfloat16():
        return Rounded()
    return torch.autocast(device.type, dtype)


class Rounded(TorchFunctionMode):
    """A context in which convolutions and products of matrices give bfloat16 from bfloat16, in float32 tensors.

    Operands and results are rounded, and of their gradients those of features. Gradients of weights stay float32.
    Products with a vector, as of the power iteration of spectral norm, are not rounded.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        if not (func in _CONVOLUTIONS or (func in _PRODUCTS and all(t.dim() > 1 for t in args))):
            return func(*args, **options)
        operands = [_rounded(value) if isinstance(value, Tensor) else value for value in args]
        return _rounded(func(*operands, **options))


def _rounded(values: Tensor) -> Tensor:
    is_weight = values.is_leaf and values.requires_grad
    rounding = _RoundedWeights if is_weight else _RoundedFeatures
    return cast(Tensor, rounding.apply(values))


class _RoundedWeights(torch.autograd.Function):
    """To the nearest bfloat16; the gradient is that of the identity."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.bfloat16().float()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class _RoundedFeatures(_RoundedWeights):
    """The gradient is rounded as well."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.bfloat16().float()
