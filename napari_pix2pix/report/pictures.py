"""Parts of images as pictures for a page: PNG as data URIs, with the same grey levels for outputs and targets."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_pix2pix.report.measures import Window
from pix2pix_training.array_source import AnyArray, ArraySource, channel_count
from pix2pix_training.intensity import CategoryMapping, Mapping, to_tensor
from pix2pix_training.invalid_pixels import FilledSource

Rgb = NDArray[np.uint8]
Limits = tuple[float, float]

_CONTRAST_PERCENTILES = (0.5, 99.5)
_ERROR_PERCENTILE = 99.0
_COLOURS = np.array(
    [(24, 24, 28), (240, 228, 66), (0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233)],
    np.uint8,
)
"""Of classes that have none; they can be told apart without seeing red and green."""
_TWO_COLOURS = np.array([(24, 24, 28), (235, 235, 235)], np.uint8)
TOO_DARK, RIGHT, TOO_BRIGHT = (33, 102, 172), (247, 247, 247), (178, 24, 43)
UNSURE = (84, 39, 136)
MISSED, INVENTED = (0, 114, 178), (230, 120, 0)


@dataclass(frozen=True, kw_only=True)
class Part:
    """Pixels (C, h, w) of a window, and where (h, w) they hold data."""

    pixels: AnyArray
    valid: NDArray[np.bool_]


def part_of(image: ArraySource, window: Window) -> Part:
    pixels, invalid = FilledSource(image, may_be_empty=True).read_with_mask(window.region, window.plane)
    return Part(pixels=pixels, valid=np.ones(window.region.size, bool) if invalid is None else ~invalid)


def data_uri(colours: Rgb, valid: NDArray[np.bool_] | None = None) -> str:
    """A picture (h, w) or (h, w, 3), transparent where it is not valid."""
    image = Image.fromarray(colours)
    if valid is not None and not valid.all():
        image.putalpha(Image.fromarray(valid.astype(np.uint8) * 255))
    stream = BytesIO()
    image.save(stream, format="PNG", optimize=True)
    return png_uri(stream.getvalue())


def png_uri(content: bytes) -> str:
    return f"data:image/png;base64,{b64encode(content).decode('ascii')}"


def is_colour(image: ArraySource) -> bool:
    """Whether three channels are red, green and blue, as of a photograph."""
    names = [name[:1].lower() for name in image.channel_names]
    return channel_count(image) == 3 and image.dtype == np.uint8 and names in ([], ["r", "g", "b"])


def contrast(part: Part, channel: int, otherwise: Limits) -> Limits:
    """The grey levels of a channel that become black and white; `otherwise` where it is constant."""
    values = part.pixels[channel][part.valid]
    low, high = np.percentile(values, _CONTRAST_PERCENTILES) if values.size else (0, 0)
    return (float(low), float(high)) if high > low else otherwise


def grey(pixels: AnyArray, limits: Limits) -> Rgb:
    """(h, w) in any type as grey levels."""
    low, high = limits
    return ((pixels.astype(np.float64) - low) / (high - low) * 255).clip(0, 255).round().astype(np.uint8)


def seen_source(source: ArraySource, part: Part, mapping: Mapping | None) -> tuple[Rgb, str]:
    """A source as a picture, and in words what of it is shown."""
    if isinstance(mapping, CategoryMapping) and mapping.image_channels == 1:
        known = mapping.to_network(to_tensor(part.pixels)[None])[0].numpy()
        colours = np.array(mapping.colors, np.uint8) if mapping.colors else class_colours(len(mapping.values))
        return np.where((known.max(0) > 0)[..., None], colours[known.argmax(0)], 128).astype(np.uint8), "classes"
    if source.palette is not None and channel_count(source) == 1:
        return source.palette[part.pixels[0].clip(0, len(source.palette) - 1)], "its palette"
    if is_colour(source):
        return np.moveaxis(part.pixels, 0, -1), ""
    middle = channel_count(source) // 2
    limits = contrast(part, middle, (0.0, 1.0))
    name = f"channel {middle} of {channel_count(source)}, " if channel_count(source) > 1 else ""
    return grey(part.pixels[middle], limits), f"{name}{limits[0]:.4g} to {limits[1]:.4g}"


def class_colours(classes: int) -> Rgb:
    """(classes, 3), the first nearly black; of two the second is light."""
    return (
        _COLOURS[np.arange(classes) % len(_COLOURS)] if classes != 2 else np.array([(24, 24, 28), (235,) * 3], np.uint8)
    )


def error_limit(difference: AnyArray, valid: NDArray[np.bool_]) -> float:
    """The size of differences (h, w) that gets the full colour."""
    values = np.abs(difference[valid])
    return float(np.percentile(values, _ERROR_PERCENTILE)) if values.size else 0.0


def error_picture(difference: AnyArray, limit: float) -> Rgb:
    """Output less target (h, w): red where it is too bright, blue where too dark, white where right."""
    share = (difference / limit if limit > 0 else np.zeros_like(difference)).clip(-1, 1)[..., None]
    right = np.array(RIGHT, np.float64)
    end = np.where(share > 0, np.array(TOO_BRIGHT, np.float64), np.array(TOO_DARK, np.float64))
    picture: Rgb = (right + (end - right) * np.abs(share)).round().astype(np.uint8)
    return picture


def width_picture(widths: AnyArray, limit: float) -> Rgb:
    """Half-widths (h, w) on the scale of errors: white where nil, violet from `limit`."""
    share = (widths / limit if limit > 0 else np.zeros_like(widths)).clip(0, 1)[..., None]
    right = np.array(RIGHT, np.float64)
    picture: Rgb = (right + (np.array(UNSURE) - right) * share).round().astype(np.uint8)
    return picture


def class_error_picture(found: NDArray[np.int64], true: NDArray[np.int64], classes: int) -> Rgb:
    """Classes (h, w): of two what is missed and what is invented, of more what is wrong; the rest in grey."""
    base = np.where(true > 0, 200, 60) if classes == 2 else np.full(true.shape, 90)
    picture = np.repeat(base[..., None], 3, axis=2).astype(np.uint8)
    picture[(found != true) & (true >= 0)] = INVENTED
    if classes == 2:
        picture[(true == 1) & (found != 1)] = MISSED
    return picture
