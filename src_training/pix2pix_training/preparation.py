"""What a run has to know of its images before the first step: every pixel is looked at once, here."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Sequence
from collections.abc import Mapping as MappingType
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import numpy as np

from pix2pix_training.array_source import ArraySource, channel_count, in_memory, plane_indices, plane_size
from pix2pix_training.config import TrainingConfig
from pix2pix_training.errors import ImageError, SettingsError
from pix2pix_training.events import Preparing
from pix2pix_training.fitting import (
    fit_mapping,
    own_mapping,
    require_side,
    warn_of_hidden_pixels,
    warn_of_lost_steps,
    warn_of_unknown_classes,
)
from pix2pix_training.image_survey import ImageFacts, Plane, Survey, digest_of, survey_steps
from pix2pix_training.intensity import CategoryMapping, LinearMapping, Mapping
from pix2pix_training.pairs import Pair, Split, check_consistent
from pix2pix_training.presets import DEFAULT_EPOCHS, patch_within

log = logging.getLogger(__name__)

T = TypeVar("T")

_SECONDS_BETWEEN_WORDS = 1.0
_MOST_READ_AGAIN = 2**28


@dataclass(frozen=True, kw_only=True)
class PreparedPair:
    """A pair that can be used.

    Attributes
    ----------
    planes : those that have valid pixels in both images.
    source_mapping : for this image.
    """

    pair: Pair
    planes: tuple[Plane, ...]
    source_mapping: Mapping
    source: ImageFacts
    target: ImageFacts


@dataclass(frozen=True, kw_only=True)
class PreparedData:
    """The pairs of a run without those that have no valid pixel, and the mappings of their values.

    `fingerprint` tells whether another set of images is the same, as plain data.
    """

    training: tuple[PreparedPair, ...]
    validation: tuple[PreparedPair, ...]
    source_mapping: Mapping
    target_mapping: Mapping
    fingerprint: MappingType[str, Any]

    @property
    def source_count(self) -> int:
        """How many images are trained on; one that has several targets counts once."""
        return len({id(each.pair.source) for each in self.training})


def prepare(
    split: Split,
    config: TrainingConfig,
    start: tuple[Mapping, Mapping] | None = None,
    *,
    z_context: int = 0,
    known: tuple[Mapping, Mapping] | None = None,
) -> Generator[Preparing, None, PreparedData]:
    """Look at all images of a run; tells now and then which share of them is done.

    Parameters
    ----------
    start : mappings of source and target of the model to start from.
    z_context : neighbouring planes that the channels of the source hold as well.
    known : mappings of source and target that are taken as they are, instead of being fitted to the images.

    Raises
    ------
    ImageError
        The images differ in type or channels, none has a valid pixel, or their values are not what is asked for.
    """
    before = known or start
    each = config.source_values == "image" or (before is not None and getattr(before[0], "scope", "") == "image")
    everything = sum(
        int(np.prod(image.shape)) for pair in [*split.training, *split.validation] for image in pair.images
    )
    progress = _Progress(everything)
    training = yield from progress.of(_surveyed(split.training, each))
    if known is not None:
        source_mapping, target_mapping = known
        for image, mapping in zip(split.training[0].images, known, strict=True):
            require_type(image, mapping)
    else:
        source_mapping = fit_mapping(
            training[0], config.source_values, "source", start and start[0], may_be_classes=z_context == 0
        )
        target_mapping = fit_mapping(training[1], config.target_values, "target", start and start[1])
    if config.objective.is_for_categories and not isinstance(target_mapping, CategoryMapping):
        raise SettingsError(
            "cross_entropy_weight and dice_weight are for targets of categories, and the values of these are a range; "
            "leave them out, or set target_values to categories or foreground"
        )
    warn_of_hidden_pixels(target_mapping, training[1], "target")
    warn_of_lost_steps(source_mapping, training[0], "source")
    warn_of_lost_steps(target_mapping, training[1], "target")
    used = _usable(split.training, training, source_mapping)
    if not used:
        raise ImageError(
            f"{split.training[0].name}: no pair has a plane with valid pixels in both of its images; check what is "
            "NaN, nodata or transparent in them"
        )
    held_out: list[PreparedPair] = []
    described: list[list[Any]] = []
    if split.validation:
        validation = yield from progress.of(_surveyed(split.validation, each))
        warn_of_unknown_classes(source_mapping, validation[0], "source")
        warn_of_unknown_classes(target_mapping, validation[1], "target")
        held_out = _usable(split.validation, validation, source_mapping)
        described = _described(split.validation, validation)
        _warn_of_copies(split, training, validation)
    else:
        log.warning("nothing is held out for validation, so the last model is kept instead of the best")
    return PreparedData(
        training=tuple(used),
        validation=tuple(held_out),
        source_mapping=source_mapping,
        target_mapping=target_mapping,
        fingerprint={"training": _described(split.training, training), "validation": described},
    )


def require_usable(config: TrainingConfig, split: Split) -> None:
    """Refuse settings and images that cannot go together, before a pixel is read."""
    if config.patience and not split.validation:
        raise SettingsError(
            "patience needs images that are held out for validation, and there are none; hold some out, or set "
            "patience to 0"
        )
    require_side(config.source_values, "source")
    require_side(config.target_values, "target")
    check_consistent([*split.training, *split.validation])
    require_room(split.training, config)


def require_room(pairs: Sequence[Pair], config: TrainingConfig) -> None:
    """Refuse images that are smaller than a patch, and say which patch would do for all of them."""
    smallest = min(pairs, key=lambda pair: min(plane_size(pair.source)))
    height, width = plane_size(smallest.source)
    if min(height, width) >= config.patch_size:
        return
    fitting = patch_within(config, min(height, width))
    if fitting is None:
        advice = "leave it out, or enlarge the images"
    else:
        advice = f"choose --patch-size {fitting.patch_size}"
        if fitting.generator.depth != config.generator.depth:
            advice += f" with --depth {fitting.generator.depth}"
    raise ImageError(
        f"{smallest.source.name} has {height} x {width} pixels, less than a patch of {config.patch_size}; {advice}"
    )


def require_type(image: ArraySource, mapping: Mapping) -> None:
    """Refuse an image of another type, or with other channels, than a known mapping is for."""
    own, wanted = (image.dtype.name, channel_count(image)), (mapping.dtype, mapping.image_channels)
    if own != wanted:
        raise ImageError(
            f"{image.name} has {own[1]} channels of type {own[0]}, and the model has {wanted[1]} of {wanted[0]} "
            "there; give images like those that it was trained on"
        )


def changed_image(before: MappingType[str, Any], now: PreparedData, split: Split) -> str | None:
    """What of the images of a run is not as its fingerprint says, in words; None where all are the same.

    A fingerprint from before contents were part of it is compared by names and sizes alone.
    """
    for part, kind, pairs in (("training", "trained on", split.training), ("validation", "held out", split.validation)):
        old, new = before.get(part, []), now.fingerprint[part]
        if len(old) != len(new):
            return f"{len(old)} images or parts were {kind}, now {len(new)} are"
        for was, entry, pair in zip(old, new, pairs, strict=True):
            if was[0] != entry[0]:
                return f"{was[0]} was {kind}, now it is {entry[0]}"
            if list(was[1:3]) != entry[1:3]:
                return f"{pair.source.name} or what is {kind} of it has another size than before"
            for position, image in ((3, pair.source), (4, pair.target)):
                if len(was) > position and was[position] != entry[position]:
                    return f"the pixels of {image.name} have changed"
    return None


def say_changed_pixels(prepared: PreparedData) -> None:
    """At the end of a run: say which images in memory are not what they were when they were looked at.

    Files are not read again, nor are more than `_MOST_READ_AGAIN` values.
    """
    pairs = [*prepared.training, *prepared.validation]
    images = [found for each in pairs for found in zip(each.pair.images, (each.source, each.target), strict=True)]
    if sum(int(np.prod(image.shape)) for image, _ in images) > _MOST_READ_AGAIN:
        return
    changed = [image.name for image, facts in images if in_memory(image) and digest_of(image) != facts.digest]
    for name in dict.fromkeys(changed):
        log.warning(
            "the pixels of %s were changed during the run; what was learnt is of both, so train again on what they "
            "are now",
            name,
        )


class _Progress:
    """Turns counts of values that were read into events, where they take long; `total` is how many there are."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._told = time.monotonic()

    def of(self, steps: Generator[int, None, T]) -> Generator[Preparing, None, T]:
        while True:
            try:
                self._done += next(steps)
            except StopIteration as end:
                return cast(T, end.value)
            if time.monotonic() - self._told >= _SECONDS_BETWEEN_WORDS:
                self._told = time.monotonic()
                yield Preparing(fraction=min(1.0, self._done / self._total))


def _surveyed(pairs: Sequence[Pair], each: bool) -> Generator[int, None, tuple[Survey, Survey]]:
    sources = yield from survey_steps([pair.source for pair in pairs], each=each)
    targets = yield from survey_steps([pair.target for pair in pairs])
    return sources, targets


def _usable(pairs: Sequence[Pair], surveys: tuple[Survey, Survey], mapping: Mapping) -> list[PreparedPair]:
    """The pairs with valid pixels; others are named once."""
    found, empty = [], []
    for pair, source, target in zip(pairs, surveys[0].facts, surveys[1].facts, strict=True):
        usable = set(source.planes) & set(target.planes)
        planes = tuple(plane for plane in plane_indices(pair.source) if plane in usable)
        if planes:
            own = own_mapping(mapping, source, pair.source.dtype)
            found.append(PreparedPair(pair=pair, planes=planes, source_mapping=own, source=source, target=target))
        else:
            empty.append(pair.source.name if not source.planes else pair.target.name)
    if empty and found:
        more = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
        log.warning(
            "%s%s: not one valid pixel (all are NaN, infinite, nodata or transparent); left out", empty[0], more
        )
    return found


def _described(pairs: Sequence[Pair], surveys: tuple[Survey, Survey]) -> list[list[Any]]:
    return [
        [pair.name, list(pair.source.shape), list(pair.target.shape), source.digest, target.digest]
        for pair, source, target in zip(pairs, surveys[0].facts, surveys[1].facts, strict=True)
    ]


def _warn_of_copies(split: Split, training: tuple[Survey, Survey], validation: tuple[Survey, Survey]) -> None:
    """Say where an image that is held out is trained on under another name."""
    known = {
        (source.digest, target.digest): pair.source.name
        for pair, source, target in zip(split.training, training[0].facts, training[1].facts, strict=True)
        if not source.is_constant
    }
    for pair, source, target in zip(split.validation, validation[0].facts, validation[1].facts, strict=True):
        if (twin := known.get((source.digest, target.digest))) is not None:
            log.warning(
                "%s is held out and is the same as %s, which is trained on: its scores say nothing; leave one out",
                pair.source.name,
                twin,
            )
            return


def stored_span(mapping: LinearMapping | CategoryMapping) -> float | None:
    """See `Started.target_span`."""
    if not isinstance(mapping, LinearMapping) or not mapping.low:
        return None
    spans = {high - low for low, high in zip(mapping.low, mapping.high, strict=True)}
    return spans.pop() if len(spans) == 1 else None


def _completed(config: TrainingConfig, data: PreparedData) -> TrainingConfig:
    """The settings with what the data decides: channel counts, and a length where none is given."""
    generator = replace(
        config.generator,
        source_channels=data.source_mapping.network_channels,
        target_channels=data.target_mapping.network_channels,
    )
    has_length = any(v is not None for v in (config.epochs, config.steps, config.minutes))
    return replace(config, generator=generator, epochs=config.epochs if has_length else DEFAULT_EPOCHS)
