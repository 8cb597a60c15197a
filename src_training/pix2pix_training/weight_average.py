"""The moving average of a generator's weights, which often translates better than the weights of any one step."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pix2pix_training.networks import Generator


class WeightAverage:
    """Exponential moving average ``average <- d * average + (1 - d) * weight``, kept as a generator of its own.

    ``d = min(decay, (1 + step) / (10 + step))``, so that the average of a short run is not one of the weights that it
    started with. Buffers, such as the running averages of norms, are those of the generator.
    """

    def __init__(self, generator: Generator, decay: float) -> None:
        self.generator = copy.deepcopy(generator).requires_grad_(False)
        self._decay = decay
        self._averages: list[Tensor] = list(self.generator.parameters())
        self._weights: list[Tensor] = list(generator.parameters())
        self._own_buffers = list(self.generator.buffers())
        self._buffers = list(generator.buffers())

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step `step`, counted from 1."""
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._averages, self._weights, 1 - decay)
        if self._buffers:
            torch._foreach_copy_(self._own_buffers, self._buffers)

    def state(self) -> dict[str, Tensor]:
        return self.generator.state_dict()

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.generator.load_state_dict(state)
