"""How well predicted classes agree with their targets: accuracy, and overlap (IoU, Dice) of each class."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pix2pix_training.array_source import (
    AnyArray,
    ArraySource,
    Opacity,
    SourceView,
    channel_count,
    plane_indices,
    plane_size,
)
from pix2pix_training.class_maps import look_at
from pix2pix_training.errors import ImageError, SettingsError
from pix2pix_training.intensity import CategoryMapping
from pix2pix_training.invalid_pixels import FilledSource, can_have_invalid_pixels
from pix2pix_training.pairs import Pair
from pix2pix_training.regions import Region

logger = logging.getLogger(__name__)

TargetValues = Literal["auto", "intensities", "categories", "foreground"]
Code = tuple[int, ...]
"""The value of a class: one number, or one for each channel."""

_MOST_CLASSES = 255
_MOST_AUTOMATIC = 64
_TILE = 1024
_EVERY = 1009


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """Of an image, or of all together; None where no pixel counts.

    Attributes
    ----------
    accuracy : share of pixels of which the class is right.
    iou, dice : overlap of the foreground, where there are two classes; of more the mean over those that occur.
    """

    accuracy: float | None
    iou: float | None
    dice: float | None

    def as_dict(self) -> dict[str, float | None]:
        return {"accuracy": self.accuracy, "iou": self.iou, "dice": self.dice}


@dataclass(frozen=True, kw_only=True)
class ClassOverlap:
    """One class over all images: its value, overlap (None where it occurs nowhere), and number of target pixels."""

    value: Code
    iou: float | None
    dice: float | None
    pixels: int

    def as_dict(self) -> dict[str, Any]:
        value = self.value[0] if len(self.value) == 1 else list(self.value)
        return {"value": value, "iou": self.iou, "dice": self.dice, "pixels": self.pixels}


@dataclass(frozen=True, kw_only=True)
class ClassEvaluation:
    """Scores by image in the order of the pairs, their mean, those of all pixels together, and of each class.

    `constant` has the best that an image of one class everywhere scores on all pixels.
    """

    images: tuple[ClassScores, ...]
    mean: ClassScores
    all_pixels: ClassScores
    constant: ClassScores
    classes: tuple[ClassOverlap, ...]


class Foreground(SourceView):
    """Labels as 0 and 1: all that is not 0 is one class; `labels` are as they were."""

    def __init__(self, base: ArraySource) -> None:
        super().__init__(base)
        self.dtype = np.dtype(np.uint8)
        self.nodata = None
        self.palette = None
        self.masked = can_have_invalid_pixels(base)
        self.labels = base
        self._filled = FilledSource(base)

    def read_with_opacity(self, region: Region, plane: tuple[int, ...] = ()) -> tuple[AnyArray, Opacity | None]:
        pixels, opacity = self._filled.read_with_opacity(region, plane)
        return (pixels != 0).astype(np.uint8), opacity


@dataclass(frozen=True, kw_only=True)
class Classes:
    """The values of the classes that images are scored by, ascending; of `foreground` those of `Foreground`."""

    values: tuple[Code, ...]
    foreground: bool = False

    def numbers(self, stored: AnyArray) -> NDArray[np.int64]:
        """The number of the class of each pixel (h, w) of (C, h, w); -1 for none of them."""
        if len(stored) == 1:
            known = np.array([code[0] for code in self.values])
            places = np.searchsorted(known, stored[0]).clip(max=len(known) - 1)
            return np.where(known[places] == stored[0], places, -1)
        result: NDArray[np.int64] = np.full(stored.shape[1:], -1, np.int64)
        for number, code in enumerate(self.values):
            result[np.logical_and.reduce([c == v for c, v in zip(stored, code, strict=True)])] = number
        return result


def classes_of(pairs: Sequence[Pair], values: TargetValues, model: CategoryMapping | None = None) -> Classes | None:
    """The classes that predictions and targets are compared by; None where they are intensities.

    "auto" takes integers for classes where predictions and targets together have few values, which lie in the targets
    as those of classes do, and says so; and for labels of objects, of which only the foreground is compared, where the
    predictions have two values.

    Parameters
    ----------
    model : of the target of the model that made the predictions.

    Raises
    ------
    ImageError
        The images are not what `values` says.
    SettingsError
        `values` is none of its choices.
    """
    if values not in get_args(TargetValues):
        raise SettingsError(f"target-values is {values!r}; choose {', '.join(get_args(TargetValues))}")
    if values == "intensities":
        return None
    if values == "foreground" or (values == "auto" and model is not None and model.foreground):
        return Classes(values=((0,), (1,)), foreground=True)
    predictions, targets = [pair.source for pair in pairs], [pair.target for pair in pairs]
    limit = _MOST_CLASSES if values == "categories" or model is not None else _MOST_AUTOMATIC
    wanted = _codes(targets, limit)
    if values == "categories" or model is not None:
        if wanted is None:
            name = targets[0].name
            raise ImageError(
                f"{name}: the targets have more than {limit} different values, or no integers, so they are no "
                "categories; choose --target-values intensities, or foreground for labels that number objects"
            )
        return Classes(values=tuple(sorted(wanted | set(model.values if model else ()))))
    found = _codes(predictions, _MOST_AUTOMATIC)
    if found is not None and len(found) <= 2 and (0,) in found and _is_labelled(targets, wanted):
        logger.warning(
            "%s: the predictions have two values and the targets more, so what is labelled is compared as one class; "
            "--target-values categories compares each value",
            targets[0].name,
        )
        return Classes(values=((0,), (1,)), foreground=True)
    if wanted is None or found is None or len(wanted) < 2 or len(wanted | found) > _MOST_AUTOMATIC:
        return None
    if targets[0].palette is None and not look_at(targets).is_of_classes(len(wanted)):
        return None
    logger.warning(
        "%s: the images have %d different values, so each is scored as a class too; "
        "--target-values intensities does not",
        targets[0].name,
        len(wanted | found),
    )
    return Classes(values=tuple(sorted(wanted)))


def evaluate_classes(pairs: Sequence[Pair], classes: Classes) -> Generator[None, None, ClassEvaluation]:
    """Compare the classes of predictions (the sources of `pairs`) with those of the targets; stops after each tile.

    A predicted value that is no class is wrong; a pixel of which the target is no class, or which is invalid, does not
    count.
    """
    counts = []
    for pair in pairs:
        counted = yield from _confusion(pair, classes)
        counts.append(counted)
    images = tuple(each.scores() for each in counts)
    total = _Confusion(np.sum([each.counts for each in counts], axis=0))
    overlaps = zip(classes.values, total.overlaps(), total.counts.sum(0), strict=True)
    return ClassEvaluation(
        images=images,
        mean=_mean(images),
        all_pixels=total.scores(),
        constant=_best_constant(total.counts.sum(0)),
        classes=tuple(
            ClassOverlap(value=value, iou=iou, dice=dice, pixels=int(pixels)) for value, (iou, dice), pixels in overlaps
        ),
    )


@dataclass(frozen=True)
class _Confusion:
    """Pixels by predicted class (rows; the last for no class) and by the class of the target (columns)."""

    counts: NDArray[np.int64] = field(repr=False)

    def overlaps(self) -> list[tuple[float | None, float | None]]:
        """IoU (Jaccard index) and Dice coefficient of each class."""
        right = np.diag(self.counts)
        either = self.counts[:-1].sum(1) + self.counts.sum(0)
        return [
            (None, None) if both == 0 else (float(same / (both - same)), float(2 * same / both))
            for same, both in zip(right.tolist(), either.tolist(), strict=True)
        ]

    def scores(self) -> ClassScores:
        pixels = int(self.counts.sum())
        overlaps = self.overlaps()[1:] if self.counts.shape[1] == 2 else self.overlaps()
        known = [pair for pair in overlaps if pair[0] is not None]
        means = [None, None] if not known else np.mean(np.array(known, float), axis=0).tolist()
        accuracy = float(np.diag(self.counts).sum() / pixels) if pixels else None
        return ClassScores(accuracy=accuracy, iou=means[0], dice=means[1])


def _confusion(pair: Pair, classes: Classes) -> Generator[None, None, _Confusion]:
    count = len(classes.values)
    counts = np.zeros((count + 1, count), np.int64)
    predictions, targets = (FilledSource(image, may_be_empty=True) for image in (pair.source, pair.target))
    for plane in plane_indices(pair.target):
        for region in Region.whole(*plane_size(pair.target)).tiles(_TILE):
            predicted, bad_prediction = predictions.read_with_mask(region, plane)
            wanted, bad_target = targets.read_with_mask(region, plane)
            found, true = classes.numbers(predicted), classes.numbers(wanted)
            counted = true >= 0
            for bad in (bad_prediction, bad_target):
                if bad is not None:
                    counted &= ~bad
            places = np.where(found < 0, count, found)[counted] * count + true[counted]
            counts += np.bincount(places, minlength=counts.size).reshape(counts.shape)
            yield
    return _Confusion(counts)


def _mean(images: Sequence[ClassScores]) -> ClassScores:
    """Of each score over the images for which it is defined."""
    scores = [image.as_dict() for image in images]
    defined = {name: [score[name] for score in scores if score[name] is not None] for name in scores[0]}
    return ClassScores(**{name: float(np.mean(values)) if values else None for name, values in defined.items()})  # type: ignore[arg-type]


def _best_constant(pixels: NDArray[np.int64]) -> ClassScores:
    """The best of each score over the images that are of one class everywhere."""
    scores = []
    for number in range(len(pixels)):
        counts = np.zeros((len(pixels) + 1, len(pixels)), np.int64)
        counts[number] = pixels
        scores.append(_Confusion(counts).scores().as_dict())
    best = {
        name: max((score[name] for score in scores if score[name] is not None), default=None)  # type: ignore[type-var]
        for name in scores[0]
    }
    return ClassScores(**best)


def _codes(images: Sequence[ArraySource], limit: int) -> set[Code] | None:
    """All values that occur; None where they are more than `limit`, or no integers."""
    codes: set[Code] = set()
    for pixels in _valid_pixels(images):
        if pixels.dtype.kind not in "biu":
            return None
        if np.unique(pixels[:, ::_EVERY], axis=1).shape[1] > limit:  # a few pixels tell nearly always
            return None
        different = np.unique(pixels[0])[None] if len(pixels) == 1 else np.unique(pixels, axis=1)
        codes |= {tuple(int(v) for v in code) for code in different.T[: limit + 1]}
        if len(codes) > limit:
            return None
    return codes


def _is_labelled(targets: Sequence[ArraySource], codes: set[Code] | None) -> bool:
    """Whether targets are integers of one channel with more than two values, 0 among them."""
    first = targets[0]
    if first.dtype.kind not in "iu" or channel_count(first) != 1 or first.palette is not None:
        return False
    if codes is not None:
        return len(codes) > 2 and (0,) in codes
    return any(bool((pixels == 0).any()) for pixels in _valid_pixels(targets))


def _valid_pixels(images: Sequence[ArraySource]) -> Iterator[AnyArray]:
    """Valid pixels (C, n) of each tile."""
    for image in images:
        filled = FilledSource(image, may_be_empty=True)
        for plane in plane_indices(image):
            for region in Region.whole(*plane_size(image)).tiles(_TILE):
                stored, invalid = filled.read_with_mask(region, plane)
                yield stored.reshape(len(stored), -1) if invalid is None else stored[:, ~invalid]
