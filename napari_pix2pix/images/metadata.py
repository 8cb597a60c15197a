"""What an image file says about its pixels, kept from the input to the output of a translation."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any

Colour = tuple[int, int, int]

_UNITS = {
    "micron": "µm",
    "microns": "µm",
    "micrometer": "µm",
    "micrometre": "µm",
    "um": "µm",
    "μm": "µm",  # Greek mu instead of the micro sign
    "\\u00b5m": "µm",  # as ImageJ writes it
    "nanometer": "nm",
    "nanometre": "nm",
    "millimeter": "mm",
    "millimetre": "mm",
    "centimeter": "cm",
    "centimetre": "cm",
    "meter": "m",
    "metre": "m",
    "angstrom": "Å",
}
_NO_UNITS = {"", "pixel", "pixels", "px", "none", "reference frame"}


@dataclass(frozen=True, kw_only=True)
class ImageMetadata:
    """Everything besides pixels, axes, palette and nodata value.

    Attributes
    ----------
    pixel_size : height and width of a pixel (y, x) in `unit`, or None where the file does not say.
    z_spacing : distance of neighbouring planes along Z in `unit`.
    unit : "µm", "nm", "mm", ...; None where the file does not say.
    channel_names : one per channel, or empty.
    channel_colors : RGB of 0 to 255, one per channel, or empty where unknown.
    rgb : the three channels are red, green and blue.
    bit_depth : significant bits per sample, where fewer than the dtype has (10-, 12- and 14-bit cameras).
    file_format : "tiff", "ome-tiff", "imagej", "png", "jpeg", "bmp" or "ome-zarr"; empty for no file.
    display_ranges : what ImageJ shows as black and white, (low, high) for each channel, or empty.
    """

    pixel_size: tuple[float, float] | None = None
    z_spacing: float | None = None
    unit: str | None = None
    channel_names: tuple[str, ...] = ()
    channel_colors: tuple[Colour, ...] = ()
    rgb: bool = False
    bit_depth: int | None = None
    file_format: str = ""
    display_ranges: tuple[tuple[float, float], ...] = ()


def standard_unit(name: str | None) -> str | None:
    """One spelling per unit of length ("micron" and "um" are "µm"); None for pixels and the like."""
    cleaned = (name or "").strip()
    if cleaned.lower() in _NO_UNITS:
        return None
    return _UNITS.get(cleaned.lower(), cleaned)


METADATA_KEY = "napari-pix2pix"
"""Under this key PNG and plain TIFF carry what their own fields cannot say, or not exactly."""


def to_record(metadata: ImageMetadata) -> dict[str, Any]:
    """What stands in the file under `METADATA_KEY`, ready for JSON; only what differs from the defaults."""
    defaults = ImageMetadata()
    names = (field.name for field in fields(metadata) if field.name not in ("file_format", "rgb"))
    return {name: value for name in names if (value := getattr(metadata, name)) != getattr(defaults, name)}


def from_record(record: object) -> ImageMetadata:
    """The inverse of `to_record`; what is missing or malformed there keeps its default."""
    if not isinstance(record, dict):
        return ImageMetadata()
    known: dict[str, Any] = {}
    for name, convert in _CONVERTERS.items():
        with suppress(KeyError, TypeError, ValueError):
            known[name] = convert(record[name])
    return ImageMetadata(**known)


def _pair(value: Any) -> tuple[float, float]:
    first, second = value
    return float(first), float(second)


def _colour(value: Any) -> Colour:
    red, green, blue = value
    return int(red), int(green), int(blue)


_CONVERTERS: dict[str, Callable[[Any], Any]] = {
    "pixel_size": _pair,
    "z_spacing": float,
    "unit": str,
    "channel_names": lambda value: tuple(map(str, value)),
    "channel_colors": lambda value: tuple(map(_colour, value)),
    "bit_depth": int,
    "display_ranges": lambda value: tuple(map(_pair, value)),
}
