"""Where the targets lie on their sources, estimated pair by pair, and which of these estimates are believed.

What a target should look like is predicted from its source (`appearance`), so that likes are compared. The prediction
is moved over the target: first by correlation over shifts and a few turns, then by Gauss-Newton steps (Lucas and Kanade
1981) to fractions of a pixel. Both are done at half the resolution, in up to nine windows of an image.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from pix2pix_training.aligned_source import Transform
from pix2pix_training.appearance import Appearance, Image, smoothed, source_features, target_features
from pix2pix_training.array_source import ArraySource, cropped_from, plane_size
from pix2pix_training.choices import Align
from pix2pix_training.invalid_pixels import invalid_values
from pix2pix_training.pairs import Pair
from pix2pix_training.regions import Region

REACH_PX = 16
"""The largest shift that is looked for, along each axis."""
_WINDOW_PX = 512
_SMALLEST_WINDOW_PX = 96
_WINDOWS_ALONG_A_SIDE = 3
_MOST_WINDOWS = _WINDOWS_ALONG_A_SIDE**2
_LEARNT_FROM = 128
_EXAMPLES = 2000
_BLURS = (1.0, 0.7, 0.5)
_TURNS_DEGREES = (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)
_SHIFT_PX, _TURN, _BEND = 8.0, 0.0175, 0.003
"""Deviations of what is expected before a pair is looked at: of shifts, turns in radians, stretch and shear."""
_CORRELATED = 60.0
"""Pixels at half resolution over which errors of the prediction are alike."""
_LEAST_PX = 1.5
_LEAST_EVIDENCE = 60.0
_MOST_DISAGREEMENT_PX = 1.0
_COARSEST = 2.5
_STEPS = 10
Parameters = NDArray[np.float64]
_Compared = tuple[Image, Image, NDArray[np.float64]]
"""Prediction and target (C, h, w), and the basis (P, 2, h, w)."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Where a target lies on its source.

    `evidence` is the logarithm of how much better the prediction fits there than where the target lies now, and
    `disagreement_px` by how much quarters of the windows would move it further, the median; infinite where nothing
    could be compared. `has_moved` says that the target is taken from there, `is_doubtful` that it may lie elsewhere but
    is left as it is. What lies less than 1.5 pixels away counts as registered.
    """

    name: str
    transform: Transform
    distance_px: float
    evidence: float
    disagreement_px: float

    @property
    def _is_apart(self) -> bool:
        return self.distance_px >= _LEAST_PX

    @property
    def _is_certain(self) -> bool:
        return self.evidence >= _LEAST_EVIDENCE and self.disagreement_px <= _MOST_DISAGREEMENT_PX

    @property
    def has_moved(self) -> bool:
        return self._is_apart and self._is_certain

    @property
    def is_doubtful(self) -> bool:
        return math.isinf(self.disagreement_px) or (self._is_apart and not self._is_certain)


@dataclass(frozen=True)
class _Window:
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


def estimates(images: Sequence[Sequence[Pair]], align: Align) -> Generator[float, None, list[Estimate]]:
    """An estimate for each target image, of which `images` have the pairs: one, or parts of one image.

    Yields the share that is done. What targets look like is learnt from up to 128 of the images.
    """
    chosen = sorted(np.random.default_rng(0).permutation(len(images))[:_LEARNT_FROM].tolist())
    total, done = len(_BLURS) * len(chosen) + len(images), 0
    some = max(1, min(_MOST_WINDOWS, _LEARNT_FROM // len(chosen)))
    every = [windows for index in chosen if (windows := _windows(images[index], align, some))]
    start = np.zeros(6 if align == "affine" else 2)
    known = [(windows, start) for windows in every]
    if not known:
        return [_unknown(parts[0]) for parts in images]
    for blur in _BLURS:
        model = _Model(known, blur)
        for position, (windows, at) in enumerate(known):
            known[position] = windows, model.found(windows, at)[0]
            done += 1
            yield done / total
    model, results = _Model(known, _BLURS[-1]), list[Estimate]()
    for parts in images:
        windows = _windows(parts, align)
        results.append(_estimate(parts[0], windows, model, start) if windows else _unknown(parts[0]))
        done += 1
        yield done / total
    return results


def _unknown(pair: Pair) -> Estimate:
    return Estimate(
        name=pair.target.name,
        transform=Transform(shift=(0.0, 0.0)),
        distance_px=0.0,
        evidence=0.0,
        disagreement_px=math.inf,
    )


def _estimate(pair: Pair, windows: list[_Window], model: _Model, start: Parameters) -> Estimate:
    found, evidence = model.found(windows, start)
    size = plane_size(cropped_from(pair.target)[0])
    transform = _transform(found, size)
    return Estimate(
        name=pair.target.name,
        transform=transform,
        distance_px=transform.distance_px(size),
        evidence=evidence,
        disagreement_px=model.disagreement(windows, found),
    )


def _transform(found: Parameters, size: tuple[int, int]) -> Transform:
    """Parameters are displacements at half resolution, at the end of the longer half axis."""
    if len(found) == 2:
        return Transform(shift=(2 * found[0], 2 * found[1]))
    turn, scale, stretch, shear = 2 * found[2:] / (max(size) / 2)
    matrix = (scale + stretch, shear - turn, shear + turn, scale - stretch)
    return Transform(shift=(2 * found[0], 2 * found[1]), stretch=matrix)


def _windows(parts: Sequence[Pair], align: Align, most: int = _MOST_WINDOWS) -> list[_Window]:
    """Up to `most` windows of the parts of one image, evenly spread over them and over the planes."""
    found = list[_Window]()
    for pair in sorted(parts, key=lambda part: -int(np.prod(plane_size(part.source))))[:most]:
        image, place = cropped_from(pair.target)
        height, width = plane_size(pair.source)
        sides = min(height, _WINDOW_PX) // 2 * 2, min(width, _WINDOW_PX) // 2 * 2
        if min(sides) < _SMALLEST_WINDOW_PX:
            continue
        rows, columns = (
            sorted({round(k) for k in np.linspace(0, n - side, min(_WINDOWS_ALONG_A_SIDE, -(-n // side)))})
            for n, side in zip((height, width), sides, strict=True)
        )
        places = [Region.at(y, x, *sides) for y in rows for x in columns]
        for number, region in enumerate(places[: most - len(found)]):
            plane = tuple(n * (2 * number + 1) // (2 * len(places)) for n in pair.source.shape[:-3])
            source, target = _halved(pair.source, region, plane), _halved(pair.target, region, plane)
            if source is not None and target is not None:
                found.append(_Window(source, target, region.placed_in(place), plane_size(image), align))
    return found


def _halved(image: ArraySource, region: Region, plane: tuple[int, ...]) -> Image | None:
    """Means of 2 x 2 pixels (C, h / 2, w / 2), each channel scaled to its range; None of invalid or constant ones."""
    stored, opacity = image.read_with_opacity(region, plane)
    if invalid_values(stored, image.nodata, opacity).any():
        return None
    values = stored.astype(np.float64)
    low, high = np.percentile(values, (0.1, 99.9), axis=(1, 2), keepdims=True)
    flat = low >= high
    low, high = (
        np.where(flat, values.min((1, 2), keepdims=True), low),
        np.where(flat, values.max((1, 2), keepdims=True), high),
    )
    varying = (low < high)[:, 0, 0]
    if not varying.any():
        return None
    scaled = (values - low).clip(0) / np.where(low < high, high - low, 1)
    channels, height, width = scaled.shape
    halved = scaled.clip(0, 1).reshape(channels, height // 2, 2, width // 2, 2).mean((2, 4))
    return np.asarray(halved, np.float32)


class _Model:
    """What targets look like, learnt from windows with the parameters of where they lie."""

    def __init__(self, known: Sequence[tuple[list[_Window], Parameters]], blur: float) -> None:
        self._blur = blur
        rng = np.random.default_rng(1)

        def example(window: _Window, at: Parameters) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
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

    def _compared(self, window: _Window) -> _Compared:
        """Prediction and target without what is coarse, which says little of where they lie."""
        predicted, target = self._appearance(source_features(window.source)), target_features(window.target)
        return (
            smoothed(predicted, self._blur) - smoothed(predicted, _COARSEST),
            smoothed(target, self._blur) - smoothed(target, _COARSEST),
            window.basis(),
        )

    def found(self, windows: Sequence[_Window], start: Parameters) -> tuple[Parameters, float]:
        """The parameters that fit best, and the evidence that they fit better than none."""
        images = [self._compared(window) for window in windows]
        starts = [start, self._correlated(images)]
        refined = [self._refined(images, begun) for begun in starts]
        costs = [self._cost(images, at) for at in refined]
        best = int(np.argmin(costs))
        return refined[best], self._cost(images, np.zeros_like(start)) - costs[best]

    def disagreement(self, windows: Sequence[_Window], at: Parameters) -> float:
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

    def _correlated(self, images: Sequence[_Compared]) -> Parameters:
        """The best of all shifts to whole pixels, and of some turns."""
        count, reach = len(images[0][2]), REACH_PX // 2
        best, value = np.zeros(count), -np.inf
        for turn in _TURNS_DEGREES if count > 2 else (0.0,):
            surface = np.zeros((2 * reach + 1, 2 * reach + 1))
            turned = np.zeros(count)
            if count > 2:
                turned[2] = np.radians(turn) * _half_length(images[0][2])
            for predicted, target, basis in images:
                taper = np.sqrt(np.hanning(basis.shape[2] + 2)[1:-1, None] * np.hanning(basis.shape[3] + 2)[None, 1:-1])
                spectra = np.fft.rfft2(predicted * taper * self._weights[:, None, None]).conj()
                spectra = spectra * np.fft.rfft2(_moved(target, basis, turned) * taper)
                whole = np.fft.fftshift(np.fft.irfft2(spectra.sum(0), basis.shape[2:]))
                y, x = basis.shape[2] // 2, basis.shape[3] // 2
                surface += whole[y - reach : y + reach + 1, x - reach : x + reach + 1]
            if surface.max() > value:
                value, place = surface.max(), divmod(int(surface.argmax()), len(surface))
                best = turned.copy()
                best[:2] = np.array(place) - reach
        return best

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


def _moved(target: Image, basis: NDArray[np.float64], at: Parameters) -> Image:
    """A target (C, h, w) as parameters put it."""
    if not at.any():
        return target
    places = np.indices(target.shape[1:]) + np.tensordot(at, basis, 1)
    return np.stack([map_coordinates(channel, places, order=1, mode="nearest") for channel in target])
