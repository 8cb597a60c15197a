"""Against a discriminator that knows few pairs by heart: what it sees is varied, as much as is needed.

After "Training Generative Adversarial Networks with Limited Data" (Karras et al. 2020, ADA), in a form for short runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pix2pix_training.choices import GanMode
from pix2pix_training.distributed import ALONE, Group

_LARGEST = 0.8
"""Probability below which the generator does not learn to make varied images itself."""
_PATCHES_TO_ONE = 10_000
"""Patches over which the probability rises from 0 to 1 where the discriminator is always too sure."""
_FORGETTING = 0.95
_LARGEST_SHIFT = 8
"""Part of the side."""
_LARGEST_CHANGE = 0.2


class AdaptiveAugmentation:
    """Varies source and judged image alike: mirrors, quarter turns, shifts, contrast and brightness.

    Each happens with one `probability`, which rises while the discriminator finds real targets real more often than
    `goal` says, on a scale from -1 to 1, and falls else. Random numbers are torch's; nothing waits for the device. All
    processes of `group` have one probability.
    """

    def __init__(self, goal: float, mode: GanMode, device: torch.device, group: Group = ALONE) -> None:
        self._group = group
        self._goal = goal
        self._border = 0.5 if mode == "lsgan" else 0.0
        self.probability = torch.zeros((), device=device)
        self._sureness = torch.zeros((), device=device)

    def __call__(self, seen: Tensor) -> Tensor:
        """Images (N, C, S, S) with all their channels changed alike, each image in its own way; differentiable."""
        seen = torch.where(self._drawn(seen), seen.flip(-1), seen)
        for turns in (1, 2):
            seen = torch.where(self._drawn(seen), torch.rot90(seen, turns, (-2, -1)), seen)
        side = seen.shape[-1] // _LARGEST_SHIFT
        by = torch.randint(-side, side + 1, (2,)).tolist()
        seen = torch.where(self._drawn(seen), seen.roll(by, (-2, -1)), seen)
        contrast, brightness = (_LARGEST_CHANGE * (2 * self._random(seen) - 1) for _ in range(2))
        return torch.where(self._drawn(seen), contrast.exp() * seen + brightness, seen)

    def _drawn(self, seen: Tensor) -> Tensor:
        return self._random(seen) < self.probability

    def _random(self, seen: Tensor) -> Tensor:
        return self._group.own(torch.rand(self._group.size * len(seen), 1, 1, 1, device=seen.device))

    @torch.no_grad()
    def learn(self, logits_of_real: Sequence[Tensor]) -> None:
        """Take in what the discriminator says of real targets, (N, 1, h, w) by scale."""
        signs = torch.stack([(logits - self._border).sign().mean() for logits in logits_of_real]).mean()
        self._sureness.lerp_(self._group.sum(signs) / self._group.size, 1 - _FORGETTING)
        change = self._group.size * len(logits_of_real[0]) / _PATCHES_TO_ONE * (self._sureness - self._goal).sign()
        self.probability.add_(change).clamp_(0, _LARGEST)

    def state_dict(self) -> dict[str, Tensor]:
        return {"probability": self.probability, "sureness": self._sureness}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.probability.copy_(state["probability"])
        self._sureness.copy_(state["sureness"])
