"""When and with what an image was taken, as far as formats have fields for it, and their fields for it.

Kept as names and texts: "date" (ISO 8601), "description", "make", "model", "artist", "copyright", "objective", "info".
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element

from napari_pix2pix.formats.units import in_seconds, standard_unit

if TYPE_CHECKING:
    import tifffile

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
