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
    started with. The running statistics of norms are averaged alike: those of the last step belong to the weights of
    that step, and the longer the average, the less they fit it. Counters are those of the generator.
    """

    def __init__(self, generator: Generator, decay: float) -> None:
        self.generator = copy.deepcopy(generator).requires_grad_(False)
        self._decay = decay
        self._averages, self._average_counters = _floats_and_counters(self.generator)
        self._values, self._counters = _floats_and_counters(generator)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step `step`, counted from 1."""
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._averages, self._values, 1 - decay)
        if self._counters:
            torch._foreach_copy_(self._average_counters, self._counters)

    def state(self) -> dict[str, Tensor]:
        return self.generator.state_dict()

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.generator.load_state_dict(state)


def _floats_and_counters(generator: Generator) -> tuple[list[Tensor], list[Tensor]]:
    """Weights and running statistics, and what is counted in integers."""
    tensors = [*generator.parameters(), *generator.buffers()]
    return [t for t in tensors if t.is_floating_point()], [t for t in tensors if not t.is_floating_point()]
