"""Which device and precision to compute on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from typing import Any, assert_never

import torch

from pix2pix_training.config import Precision
from pix2pix_training.errors import SettingsError
from pix2pix_training.machine import available_memory_bytes

log = logging.getLogger(__name__)

_BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "avx_ne_convert", "avx10_2", "bf16")
"""As `torch.cpu.get_capabilities` calls them; any one is enough. The last is ARM's."""
_NO_MEMORY = ("out of memory", "allocate memory", "not enough memory", "bad_alloc", "bad allocation", "alloc_failed")


def default_budget_bytes(device: torch.device) -> int:
    """Half of the memory that is free where a network runs."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return max(1, min(int(free), 2 * available_memory_bytes()) // 2)
    return max(1, available_memory_bytes() // 2)


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
    if not hasattr(torch.cpu, "get_capabilities"):
        return True
    found: Mapping[str, Any] = torch.cpu.get_capabilities()
    return any(found.get(name) is True for name in _BFLOAT16_INSTRUCTIONS)
