"""What a target looks like where its source looks like that, learnt from all pairs at once, to lay them on each other.

The two look different, so the target is predicted from features of the source: mirror images of each other have the
same ones, so that no shift and no turn can be learnt, however the pairs lie. Random features of them (Rahimi and Recht
2007) and ridge regression stand in for a network. Edges count as much as intensities.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Image = NDArray[np.float32]
"""Channels, height, width."""
_HIDDEN = 64
_RIDGE = 1e-3


def source_features(image: Image) -> Image:
    """Features (F, h, w) of a source: smoothed values, steepness along each axis, and curvature, at several scales."""
    found = [image, *(smoothed(image, sigma) for sigma in (1, 2, 4, 8))]
    for sigma in (0.7, 1.5, 3.0):
        dy, dx = np.gradient(smoothed(image, sigma), axis=(1, 2))
        found += [np.gradient(dy, axis=1) * sigma**2, np.gradient(dx, axis=2) * sigma**2]
        for slope in (np.abs(dy) * sigma, np.abs(dx) * sigma):
            found += [slope, smoothed(slope, 2 * sigma)]
    return np.concatenate(found).astype(np.float32)


def target_features(image: Image) -> Image:
    """What is predicted of a target: its channels, and its edges along each axis; each of mean 0 and deviation 1."""
    values = smoothed(_standard(image), 0.7)
    edges = np.stack([np.sqrt((slope**2).sum(0)) for slope in np.gradient(values, axis=(1, 2))])
    return np.concatenate([values, _standard(smoothed(edges, 0.7))]).astype(np.float32)


def smoothed(image: Image, sigma: float) -> Image:
    return np.asarray(gaussian_filter(image, (0, sigma, sigma), mode="nearest"))


def _standard(image: Image) -> Image:
    """Channels of mean 0 and deviation 1; 0 where they are constant."""
    deviation = image.std((1, 2), keepdims=True)
    return np.asarray((image - image.mean((1, 2), keepdims=True)) / np.where(deviation > 1e-6, deviation, 1))


class Appearance:
    """Predicts target features from source features; `examples` are pairs of them, (F, n) and (G, n)."""

    def __init__(self, examples: Iterable[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> None:
        pairs = list(examples)
        everything = np.concatenate([features for features, _ in pairs], 1)
        self._mean = everything.mean(1, keepdims=True)
        self._deviation = everything.std(1, keepdims=True) + 1e-6
        rng = np.random.default_rng(0)
        self._directions = (1.5 * rng.standard_normal((_HIDDEN, len(everything))) / np.sqrt(len(everything))).astype(
            np.float32
        )
        self._offsets = rng.uniform(-1.5, 1.5, (_HIDDEN, 1)).astype(np.float32)
        known = self._known(everything).astype(np.float64)
        square = known @ known.T / known.shape[1]
        mixed = known @ np.concatenate([wanted for _, wanted in pairs], 1).T / known.shape[1]
        ridge = _RIDGE * np.trace(square) / len(square) * np.eye(len(square))
        self._weights = np.linalg.solve(square + ridge, mixed).astype(np.float32)

    def __call__(self, features: Image) -> Image:
        """The target features (G, h, w) that go with source features (F, h, w)."""
        known = self._known(features.reshape(len(features), -1))
        return np.asarray((self._weights.T @ known).reshape(-1, *features.shape[1:]))

    def _known(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        scaled = ((features - self._mean) / self._deviation).clip(-4, 4)
        hidden = np.maximum(0, self._directions @ scaled + self._offsets)
        return np.concatenate([scaled, hidden, np.ones((1, features.shape[1]), np.float32)])
