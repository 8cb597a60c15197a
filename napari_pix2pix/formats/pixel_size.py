"""Comparing the pixel size of an image with the one a model was trained on."""

from __future__ import annotations

from napari_pix2pix.formats.units import convert_length

TOLERATED_RATIO = 1.1
"""A network is hardly disturbed by pixels larger or smaller by less than this factor."""

PixelSize = tuple[float, float]
"""Height and width."""


def size_ratio(
    own: PixelSize | None, unit: str | None, trained: PixelSize | None, trained_unit: str | None
) -> tuple[float, float] | None:
    """Pixel size of an image over that of training, (y, x); None where one of them is unknown."""
    if own is None or unit is None or trained is None or trained_unit is None:
        return None
    y, x = (convert_length(length, unit, trained_unit) for length in own)
    return None if y is None or x is None else (y / trained[0], x / trained[1])


def sizes_differ(ratio: tuple[float, float]) -> bool:
    return not all(1 / TOLERATED_RATIO < factor < TOLERATED_RATIO for factor in ratio)
