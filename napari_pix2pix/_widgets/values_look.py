"""What the values of training images are taken for before a run is begun: classes or intensities. No napari, no Qt."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_pix2pix._widgets.form_words import in_form_words
from napari_pix2pix._widgets.training_job import FolderPair, LayerPair
from pix2pix_training.array_source import ArraySource, channel_count
from pix2pix_training.choices import Values
from pix2pix_training.errors import Pix2PixError
from pix2pix_training.remarks import remarks

if TYPE_CHECKING:
    from pix2pix_training.image_survey import Survey
    from pix2pix_training.intensity import Mapping

_MOST_VALUES = 2**27
"""Of a side; more are not read twice, so what they are is said when the run begins."""


@dataclass(frozen=True, kw_only=True)
class ValuesRequest:
    """Images, and what their values are said to be in the form."""

    images: LayerPair | FolderPair
    source_values: Values
    target_values: Values


@dataclass(frozen=True, kw_only=True)
class ValuesLook:
    """What was found.

    Attributes
    ----------
    problem : why the run would be refused, in words; None where it would not be.
    words : what is decided, a line each.
    objects : how many objects the target numbers, where they would be taken for a class each; else None.
    """

    problem: str | None = None
    words: tuple[str, ...] = ()
    objects: int | None = None


_LATER = ValuesLook(words=("The values of the target are looked at when the run begins.",))


def look_events(request: ValuesRequest) -> Generator[ValuesLook | None, None, None]:
    """Look at the images as a run does before its first step; None between tiles, and what was found at the end.

    A problem is an answer, not an error: it belongs to these images, and others may be chosen by the time it is found.
    """
    try:
        sources, targets = _sides(request.images)
        source = ValuesLook()
        if _is_quick(sources):
            source = yield from _side(sources, request.source_values, "source")
        target = (yield from _side(targets, request.target_values, "target")) if _is_quick(targets) else _LATER
    except Pix2PixError as error:
        yield ValuesLook(problem=f"{in_form_words(str(error))}.")
        return
    problem = source.problem or target.problem
    yield ValuesLook(problem=problem, words=source.words + target.words, objects=target.objects)


def _sides(images: LayerPair | FolderPair) -> tuple[list[ArraySource], list[ArraySource]]:
    from napari_pix2pix.formats.pairing import pairs_from_paths

    if isinstance(images, LayerPair):
        return [images.source], [images.target]
    pairs = pairs_from_paths([images.source], [images.target])
    return [pair.source for pair in pairs], [pair.target for pair in pairs]


def _is_quick(images: Sequence[ArraySource]) -> bool:
    return sum(int(np.prod(image.shape)) for image in images) <= _MOST_VALUES


def _side(
    images: Sequence[ArraySource], values: Values, side: Literal["source", "target"]
) -> Generator[None, None, ValuesLook]:
    from pix2pix_training.fitting import fit_mapping
    from pix2pix_training.image_survey import survey_steps

    steps = survey_steps(images)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            known: Survey = end.value
            break
        yield None
    objects = _objects(known, values) if side == "target" else None
    with remarks() as lines:
        try:
            mapping = fit_mapping(known, values, side)
        except Pix2PixError as error:
            return ValuesLook(problem=f"{in_form_words(str(error))}.", objects=objects)
    said = _counted(mapping) if side == "target" and not lines else [f"{in_form_words(line)}." for line in lines]
    if objects is not None:
        said = [line for line in said if "number objects" not in line]
    return ValuesLook(words=tuple(said), objects=objects)


def _objects(known: Survey, values: Values) -> int | None:
    """How many objects have a number of their own in labels that would be classes."""
    from pix2pix_training.class_maps import look_at

    first = known.images[0]
    if values not in ("auto", "categories") or first.dtype.kind not in "iu" or channel_count(first) != 1:
        return None
    look = look_at(known.images)
    if not look.is_of_instances:
        return None
    return look.objects if known.codes is None else len(known.codes - {(0,)})


def _counted(mapping: Mapping) -> list[str]:
    """ "3 classes in the target." """
    from pix2pix_training.intensity import CategoryMapping

    if not isinstance(mapping, CategoryMapping):
        return ["Intensities in the target."]
    return ["Labelled or not." if mapping.foreground else f"{len(mapping.values)} classes in the target."]
