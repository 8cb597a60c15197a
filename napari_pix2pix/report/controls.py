"""What a model is compared with: the best that can be made of each pixel alone, without its neighbours."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from napari_pix2pix.class_evaluation import Classes
from napari_pix2pix.evaluation import Comparison
from pix2pix_training.array_source import AnyArray, ArraySource, Opacity, SourceView, plane_indices, plane_size
from pix2pix_training.intensity import CategoryMapping, Mapping, to_tensor
from pix2pix_training.invalid_pixels import FilledSource, can_have_invalid_pixels
from pix2pix_training.regions import Region

_TILE = 1024


def pixel_fit(
    sources: Sequence[ArraySource], wanted: Comparison, mapping: Mapping | None
) -> Generator[None, None, Comparison]:
    """The comparison with predictions of a linear fit of each pixel; stops after each tile.

    A target channel is fitted by least squares as a weighted sum of the source channels at the same pixel and a
    constant, over all valid pixels of the very images that are scored. Of categories of the source the channels are
    0 or 1 for each; of classes of the target each is fitted as 0 or 1, and the largest wins.

    Parameters
    ----------
    sources : for each pair of `wanted`.
    mapping : of the source of the model, which says whether it is categories.
    """
    features = _Features(mapping)
    squares, products = np.zeros((1, 1)), np.zeros((1, 1))
    for source, pair in zip(sources, wanted.pairs, strict=True):
        seen, target = FilledSource(source, may_be_empty=True), FilledSource(pair.target, may_be_empty=True)
        for plane in plane_indices(target):
            for region in Region.whole(*plane_size(target)).tiles(_TILE):
                pixels, no_source = seen.read_with_mask(region, plane)
                truth, no_target = target.read_with_mask(region, plane)
                bad = [mask for mask in (no_source, no_target) if mask is not None]
                valid = ~np.logical_or.reduce(bad) if bad else np.ones(region.size, bool)
                x = features.of(pixels)[:, valid]
                y = _as_numbers(truth, wanted.classes)[:, valid]
                squares, products = squares + x @ x.T, products + x @ y.T
                yield
    weights = _solved(squares, products)
    pairs = [
        replace(pair, source=_Fitted(source, pair.target, features, weights, wanted.classes))
        for source, pair in zip(sources, wanted.pairs, strict=True)
    ]
    return replace(wanted, pairs=tuple(pairs))


class _Features:
    """A constant and the channels of a source, or a channel for each of its categories."""

    def __init__(self, mapping: Mapping | None) -> None:
        self._categories = mapping if isinstance(mapping, CategoryMapping) else None

    def of(self, stored: AnyArray) -> NDArray[np.float64]:
        """(C, h, w) -> (features, h, w)."""
        if self._categories is None:
            channels = stored.astype(np.float64)
        else:
            channels = (self._categories.to_network(to_tensor(stored)[None])[0].numpy() > 0).astype(np.float64)
        return np.concatenate([np.ones((1, *stored.shape[1:])), channels])


def _as_numbers(truth: AnyArray, classes: Classes | None) -> NDArray[np.float64]:
    """(C, h, w) as float; of classes a channel of 0 and 1 for each."""
    if classes is None:
        return truth.astype(np.float64)
    numbers = np.arange(len(classes.values))[:, None, None]
    members: NDArray[np.float64] = (classes.numbers(truth) == numbers).astype(np.float64)
    return members


def _solved(squares: NDArray[np.float64], products: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights (targets, features) of least squares; the smallest ones where channels depend on each other."""
    scale = np.sqrt(np.diag(squares))
    scale[scale == 0] = 1
    solution = np.linalg.lstsq(squares / scale / scale[:, None], products / scale[:, None], rcond=1e-10)[0]
    weights: NDArray[np.float64] = (solution / scale[:, None]).T
    return weights


class _Fitted(SourceView):
    """What the fit makes of a source; invalid where the source is."""

    def __init__(
        self,
        source: ArraySource,
        target: ArraySource,
        features: _Features,
        weights: NDArray[np.float64],
        classes: Classes | None,
    ) -> None:
        super().__init__(target)
        self.name = f"the fit of {source.name}"
        self.dtype = np.dtype(np.float64) if classes is None else target.dtype
        self.nodata, self.palette = None, None
        self.masked = can_have_invalid_pixels(source)
        self._seen = FilledSource(source, may_be_empty=True)
        self._features, self._weights = features, weights
        self._values = None if classes is None else np.array(classes.values, self.dtype)

    def read_with_opacity(self, region: Region, plane: tuple[int, ...] = ()) -> tuple[AnyArray, Opacity | None]:
        pixels, opacity = self._seen.read_with_opacity(region, plane)
        fitted = np.tensordot(self._weights, self._features.of(pixels), 1)
        return fitted if self._values is None else np.moveaxis(self._values[fitted.argmax(0)], -1, 0), opacity
