"""What a model knows of its images besides their pixels."""

from __future__ import annotations

import math
from numbers import Real
from typing import Annotated

from pydantic import BeforeValidator, Field

from pix2pix_training.errors import SettingsError
from pix2pix_training.intensity import CategoryMapping, Mapping
from pix2pix_training.neighbouring_planes import MAX_Z_CONTEXT
from pix2pix_training.validated import Lenient, shown, validated


def _checked_pixel_size(size: object) -> tuple[float, ...]:
    """Else no model or image could be opened again."""
    lengths = size if isinstance(size, tuple | list) else ()
    if len(lengths) != 2 or not all(isinstance(each, Real) and 0 < float(each) < math.inf for each in lengths):
        raise ValueError(f"is {shown(size)}; it should be height and width of a pixel, each above 0")
    return tuple(map(float, lengths))


PixelSize = Annotated[tuple[float, float], BeforeValidator(_checked_pixel_size)]


@validated
class ImageTraits:
    """What is known of images besides their pixels; `pixel_size` is (y, x) in `unit`.

    `z_context` is the number of neighbouring planes on each side whose channels a network sees with those of a plane.
    """

    axes: str = "CYX"
    channel_names: Annotated[tuple[str, ...], Lenient] = ()
    pixel_size: PixelSize | None = None
    unit: str | None = None
    z_context: Annotated[int, Field(ge=0, le=MAX_Z_CONTEXT)] = 0


@validated
class ImageDescription(ImageTraits):
    """One side of the training pairs: its traits, and how its pixels are mapped to [-1, 1].

    The mapping has the channels of all planes that a network sees at once.
    """

    mapping: Mapping

    def __post_init__(self) -> None:
        planes = 2 * self.z_context + 1
        if self.z_context and isinstance(self.mapping, CategoryMapping):
            raise SettingsError(
                "neighbouring planes cannot be categories; leave out z-context, or train on intensities"
            )
        if self.mapping.image_channels % planes:
            raise SettingsError(
                f"a mapping of {self.mapping.image_channels} channels does not fit {planes} planes of one image"
            )

    @property
    def channels(self) -> int:
        """Channels of the images, without those of neighbouring planes."""
        return self.mapping.image_channels // (2 * self.z_context + 1)

    @property
    def own_channels(self) -> slice:
        """Those of a plane itself, among the channels that a network sees."""
        return (
            slice(self.z_context * self.channels, (self.z_context + 1) * self.channels)
            if self.z_context
            else slice(None)
        )
