"""Everything that a page says in numbers about one set of predictions, beside what needs no network at all."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Literal

import numpy as np

from napari_pix2pix.class_evaluation import evaluate_classes
from napari_pix2pix.evaluation import Comparison, Evaluation, scores_of, tile_count
from napari_pix2pix.report.controls import pixel_fit
from napari_pix2pix.report.intervals import coverages
from napari_pix2pix.report.measures import Measures, fits_of, measured
from napari_pix2pix.report.objects import SQUARE_PX, ObjectRule, Objects, all_objects
from napari_pix2pix.spectral_evaluation import Spectrum, spectrum_of
from napari_pix2pix.translation.progress import TilesDone
from pix2pix_training.array_source import ArraySource, CroppedSource, plane_indices, whole_plane
from pix2pix_training.errors import SettingsError
from pix2pix_training.in_words import card_lines
from pix2pix_training.metrics import Scores
from pix2pix_training.model_file import Model, model_digest
from pix2pix_training.pairs import Pair
from pix2pix_training.regions import Region
from pix2pix_training.retelling import retold
from pix2pix_training.seen_parts import seen_by

ScoresByName = Mapping[str, float | None]
Seen = Literal["trained on", "held out", "not recognised", "not stated"]


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Of one set of predictions.

    Attributes
    ----------
    name : what readers call it.
    card : facts about the model, see `model_facts`; of `model` itself all is used but the weights.
    sources : of the images of `wanted`; None where they are not known.
    maps : error maps (half-widths) of the images of `wanted`; None where there are none.
    images : scores by image, in the order of `wanted`.
    mean : of each score over the images for which it is defined; of ratios over all objects, and what there is of all
        images together alone.
    fit, constant : the same of the fit of each pixel (None without sources), and of the best constant image.
    seen : of each image whether the model saw it in training.
    """

    name: str
    wanted: Comparison
    evaluation: Evaluation
    sources: tuple[ArraySource, ...] | None
    maps: tuple[ArraySource, ...] | None = None
    model: Model | None
    card: tuple[tuple[str, str], ...]
    measures: tuple[Measures, ...]
    images: tuple[ScoresByName, ...]
    mean: ScoresByName
    fit: ScoresByName | None
    constant: ScoresByName
    objects: Objects | None
    seen: tuple[Seen, ...]

    def as_dict(self) -> dict[str, Any]:
        """What `Evaluation.as_dict` gives, with the further scores."""
        result = self.evaluation.as_dict()
        for image, scores in zip(result["images"], self.images, strict=True):
            image |= scores
        further = {"mean": {**result["mean"], **self.mean}, "pixel_fit": self.fit}
        return {**result, **further, "objects": None if self.objects is None else self.objects.as_dict()}


def judging(
    name: str,
    wanted: Comparison,
    evaluation: Evaluation,
    *,
    given: Sequence[Pair] | None,
    model: Model | None,
    card: Sequence[tuple[str, str]] = (),
    maps: Sequence[ArraySource] | None = None,
    region: Region | None = None,
    objects_above: float | None = None,
) -> Generator[TilesDone, None, Judgement]:
    """Judge the predictions of a comparison whose scores are known; tells of each tile.

    Parameters
    ----------
    given : sources and targets as wholes, in the order in which their predictions were given to be compared; None where
        the sources are not known.
    maps : error maps (half-widths) of the images that were given; None where there are none.
    region : the part of each image that is compared, None for all of it.
    objects_above : objects are what is brighter, see `ObjectRule`.

    Raises
    ------
    SettingsError
        `objects_above` does not fit the targets.
    """
    rule = ObjectRule(wanted, objects_above)
    tiles = sum(tile_count(pair.target) for pair in wanted.pairs)
    squares = sum(_square_count(pair.target) for pair in wanted.pairs) * rule.makes_sense
    kept = None if given is None else [given[number] for number in wanted.numbers]
    sources = None if kept is None else tuple((pair if region is None else pair.crop(region)).source for pair in kept)
    of_fit = 0 if sources is None else (3 if wanted.classes is None else 2) * tiles + squares
    done, total = count(1), tiles + squares + of_fit + tiles * (maps is not None and wanted.classes is None)
    unknown: list[Seen] = ["not stated"] * len(wanted.pairs)
    seen = unknown if kept is None else seen_in_training(model, kept, region)
    steps = _judging(name, wanted, evaluation, sources, model, card, seen, rule)
    if maps is not None and wanted.classes is None:
        whole = [maps[number] for number in wanted.numbers]
        shown = whole if region is None else [CroppedSource(each, region) for each in whole]
        steps = _with_coverage(steps, wanted, shown)
    return (yield from retold(steps, lambda _: TilesDone(done=next(done), total=total)))


def _with_coverage(
    judging: Generator[None, None, Judgement], wanted: Comparison, maps: Sequence[ArraySource]
) -> Generator[None, None, Judgement]:
    judged, shares = (yield from judging), (yield from coverages(wanted, maps))
    images = tuple({**image, "coverage": share} for image, share in zip(judged.images, shares, strict=True))
    return replace(judged, maps=tuple(maps), images=images, mean={**judged.mean, "coverage": _mean(shares)})


def model_facts(model: Model) -> tuple[tuple[str, str], ...]:
    """What a page says of a model, which has to have its weights: its card, and its checksum."""
    card = [line.partition(": ") for line in card_lines(model)]
    return (*((name, said) for name, _, said in card), ("checksum", model_digest(model)))


def check_comparable(judged: Sequence[Judgement]) -> None:
    """Refuse predictions that are compared in different ways; raises `SettingsError`."""
    first, last = judged[0].wanted, judged[-1].wanted
    if first.classes != last.classes or first.numbers != last.numbers:
        raise SettingsError(
            f"{judged[0].name} and {judged[-1].name} make different kinds of images (other classes, or intensities), "
            "so their scores cannot stand side by side; say what targets are with --target-values"
        )


def _square_count(target: ArraySource) -> int:
    return len(list(plane_indices(target))) * len(list(whole_plane(target).tiles(SQUARE_PX)))


def _judging(
    name: str,
    wanted: Comparison,
    evaluation: Evaluation,
    sources: tuple[ArraySource, ...] | None,
    model: Model | None,
    card: Sequence[tuple[str, str]],
    seen: Sequence[Seen],
    rule: ObjectRule,
) -> Generator[None, None, Judgement]:
    if evaluation.classes is None:
        scores = [image.as_dict() for _, image in evaluation.images]
        constant = evaluation.constant.as_dict()
    else:
        scores = [image.as_dict() for image in evaluation.classes.images]
        constant = evaluation.classes.constant.as_dict()
    own = yield from _further(wanted, scores, evaluation.spectrum, rule)
    fit = None
    if sources is not None:
        fitted = yield from pixel_fit(sources, wanted, None if model is None else model.source.mapping)
        spectrum = spectrum_of(fitted.pairs) if wanted.classes is None else None
        fit = (yield from _further(fitted, (yield from _plain_scores(fitted)), spectrum, rule)).mean
    return Judgement(
        name=name,
        wanted=wanted,
        evaluation=evaluation,
        sources=sources,
        model=model,
        card=tuple(card),
        measures=own.measures,
        images=own.images,
        mean=own.mean,
        fit=fit,
        constant=constant,
        objects=own.objects,
        seen=tuple(seen),
    )


def _plain_scores(wanted: Comparison) -> Generator[None, None, list[dict[str, float | None]]]:
    if wanted.classes is not None:
        return [image.as_dict() for image in (yield from evaluate_classes(wanted.pairs, wanted.classes)).images]
    found: list[Scores] = []
    for pair in wanted.pairs:
        scores = yield from scores_of(pair.source, pair.target, wanted.span)
        found.append(scores)
    return [scores.as_dict() for scores in found]


@dataclass(frozen=True, kw_only=True)
class _Further:
    measures: tuple[Measures, ...]
    images: tuple[ScoresByName, ...]
    mean: ScoresByName
    objects: Objects | None


def _further(
    wanted: Comparison, scores: Sequence[ScoresByName], spectrum: Spectrum | None, rule: ObjectRule
) -> Generator[None, None, _Further]:
    """Scores by image with what a page adds to them, and their mean."""
    measures, images, objects = [], [], []
    for pair, known in zip(wanted.pairs, scores, strict=True):
        found = yield from measured(pair, wanted)
        measures.append(found)
        image = {**known, **(_of_measures(found, wanted) if wanted.classes is None else {})}
        if rule.makes_sense:
            counted = yield from rule.objects(pair)
            objects.append(counted)
            image |= _of_objects(counted)
        images.append(image)
    mean = {name: _mean([image[name] for image in images]) for name in images[0]}
    everything = all_objects(objects) if objects else None
    if everything is not None:
        mean |= _of_objects(everything)
    if spectrum is not None:
        grid = spectrum.grid or {}
        mean |= {"detail": spectrum.detail, "grid": max(grid.values()) if grid else None}
    return _Further(measures=tuple(measures), images=tuple(images), mean=mean, objects=everything)


def _of_measures(found: Measures, wanted: Comparison) -> dict[str, float | None]:
    fits = fits_of(found.moments, wanted.data_range[0])
    return {
        "ms_ssim": found.ms_ssim,
        "slope": _mean([fit.slope for fit in fits]),
        "bias": _mean([fit.bias for fit in fits]),
    }


def _of_objects(found: Objects) -> dict[str, float | None]:
    return {"f1": found.f1, "count_ratio": found.count_ratio, "size_ratio": found.size_ratio}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and np.isfinite(value)]
    return float(np.mean(known)) if known else None


def seen_in_training(model: Model | None, pairs: Sequence[Pair], region: Region | None) -> list[Seen]:
    """Of each pair whether the model knows its target, or `region` of it, from training."""
    return [_seen(model, pair.target, region) for pair in pairs]


def trained_on_in_words(seen: Sequence[Seen]) -> str | None:
    """A warning where the model was trained on what it is judged on."""
    count, total = seen.count("trained on"), len(seen)
    if not count:
        return None
    if total == 1:
        return "the image is one that the model was trained on: expect less of new images."
    are = "is one" if count == 1 else "are ones"
    return f"{count} of {total} images {are} that the model was trained on: expect less of new images."


def _seen(model: Model | None, target: ArraySource, region: Region | None) -> Seen:
    """Whether the part of a target is known to the model by its pixels, as far as its file says."""
    seen = None if model is None else seen_by(model.training)
    if seen is None:
        return "not stated"
    shown = region or whole_plane(target)
    shown_parts = (any(not part.common(shown).is_empty for part in parts) for parts in seen.found_in(target))
    trained_on, held_out = shown_parts
    if trained_on:
        return "trained on"
    return "held out" if held_out else "not recognised"
