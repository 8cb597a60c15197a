"""What an image file says about its pixels, kept from the input to the output of a translation: sizes, channels, axes
as this project orders them (any others, then T, then Z, then CYX), and when and with what the image was taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from napari_pix2pix.formats.georeference import Georeference
from napari_pix2pix.formats.tile_layout import TileLayout
from napari_pix2pix.formats.units import convert_length, in_seconds, standard_unit
from pix2pix_training.array_source import ArraySource

if TYPE_CHECKING:
    import tifffile

Colour = tuple[int, int, int]


class AxisScale(NamedTuple):
    """What a file says of the axis T, C, Z, Y or X in its own words: `unit` as it is spelled there, None for none.

    The distance `step` of neighbouring pixels, and the coordinate `origin` of the first, are in that unit.
    """

    letter: str
    name: str
    unit: str | None
    step: float
    origin: float


@runtime_checkable
class DescribedSource(ArraySource, Protocol):
    """An image with what a file says about it."""

    @property
    def metadata(self) -> ImageMetadata: ...


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
    alpha : the file keeps the opacity of pixels as a further sample of each, rather than as a mask.
    orientation : of the stored rows and columns, as the TIFF tag counts (1 is upright); pixels are never turned.
    screen_dpi : dots per inch (y, x) that say nothing of the size of pixels: 72 or 96, as programs write them.
    name : what the file calls its image; None where it does not.
    scales : what an OME-Zarr says of its axes beyond the sizes above: where the first pixel lies, steps without a unit,
        names, units that differ from axis to axis.
    white_is_zero : programs that show the image draw 0 as white (MINISWHITE); the stored values are kept as they are.
    made_by : of a translation, pairs of a name and a text: program, model, source, and settings that decide its values.
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
    screen_dpi: tuple[float, float] | None = None
    name: str | None = None
    scales: tuple[AxisScale, ...] = ()
    alpha: bool = False
    white_is_zero: bool = False
    made_by: tuple[tuple[str, str], ...] = ()


def placed(metadata: ImageMetadata, georeference: Georeference | None) -> ImageMetadata:
    """With the place on the Earth; the pixel size of a plain image is that of its transform."""
    metadata = replace(metadata, georeference=georeference)
    if georeference is None:
        return metadata
    size = georeference.pixel_size
    sized = replace(metadata, pixel_size=size, unit=None if size is None else georeference.unit)
    if metadata.file_format == "tiff":
        return replace(sized, file_format="geotiff")
    return sized if size is not None and metadata.file_format in ("png", "jpeg", "bmp") else metadata


def is_grey_ramp(palette: NDArray[np.uint8]) -> bool:
    """Whether a palette, shape (entries, 3), is a scale of greys: its indices are intensities, not categories."""
    levels = palette[:, 0].astype(int)
    brightest = int(levels.argmax())
    return bool(
        brightest >= FEWEST_GREYS
        and (palette == palette[:, :1]).all()
        and (np.diff(levels[: brightest + 1]) > 0).all()
        and (levels[brightest + 1 :] == 0).all()
    )


FEWEST_GREYS = 32
_SCREEN_DPI = (72.0, 96.0)


MICROMETRES_PER_INCH = 25_400.0


def resolution_fields(dots_per_inch: tuple[float, float]) -> dict[str, Any]:
    """Fields of `ImageMetadata` for a resolution (y, x) in a file: the size of pixels, or that of a screen."""
    y, x = dots_per_inch
    square = abs(y / x - 1) < 1e-6
    if square and any(abs(y - screen) < 0.5 for screen in _SCREEN_DPI):
        return {"screen_dpi": dots_per_inch}
    return {"pixel_size": (MICROMETRES_PER_INCH / y, MICROMETRES_PER_INCH / x), "unit": "µm"}


def dots_per_inch(metadata: ImageMetadata) -> tuple[float, float] | None:
    """The resolution (y, x) to write into a file that has a field for it; None where nothing is known."""
    if metadata.pixel_size is None or metadata.unit is None:
        return metadata.screen_dpi
    y, x = (convert_length(size, metadata.unit, "in") for size in metadata.pixel_size)
    return (1 / y, 1 / x) if y and x else None


METADATA_KEY = "napari-pix2pix"
"""Under this key PNG and plain TIFF carry what their own fields cannot say, or not exactly."""


_NOT_RECORDED = ("alpha", "file_format", "rgb", "georeference", "tiles", "white_is_zero")


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
        with suppress(KeyError, TypeError, ValueError, OverflowError):
            known[name] = convert(record[name])
    return ImageMetadata(**known)


def _pair(value: Any) -> tuple[float, float]:
    first, second = value
    return float(first), float(second)


def _colour(value: Any) -> Colour:
    red, green, blue = value
    return int(red), int(green), int(blue)


def _texts(value: Any) -> tuple[tuple[str, str], ...]:
    return tuple((str(name), str(text)) for name, text in value)


def _axis_scale(value: Any) -> AxisScale:
    letter, name, unit, step, origin = value
    return AxisScale(str(letter), str(name), None if unit is None else str(unit), float(step), float(origin))


_CONVERTERS: dict[str, Callable[[Any], Any]] = {
    "pixel_size": _pair,
    "z_spacing": float,
    "unit": str,
    "channel_names": lambda value: tuple(map(str, value)),
    "channel_colors": lambda value: tuple(map(_colour, value)),
    "bit_depth": int,
    "display_ranges": lambda value: tuple(map(_pair, value)),
    "acquisition": _texts,
    "time_step_s": float,
    "orientation": int,
    "screen_dpi": _pair,
    "name": str,
    "scales": lambda value: tuple(map(_axis_scale, value)),
    "made_by": _texts,
}


Acquisition = tuple[tuple[str, str], ...]
"""Pairs of a name and a text."""

_LONGEST_TEXT = 20_000
_TAGS = {"make": 271, "model": 272, "artist": 315, "copyright": 33432}
_DESCRIPTION_TAG, _DATE_TAG = 270, 306
_ISO_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d:\d\d:\d\d)")
_TIFF_DATE = re.compile(r"(\d{4}):(\d\d):(\d\d) (\d\d:\d\d:\d\d)")


def _known(found: dict[str, str | None]) -> Acquisition:
    cleaned = ((name, (text or "").strip(" \0\n")[:_LONGEST_TEXT]) for name, text in found.items())
    return tuple((name, text) for name, text in cleaned if text)


def from_tiff_tags(page: tifffile.TiffPage) -> Acquisition:
    """What the baseline tags of a TIFF say; its description only where people wrote it."""
    found: dict[str, str | None] = {"date": _iso_date(_tag(page, _DATE_TAG))}
    description = _tag(page, _DESCRIPTION_TAG)
    if not description.startswith(("{", "<", "ImageJ=")):
        found["description"] = description
    return _known(found | {name: _tag(page, code) for name, code in _TAGS.items()})


def _tag(page: tifffile.TiffPage, code: int) -> str:
    value = page.tags.valueof(code, "")
    return value if isinstance(value, str) else ""


def _iso_date(text: str) -> str:
    return _TIFF_DATE.sub(r"\1-\2-\3T\4", text) if _TIFF_DATE.fullmatch(text.strip(" \0")) else text


def from_ome(root: Element, image: Element) -> Acquisition:
    """What OME-XML says about an image, and the first microscope and objective of the file."""
    return _known(
        {
            "date": image.findtext("{*}AcquisitionDate"),
            "description": image.findtext("{*}Description"),
            "make": _attributes(root.find("{*}Instrument/{*}Microscope"), "Manufacturer"),
            "model": _attributes(root.find("{*}Instrument/{*}Microscope"), "Model"),
            "objective": _attributes(
                root.find("{*}Instrument/{*}Objective"), "Model", "NominalMagnification", "LensNA", "Immersion"
            ),
        }
    )


def _attributes(element: Element | None, *names: str) -> str:
    """The values of one attribute, or those of several with their names."""
    if element is None:
        return ""
    if len(names) == 1:
        return element.get(names[0], "")
    return ", ".join(f"{name} {element.get(name)}" for name in names if element.get(name))


def from_imagej(fields: dict[str, Any]) -> Acquisition:
    """The text that ImageJ shows as the image's info."""
    info = fields.get("Info")
    return _known({"info": info if isinstance(info, str) else None})


def time_step(value: object, unit: object) -> float | None:
    """Seconds between neighbouring images along T, None where unknown."""
    with suppress(TypeError, ValueError):
        seconds = in_seconds(float(str(value)), standard_unit(str(unit or "s")) or "")
        return seconds if seconds is not None and seconds > 0 else None
    return None


def to_tiff_tags(acquisition: Acquisition) -> list[tuple[int, str, int, str]]:
    """Number, type, count and value of the baseline tags; the description is left to the format."""
    known = dict(acquisition)
    tags = [
        (code, "s", 0, known[name]) for name, code in _TAGS.items() if known.get(name, "").isascii() and name in known
    ]
    date = _ISO_DATE.match(known.get("date", ""))
    return [*tags, (_DATE_TAG, "s", 0, "{}:{}:{} {}".format(*date.groups()))] if date else tags


def to_ome(acquisition: Acquisition) -> dict[str, str]:
    """Elements of an OME image: AcquisitionDate, Description."""
    known = dict(acquisition)
    elements = {"Description": known["description"]} if "description" in known else {}
    return elements | ({"AcquisitionDate": known["date"]} if _ISO_DATE.fullmatch(known.get("date", "")) else {})


_SPARE_LETTERS = "QPRABDEFGH"


def sorted_leading(letters: str, lengths: Sequence[int]) -> list[int]:
    """Positions of the axes that are neither C, S, Y nor X and longer than 1, in the order of this project."""
    leading = [i for i, letter in enumerate(letters) if letter not in "CSYX" and lengths[i] > 1]
    return sorted(leading, key=lambda i: "TZ".find(letters[i]))


def distinct(letters: str) -> str:
    """Replace repeated letters, so that each names one axis."""
    result = ""
    for letter in letters:
        spare = (other for other in _SPARE_LETTERS if other not in result and other not in letters)
        result += next(spare) if letter in result else letter
    return result


def time_and_depth(leading: str) -> str:
    """Leading axes as the T and Z that OME and ImageJ know; another axis takes the place of a missing one."""
    result = leading
    for letter in leading:
        if letter not in "TZ":
            result = result.replace(letter, "Z" if "Z" not in result else "T", 1)
    return result
