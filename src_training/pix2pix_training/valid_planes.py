"""Which images, and which planes of stacks, have pixels to learn from; the others are left out, and named."""

from __future__ import annotations

import logging

from pix2pix_training.array_source import ArraySource, plane_indices
from pix2pix_training.errors import NoValidPixelError
from pix2pix_training.invalid_pixels import FilledSource
from pix2pix_training.pairs import Pair, Split

logger = logging.getLogger(__name__)

_NONE = "not one valid pixel (all are NaN, infinite, nodata or transparent)"


def require_data(image: ArraySource) -> None:
    """Raise `NoValidPixelError` where no plane of an image has a valid pixel."""
    filled = FilledSource(image)
    if all(_is_empty(filled, plane) for plane in plane_indices(image)):
        raise NoValidPixelError(f"{image.name}: {_NONE}")


def valid_planes(pair: Pair) -> list[tuple[int, ...]]:
    """The planes of a pair in which source and target each have a valid pixel, in storage order."""
    images = FilledSource(pair.source), FilledSource(pair.target)
    return [plane for plane in plane_indices(pair.source) if not any(_is_empty(image, plane) for image in images)]


def _is_empty(image: FilledSource, plane: tuple[int, ...]) -> bool:
    try:
        image.require_valid_pixel(plane)
    except NoValidPixelError:
        return True
    return False


def with_data(split: Split) -> Split:
    """The pairs of `split` that have a plane with valid pixels; a warning names each other.

    Raises
    ------
    NoValidPixelError
        There is none to train on.
    """
    training = tuple(pair for pair in split.training if valid_planes(pair))
    if not training:
        first, count = split.training[0], len(split.training)
        others = f", nor has any of the {count} pairs" if count > 1 else ""
        raise NoValidPixelError(f"{first.source.name} or its target has {_NONE}{others}")
    validation = tuple(pair for pair in split.validation if valid_planes(pair))
    for pair in (*split.training, *split.validation):
        if pair not in training and pair not in validation:
            logger.warning(
                "%s or its target %s has %s; the pair is left out", pair.source.name, pair.target.name, _NONE
            )
    return Split(training, validation)
