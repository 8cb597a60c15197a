"""How close an image is to its target: MAE, PSNR, SSIM and Pearson correlation, gathered tile by tile; and its grid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pix2pix_training.array_source import AnyArray
from pix2pix_training.config import SSIM_WINDOW_PX
from pix2pix_training.regions import Region

GRID_PERIODS = (2, 4, 8)
"""Pixels between the lines that a decoder with strides of 2 draws where it draws them."""

SSIM_RADIUS = SSIM_WINDOW_PX // 2
_SSIM_SIGMA = 1.5


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of one image, or their mean; None where a score is undefined (Pearson of a constant, SSIM below 11 px).

    `iou` is there for images of classes alone (`class_overlap`).
    """

    mae: float
    psnr: float | None
    ssim: float | None
    pearson: float | None
    iou: float | None = None

    def as_dict(self) -> dict[str, float | None]:
        """By name, without `iou` where there is none."""
        return {name: value for name, value in asdict(self).items() if name != "iou" or value is not None}


class ScoreAccumulator:
    """Gathers the scores of one image from tiles, exactly as if computed at once.

    SSIM is that of Wang et al. 2004: Gaussian window of 11 pixels and sigma 1.5, K1 0.01, K2 0.03, means of the window
    positions that lie wholly in the image, averaged over channels.

    Parameters
    ----------
    data_range : difference between the largest and the smallest value that targets can take; for PSNR and SSIM.
    """

    def __init__(self, data_range: float) -> None:
        self._data_range = data_range
        self._count = 0
        self._absolute = 0.0
        self._moments = np.zeros(5)  # sums of p, t, p*p, t*t, p*t of values less `_shift`
        self._shift: float | None = None
        self._squared = 0.0
        self._ssim_sum = 0.0
        self._ssim_count = 0

    def add(
        self,
        prediction: AnyArray,
        target: AnyArray,
        inner: Region | None = None,
        valid: NDArray[np.bool_] | None = None,
    ) -> None:
        """Add a tile.

        Parameters
        ----------
        prediction, target : (C, h, w), any real dtype.
        inner : the part that this tile answers for, in tile coordinates; around it the tile should carry `SSIM_RADIUS`
            pixels of its neighbours, except at the border of the image. Default: all of it.
        valid : (h, w) mask of pixels to score; SSIM leaves out windows centred on others.
        """
        inner = inner or Region.whole(*target.shape[1:])
        p, t = prediction.astype(np.float64), target.astype(np.float64)
        mask = np.ones(t.shape[1:], bool) if valid is None else valid
        keep = mask[inner.slices]
        self._add_pixels(p[:, *inner.slices][:, keep], t[:, *inner.slices][:, keep])
        if not mask.all():
            p, t = np.where(mask, p, 0.0), np.where(mask, t, 0.0)
        self._add_ssim(p, t, inner, mask)

    def _add_pixels(self, p: NDArray[np.float64], t: NDArray[np.float64]) -> None:
        if t.size == 0:
            return
        if self._shift is None:
            self._shift = float(t.mean())
        self._count += t.size
        difference = p - t
        self._absolute += float(np.abs(difference).sum())
        self._squared += float((difference**2).sum())
        p, t = p - self._shift, t - self._shift
        self._moments += [p.sum(), t.sum(), (p * p).sum(), (t * t).sum(), (p * t).sum()]

    def _add_ssim(self, p: NDArray[np.float64], t: NDArray[np.float64], inner: Region, mask: NDArray[np.bool_]) -> None:
        height, width = t.shape[1:]
        centres = Region.whole(height, width).grown(-SSIM_RADIUS, (height, width)).common(inner)
        if centres.is_empty:
            return
        seen = centres.grown(SSIM_RADIUS, (height, width)).slices
        found, wanted = (torch.from_numpy(np.ascontiguousarray(image[:, *seen])) for image in (p, t))
        values = ssim_maps(found, wanted, self._data_range).ssim.numpy()[:, mask[centres.slices]]
        self._ssim_sum += float(values.sum())
        self._ssim_count += values.size

    def scores(self) -> Scores:
        if self._count == 0:
            return Scores(mae=math.nan, psnr=None, ssim=None, pearson=None)
        mse = self._squared / self._count
        return Scores(
            mae=self._absolute / self._count,
            psnr=10 * math.log10(self._data_range**2 / mse) if mse > 0 and self._data_range > 0 else None,
            ssim=self._ssim_sum / self._ssim_count if self._ssim_count and self._data_range > 0 else None,
            pearson=self._pearson(),
        )

    def _pearson(self) -> float | None:
        p, t, pp, tt, pt = self._moments / self._count
        variance_p, variance_t = pp - p * p, tt - t * t
        negligible = 1e-12 * max(pp, tt, 1e-300)
        if variance_p <= negligible or variance_t <= negligible:
            return None
        return float((pt - p * t) / math.sqrt(variance_p * variance_t))


def score(prediction: AnyArray, target: AnyArray, data_range: float, valid: NDArray[np.bool_] | None = None) -> Scores:
    """Scores of an image (C, H, W) held in memory, of its `valid` pixels (H, W)."""
    accumulator = ScoreAccumulator(data_range)
    accumulator.add(prediction, target, valid=valid)
    return accumulator.scores()


def score_classes(prediction: AnyArray, target: AnyArray, valid: NDArray[np.bool_] | None = None) -> Scores:
    """Scores of one-hot classes (C, H, W) in [-1, 1], with the overlap of the classes that win."""
    wanted = np.where(target.max(0) > 0, target.argmax(0), -1)
    overlap = class_overlap(prediction.argmax(0), wanted, len(target), valid)
    return replace(score(prediction, target, 2.0, valid), iou=overlap)


def class_overlap(
    prediction: AnyArray, target: AnyArray, classes: int, valid: NDArray[np.bool_] | None = None
) -> float | None:
    """Intersection over union (Jaccard index) of classes (H, W), numbered from 0; -1 is a class that nobody knows.

    Of two classes that of the second, the foreground; of more the mean over those that occur in either image. None
    where none of them occurs.
    """
    if valid is not None:
        prediction, target = prediction[valid], target[valid]
    overlaps = []
    for number in range(1 if classes == 2 else 0, classes):
        found, wanted = prediction == number, target == number
        union = int((found | wanted).sum())
        if union:
            overlaps.append(int((found & wanted).sum()) / union)
    return sum(overlaps) / len(overlaps) if overlaps else None


def mean_scores(scores: Sequence[Scores]) -> Scores:
    """Mean of each score over the images for which it is defined."""
    mae, psnr, ssim, pearson, iou = (
        _mean([getattr(s, name) for s in scores]) for name in ("mae", "psnr", "ssim", "pearson", "iou")
    )
    return Scores(mae=math.nan if mae is None else mae, psnr=psnr, ssim=ssim, pearson=pearson, iou=iou)


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [v for v in values if v is not None and math.isfinite(v)]
    return sum(defined) / len(defined) if defined else None


class SsimMaps(NamedTuple):
    """Of each position of the window inside images: its contrast and structure, and that times its brightness."""

    structure: Tensor
    ssim: Tensor


def ssim_maps(a: Tensor, b: Tensor, data_range: float) -> SsimMaps:
    """SSIM of images (..., H, W), and its part without brightness, each of shape (..., H - 10, W - 10)."""
    offsets = torch.arange(-SSIM_RADIUS, SSIM_RADIUS + 1, dtype=a.dtype, device=a.device)
    weights = torch.exp(-(offsets**2) / (2 * _SSIM_SIGMA**2))
    weights = weights / weights.sum()

    def blurred(image: Tensor) -> Tensor:
        """One image at a time: in double precision PyTorch unfolds the window, which takes 11 times its memory."""
        rows = F.conv2d(image.reshape(-1, 1, *image.shape[-2:]), weights[None, None, :, None])
        both = F.conv2d(rows, weights[None, None, None, :])
        return both.reshape(*image.shape[:-2], *both.shape[-2:])

    mean_a, mean_b, aa, bb, ab = map(blurred, (a, b, a * a, b * b, a * b))
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    variances = (aa - mean_a**2) + (bb - mean_b**2)
    structure = (2 * (ab - mean_a * mean_b) + c2) / (variances + c2)
    return SsimMaps(structure, (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1) * structure)


def grid_index(image: AnyArray) -> dict[int, float] | None:
    """How much a regular grid stands out of an image, for each period in `GRID_PERIODS`, in pixels.

    Transposed convolutions leave such grids (Odena et al. 2016, "Deconvolution and checkerboard artifacts"). The power
    spectrum of the image, under a Hann window and summed along each axis, has a line at the frequency of the grid; the
    index is that line over the median of the frequencies around it: about 1 without a grid, the mean over both axes
    and all channels that are not constant.

    Parameters
    ----------
    image : shape (C, H, W), any real dtype, finite.

    Returns
    -------
    dict or None
        None where the image is smaller than 64 pixels, or constant: it says nothing then.
    """
    power = _power(image)
    power = power[power.any((1, 2))]
    if not len(power):
        return None
    lines = np.concatenate([power.sum(axis) for axis in (1, 2)])  # (2 C, frequencies), both directions of lines
    side = lines.shape[1]
    return {period: float(np.mean(_standing_out(lines, side // period))) for period in GRID_PERIODS}


def grid_ratio(results: Sequence[AnyArray], targets: Sequence[AnyArray]) -> dict[int, float] | None:
    """For each period in pixels, the median `grid_index` of results over that of targets: 1 is right, more a grid.

    Of images (C, H, W); None where no result or no target has an index.
    """
    return ratio_of_indices([grid_index(image) for image in results], [grid_index(image) for image in targets])


def ratio_of_indices(
    results: Sequence[Mapping[int, float] | None], targets: Sequence[Mapping[int, float] | None]
) -> dict[int, float] | None:
    """`grid_ratio` of images whose `grid_index` is known."""
    found, wanted = ([index for index in indices if index is not None] for indices in (results, targets))
    if not found or not wanted:
        return None
    return {
        period: float(np.median([index[period] for index in found]) / np.median([index[period] for index in wanted]))
        for period in GRID_PERIODS
    }


def detail_ratio(result: AnyArray, target: AnyArray) -> float | None:
    """Power of a result over that of its target, at periods below 4 pixels: 1 is right, below 1 is blurred.

    Far above 1 is texture, noise or a grid that the target does not have. A target without such details counts as one
    with a ten thousandth of its power there, which is hardly seen.

    Parameters
    ----------
    result, target : (C, H, W), any real dtype, finite.

    Returns
    -------
    float or None
        None where the images are smaller than 64 pixels, or the target is constant: it says nothing then.
    """
    found, wanted = _power(result), _power(target)
    if not wanted.any():
        return None
    frequencies = np.abs(np.fft.fftfreq(wanted.shape[-1]))
    is_fine = np.maximum(frequencies[:, None], frequencies) > _FINE
    return float(found[:, is_fine].sum() / max(wanted[:, is_fine].sum(), _HARDLY_SEEN * wanted.sum()))


def _power(image: AnyArray) -> NDArray[np.float64]:
    """Power spectrum (C, F, F) of the upper left square of an image (C, H, W) under a Hann window, without the mean.

    Channels that are constant have none; an image that is smaller than 64 pixels has no channel.
    """
    side = min(image.shape[-2:]) // 16 * 16
    if side < _SMALLEST_SPECTRUM_PX:
        return np.zeros((0, side, side))
    channels = image[:, :side, :side].astype(np.float64)
    window = np.hanning(side)
    centred = (channels - channels.mean((1, 2), keepdims=True)) * window[:, None] * window
    centred[np.ptp(channels, axis=(1, 2)) == 0] = 0
    power: NDArray[np.float64] = np.abs(np.fft.fft2(centred)) ** 2
    return power


_SMALLEST_SPECTRUM_PX = 64
_FINE = 0.25
"""Periods per pixel."""
_HARDLY_SEEN = 1e-4
_LINE_HALF_WIDTH = 1
_AROUND = (4, 10)


def _standing_out(lines: NDArray[np.float64], frequency: int) -> NDArray[np.float64]:
    """The largest power at a frequency over the median of those at some distance; frequencies wrap around."""
    near, far = _AROUND
    at = np.arange(frequency - _LINE_HALF_WIDTH, frequency + _LINE_HALF_WIDTH + 1)
    around = np.r_[frequency - far : frequency - near + 1, frequency + near : frequency + far + 1]
    count = lines.shape[1]
    background = np.median(lines[:, around % count], axis=1)
    result: NDArray[np.float64] = lines[:, at % count].max(1) / np.maximum(background, np.finfo(np.float64).tiny)
    return result


def relative_deviation(result: Tensor, expected: Tensor) -> float:
    """Largest absolute difference as a share of the range of `expected`; infinite where `result` is not finite."""
    if result.shape != expected.shape or not bool(torch.isfinite(result).all()):
        return math.inf
    span = (expected.max() - expected.min()).item()
    difference = (result.double() - expected.double()).abs().max().item()
    return difference / span if span > 0 else (0.0 if difference == 0 else math.inf)
