"""How well translated images agree with their targets: scores per image, their mean, and those of a constant."""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from napari_pix2pix.class_evaluation import (
    Classes,
    ClassEvaluation,
    Foreground,
    TargetValues,
    classes_of,
    evaluate_classes,
)
from napari_pix2pix.formats import open_image
from napari_pix2pix.spectral_evaluation import Spectrum, spectrum_of
from napari_pix2pix.translation.batch import OfOne, of_one
from napari_pix2pix.translation.pipeline import translate
from napari_pix2pix.translation.progress import Progress, TilesDone, ended, told
from napari_pix2pix.translation.sinks import PlainFileSink
from napari_pix2pix.translation.translator import Translator
from pix2pix_training.array_source import (
    AnyArray,
    ArraySource,
    Opacity,
    SourceView,
    channel_count,
    least_opaque,
    plane_indices,
    plane_size,
)
from pix2pix_training.channel_names import ordered_like
from pix2pix_training.errors import ImageError, NoValidPixelError
from pix2pix_training.intensity import CategoryMapping, LinearMapping, Mapping, percentiles
from pix2pix_training.invalid_pixels import FilledSource, can_have_invalid_pixels
from pix2pix_training.metrics import SSIM_RADIUS, ScoreAccumulator, Scores, mean_scores
from pix2pix_training.pairs import Pair
from pix2pix_training.regions import Region
from pix2pix_training.retelling import retold

logger = logging.getLogger(__name__)

_TILE = 1024
_PASSES = 3  # scores of the images, and of two constants; of classes one more
_RANGE_PERCENTILES = (0.1, 99.9)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores by image name, their mean, the data range used, and the mean scores of the best constant images.

    The constants are the median of all targets for MAE, and their mean for PSNR and SSIM, per channel. `classes` are
    the scores of the same images as classes, None where they are intensities, of which there is a `spectrum`.
    """

    images: tuple[tuple[str, Scores], ...]
    mean: Scores
    constant: Scores
    data_range: tuple[float, float]
    classes: ClassEvaluation | None = None
    spectrum: Spectrum | None = None

    def as_dict(self) -> dict[str, Any]:
        result: dict[str, Any] = {
            "images": [{"name": name, **scores.as_dict()} for name, scores in self.images],
            "mean": self.mean.as_dict(),
            "constant": self.constant.as_dict(),
            "data_range": list(self.data_range),
        }
        if self.spectrum is not None:
            result |= self.spectrum.as_dict()
        if self.classes is not None:
            for image, scores in zip(result["images"], self.classes.images, strict=True):
                image.update(scores.as_dict())
            result["mean"].update(self.classes.mean.as_dict())
            result["constant"].update(self.classes.constant.as_dict())
            result["all_pixels"] = self.classes.all_pixels.as_dict()
            result["classes"] = [overlap.as_dict() for overlap in self.classes.classes]
        return result


def evaluate_pairs(
    pairs: Sequence[Pair],
    *,
    data_range: tuple[float, float] | None = None,
    region: Region | None = None,
    target_values: TargetValues = "auto",
    mapping: Mapping | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Compare predictions (the sources of `pairs`) with their targets, tile by tile; see `comparison`.

    `progress` is called after each tile with the number of tiles that are done, and of all.
    """
    events = scoring(pairs, data_range=data_range, region=region, target_values=target_values, mapping=mapping)
    return ended(events, told(progress))


def scoring(
    pairs: Sequence[Pair],
    *,
    data_range: tuple[float, float] | None = None,
    region: Region | None = None,
    target_values: TargetValues = "auto",
    mapping: Mapping | None = None,
) -> Generator[TilesDone, None, Evaluation]:
    """Compare predictions (the sources of `pairs`) with their targets, and tell of each tile; see `comparison`."""
    wanted = comparison(pairs, data_range=data_range, region=region, target_values=target_values, mapping=mapping)
    return (yield from scored(wanted))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Predictions (the sources of `pairs`) and targets as they are compared, channels in the order of the target's.

    Attributes
    ----------
    numbers : of the pairs that were given those that are compared; others have no valid pixels.
    data_range : smallest and largest value that targets can take.
    classes : None where they are intensities.
    """

    pairs: tuple[Pair, ...]
    numbers: tuple[int, ...]
    data_range: tuple[float, float]
    classes: Classes | None

    @property
    def span(self) -> float:
        return self.data_range[1] - self.data_range[0]


def comparison(
    pairs: Sequence[Pair],
    *,
    data_range: tuple[float, float] | None = None,
    region: Region | None = None,
    target_values: TargetValues = "auto",
    mapping: Mapping | None = None,
) -> Comparison:
    """What is compared with what, and as what; nothing is scored yet.

    Parameters
    ----------
    pairs : prediction and target with equal channel counts; values are compared as stored, without fitting.
    data_range : smallest and largest value that targets can take; for 8-bit targets 0 to 255, else by default the
        percentiles 0.1 and 99.9 of all targets, because SSIM and PSNR mean little over the range of a 16-bit type.
    region : part of each image to score.
    target_values : what the targets are; "auto" decides by the values in use where no model says it, see `classes_of`.
    mapping : of the target of the model that made the predictions.
    """
    if region is not None:
        pairs = [pair.crop(region) for pair in pairs]
    numbers = _with_data(pairs)
    pairs = [_comparable(pairs[number]) for number in numbers]
    classes = _classes(pairs, target_values, mapping)
    if classes is None:
        for pair in pairs:
            _warn_of_types(pair)
    elif classes.foreground:
        pairs = [replace(pair, source=Foreground(pair.source), target=Foreground(pair.target)) for pair in pairs]
        data_range = data_range or (0.0, 1.0)
    limits = data_range or default_range([pair.target for pair in pairs])
    return Comparison(pairs=tuple(pairs), numbers=tuple(numbers), data_range=limits, classes=classes)


def scored(wanted: Comparison) -> Generator[TilesDone, None, Evaluation]:
    """The scores of a comparison; tells of each tile."""
    tiles = sum(tile_count(pair.target) for pair in wanted.pairs)
    total = (_PASSES + (wanted.classes is not None)) * tiles
    done = count(1)
    return (yield from retold(_scored(wanted), lambda _: TilesDone(done=next(done), total=total)))


def _scored(wanted: Comparison) -> Generator[None, None, Evaluation]:
    """Stops after each tile of each pass over the images."""
    pairs, classes = wanted.pairs, wanted.classes
    images = []
    for pair in pairs:
        scores = yield from scores_of(pair.source, pair.target, wanted.span)
        images.append((pair.name, scores))
    return Evaluation(
        images=tuple(images),
        mean=mean_scores([scores for _, scores in images]),
        constant=(yield from _constant_scores([pair.target for pair in pairs], wanted.span)),
        data_range=wanted.data_range,
        classes=None if classes is None else (yield from evaluate_classes(pairs, classes)),
        spectrum=spectrum_of(pairs) if classes is None else None,
    )


def _with_data(pairs: Sequence[Pair]) -> list[int]:
    """The numbers of the pairs that have a plane with valid pixels in both images; a warning names the others.

    Raises
    ------
    NoValidPixelError
        There is none.
    """
    kept: list[int] = []
    empty: list[Pair] = []
    for number, pair in enumerate(pairs):
        images = FilledSource(pair.source), FilledSource(pair.target)
        planes = plane_indices(pair.target)
        if any(all(image.has_valid_pixel(plane) for image in images) for plane in planes):
            kept.append(number)
        else:
            empty.append(pair)
    for pair in empty:
        reason = f"{pair.name}: not one pixel is valid in both {pair.source.name} and {pair.target.name}"
        if not kept:
            raise NoValidPixelError(f"{reason}, so there is nothing to score")
        logger.warning("%s; the pair is not scored", reason)
    return kept


def _classes(pairs: Sequence[Pair], values: TargetValues, mapping: Mapping | None) -> Classes | None:
    if values == "auto" and isinstance(mapping, LinearMapping):
        return None
    return classes_of(pairs, values, mapping if isinstance(mapping, CategoryMapping) else None)


def default_range(targets: Sequence[ArraySource]) -> tuple[float, float]:
    """0 to 255 for 8-bit targets, else percentiles over all of them and all channels."""
    if targets[0].dtype in (np.uint8, np.bool_):
        return (0.0, 255.0) if targets[0].dtype == np.uint8 else (0.0, 1.0)
    low, high = percentiles(targets, _RANGE_PERCENTILES)
    if min(low) == max(high):
        raise ImageError(f"{targets[0].name}: the targets are constant, so there is no data range; give --data-range")
    return min(low), max(high)


def _comparable(pair: Pair) -> Pair:
    """The pair with the channels of the prediction in the order of the target's names."""
    prediction = ordered_like(pair.source, pair.target.channel_names, pair.target.name)
    predicted, wanted = channel_count(prediction), channel_count(pair.target)
    if predicted != wanted:
        channels = "1 channel" if predicted == 1 else f"{predicted} channels"
        raise ImageError(f"{pair.source.name} has {channels} and its target {pair.target.name} has {wanted}")
    return replace(pair, source=prediction)


def _warn_of_types(pair: Pair) -> None:
    own, other = pair.source.dtype, pair.target.dtype
    if own.name != other.name and not own.kind == other.kind == "f":
        logger.warning(
            "%s has %s pixels, its target %s pixels; they are compared as they are stored, so errors are large where "
            "the ranges differ",
            pair.source.name,
            own.name,
            other.name,
        )


def tile_count(target: ArraySource) -> int:
    return len(list(plane_indices(target))) * len(list(Region.whole(*plane_size(target)).tiles(_TILE)))


def scores_of(prediction: ArraySource, target: ArraySource, span: float) -> Generator[None, None, Scores]:
    """Scores of one image, see `ScoreAccumulator`; stops after each tile. What has no data is left out, and said."""
    accumulator = ScoreAccumulator(span)
    predictions, targets = (FilledSource(image, may_be_empty=True) for image in (prediction, target))
    missing = 0
    for plane in plane_indices(target):
        for inner in Region.whole(*plane_size(target)).tiles(_TILE):
            outer = inner.grown(SSIM_RADIUS, plane_size(target))
            predicted, bad_prediction = predictions.read_with_mask(outer, plane)
            wanted, bad_target = targets.read_with_mask(outer, plane)
            bad = [mask for mask in (bad_prediction, bad_target) if mask is not None]
            valid = ~np.logical_or.reduce(bad) if bad else None
            place = inner.seen_from(outer)
            if bad_prediction is not None:
                lacking = bad_prediction if bad_target is None else bad_prediction & ~bad_target
                missing += int(lacking[place.slices].sum())
            accumulator.add(predicted, wanted, place, valid)
            yield
    if missing:
        logger.warning(
            "%s: %d pixels without data have a target (%s), and are left out of the scores",
            prediction.name,
            missing,
            target.name,
        )
    return accumulator.scores()


def _constant_scores(targets: Sequence[ArraySource], span: float) -> Generator[None, None, Scores]:
    medians, _ = percentiles(targets, (50.0, 50.0))
    means = _means(targets)
    of_medians, of_means = [], []
    for target in targets:
        of_medians.append((yield from scores_of(_Constant(target, np.array(medians)), target, span)))
        of_means.append((yield from scores_of(_Constant(target, means), target, span)))
    by_median, by_mean = mean_scores(of_medians), mean_scores(of_means)
    return Scores(mae=by_median.mae, psnr=by_mean.psnr, ssim=by_mean.ssim, pearson=None)


def _means(targets: Sequence[ArraySource]) -> AnyArray:
    """Mean of each channel over all valid pixels."""
    sums, count = np.zeros(channel_count(targets[0])), 0
    for image in targets:
        target = FilledSource(image, may_be_empty=True)
        for plane in plane_indices(target):
            for region in Region.whole(*plane_size(target)).tiles(_TILE):
                stored, invalid = target.read_with_mask(region, plane)
                pixels = stored.reshape(len(stored), -1) if invalid is None else stored[:, ~invalid]
                sums += pixels.sum(1, dtype=np.float64)
                count += pixels.shape[1]
    return sums / max(count, 1)


class _Constant:
    """An image of one value per channel, of the size of another."""

    nodata = None
    palette = None
    channel_names = ()
    masked = False

    def __init__(self, like: ArraySource, values: AnyArray) -> None:
        self.name = "constant"
        self.axes = like.axes
        self.shape = like.shape
        self.dtype = np.dtype(np.float64)
        self._values = values

    def read(self, region: Region, plane: tuple[int, ...] = ()) -> AnyArray:
        return np.broadcast_to(self._values[:, None, None], (len(self._values), region.height, region.width)).copy()

    def read_with_opacity(self, region: Region, plane: tuple[int, ...] = ()) -> tuple[AnyArray, None]:
        return self.read(region, plane), None


@dataclass(frozen=True, kw_only=True)
class Translations:
    """Pairs of translated images and their targets, and the mean share of clipped values for each source channel."""

    pairs: tuple[Pair, ...]
    clipped_share: tuple[float, ...]


def translations(pairs: Sequence[Pair], translator: Translator, folder: Path) -> Generator[OfOne, None, Translations]:
    """Translate the sources of `pairs` into files in `folder`, to be compared with the targets."""
    translated, shares = [], []
    for number, pair in enumerate(pairs):
        sink = PlainFileSink(folder / f"{number}.tif")
        events = translate(pair.source, translator, sink, may_be_empty=True)
        report = yield from of_one(events, number, len(pairs))
        if report.clipped_share:
            shares.append(report.clipped_share)
        translated.append(Pair(TranslationOf(sink.image, open_image(sink.path)), pair.target, pair.name))
    return Translations(
        pairs=tuple(translated), clipped_share=tuple(float(n) for n in np.mean(shares, axis=0)) if shares else ()
    )


class TranslationOf(SourceView):
    """A translation, whose pixels are invalid where those of its source are; called after it, not as its own file."""

    def __init__(self, source: ArraySource, translation: ArraySource) -> None:
        super().__init__(translation)
        self.name = f"the translation of {source.name}"
        self.masked = can_have_invalid_pixels(source)
        self._filled = FilledSource(source)

    def read_with_opacity(self, region: Region, plane: tuple[int, ...] = ()) -> tuple[AnyArray, Opacity | None]:
        pixels, opacity = self._base.read_with_opacity(region, plane)
        seen = self._filled.opacity(region, plane)
        return pixels, least_opaque([opacity, seen])
