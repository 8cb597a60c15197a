"""The one interface of all backends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from pix2pix_training.stages import StageSpec

_PRECISION_NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16", torch.float64: "fp64"}


def precision_name(dtype: torch.dtype) -> str:
    return _PRECISION_NAMES[dtype]


class StageRunner(Protocol):
    """Runs the stages of one generator."""

    @property
    def name(self) -> str:
        """As `--backend` has it."""
        ...

    @property
    def device(self) -> torch.device:
        """Where inputs and outputs lie."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Of images and features that go in."""
        ...

    @property
    def precision(self) -> str:
        """Of the arithmetic, as `--precision` has it."""
        ...

    def run(self, spec: StageSpec, inputs: Mapping[str, Tensor]) -> Tensor:
        """The stage's output for the inputs that `stage_inputs` lists, on `device`.

        Raises `torch.OutOfMemoryError` where the device lacks the memory for this call, so that a smaller tile is
        tried.
        """
        ...
