"""Making a model ready for 8 bits on images that a user gives."""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from dataclasses import replace

from napari_pix2pix.translation.fitted_image import fitted_image
from napari_pix2pix.translation.settings import TranslationSettings
from pix2pix_training.array_source import ArraySource, channel_count, plane_indices, plane_size
from pix2pix_training.errors import ImageError, SettingsError
from pix2pix_training.int8_measurement import (
    LARGEST_PART,
    MOST_DEVIATION,
    KnownPair,
    Part,
    drawn_parts,
    measured_int8,
    part_sides,
    require_small,
)
from pix2pix_training.intensity import CategoryMapping, Mapping, resolved
from pix2pix_training.model_file import Model
from pix2pix_training.neighbouring_planes import with_neighbouring_planes
from pix2pix_training.quantisation import int8_problem

logger = logging.getLogger(__name__)

_MOST_PIXELS = 1 << 23


def with_int8(
    model: Model,
    sources: Sequence[ArraySource],
    targets: Sequence[ArraySource] = (),
    *,
    most_deviation: float = MOST_DEVIATION,
) -> Generator[float, None, Model]:
    """The model with roundings for 8 bits; yields the share of the work that is done.

    Parameters
    ----------
    sources : images like those to be translated; half of their parts give the roundings, the others judge them.
    targets : of the sources in this order, or none; of categories, which have no PSNR, they are not used.
    most_deviation : see below.

    Raises
    ------
    InputError
        The model cannot compute in 8 bits, the images do not fit it or are too small, or the result would differ from
        that in float32 by more than `most_deviation`, a share of its range in the mean, or lose too much against the
        targets (`require_small`).
    """
    problem = int8_problem(model.generator_config, model.inference)
    if problem is not None:
        raise SettingsError(problem)
    if targets and isinstance(model.target.mapping, CategoryMapping):
        logger.warning("the targets are categories, which have no PSNR, so they are not used")
        targets = ()
    of_sources: Sequence[ArraySource | None] = targets or [None] * len(sources)
    pairs = [known_pair(model, *pair) for pair in zip(sources, of_sources, strict=True)]
    parts = _parts(pairs, model.generator_config.stride)
    found = yield from measured_int8(model, parts[::2], parts[1::2], most_deviation=most_deviation)
    require_small(found, most_deviation)
    return replace(model, int8=found)


def known_pair(model: Model, source: ArraySource, target: ArraySource | None) -> KnownPair:
    """An image as the model sees it, and its target, if any; `InputError` where they do not fit the model."""
    fitted = fitted_image(source, model, TranslationSettings())
    seen = with_neighbouring_planes(fitted, model.source.z_context)
    if target is not None:
        _require_target(source, target, model.target.mapping)
    return KnownPair(
        source=seen,
        planes=list(plane_indices(source)),
        mapping=resolved(fitted.mapping, seen),
        target=target,
        target_mapping=model.target.mapping,
    )


def _require_target(source: ArraySource, target: ArraySource, mapping: Mapping) -> None:
    if plane_size(target) != plane_size(source) or channel_count(target) != mapping.image_channels:
        raise ImageError(f"{target.name} does not fit {source.name}, or the model; give the target of that image")
    if target.dtype.name != mapping.dtype:
        raise ImageError(
            f"{target.name} has pixels of {target.dtype}, and the model's are {mapping.dtype}; give targets like "
            "those that it was trained on"
        )


def _parts(images: Sequence[KnownPair], stride: int) -> list[Part]:
    drawn = drawn_parts(images, stride, largest=LARGEST_PART, pixels=_MOST_PIXELS)
    if len(drawn) < 2:
        side = part_sides(stride)[-1]
        raise ImageError(
            f"of the parts of the sample, {side} x {side} pixels or smaller, {len(drawn)} have valid pixels that "
            "differ, and 2 are needed: half of them give the roundings and the others judge them; give more or larger "
            "images"
        )
    return drawn
