"""The one interface of all backends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from pix2pix_training.stages import StageSpec


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

    def run(self, spec: StageSpec, inputs: Mapping[str, Tensor]) -> Tensor:
        """The stage's output for the inputs that `stage_inputs` lists, on `device`.

        Raises `torch.OutOfMemoryError` where the device lacks the memory for this call, so that a smaller tile is
        tried.
        """
        ...
