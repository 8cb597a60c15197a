"""What a page shows of an image beyond its scores: outputs against targets, MS-SSIM, and where it is worst."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from napari_pix2pix.class_evaluation import Classes
from napari_pix2pix.evaluation import Comparison
from pix2pix_training.array_source import AnyArray, ArraySource, channel_count, plane_indices, plane_size
from pix2pix_training.config import SSIM_WINDOW_PX
from pix2pix_training.invalid_pixels import FilledSource
from pix2pix_training.metrics import SSIM_RADIUS, ssim_maps
from pix2pix_training.pairs import Pair
from pix2pix_training.reconstruction import MS_SSIM_WEIGHTS
from pix2pix_training.regions import Region

BINS = 64
LARGEST_SHOWN_PX, WINDOW_PX = 640, 512
_TILE = 1024
_COARSEST = 2 ** (len(MS_SSIM_WEIGHTS) - 1)
_HALO = SSIM_RADIUS * _COARSEST
_LEAST = 1e-4


@dataclass(frozen=True, kw_only=True)
class Window:
    """The part of an image that is shown: a plane, and a region of it."""

    plane: tuple[int, ...]
    region: Region


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The line of least squares through outputs over targets, and their correlation, of one channel; None if undefined.

    `bias` is the mean of output less target, `mae` the mean of its size.
    """

    slope: float | None
    intercept: float | None
    pearson: float | None
    bias: float
    mae: float


@dataclass(frozen=True, kw_only=True)
class Measures:
    """Of one image; of classes `window` alone.

    Attributes
    ----------
    moments : of each channel, shape (C, 7): count, sums of p, t, p * p, t * t, p * t, |p - t| of outputs p and targets
        t, both less the low end of the data range.
    histogram : shape (C, BINS, BINS), pixels by target (rows) and output (columns) over the data range, ends included.
    ms_ssim : None where the image has no room for a window of 11 pixels.
    window : where outputs differ most from targets, in the plane where they do.
    """

    window: Window
    moments: NDArray[np.float64] = field(repr=False, default_factory=lambda: np.zeros((0, 7)))
    histogram: NDArray[np.int64] = field(repr=False, default_factory=lambda: np.zeros((0, BINS, BINS), np.int64))
    ms_ssim: float | None = None


def fits_of(moments: NDArray[np.float64], low: float) -> tuple[Fit, ...]:
    """Of each channel, of moments as in `Measures` of values less `low`."""
    return tuple(_fit(channel, low) for channel in moments)


def _fit(moments: NDArray[np.float64], low: float) -> Fit:
    p, t, pp, tt, pt, absolute = moments[1:] / max(moments[0], 1)
    variance_p, variance_t, covariance = pp - p * p, tt - t * t, pt - p * t
    negligible = 1e-12 * max(pp, tt, 1e-300)
    slope = float(covariance / variance_t) if variance_t > negligible else None
    is_varied = variance_t > negligible and variance_p > negligible
    return Fit(
        slope=slope,
        intercept=None if slope is None else float(p - slope * t + low * (1 - slope)),
        pearson=float(covariance / np.sqrt(variance_p * variance_t)) if is_varied else None,
        bias=float(p - t),
        mae=float(absolute),
    )


def measured(pair: Pair, wanted: Comparison) -> Generator[None, None, Measures]:
    """Of a prediction (the source of `pair`) and its target; stops after each tile.

    MS-SSIM is that of Wang, Simoncelli and Bovik 2003 over the data range, in the form of `ms_ssim_loss`, of the whole
    image; windows centred on pixels without data are left out.
    """
    gathered = _Gathered(pair.target, wanted)
    predictions, targets = (FilledSource(image, may_be_empty=True) for image in (pair.source, pair.target))
    size = plane_size(pair.target)
    for plane in plane_indices(pair.target):
        for inner in Region.whole(*size).tiles(_TILE):
            outer = inner.grown(_HALO, size)
            predicted, bad_prediction = predictions.read_with_mask(outer, plane)
            target, bad_target = targets.read_with_mask(outer, plane)
            bad = [mask for mask in (bad_prediction, bad_target) if mask is not None]
            valid = ~np.logical_or.reduce(bad) if bad else np.ones(outer.size, bool)
            gathered.add(predicted, target, valid, plane=plane, inner=inner, outer=outer)
            yield
    return gathered.measures()


class _Gathered:
    """What `measured` gathers tile by tile."""

    def __init__(self, target: ArraySource, wanted: Comparison) -> None:
        channels = channel_count(target)
        self._size = plane_size(target)
        self._classes: Classes | None = wanted.classes
        self._low, self._span = wanted.data_range[0], wanted.span
        self._moments = np.zeros((channels, 7))
        self._histogram = np.zeros((channels, BINS, BINS), np.int64)
        self._similarity = _MsSsim(self._size, channels, wanted.span)
        self._worst: tuple[float, Window] | None = None

    def add(
        self,
        predicted: AnyArray,
        target: AnyArray,
        valid: NDArray[np.bool_],
        *,
        plane: tuple[int, ...],
        inner: Region,
        outer: Region,
    ) -> None:
        place = inner.seen_from(outer).slices
        if self._classes is not None:
            found, true = self._classes.numbers(predicted[:, *place]), self._classes.numbers(target[:, *place])
            self._look_for_errors((found != true) & (true >= 0) & valid[place], plane, inner)
            return
        p, t = predicted.astype(np.float64), target.astype(np.float64)
        if not valid.all():
            p, t = np.where(valid, p, 0.0), np.where(valid, t, 0.0)
        self._similarity.add(p, t, valid, inner, outer)
        p, t, valid = p[:, *place], t[:, *place], valid[place]
        self._look_for_errors(np.abs(p - t).mean(0), plane, inner)
        self._add_pixels(p[:, valid], t[:, valid])

    def _add_pixels(self, p: NDArray[np.float64], t: NDArray[np.float64]) -> None:
        if p.size == 0:
            return
        bins = [((image - self._low) / self._span * BINS).clip(0, BINS - 1).astype(np.int64) for image in (t, p)]
        for channel, places in enumerate(bins[0] * BINS + bins[1]):
            self._histogram[channel] += np.bincount(places, minlength=BINS * BINS).reshape(BINS, BINS)
        absolute = np.abs(p - t).sum(1)
        p, t = p - self._low, t - self._low
        sums = [p.sum(1), t.sum(1), (p * p).sum(1), (t * t).sum(1), (p * t).sum(1), absolute]
        self._moments += np.stack([np.full(len(p), p.shape[1]), *sums], axis=1)

    def _look_for_errors(self, errors: AnyArray, plane: tuple[int, ...], inner: Region) -> None:
        """Keep the cell of the largest sum of errors (h, w) of the tile `inner`; small images are one cell."""
        small = max(self._size) <= LARGEST_SHOWN_PX
        cells = [Region.whole(*inner.size)] if small else Region.whole(*inner.size).tiles(WINDOW_PX)
        for cell in cells:
            total = float(errors[cell.slices].sum())
            if self._worst is None or total > self._worst[0]:
                y, x = inner.y0 + cell.y0, inner.x0 + cell.x0
                self._worst = total, Window(plane=plane, region=self._shown(y, x))

    def _shown(self, y: int, x: int) -> Region:
        height, width = self._size
        if max(self._size) <= LARGEST_SHOWN_PX:
            return Region.whole(height, width)
        tall, wide = min(height, WINDOW_PX), min(width, WINDOW_PX)
        return Region.at(min(y, height - tall), min(x, width - wide), tall, wide)

    def measures(self) -> Measures:
        assert self._worst is not None  # an image has pixels
        if self._classes is not None:
            return Measures(window=self._worst[1])
        return Measures(
            window=self._worst[1],
            moments=self._moments,
            histogram=self._histogram,
            ms_ssim=self._similarity.value(),
        )


class _MsSsim:
    """MS-SSIM of an image from tiles that carry `_HALO` pixels of their neighbours and begin at multiples of 16."""

    def __init__(self, size: tuple[int, int], channels: int, data_range: float) -> None:
        self._size, self._range = size, data_range
        self._scales = min(len(MS_SSIM_WEIGHTS), (min(size) // SSIM_WINDOW_PX).bit_length()) if data_range > 0 else 0
        self._sums = np.zeros((self._scales, channels))
        self._counts = np.zeros(self._scales)

    def add(
        self, p: NDArray[np.float64], t: NDArray[np.float64], valid: NDArray[np.bool_], inner: Region, outer: Region
    ) -> None:
        images = torch.from_numpy(np.stack([p, t]))
        mask = torch.from_numpy(valid[None].astype(np.float64))
        for scale in range(self._scales):
            if scale:
                images, mask = F.avg_pool2d(images, 2), -F.max_pool2d(-mask, 2)
            self._add_scale(scale, images, mask[0] > 0, inner, outer)

    def _add_scale(self, scale: int, images: Tensor, mask: Tensor, inner: Region, outer: Region) -> None:
        """`images` (2, C, h, w) and the mask (h, w) are those of `outer`, shrunk by 2 ** `scale`."""
        whole = Region.whole(self._size[0] >> scale, self._size[1] >> scale)
        seen = Region.at(outer.y0 >> scale, outer.x0 >> scale, *images.shape[-2:])
        own = Region(*(edge >> scale for edge in (inner.y0, inner.y1, inner.x0, inner.x1)))
        centres = whole.grown(-SSIM_RADIUS, whole.size).common(own)
        if centres.is_empty:
            return
        around = centres.grown(SSIM_RADIUS, whole.size).seen_from(seen).slices
        maps = ssim_maps(images[0][:, *around], images[1][:, *around], self._range)
        chosen = maps.ssim if scale == self._scales - 1 else maps.structure
        kept = mask[centres.seen_from(seen).slices]
        self._sums[scale] += chosen[:, kept].sum(1).numpy()
        self._counts[scale] += int(kept.sum())

    def value(self) -> float | None:
        if not self._scales or not self._counts.all():
            return None
        weights = np.array(MS_SSIM_WEIGHTS[: self._scales])
        means = (self._sums / self._counts[:, None]).clip(_LEAST)
        return float(prod(means ** (weights / weights.sum())[:, None], start=np.ones(1)).mean())


def together(measures: Sequence[Measures]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Moments and histogram of all images."""
    return np.sum([m.moments for m in measures], axis=0), np.sum([m.histogram for m in measures], axis=0)
