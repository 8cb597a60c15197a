"""Which device and precision to compute on, and computing in bfloat16 or float16.

On processors without instructions for it PyTorch computes bfloat16 one number at a time, a hundred times slower than
float32. The same is had at nearly the speed of float32 by rounding: bfloat16 is float32 without its lower 16 bits, and
the product of two bfloat16 numbers is exact in float32, in which native instructions sum it up too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, assert_never, cast

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pix2pix_training.choices import Precision
from pix2pix_training.errors import SettingsError

log = logging.getLogger(__name__)

_BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "avx_ne_convert", "avx10_2", "bf16")
"""As `torch.cpu.get_capabilities` calls them; any one is enough. The last is ARM's."""
_INTEGER_INSTRUCTIONS = ("avx512_vnni", "avx_vnni", "amx_int8")
"""Those that sum up products of 8-bit integers in 32 bits (VNNI); older ones cut sums off at 16."""
_NO_MEMORY = ("out of memory", "allocate memory", "not enough memory", "bad_alloc", "bad allocation", "alloc_failed")
_CONVOLUTIONS = {torch.conv2d, torch.conv_transpose2d}
_PRODUCTS = {torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.mm, Tensor.mm}


def resolve_device(name: str) -> torch.device:
    """The device for "auto", "cpu", "cuda", "cuda:N" or "mps"; `SettingsError` where it is not there."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not index.isdecimal()) or (index and kind != "cuda"):
        raise SettingsError(f"device {name!r} is not known; choose auto, cpu, cuda, cuda:N or mps")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise SettingsError(
                "device cuda was asked for, but there is no usable CUDA GPU; choose cpu or see `doctor`"
            )
        if index and int(index) >= count:
            raise SettingsError(f"device {name} was asked for, but there are only {count} CUDA GPUs, numbered from 0")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise SettingsError("device mps was asked for, but this machine has none; choose cpu")
    return torch.device(kind, int(index)) if index else torch.device(kind)


def resolve_precision(precision: Precision, device: torch.device, *, training: bool = False) -> torch.dtype:
    """The dtype to compute convolutions in.

    "auto" is float32, but for `training` on a GPU with bfloat16, where that saves half of the time and noise of this
    size does no harm. A translation is what people measure in, and gets the numbers of the model.

    Warns where bfloat16 is asked for on a CPU that has no instructions for it.
    """
    match precision:
        case "auto":
            fast = training and device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
            return torch.bfloat16 if fast else torch.float32
        case "fp32":
            return torch.float32
        case "bf16":
            if device.type == "cpu" and not has_bfloat16():
                log.warning("this processor has no instructions for bfloat16; precision bf16 is slower than fp32 on it")
            return torch.bfloat16
        case "fp16":
            if device.type == "cpu":
                raise SettingsError("precision fp16 needs a GPU; choose fp32 or bf16 on a CPU")
            return torch.float16
        case _:
            assert_never(precision)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be had: that of a GPU, or the computer's.

    PyTorch has a class of its own for GPUs alone; on a CPU and on Apple's GPUs only the words tell.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _NO_MEMORY)


@cache
def has_bfloat16() -> bool:
    """Whether this processor has instructions for bfloat16; so is taken to be where PyTorch is too old to say."""
    return _has_any(_BFLOAT16_INSTRUCTIONS)


@cache
def has_int8() -> bool:
    """Whether this processor has instructions for 8-bit integers; so is taken to be where PyTorch is too old to say."""
    return _has_any(_INTEGER_INSTRUCTIONS)


def _has_any(instructions: Sequence[str]) -> bool:
    if not hasattr(torch.cpu, "get_capabilities"):
        return True
    found: Mapping[str, Any] = torch.cpu.get_capabilities()
    return any(found.get(name) is True for name in instructions)


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
