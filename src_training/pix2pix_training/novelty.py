"""Whether parts of an image are like those that a model was trained on: what is measured of them, and how it is judged.

An image is cut into cells. The features of one are statistics of its pixels as the network sees them, so they depend on
nothing else: not on how the image is translated, by which backend, in which tiles. A cell is as novel as its features
are far from those of the cells that are kept of the training images (Mahalanobis distance to the nearest of them).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn.functional import avg_pool2d

from pix2pix_training.validated import validated

CELL_PX = 32
MOST_KEPT = 2000
"""Cells of training images, and distances of the yardstick, at most."""
LEAST_YARDSTICK = 100
"""With fewer distances to compare with, one that occurs once in a hundred times is not told from others."""
_SCALES = 4
_STEP = 2 / 255
_LEAST_VARIANCE = _STEP**2 / 12
"""Of the rounding to 8 bits; so that differences of nothing are not told apart."""
_LEAST_DEVIATION = 1e-3
_SHRINKAGE = 0.05
_NEAREST = 3
_LEAST_DISTANCE = 1e-3
_MOST_SKEWED = 5.0
_CELLS_AT_ONCE = 1024
_ENOUGH_IMAGES = 20
_EMPTIER = 0.1

Features = NDArray[np.float64]
"""Shape (..., `feature_count`)."""
Scores = NDArray[np.float64]


@validated
class NoveltyTraits:
    """All of a measure of novelty but its tensors.

    Attributes
    ----------
    cells : how many of training images are kept.
    distances : how many the yardstick has.
    yardstick : what it was found on; held-out images, or for want of enough of them the images that were trained on.
    images : of the yardstick.
    least_content : an image is empty whose mean `contents` are below; None where too few images were seen to say so.
    """

    cells: Annotated[int, Field(ge=1, le=MOST_KEPT)]
    distances: Annotated[int, Field(ge=LEAST_YARDSTICK, le=MOST_KEPT)]
    yardstick: Literal["held-out", "training"]
    images: Annotated[int, Field(ge=1)]
    least_content: Annotated[float, Field(allow_inf_nan=False)] | None = None


@dataclass(frozen=True, kw_only=True)
class NoveltyMeasure:
    """Tells how novel cells are.

    `weights` are float32: `mean` and `deviation` of each feature, `whitening` after them, the kept `cells` in whitened
    features, and the `yardstick`, ascending scores of cells of images like those of training.
    """

    traits: NoveltyTraits
    weights: dict[str, Tensor]

    def scores(self, features: Features) -> Scores:
        """Logarithm of the distance to the nearest kept cells, shape (...)."""
        flat = _whitened(features.reshape(-1, features.shape[-1]), self.weights)
        kept = self.weights["cells"].double()
        found = [_log_distance(part, kept) for part in torch.split(flat, _CELLS_AT_ONCE)]
        scores: Scores = torch.cat(found).numpy() if found else np.zeros(0)
        return scores.reshape(features.shape[:-1])

    def p_values(self, scores: Scores, contents: Scores) -> NDArray[np.float32]:
        """Share of the yardstick that is at least as novel; NaN stays. Of an empty image it is nothing of it.

        Parameters
        ----------
        scores : of cells, means of neighbouring ones.
        contents : of the cells that stand for the image, any shape.
        """
        yardstick = self.weights["yardstick"].numpy()
        beyond = len(yardstick) - np.searchsorted(yardstick, scores.astype(np.float32))
        known, least = contents[~np.isnan(contents)], self.traits.least_content
        if least is not None and known.size and known.mean() < least:
            beyond = np.zeros_like(beyond)
        return np.where(np.isnan(scores), np.nan, (1 + beyond) / (1 + len(yardstick))).astype(np.float32)


def measure_of(known: Features) -> dict[str, Tensor]:
    """The weights of a measure but its yardstick, from cells of training images, shape (cells, features)."""
    values = torch.from_numpy(known)
    mean, deviation = values.mean(0), values.std(0, correction=0) + _LEAST_DEVIATION
    scaled = (values - mean) / deviation
    correlation = scaled.T @ scaled / len(scaled)
    shrunk = (1 - _SHRINKAGE) * correlation + _SHRINKAGE * torch.eye(len(correlation), dtype=torch.float64)
    weights = {"mean": mean, "deviation": deviation, "whitening": torch.linalg.cholesky(torch.linalg.inv(shrunk))}
    weights = {name: tensor.float() for name, tensor in weights.items()}
    return {**weights, "cells": _whitened(_some(known, MOST_KEPT), weights).float()}


def yardstick_of(scores: Scores) -> Tensor:
    """From scores of cells that are like those of training, means of neighbours as in `p_values`."""
    return torch.from_numpy(np.sort(_some(scores, MOST_KEPT)).astype(np.float32))


def contents(features: Features) -> Scores:
    """How much there is to be seen in cells: logarithm of the deviation, the mean of the channels; shape (...)."""
    channels = (features.shape[-1] + 1) // 8  # see `feature_count`
    found: Scores = features[..., channels : 2 * channels].mean(-1)
    return found


def least_content(images: Sequence[float]) -> float | None:
    """Below which an image is emptier than those whose mean contents are these; None where they are too few."""
    return min(images) - _EMPTIER if len(images) >= _ENOUGH_IMAGES else None


def tensor_shapes(traits: NoveltyTraits, channels: int) -> dict[str, tuple[int, ...]]:
    """Of the weights of a measure for images of so many channels."""
    features = feature_count(channels)
    return {
        "mean": (features,),
        "deviation": (features,),
        "whitening": (features, features),
        "cells": (traits.cells, features),
        "yardstick": (traits.distances,),
    }


def feature_count(channels: int) -> int:
    """Of a cell with so many channels."""
    return (3 + _SCALES) * channels + (channels - 1)


@torch.inference_mode()
def cell_features(pixels: Tensor) -> Features:
    """Features of cells (rows, columns, C, side, side) in [-1, 1]; shape (rows, columns, `feature_count`).

    Of each channel mean, logarithm of the deviation, skewness, and the logarithms of how much neighbouring pixels
    differ at scales of 1, 2, 4 and 8 pixels; of each channel and the next the logarithm of how much they differ.
    They do not change where an image is turned by a right angle or mirrored.
    """
    mean = pixels.mean((-2, -1))
    centred = pixels - mean[..., None, None]
    variance = centred.square().mean((-2, -1))
    skewness = (centred**3).mean((-2, -1)) / (variance + _LEAST_VARIANCE) ** 1.5
    between = (centred[..., 1:, :, :] - centred[..., :-1, :, :]).square().mean((-2, -1))
    found = [mean, _log(variance), skewness.clamp(-_MOST_SKEWED, _MOST_SKEWED), _log(between)]
    for scale in range(_SCALES):
        found.append(_log(_roughness(centred), _LEAST_VARIANCE / 4**scale))
        if scale + 1 < _SCALES:
            halved = avg_pool2d(centred.flatten(0, 1), 2)
            centred = halved.reshape(*centred.shape[:2], *halved.shape[1:])
    return torch.cat(found, -1).cpu().double().numpy()


def _roughness(cells: Tensor) -> Tensor:
    """Mean square of the difference of neighbouring pixels, of each channel."""
    along_rows = (cells[..., 1:, :] - cells[..., :-1, :]).square().mean((-2, -1))
    return (along_rows + (cells[..., 1:] - cells[..., :-1]).square().mean((-2, -1))) / 2


def _log(variance: Tensor, least: float = _LEAST_VARIANCE) -> Tensor:
    return (variance + least).log() / 2


def _whitened(features: Features, weights: dict[str, Tensor]) -> Tensor:
    scaled = (torch.from_numpy(features) - weights["mean"].double()) / weights["deviation"].double()
    return scaled @ weights["whitening"].double()


def _log_distance(cells: Tensor, kept: Tensor) -> Tensor:
    """Of each of the cells to the nearest of those that are kept, some of them, as one of them may be odd itself."""
    squares = cells.square().sum(1)[:, None] + kept.square().sum(1) - 2 * cells @ kept.T
    nearest = squares.topk(min(_NEAREST, len(kept)), largest=False).values
    return nearest.mean(1).clamp_min(_LEAST_DISTANCE).log()


def _some(values: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """At most so many, evenly spaced in a random order that is always the same."""
    return values[np.random.default_rng(0).permutation(len(values))[:most]]
