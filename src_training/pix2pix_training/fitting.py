"""Which mapping to [-1, 1] the values of training images get; what is decided by looking at them is said."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, assert_never

import numpy as np

from pix2pix_training.array_source import channel_count
from pix2pix_training.choices import Values
from pix2pix_training.class_maps import Look, look_at
from pix2pix_training.errors import ImageError, SettingsError
from pix2pix_training.image_survey import Code, ImageFacts, Survey, survey
from pix2pix_training.intensity import (
    MAX_CATEGORIES,
    CategoryMapping,
    LinearMapping,
    Mapping,
    category_mapping,
    dtype_mapping,
    end_above,
    foreground_mapping,
    image_mapping,
    lost_step,
)

log = logging.getLogger(__name__)

Side = Literal["source", "target"]

MAX_AUTOMATIC_CATEGORIES = 64
_LEAST_SPAN_OF_8_BIT = 64
_SHOWN = 6
_LARGEST, _LEAST_RANGE = 1e37, 1e-36
_OFFER = "; --target-values foreground trains on labelled or not"


def fit_mapping(
    known: Survey, values: Values, side: Side, start: Mapping | None = None, *, may_be_classes: bool = True
) -> Mapping:
    """The mapping of one side of the training pairs, as `values` asks; "auto" decides by the pixels, and says so.

    Parameters
    ----------
    known : what all training images of that side hold.
    start : the mapping of a model to start from, whose kind "auto" keeps.
    may_be_classes : whether "auto" may take values for classes, which planes with their neighbours cannot be.

    Raises
    ------
    ImageError
        The images have no valid pixel or one constant value, or are not what `values` says.
    SettingsError
        `values` is not for this side.
    """
    require_side(values, side)
    _require_content(known, side)
    first = known.images[0]
    match values:
        case "auto":
            if start is not None:
                return _like(start, known, side)
            return _automatic(known, side) if may_be_classes else _usual(known, side)
        case "dtype":
            return dtype_mapping(first.dtype, channel_count(first))
        case "training-set":
            return _linear(known, known.percentiles)
        case "image":
            return image_mapping(first.dtype, channel_count(first))
        case "categories":
            return _categories(known, side)
        case "foreground":
            return _foreground(known, side)
        case _:
            assert_never(values)


def require_side(values: Values, side: Side) -> None:
    """Refuse what is for the other side alone."""
    if side == "target" and values == "image":
        raise SettingsError("target values cannot be mapped per image, because there is no way back; use training-set")
    if side == "source" and values == "foreground":
        raise SettingsError("foreground is for targets; choose other source values")


def own_mapping(mapping: Mapping, known: ImageFacts, dtype: np.dtype[np.generic]) -> Mapping:
    """The mapping for one image, whose percentiles its facts hold where the mapping is per image."""
    if not (isinstance(mapping, LinearMapping) and mapping.scope == "image"):
        return mapping
    assert known.ends is not None
    low, high = known.ends
    return replace(mapping, low=low, high=tuple(end_above(a, b, dtype) for a, b in zip(low, high, strict=True)))


def warn_of_lost_steps(mapping: Mapping, known: Survey, side: Side) -> None:
    """Say where integers span more than a network tells apart, because it computes in float32."""
    step = lost_step(mapping)
    if step is not None:
        is_whole_type = isinstance(mapping, LinearMapping) and mapping.scope == "dtype"
        log.warning(
            "%s: the %s has %s values that span so much that the network tells steps of about %.3g apart; save it as a "
            "smaller type%s",
            known.images[0].name,
            side,
            mapping.dtype,
            step,
            f", or choose --{side}-values training-set" if is_whole_type else "",
        )


def warn_of_hidden_pixels(mapping: Mapping, known: Survey, side: Side) -> None:
    """Say where parts of class maps hold no data: what classes are drawn upon may be meant as one."""
    if isinstance(mapping, CategoryMapping) and known.hidden_share:
        log.warning("%s: the %s is of classes%s", _names(known), side, _hidden(known))


def _hidden(known: Survey) -> str:
    if not known.hidden_share:
        return ""
    return (
        f"; {100 * known.hidden_share:.2g} % of its pixels hold no data (transparent, masked or nodata) and are left "
        "out: where they mean a class, such as background, take their values with --alpha drop, or remove the nodata "
        "value"
    )


def warn_of_unknown_classes(mapping: Mapping, held_out: Survey, side: Side) -> None:
    """Say which classes occur in images that are held out and in none that is trained on."""
    if not isinstance(mapping, CategoryMapping) or mapping.foreground:
        return
    trained = set(mapping.values)
    for image, facts in zip(held_out.images, held_out.facts, strict=True):
        unknown = sorted((facts.codes or frozenset()) - trained)
        if unknown or facts.codes is None:
            count = len(unknown) if facts.codes is not None else "many"
            log.warning(
                "%s: %s %s in no %s image that is trained on (%s), so the model cannot know them; in validation they "
                "count as wrong",
                image.name,
                count,
                "value occurs" if count == 1 else "values occur",
                side,
                _listed(unknown) if unknown else f"more than {MAX_CATEGORIES} different ones",
            )
            return


def _require_content(known: Survey, side: Side) -> None:
    if not any(facts.planes for facts in known.facts):
        name = known.images[0].name
        raise ImageError(f"{name}: not one valid pixel (all are NaN, infinite, nodata or transparent)")
    if known.is_constant:
        count = len(known.images)
        where = "the image" if count == 1 else f"all {count} images"
        found = f"the {side} has one constant value in {where} ({known.images[0].name})"
        if side == "target":
            raise ImageError(f"{found}, so there is nothing to learn{_hidden(known)}")
        log.warning("%s, so nothing can be learnt from it but what targets are like on average", found)


def _automatic(known: Survey, side: Side) -> Mapping:
    first, codes = known.images[0], known.codes
    if codes is None or not 2 <= len(codes) <= MAX_AUTOMATIC_CATEGORIES:
        _warn_of_instances(known, side)
        return _usual(known, side)
    if not known.is_complete:
        return _automatic(survey(known.images, complete=True), side)
    look = look_at(known.images)
    if first.palette is None and not look.is_of_classes(len(codes)):
        return _usual(known, side)
    if side == "source" and len(codes) == 2 and first.palette is None:
        return _usual(known, side)  # as good as classes, and what lies between the two has a meaning too
    log.warning(
        "%s: the %s has %d different %s (%s), so each is a class; --%s-values training-set takes them as intensities",
        _names(known),
        side,
        len(codes),
        "values" if len(next(iter(codes))) == 1 else "pixels",
        _listed(sorted(codes)),
        side,
    )
    _warn_of_instances(known, side, look)
    return category_mapping(first, codes)


def _usual(known: Survey, side: Side) -> LinearMapping:
    """The range of the type for 8 bits, else percentiles; the range in use where that is small or of few values."""
    first = known.images[0]
    whole = dtype_mapping(first.dtype, channel_count(first))
    is_short = first.dtype in (np.uint8, np.bool_)
    low, high = [list(ends) for ends in ((whole.low, whole.high) if is_short else known.percentiles)]
    own = [c for c in range(len(low)) if _needs_own_range(known, c)]
    if not own:
        return whole if is_short else _linear(known, known.percentiles)
    if not known.is_complete:
        return _usual(survey(known.images, complete=True), side)
    for channel in own:
        low[channel], high[channel] = known.low[channel], known.high[channel]
    if first.dtype.kind != "f" and (low, high) != (list(whole.low), list(whole.high)):
        ranges = [f"{known.low[c]:g} to {known.high[c]:g}" for c in own]
        log.warning(
            "%s: the %s uses the values %s alone, so these become -1 to 1; --%s-values dtype takes the range of %s, "
            "and categories makes each value a class",
            _names(known),
            side,
            ", ".join(dict.fromkeys(ranges)),
            side,
            first.dtype.name,
        )
    return _linear(known, (low, high))


def _needs_own_range(known: Survey, channel: int) -> bool:
    span, values = known.high[channel] - known.low[channel], known.values[channel]
    if known.images[0].dtype == np.uint8:
        return 0 < span < _LEAST_SPAN_OF_8_BIT
    return values is not None and 2 <= len(values) <= MAX_AUTOMATIC_CATEGORIES


def _linear(known: Survey, ends: tuple[Sequence[float], Sequence[float]]) -> LinearMapping:
    first = known.images[0]
    low, high = ends
    if first.dtype.kind == "f" and any(
        abs(a) > _LARGEST or abs(b) > _LARGEST or 0 < b - a < _LEAST_RANGE for a, b in zip(low, high, strict=True)
    ):
        raise ImageError(
            f"{_names(known)}: values from {min(low):g} to {max(high):g} cannot be computed with; multiply the images "
            "by a factor that brings them near 1"
        )
    return LinearMapping(
        dtype=first.dtype.name,
        scope="training-set",
        channels=channel_count(first),
        low=tuple(low),
        high=tuple(end_above(a, b, first.dtype) for a, b in zip(low, high, strict=True)),
    )


def _like(start: Mapping, known: Survey, side: Side) -> Mapping:
    """The kind of mapping that the model to start from has, which its network is made for."""
    first = known.images[0]
    if isinstance(start, CategoryMapping):
        if start.foreground:
            return _foreground(known, side)
        fits = known.codes is not None and known.codes <= set(start.values) and start.dtype == first.dtype.name
        return start if fits else _categories(known, side)
    if start.scope == "image":
        return image_mapping(first.dtype, channel_count(first))
    if start.scope == "dtype" or first.dtype in (np.uint8, np.bool_):
        return dtype_mapping(first.dtype, channel_count(first))
    return _linear(known, known.percentiles)


def _categories(known: Survey, side: Side) -> CategoryMapping:
    first = known.images[0]
    if first.dtype.kind not in "biu":
        raise ImageError(f"{first.name}: categories need integer pixels, not {first.dtype.name}")
    if known.codes is not None and not known.is_complete:
        return _categories(survey(known.images, complete=True), side)
    if known.codes is None:
        name = next((i.name for i, f in zip(known.images, known.facts, strict=True) if f.codes is None), first.name)
        instances = side == "target" and channel_count(first) == 1 and look_at(known.images).is_of_instances
        raise ImageError(
            f"{name}: more than {MAX_CATEGORIES} different values, so these are not categories"
            + (f", but look like labels that number objects{_OFFER}" if instances else "; train on them as intensities")
        )
    _warn_of_instances(known, side)
    return category_mapping(first, known.codes)


def _foreground(known: Survey, side: Side) -> CategoryMapping:
    first = known.images[0]
    if channel_count(first) != 1:
        raise ImageError(
            f"{first.name} has {channel_count(first)} channels; foreground needs labels of one channel, "
            f"see --{side}-channels"
        )
    values = known.values[0]
    if not known.low[0] <= 0 <= known.high[0] or (values is not None and known.is_complete and 0 not in values):
        raise ImageError(
            f"{_names(known)}: no {side} pixel is 0, so there is no background"
            + (_hidden(known) or f"; choose other --{side}-values")
        )
    return foreground_mapping()


def _warn_of_instances(known: Survey, side: Side, look: Look | None = None) -> None:
    """Say where the values of a side seem to number objects."""
    first = known.images[0]
    if first.dtype.kind not in "iu" or channel_count(first) != 1 or known.codes == frozenset({(0,), (1,)}):
        return
    if not _sets_differ(known.facts):
        return
    look = look or look_at(known.images)
    if look.is_of_instances:
        log.warning(
            "%s: the %s has %s different values, and nearly each is one connected object: they look like labels that "
            "number objects, not like classes, and the numbers of other images cannot be known%s",
            _names(known),
            side,
            len(known.codes) if known.codes is not None else f"more than {MAX_CATEGORIES}",
            _OFFER if side == "target" else "",
        )


def _sets_differ(facts: Sequence[ImageFacts]) -> bool:
    """Whether images hold different values, or there is but one; layers of a tissue are the same in all images."""
    return len(facts) == 1 or len({each.codes for each in facts}) > 1 or facts[0].codes is None


def _names(known: Survey) -> str:
    more = len(known.images) - 1
    return known.images[0].name + (f" and {more} more" if more else "")


def _listed(codes: Sequence[Code]) -> str:
    texts = [str(code[0]) if len(code) == 1 else "/".join(map(str, code)) for code in codes]
    return ", ".join(texts) if len(texts) <= _SHOWN else ", ".join([*texts[: _SHOWN - 1], "...", texts[-1]])
