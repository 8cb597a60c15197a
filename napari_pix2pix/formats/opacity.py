"""Which pixels hold no data: opacity in the range of an image's type or from 0 to 255, nodata values; and what becomes
of an alpha channel (a mask, a channel like others, or nothing).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_pix2pix.formats.source import ImageSource
from pix2pix_training.array_source import AnyArray, Opacity, least_opaque, plane_size
from pix2pix_training.choices import AlphaChoice
from pix2pix_training.invalid_pixels import OPAQUE
from pix2pix_training.regions import Region

logger = logging.getLogger(__name__)


def to_opacity(alpha: AnyArray) -> Opacity:
    """From 0 and the greatest value of an integer type (or 1); what is not 0 there is not 0 here."""
    if alpha.dtype == np.uint8:
        return alpha
    scaled = alpha.astype(np.float64) * (OPAQUE / _greatest(alpha.dtype))
    return np.where(alpha > 0, np.rint(scaled).clip(1, OPAQUE), 0).astype(np.uint8)


def from_opacity(opacity: Opacity | np.uint8, dtype: np.dtype[Any]) -> AnyArray:
    """To the range from 0 to the greatest value of an integer type, or 1."""
    scaled = opacity.astype(np.float64) * (_greatest(dtype) / OPAQUE)
    stored = scaled if dtype.kind == "f" else np.where(opacity > 0, np.rint(scaled).clip(min=1), 0)
    return np.asarray(stored).astype(dtype)


def with_opacity(pixels: AnyArray, opacity: Opacity | None) -> AnyArray:
    """Pixels (C, h, w) with one more sample, in their type: how opaque they are; fully where nothing is said."""
    known = np.full(pixels.shape[1:], OPAQUE, np.uint8) if opacity is None else opacity
    return np.concatenate([pixels, from_opacity(known, pixels.dtype)[None]])


def _greatest(dtype: np.dtype[Any]) -> float:
    return float(np.iinfo(dtype).max) if dtype.kind in "iu" else 1.0


def usable_nodata(path: Path, text: str, dtype: np.dtype[Any]) -> float | None:
    """The nodata value that a file declares; None, and a warning, where pixels of its type cannot have that value."""
    if not text:
        return None
    value: float | None = None
    with suppress(ValueError):
        value = float(text)
    if value is not None and dtype.kind == "f" and (np.isnan(value) or abs(value) <= np.finfo(dtype).max):
        return value
    if value is not None and dtype.kind in "iu" and value.is_integer():
        exact = int(text) if text.lstrip("+-").isdecimal() else int(value)
        if np.iinfo(dtype).min <= exact <= np.iinfo(dtype).max:
            return exact
    logger.warning(
        "%s declares %r as its nodata value, which pixels of %s cannot have; it is ignored", path, text, dtype
    )
    return None


_WINDOWS = 4
_WINDOW_PX = 128
_LEAST_SHARE_OF_OPAQUE = 0.5


def chosen(image: ImageSource, choice: AlphaChoice) -> ImageSource:
    """The image with its alpha, or its mask, as `choice` says.

    "auto" takes a channel that is only declared as alpha for a mask where its values look like one: of those that are
    not 0, half at least are the greatest of its type, or all are equal.
    """
    if image.alpha == "none":
        return _Opaque(image) if choice == "drop" else image
    if choice == "auto":
        choice = _fitting(image) if image.alpha == "declared" else "mask"
    if choice == "keep":
        image.metadata = replace(image.metadata, rgb=False, channel_names=(), channel_colors=(), display_ranges=())
        return image
    return _Opaque(_WithoutAlpha(image)) if choice == "drop" else _WithoutAlpha(image)


def _fitting(image: ImageSource) -> AlphaChoice:
    """What a channel that is declared as alpha is by its values, said where that matters."""
    values = np.concatenate([image.read(region, _first_plane(image))[-1].ravel() for region in _samples(image)])
    shown = values[values > 0]
    greatest = np.iinfo(values.dtype).max if values.dtype.kind in "iu" else 1
    number = image.shape[-3]
    if len(shown) and (shown == greatest).mean() < _LEAST_SHARE_OF_OPAQUE and (shown != shown[0]).any():
        logger.warning(
            "%s: channel %d is declared as alpha, but its values do not look like a mask, so that it is a channel like "
            "the others; --alpha mask or --alpha drop if it is none",
            image.path,
            number,
        )
        return "keep"
    if len(shown) < len(values):
        logger.warning(
            "%s: channel %d is alpha, and pixels that are transparent hold no data; --alpha keep if it is a channel",
            image.path,
            number,
        )
    return "mask"


def _first_plane(image: ImageSource) -> tuple[int, ...]:
    return (0,) * (len(image.shape) - 3)


def _samples(image: ImageSource) -> Iterator[Region]:
    """Windows spread evenly over a plane; all of a small one."""
    height, width = plane_size(image)
    for y in _starts(height):
        for x in _starts(width):
            yield Region.at(y, x, _WINDOW_PX, _WINDOW_PX).common(Region.whole(height, width))


def _starts(length: int) -> list[int]:
    if length <= _WINDOWS * _WINDOW_PX:
        return list(range(0, length, _WINDOW_PX))
    return [int(start) for start in np.linspace(0, length - _WINDOW_PX, _WINDOWS)]


class _View(ImageSource):
    """An open image that is read in another way."""

    def __init__(self, image: ImageSource, channels: int) -> None:
        super().__init__(
            image.path,
            axes=image.axes,
            shape=(*image.shape[:-3], channels, *image.shape[-2:]),
            dtype=image.dtype,
            metadata=image.metadata,
            nodata=image.nodata,
            palette=image.palette,
        )
        self.name = image.name
        self.decoded_whole = image.decoded_whole
        self.series, self.series_names = image.series, image.series_names
        self._image = image

    @property
    def files(self) -> tuple[Path, ...]:
        return self._image.files

    def _read(self, region: Region, plane: tuple[int, ...]) -> AnyArray:
        return self._read_with_opacity(region, plane)[0]

    def close(self) -> None:
        self._image.close()


class _WithoutAlpha(_View):
    """The last channel says how opaque pixels are."""

    masked = True

    def __init__(self, image: ImageSource) -> None:
        super().__init__(image, image.shape[-3] - 1)
        self.metadata = replace(image.metadata, alpha=True)

    def _read_with_opacity(self, region: Region, plane: tuple[int, ...]) -> tuple[AnyArray, Opacity | None]:
        pixels, opacity = self._image.read_with_opacity(region, plane)
        return pixels[:-1], least_opaque([to_opacity(pixels[-1]), opacity])


class _Opaque(_View):
    """Whatever the image says of its opacity is left out."""

    def __init__(self, image: ImageSource) -> None:
        super().__init__(image, image.shape[-3])
        self.metadata = replace(image.metadata, alpha=False)

    def _read_with_opacity(self, region: Region, plane: tuple[int, ...]) -> tuple[AnyArray, Opacity | None]:
        return self._image.read(region, plane), None
