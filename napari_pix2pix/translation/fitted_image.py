"""An image as a model is to see it, and what is said about it before and after it is translated."""

from __future__ import annotations

import logging
from collections.abc import Generator
from pathlib import Path

from napari_pix2pix.formats.metadata import DescribedSource
from napari_pix2pix.formats.resampling import ResampledSource
from napari_pix2pix.formats.source import open_image
from napari_pix2pix.formats.writing import Tile
from napari_pix2pix.translation.image_fit import Fit, fit_of
from napari_pix2pix.translation.invalid_output import InvalidMarks
from napari_pix2pix.translation.settings import TranslationSettings
from napari_pix2pix.translation.values_seen import TOLERATED_SHARE, ValuesSeen, ends_in_words
from pix2pix_training.array_source import (
    ArraySource,
    SelectedChannels,
    SourceView,
    channel_count,
    plane_indices,
    plane_size,
    whole_plane,
)
from pix2pix_training.channel_names import listed
from pix2pix_training.errors import ImageError
from pix2pix_training.image_description import ImageDescription
from pix2pix_training.intensity import CategoryMapping, Mapping
from pix2pix_training.invalid_pixels import FilledSource
from pix2pix_training.model_file import Model

logger = logging.getLogger(__name__)

_MOST_CHANNELS = 4
_DIGITS = 6
"""Of a side in pixels that count: a size of 0.75 may come from a file as 0.7499999999999999."""
_SMALL_PART = 1 / 8
"""An image that uses less than this of its type's range, such as 12 bits in uint16, is hardly meant to be that dark."""
_REGION_PX = 1024


class FittedImage(SourceView):
    """An image as a model is to see it: its channels in the model's order, at the model's pixel size where asked for.

    Attributes
    ----------
    own : the same at the image's own pixel size.
    mapping, taken_range : see `Fit`.
    values_seen : counted while it is translated.
    may_be_empty : without a valid pixel it gives a result without one. Else that is an error; single planes of a stack
        may always be empty.
    """

    may_be_empty = False

    def __init__(self, base: ArraySource, fit: Fit, *, own: ArraySource) -> None:
        super().__init__(base)
        self.own = own
        self.mapping = fit.mapping
        self.taken_range = fit.taken_range
        self.values_seen = ValuesSeen()

    @property
    def is_rescaled(self) -> bool:
        return self._base is not self.own


def fitted_image(image: ArraySource, model: Model, settings: TranslationSettings) -> FittedImage:
    """The image as the model is to see it; what is decided about it is said in warnings.

    Raises
    ------
    ImageError
        It does not fit the model; says why and what to do.
    """
    metadata = image.metadata if isinstance(image, DescribedSource) else None
    fit = fit_of(image, model.source, metadata=metadata, settings=settings)
    if fit.problem is not None:
        raise ImageError(fit.problem)
    for remark in fit.remarks:
        logger.warning("%s", remark)
    own: ArraySource = image
    if fit.channels != tuple(range(channel_count(image))):
        own = SelectedChannels(image, fit.channels)
    base = own
    if fit.factor is not None:
        sides = zip(plane_size(own), fit.factor, strict=True)
        height, width = (max(1, round(round(n * factor, _DIGITS))) for n, factor in sides)
        categories = image.palette is not None or isinstance(fit.mapping, CategoryMapping)
        base = ResampledSource(FilledSource(own), (height, width), nearest=categories)
    return FittedImage(base, fit, own=own)


def warn_of_values(image: FittedImage, mapping: Mapping, expected: ImageDescription) -> None:
    """A line where many of the values that were read lie beyond what the model knows, or any is none of its categories.

    `mapping` is that of `image` with its ends.
    """
    shares = image.values_seen.clipped_share
    if isinstance(mapping, CategoryMapping):
        if shares[0] > 0:
            logger.warning(
                "%s: %s of the pixels are of none of the categories that the model was trained on, so its result there "
                "means nothing; number the categories as in the training images",
                image.name,
                percent(shares[0]),
            )
        return
    beyond = [number for number, share in enumerate(shares) if share > TOLERATED_SHARE]
    own = range(len(mapping.low))[expected.own_channels]
    if parts := [number for number in beyond if number in own]:
        places = [
            f"{percent(shares[n])} of the values{_of_channel(n - own.start, image, expected)} lie beyond "
            f"{ends_in_words(mapping, n)}"
            for n in parts[:_MOST_CHANNELS]
        ]
        logger.warning(
            "%s: %s, the range that the model was trained on, and are clipped; give images taken as those of training, "
            "or fit the range to each image with --convert-values image",
            image.name,
            ", ".join(places),
        )
    _warn_of_dark(image)


def _warn_of_dark(image: FittedImage) -> None:
    """Numbers of another type were taken for those of the model, and use little of what they might: 12 bits of 16."""
    if image.taken_range is None:
        return
    (start, end), (smallest, largest) = image.taken_range, image.values_seen.extent
    if smallest > largest or start > 0:
        return
    if start == 0 and largest < _SMALL_PART * end:
        found, look = f"reach only to {largest:.6g} of the {end:.6g} that they might", "dark"
    elif start < 0 and max(-smallest, largest) < _SMALL_PART * max(-start, end):
        found, look = f"reach only from {smallest:.6g} to {largest:.6g}, not from {start:.6g} to {end:.6g}", "flat"
    else:
        return
    logger.warning(
        "%s: its values %s, so it is %s to the model; --convert-values image fits the range to each image",
        image.name,
        found,
        look,
    )


def own_shares(image: FittedImage, expected: ImageDescription) -> tuple[float, ...]:
    """`clipped_share` of the channels of the image itself, without those of neighbouring planes."""
    shares = image.values_seen.clipped_share
    return shares if isinstance(image.mapping, CategoryMapping) else shares[expected.own_channels]


def percent(share: float) -> str:
    """A share from 0 to 1 in words."""
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1f} %" if share >= 5e-4 else "less than 0.1 %"


def _of_channel(number: int, image: ArraySource, expected: ImageDescription) -> str:
    if expected.channels == 1:
        return ""
    names = image.channel_names or expected.channel_names
    return f" of channel {number}" + (f" ({listed(names[number : number + 1])})" if len(names) > number else "")


def at_own_size(image: FittedImage, translated: Path, mapping: Mapping, *, masked: bool) -> Generator[Tile, None, None]:
    """Tiles of a rescaled image at its own size, from a file of its translation; invalid pixels are marked as there.

    What the model makes of it waits in that file, because going back needs neighbouring tiles.

    Parameters
    ----------
    mapping : of the translation's pixels.
    masked : tiles have one more sample; see `OutputSpec.masked`.
    """
    with open_image(translated) as small:
        result = ResampledSource(small, plane_size(image.own), nearest=isinstance(mapping, CategoryMapping))
        filled = FilledSource(image.own)
        marks = InvalidMarks(filled, result.dtype, mapping, masked=masked)
        for plane in plane_indices(image.own):
            for region in whole_plane(image.own).tiles(_REGION_PX):
                pixels = result.read(region, plane)
                yield plane, region, marks.on(pixels, filled.opacity(region, plane))
