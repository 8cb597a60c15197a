"""What an image file says about its pixels, kept from the input to the output of a translation."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pix2pix.formats.acquisition import Acquisition
from napari_pix2pix.formats.georeference import Georeference
from napari_pix2pix.formats.tile_layout import TileLayout

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
    "foot": "ft",
    "feet": "ft",
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
    file_format : "tiff", "ome-tiff", "imagej", "geotiff", "png", "jpeg", "bmp", "ome-zarr", "slide", "bioio", or
        "tiles" for a folder of map tiles; empty for no file.
    display_ranges : what ImageJ shows as black and white, (low, high) for each channel, or empty.
    georeference : place on the Earth, of a GeoTIFF.
    tiles : of an image that is a folder of map tiles.
    acquisition : when and with what the image was taken.
    time_step_s : seconds between neighbouring images along T.
    orientation : of the stored rows and columns, as the TIFF tag counts (1 is upright); pixels are never turned.
    white_is_zero : programs that show the image draw 0 as white (MINISWHITE); the stored values are kept as they are.
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
    georeference: Georeference | None = None
    acquisition: Acquisition = ()
    tiles: TileLayout | None = None
    time_step_s: float | None = None
    orientation: int = 1
    white_is_zero: bool = False


def standard_unit(name: str | None) -> str | None:
    """One spelling per unit of length ("micron" and "um" are "µm"); None for pixels and the like."""
    cleaned = (name or "").strip()
    if cleaned.lower() in _NO_UNITS:
        return None
    return _UNITS.get(cleaned.lower(), cleaned)


_METRES = {
    "m": 1.0,
    "cm": 1e-2,
    "mm": 1e-3,
    "µm": 1e-6,
    "nm": 1e-9,
    "Å": 1e-10,
    "pm": 1e-12,
    "ft": 0.3048,
    "US survey ft": 1200 / 3937,
}


def convert_length(length: float, unit: str, target: str) -> float | None:
    """`length` in another unit; None where one of the units is unknown and they differ."""
    if unit == target:
        return length
    if unit not in _METRES or target not in _METRES:
        return None
    return length * _METRES[unit] / _METRES[target]


def is_grey_ramp(palette: NDArray[np.uint8]) -> bool:
    """Whether a palette, shape (entries, 3), is a scale of greys: its indices are intensities, not categories."""
    levels = palette[:, 0].astype(int)
    brightest = int(levels.argmax())
    return bool(
        brightest >= _FEWEST_GREYS
        and (palette == palette[:, :1]).all()
        and (np.diff(levels[: brightest + 1]) > 0).all()
        and (levels[brightest + 1 :] == 0).all()
    )


_FEWEST_GREYS = 32
_SCREEN_DPI = (72.0, 96.0)


def meaningful_pixel_size(micrometres: tuple[float, float]) -> tuple[float, float] | None:
    """None for the 72 and 96 dots per inch that programs write when they know nothing."""
    dpi = 25_400 / micrometres[0]
    square = abs(micrometres[0] / micrometres[1] - 1) < 1e-6
    return None if square and any(abs(dpi - screen) < 0.5 for screen in _SCREEN_DPI) else micrometres


METADATA_KEY = "napari-pix2pix"
"""Under this key PNG and plain TIFF carry what their own fields cannot say, or not exactly."""


_NOT_RECORDED = ("file_format", "rgb", "georeference", "tiles", "white_is_zero")


def to_record(metadata: ImageMetadata) -> dict[str, Any]:
    """What stands in the file under `METADATA_KEY`, ready for JSON; only what differs from the defaults."""
    defaults = ImageMetadata()
    names = (field.name for field in fields(metadata) if field.name not in _NOT_RECORDED)
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
    "acquisition": lambda value: tuple((str(name), str(text)) for name, text in value),
    "time_step_s": float,
    "orientation": int,
}
