"""How well what a target should look like fits it, where it fits best, and how well it fits targets of other images.

What a target should look like is predicted from its source (`appearance`), so that likes are compared. The prediction
is moved over the target: first by correlation over shifts and a few turns, then by Gauss-Newton steps (Lucas and Kanade
1981) to fractions of a pixel. Both are done at half the resolution, in all windows of an image at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import map_coordinates

from pix2pix_training.appearance import Appearance, Image, smoothed, source_features, target_features
from pix2pix_training.choices import Align
from pix2pix_training.regions import Region

REACH_PX = 16
"""The largest shift that is looked for, along each axis."""
_EXAMPLES = 2000
_TURNS_DEGREES = (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)
_SHIFT_PX, _TURN, _BEND = 8.0, 0.0175, 0.003
"""Deviations of what is expected before a pair is looked at: of shifts, turns in radians, stretch and shear."""
_CORRELATED = 60.0
"""Pixels at half resolution over which errors of the prediction are alike."""
_COARSEST = 2.5
_STEPS = 10
Parameters = NDArray[np.float64]
_Compared = tuple[Image, Image, NDArray[np.float64]]
"""Prediction and target (C, h, w), and the basis (P, 2, h, w)."""


@dataclass(frozen=True)
class Window:
    """Source and target (., h, w) at half the resolution, at a region of an image of `size`.

    What is made of them is larger, and made where it is needed.
    """

    source: Image
    target: Image
    region: Region
    size: tuple[int, int]
    align: Align

    def basis(self) -> NDArray[np.float64]:
        """How far each parameter moves pixels, (P, 2, h, w): shifts, and with them turn, scale, stretch and shear.

        Of all but shifts, how far at the end of the longer half axis of the image, at half the resolution.
        """
        half = max(self.size) / 2
        rows, columns = (np.arange(2 * (n // 2))[::2] + 0.5 for n in self.region.size)
        v, u = np.broadcast_arrays(
            (self.region.y0 + rows - (self.size[0] - 1) / 2)[:, None] / half,
            (self.region.x0 + columns - (self.size[1] - 1) / 2)[None] / half,
        )
        one, zero = np.ones_like(v), np.zeros_like(v)
        moves = [(one, zero), (zero, one)]
        if self.align == "affine":
            moves += [(-u, v), (v, u), (v, -u), (u, v)]
        return np.array(moves)


@dataclass(frozen=True)
class Match:
    """How well a prediction fits a target where it fits best, and `here`, where it lies: correlations in [-1, 1].

    `at` is where it fits best, of all shifts to whole pixels at half resolution and of some turns.
    """

    best: float
    here: float
    at: Parameters

    @property
    def gain(self) -> float:
        return self.best - self.here


class Model:
    """What targets look like, learnt from windows with the parameters of where they lie."""

    def __init__(self, known: Sequence[tuple[Sequence[Window], Parameters]], blur: float) -> None:
        self._blur = blur
        rng = np.random.default_rng(1)

        def example(window: Window, at: Parameters) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            features, target = source_features(window.source), target_features(window.target)
            places = rng.integers(0, features[0].size, _EXAMPLES)
            moved = _moved(target, window.basis(), at)
            return features.reshape(len(features), -1)[:, places], moved.reshape(len(moved), -1)[:, places]

        self._appearance = Appearance([example(window, at) for windows, at in known for window in windows])
        errors = [
            ((_moved(target, basis, at) - predicted) ** 2).mean((1, 2))
            for windows, at in known
            for predicted, target, basis in map(self._compared, windows)
        ]
        self._weights = 1 / np.maximum(np.mean(errors, 0), 1e-6)

    def _compared(self, window: Window) -> _Compared:
        """Prediction and target without what is coarse, which says little of where they lie."""
        return self._fine(self._appearance(source_features(window.source))), self.seen(window.target), window.basis()

    def seen(self, target: Image) -> Image:
        """What predictions are compared with, of a target at half the resolution."""
        return self._fine(target_features(target))

    def _fine(self, image: Image) -> Image:
        return smoothed(image, self._blur) - smoothed(image, _COARSEST)

    def found(self, windows: Sequence[Window], start: Parameters) -> Parameters:
        """The parameters that fit best."""
        images = [self._compared(window) for window in windows]
        refined = [self._refined(images, begun) for begun in (start, self._matches(images, [])[0].at)]
        return min(refined, key=lambda at: self._cost(images, at))

    def matches(self, windows: Sequence[Window], others: Sequence[Sequence[Image]]) -> list[Match]:
        """How well predictions fit the targets of their windows, and how well each of `others`.

        Each of `others` has an image (C, h, w) for each window, as `seen` makes them, of any size: what is too large is
        cut, what is too small is mirrored at its edges.
        """
        return self._matches([self._compared(window) for window in windows], others)

    def disagreement(self, windows: Sequence[Window], at: Parameters) -> float:
        """Pixels by which quarters of the windows would be moved on from `at`, the median."""
        moves = []
        for window in windows:
            predicted, target, basis = self._compared(window)
            target = _moved(target, basis, at)
            for part in Region.whole(*target.shape[1:]).quarters(1):
                index = (slice(None), *part.slices)
                shifts = np.zeros((2, 2, part.height, part.width))
                shifts[0, 0] = shifts[1, 1] = 1
                moves.append(self._refined([(predicted[index], target[index], shifts)], np.zeros(2)))
        return float(2 * np.median(np.hypot(*np.transpose(moves))))

    def _matches(self, images: Sequence[_Compared], others: Sequence[Sequence[Image]]) -> list[Match]:
        """Instead of the targets the prediction is turned, once for all of them."""
        count, reach = len(images[0][2]), REACH_PX // 2
        turns = _TURNS_DEGREES if count > 2 else (0.0,)
        sums = np.zeros((len(turns), 1 + len(others), 2 * reach + 1, 2 * reach + 1))
        energies = np.zeros((len(turns), 1 + len(others)))
        ways = np.zeros((len(turns), count))
        for number, (predicted, target, basis) in enumerate(images):
            size = target.shape[1:]
            edges = (np.hanning(n + 2)[1:-1] for n in size)
            taper = np.sqrt(np.outer(*edges) * self._weights[:, None, None]).astype(np.float32)
            weighed = [_fitted(image, size) * taper for image in (target, *(other[number] for other in others))]
            spectra = [fft.rfft2(image) for image in weighed]
            energy = np.array([float((image**2).sum()) for image in weighed])
            y, x = (n // 2 for n in size)
            for turn, degrees in enumerate(turns):
                if degrees:
                    ways[turn, 2] = np.radians(degrees) * _half_length(basis)
                turned = _moved(predicted, basis, -ways[turn]) * taper
                spectrum = fft.rfft2(turned).conj()
                energies[turn] += np.sqrt(float((turned**2).sum()) * energy)
                for which, other in enumerate(spectra):
                    whole = fft.fftshift(fft.irfft2((spectrum * other).sum(0), size))
                    sums[turn, which] += whole[y - reach : y + reach + 1, x - reach : x + reach + 1]
        surfaces = sums / np.maximum(energies, 1e-9)[:, :, None, None]
        return [self._match(surfaces[:, which], ways, reach) for which in range(1 + len(others))]

    @staticmethod
    def _match(surfaces: NDArray[np.float64], ways: NDArray[np.float64], reach: int) -> Match:
        turn, y, x = np.unravel_index(int(surfaces.argmax()), surfaces.shape)
        at = ways[turn].copy()
        at[:2] = y - reach, x - reach
        return Match(float(surfaces.max()), float(surfaces[len(ways) // 2, reach, reach]), at)

    def _refined(self, images: Sequence[_Compared], start: Parameters) -> Parameters:
        at, expected = start.copy(), self._expected(images, len(start))
        for _ in range(_STEPS):
            square, side = np.diag(expected), -expected * at
            for predicted, target, basis in images:
                inner = _inner(basis)
                moved = _moved(target, basis, at)
                slopes = np.gradient(moved, axis=(1, 2))
                rest = (predicted - moved)[:, *inner]
                for channel, weight in enumerate(self._weights / _CORRELATED):
                    ways = (slopes[0][channel] * basis[:, 0] + slopes[1][channel] * basis[:, 1])[:, *inner]
                    ways = ways.reshape(len(at), -1)
                    square = square + weight * ways @ ways.T
                    side = side + weight * ways @ rest[channel].ravel()
            step = np.linalg.solve(square, side)
            step *= min(1.0, 3 / max(1e-9, float(np.abs(step).max())))
            at = at + step
            if np.abs(step).max() < 0.01:
                break
        return at

    def _cost(self, images: Sequence[_Compared], at: Parameters) -> float:
        """Minus the logarithm of how likely the targets are where `at` puts them, but for a constant."""
        cost = float((self._expected(images, len(at)) * at**2).sum()) / 2
        for predicted, target, basis in images:
            rest = (predicted - _moved(target, basis, at))[:, *_inner(basis)]
            cost += float((self._weights[:, None, None] * rest**2).sum()) / (2 * _CORRELATED)
        return cost

    @staticmethod
    def _expected(images: Sequence[_Compared], count: int) -> Parameters:
        """Of each parameter one over the square of its expected size."""
        sizes = [_SHIFT_PX / 2] * 2
        if count > 2:
            half = _half_length(images[0][2])
            sizes += [_TURN * half, _BEND * half, _BEND * half, _BEND * half]
        return 1 / np.array(sizes) ** 2


def _half_length(basis: NDArray[np.float64]) -> float:
    """Pixels at half resolution in which a turn by one radian moves by what a parameter of 1 does."""
    return float(1 / (basis[2, 1, 1, 0] - basis[2, 1, 0, 0]))


def _inner(basis: NDArray[np.float64]) -> tuple[slice, slice]:
    height, width = basis.shape[2:]
    margin = min(12, min(height, width) // 6)
    return slice(margin, height - margin), slice(margin, width - margin)


def _fitted(image: Image, size: tuple[int, ...]) -> Image:
    """An image (C, h, w) cut to a size, and where it is smaller mirrored at its edges."""
    for axis, n in enumerate(size, 1):
        if image.shape[axis] != n:
            there = np.arange(n) % (2 * image.shape[axis])
            image = image.take(np.minimum(there, 2 * image.shape[axis] - 1 - there), axis)
    return image


def _moved(target: Image, basis: NDArray[np.float64], at: Parameters) -> Image:
    """A target (C, h, w) as parameters put it."""
    if not at.any():
        return target
    places = np.indices(target.shape[1:]) + np.tensordot(at, basis, 1)
    return np.stack([map_coordinates(channel, places, order=1, mode="nearest") for channel in target])
