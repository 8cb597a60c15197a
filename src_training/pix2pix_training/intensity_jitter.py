"""How much brighter or darker, and richer or poorer in contrast, a patch of the source is made in training.

A norm with running statistics passes on how bright an image is. How much images of one kind differ in that is estimated
by how much those to train on differ; a single image says nothing of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from pix2pix_training.array_source import ArraySource, plane_size, regions_of
from pix2pix_training.augmentation import PatchDraw
from pix2pix_training.intensity import CategoryMapping, Mapping, to_tensor
from pix2pix_training.invalid_pixels import FilledSource

_MOST_PLANES = 64
_TILE_PX = 256
_MOST_TILES = 16
_LEAST_CONTRAST = 1e-3


@dataclass(frozen=True, kw_only=True)
class IntensityJitter:
    """Changes x to ``c * (x - mean) + mean + b``, the same for all channels.

    Attributes
    ----------
    mean : of the images to train on, in [-1, 1].
    brightness : largest b.
    log_contrast : largest logarithm of c.
    """

    mean: float
    brightness: float
    log_contrast: float

    def apply(self, pixels: Tensor, draw: PatchDraw) -> Tensor:
        """Pixels of a source in [-1, 1], of any shape, as `draw` says; they may leave that range."""
        contrast = math.exp(self.log_contrast * draw.contrast)
        return contrast * pixels + (self.mean * (1 - contrast) + self.brightness * draw.brightness)


Image = tuple[ArraySource, Sequence[tuple[int, ...]], Mapping]
"""An image, those of its planes that are used, and its mapping."""


def measured_jitter(images: Sequence[Image], deviations: float) -> IntensityJitter | None:
    """The jitter by `deviations` standard deviations of what mean and standard deviation are among images.

    Measured on at most 64 planes, evenly taken from all `images`, of each on at most 16 tiles of 256 pixels. Parts of
    an image that are sources of their own count as images. None where nothing would be changed: for categories, a
    single plane, or no deviations.
    """
    if deviations == 0 or any(isinstance(mapping, CategoryMapping) for _, _, mapping in images):
        return None
    planes = [(source, plane, mapping) for source, used, mapping in images for plane in used]
    measured = np.array([_mean_and_contrast(*planes[i]) for i in _evenly(len(planes), _MOST_PLANES)])
    if len(measured) < 2:
        return None
    brightness, log_contrast = measured[:, 0], np.log(np.maximum(measured[:, 1], _LEAST_CONTRAST))
    return IntensityJitter(
        mean=float(brightness.mean()),
        brightness=deviations * float(brightness.std()),
        log_contrast=deviations * float(log_contrast.std()),
    )


def _mean_and_contrast(source: ArraySource, plane: tuple[int, ...], mapping: Mapping) -> tuple[float, float]:
    filled = FilledSource(source)
    tiles = list(regions_of(*plane_size(source), _TILE_PX))
    values = np.concatenate(
        [
            mapping.to_network(to_tensor(filled.read(tiles[i], plane))[None]).numpy().ravel()
            for i in _evenly(len(tiles), _MOST_TILES)
        ]
    )
    return float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))


def _evenly(count: int, most: int) -> list[int]:
    """At most so many of the indices below `count`, evenly spaced."""
    return [int(i) for i in np.linspace(0, count - 1, min(count, most)).round()]
