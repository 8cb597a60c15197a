"""Whether source and target lie on top of each other: the shift between them, estimated from their edges.

Source and target look different, but where they show the same object, their edges are near each other. The magnitudes
of their gradients are compared by phase correlation (Kuglin and Hines, 1975) in a few patches. A shift is believed only
where the mean over patches has one high peak and several patches agree on it, each for itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from pix2pix_training.array_source import AnyArray, ArraySource, plane_size
from pix2pix_training.invalid_pixels import invalid_values
from pix2pix_training.pairs import Pair
from pix2pix_training.regions import Region

_PATCHES = 16
_DRAWS = 64
_LARGEST_PATCH_PX = 256
_SMALLEST_PATCH_PX = 64
_EDGE_SIGMA_PX = 1.5
_PEAK_SIGMA_PX = 4.0  # one object may have an edge on both of its sides in one image, and in its middle in the other
_PEAK_RADIUS_PX = 12
_LEAST_PEAK_TO_SIDELOBE = 8.0  # standard deviations
_LEAST_PEAK_TO_SECOND = 1.6
_LEAST_AGREEING = 3
_AGREEMENT_PX = 5
_TOLERATED_PX = 3.0
_TOLERATED_DEVIATIONS = 3.0

_Surface = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Shift:
    """How far targets lie from their sources: `y` pixels further down and `x` pixels further to the right.

    `peak_to_sidelobe` is the height of the common correlation peak in standard deviations of what lies around it,
    `peak_to_second` over the next highest peak. Of `patches`, `agreeing` have their own peak near the common one;
    `deviation_px` is the median of how far these are from it.
    """

    y: int
    x: int
    peak_to_sidelobe: float
    peak_to_second: float
    agreeing: int
    patches: int
    deviation_px: float

    @property
    def is_certain(self) -> bool:
        """Whether source and target have edges in common at all, so that the shift means something."""
        return (
            self.peak_to_sidelobe >= _LEAST_PEAK_TO_SIDELOBE
            and self.peak_to_second >= _LEAST_PEAK_TO_SECOND
            and self.agreeing >= _LEAST_AGREEING
        )

    @property
    def is_misalignment(self) -> bool:
        """Whether the shift is certain, and beyond what halos, focus and colours do to edges."""
        tolerated = max(_TOLERATED_PX, _TOLERATED_DEVIATIONS * self.deviation_px)
        return self.is_certain and float(np.hypot(self.y, self.x)) > tolerated


def misalignment_warning(pairs: Sequence[Pair]) -> str | None:
    """By how much source and target lie apart, in words, and what to do; None unless they certainly do."""
    shift = estimate_shift(pairs)
    if shift is None or not shift.is_misalignment:
        return None
    return (
        f"source and target look misaligned: the targets seem to lie {abs(shift.y)} pixels further "
        f"{'down' if shift.y > 0 else 'up'} and {abs(shift.x)} further {'right' if shift.x > 0 else 'left'} than their "
        f"sources (edges in {shift.agreeing} of {shift.patches} patches agree); train with --align shift (Align pairs "
        "in the form), register the images, or go on if they are right"
    )


def estimate_shift(pairs: Sequence[Pair]) -> Shift | None:
    """The shift that most of up to 16 random patches share, of at most a quarter of a patch in each direction.

    The patches have up to 256 x 256 pixels, and are the same for the same pairs. None where no patch has edges on both
    sides, or an image has less than 64 pixels on a side.
    """
    size = min(_LARGEST_PATCH_PX, *(min(plane_size(pair.source)) for pair in pairs))
    if size < _SMALLEST_PATCH_PX:
        return None
    surfaces = [_correlation(source, target) for source, target in _edge_patches(pairs, size)]
    if not surfaces:
        return None
    common = np.mean(surfaces, axis=0)
    y, x = _peak(common)
    height, side_lobes = common[y, x], common[_away_from(common, y, x)]
    offsets = np.abs([_peak(surface) for surface in surfaces] - np.array([y, x])).max(1)
    near = offsets[offsets <= _AGREEMENT_PX]
    return Shift(
        y=y - common.shape[0] // 2,
        x=x - common.shape[1] // 2,
        peak_to_sidelobe=float((height - side_lobes.mean()) / side_lobes.std()),
        peak_to_second=float(height / side_lobes.max()),
        agreeing=len(near),
        patches=len(surfaces),
        deviation_px=float(np.median(near)) if len(near) else float(_AGREEMENT_PX),
    )


def _edge_patches(pairs: Sequence[Pair], size: int) -> Iterator[tuple[AnyArray, AnyArray]]:
    """Edges of source and target (size, size) at random places where both have some and all pixels are valid."""
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(_DRAWS):
        pair = pairs[int(rng.integers(len(pairs)))]
        plane = tuple(int(rng.integers(n)) for n in pair.source.shape[:-3])
        y0, x0 = (int(rng.integers(n - size + 1)) for n in plane_size(pair.source))
        region = Region.at(y0, x0, size, size)
        source, target = _edges(pair.source, region, plane), _edges(pair.target, region, plane)
        if source is not None and target is not None:
            yield source, target
            found += 1
        if found == _PATCHES:
            return


def _edges(image: ArraySource, region: Region, plane: tuple[int, ...]) -> AnyArray | None:
    """Magnitude of the gradient (h, w) over all channels, each scaled to its range; None without edges."""
    stored, opacity = image.read_with_opacity(region, plane)
    if invalid_values(stored, image.nodata, opacity).any():
        return None
    values = stored.astype(np.float64)
    low, high = np.percentile(values, (0.1, 99.9), axis=(1, 2), keepdims=True)
    varying = (low < high)[:, 0, 0]
    if not varying.any():
        return None
    scaled = ((values - low)[varying] / (high - low)[varying]).clip(0, 1)
    smooth = gaussian_filter(scaled, (0, _EDGE_SIGMA_PX, _EDGE_SIGMA_PX))
    edges: AnyArray = np.sqrt(sum(slope**2 for slope in np.gradient(smooth, axis=(1, 2))).sum(0))
    return edges


def _correlation(source: AnyArray, target: AnyArray) -> _Surface:
    """Phase correlation for shifts of up to a quarter of the patch; the middle stands for none."""
    size = len(source)
    taper = np.hanning(size + 2)[1:-1]
    window = taper[:, None] * taper[None, :]
    spectra = [np.fft.rfft2((edges - np.average(edges, weights=window)) * window) for edges in (source, target)]
    cross = spectra[0].conj() * spectra[1]
    frequencies = np.fft.fftfreq(size)[:, None] ** 2 + np.fft.rfftfreq(size)[None, :] ** 2
    low_pass = np.exp(-2 * (np.pi * _PEAK_SIGMA_PX) ** 2 * frequencies)
    surface = np.fft.irfft2(cross / (np.abs(cross) + 1e-12) * low_pass, (size, size))
    middle, reach = size // 2, size // 4
    return np.fft.fftshift(surface)[middle - reach : middle + reach + 1, middle - reach : middle + reach + 1]


def _peak(surface: _Surface) -> tuple[int, int]:
    y, x = divmod(int(surface.argmax()), surface.shape[1])
    return y, x


def _away_from(surface: _Surface, y: int, x: int) -> NDArray[np.bool_]:
    rows, columns = np.ogrid[: surface.shape[0], : surface.shape[1]]
    away: NDArray[np.bool_] = (abs(rows - y) > _PEAK_RADIUS_PX) | (abs(columns - x) > _PEAK_RADIUS_PX)
    return away
