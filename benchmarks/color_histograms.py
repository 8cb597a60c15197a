"""The colour test of the paper (section 4.2, figure 7): are the colours of results as varied as those of real photos?

L1 alone gives a grey where it is unsure; an adversary can tell a photo by its colours.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

PAPER: Mapping[str, tuple[float, float, float]] = {"l1": (0.81, 0.69, 0.70), "l1-cgan": (0.86, 0.84, 0.82)}
"""Intersection of histograms in L, a and b on Cityscapes, by the name of a configuration."""
_BINS = 64
_ENDS = ((0.0, 100.0), (-110.0, 110.0), (-110.0, 110.0))
_TO_XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
_WHITE = np.array([0.95047, 1.0, 1.08883])
"""Of daylight, D65."""


def lab(photos: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(N, 3, Y, X) sRGB -> the same in CIE Lab: L from 0 to 100, a and b around 0."""
    values = photos.astype(np.float64) / 255
    linear = np.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)
    x, y, z = np.moveaxis(np.einsum("ij,njyx->niyx", _TO_XYZ, linear) / _WHITE[:, None, None], 1, 0)
    x, y, z = (np.where(v > 0.008856, np.cbrt(v), 7.787 * v + 16 / 116) for v in (x, y, z))
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def intersections(photos: NDArray[np.uint8], real: NDArray[np.uint8]) -> tuple[float, float, float]:
    """How much the distributions of L, a and b over all pixels have in common, each from 0 to 1."""
    found, wanted = lab(photos), lab(real)
    shares = [
        float(np.minimum(_histogram(found[:, i], ends), _histogram(wanted[:, i], ends)).sum())
        for i, ends in enumerate(_ENDS)
    ]
    return shares[0], shares[1], shares[2]


def _histogram(values: NDArray[np.float64], ends: tuple[float, float]) -> NDArray[np.float64]:
    return np.histogram(values, bins=_BINS, range=ends)[0] / values.size


def mean_chroma(photos: NDArray[np.uint8]) -> float:
    """Mean distance from grey, in units of Lab."""
    _, a, b = np.moveaxis(lab(photos), 1, 0)
    return float(np.hypot(a, b).mean())
