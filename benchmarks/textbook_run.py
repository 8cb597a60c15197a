"""The paper's settings as a plain program: train on arrays for a time or a number of steps, then translate.

U-Net-256 and 70 x 70 PatchGAN of `benchmarks.textbook`, batch 1, Adam at a constant rate of 2e-4, images enlarged from
256 to 286 pixels before a random crop of 256 and a random flip, dropout at test time too, norms on the statistics of
the image at hand. Nothing of the package is used.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.textbook import NestedUNet, TextbookTraining, patchgan

Image = NDArray[Any]
"""(C, Y, X), any integer or float dtype."""
PATCH_PX = 256
ENLARGED = 286 / 256
DEPTH = 8
NOISY_LEVELS = (7, 6, 5)
"""Those that have dropout in the reference implementation."""
_PERCENTILES = (0.1, 99.9)


@dataclass(frozen=True)
class ValueRange:
    """What becomes -1 and 1: the range of 8 bits, else percentiles of the training images, by channel: (C, 1, 1)."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, images: Sequence[Image]) -> ValueRange:
        first = images[0]
        if first.dtype == np.uint8:
            ends = np.zeros((len(first), 1, 1), np.float32), np.full((len(first), 1, 1), 255, np.float32)
        else:
            values = np.concatenate([image.reshape(len(image), -1) for image in images], axis=1)
            low, high = np.percentile(values, _PERCENTILES, axis=1).astype(np.float32)[..., None, None]
            ends = low, np.maximum(high, low + 1)
        return cls(*ends, first.dtype)

    def to_network(self, image: Image) -> Tensor:
        """(C, Y, X) as stored -> (1, C, Y, X) in [-1, 1]."""
        scaled = 2 * (image.astype(np.float32) - self.low) / (self.high - self.low) - 1
        return torch.from_numpy(scaled)[None].clamp(-1, 1)

    def from_network(self, x: Tensor) -> Image:
        stored = (x[0].numpy() + 1) / 2 * (self.high - self.low) + self.low
        return np.rint(stored).astype(self.dtype) if self.dtype.kind in "iu" else stored.astype(self.dtype)


class TextbookRun:
    """Trains on pairs of images; sources and targets are as long as each other, and no side is below 256 pixels."""

    def __init__(self, sources: Sequence[Image], targets: Sequence[Image], *, base_width: int, seed: int) -> None:
        torch.manual_seed(seed)
        self._random = np.random.default_rng(seed)
        self._source, self._target = ValueRange.of(sources), ValueRange.of(targets)
        self._pairs = [
            torch.cat([self._source.to_network(x), self._target.to_network(y)], 1)
            for x, y in zip(sources, targets, strict=True)
        ]
        self._channels = len(sources[0])
        generator = NestedUNet(len(sources[0]), len(targets[0]), base_width, DEPTH, noisy=NOISY_LEVELS)
        discriminator = patchgan(len(sources[0]) + len(targets[0]), base_width)
        for network in (generator, discriminator):
            network.apply(_initialize)
        self._training = TextbookTraining(generator, discriminator)

    def train(self, *, minutes: float | None, steps: int | None) -> tuple[int, float]:
        """Steps done, and seconds; as many as fit into the minutes, or so many."""
        started, done, order = time.monotonic(), 0, list[int]()
        while time.monotonic() - started < 60 * minutes if minutes is not None else done < (steps or 0):
            order = order or self._random.permutation(len(self._pairs)).tolist()
            self._training.step(*self._patch(self._pairs[order.pop()]))
            done += 1
        return done, time.monotonic() - started

    def _patch(self, pair: Tensor) -> tuple[Tensor, Tensor]:
        """A crop of the enlarged pair, flipped or not, as source and target; what is enlarged is around the crop."""
        height, width = (round(side * ENLARGED) for side in pair.shape[-2:])
        y0, x0 = (int(self._random.integers(side - PATCH_PX + 1)) for side in (height, width))
        steps = torch.arange(PATCH_PX) + 0.5
        y, x = (2 * (steps + first) / side - 1 for first, side in ((y0, height), (x0, width)))
        grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)[None].float()
        patch = F.grid_sample(pair, grid, mode="bicubic", padding_mode="border", align_corners=False).clamp(-1, 1)
        if self._random.integers(2):
            patch = patch.flip(-1)
        return patch[:, : self._channels], patch[:, self._channels :]

    @torch.no_grad()
    def translate(self, image: Image) -> Image:
        """An image as a whole, in training mode as in the paper; reflected to a multiple of 256 pixels."""
        torch.manual_seed(0)
        height, width = image.shape[-2:]
        x = self._source.to_network(image)
        while (missing := (-x.shape[-1] % PATCH_PX, -x.shape[-2] % PATCH_PX)) != (0, 0):
            right, below = (min(m, side - 1) for m, side in zip(missing, (x.shape[-1], x.shape[-2]), strict=True))
            x = F.pad(x, (0, right, 0, below), mode="reflect")
        return self._target.from_network(self._training.generator.train()(x)[..., :height, :width])


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
