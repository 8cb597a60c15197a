"""OME-XML, in a TIFF or in a file beside it: what it declares is checked before anything acts on it, then read.

tifffile would open files outside the folder, fill what is missing with zeros, and build a list as long as a damaged
header says. Elements are found here as tifffile finds them: by the end of their names, whatever their namespace.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf, prod
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from napari_pix2pix.formats.metadata import METADATA_KEY, Colour, ImageMetadata, from_ome, from_record, time_step
from napari_pix2pix.formats.source import MAX_PLANES, shown
from napari_pix2pix.formats.units import convert_length, standard_unit
from pix2pix_training.errors import ImageError

LARGEST_BYTES = 64 << 20
_MOST_TAGS = 2_000_000
_FORBIDDEN = ("<!DOCTYPE", "<!ENTITY")
_SHOWN = 40
_SIZES = frozenset(f"Size{axis}" for axis in "XYZCT")
_COUNTS = frozenset(("PlaneCount", "NumPlanes", "IFD", "FirstT", "FirstZ", "FirstC", "SamplesPerPixel"))


@dataclass(frozen=True, eq=False)
class OmeXml:
    """A document of OME-XML, and the names of the files besides its own that it describes, sorted."""

    root: Element
    files: tuple[str, ...]


def parsed_ome(path: Path, xml: str | None) -> OmeXml | None:
    """The OME-XML of the file `path`, or None where it has none, or none that is well-formed.

    Raises
    ------
    ImageError
        See `parsed_xml`.
    """
    root = parsed_xml(path, xml)
    return None if root is None else OmeXml(root, _files(path, root))


def parsed_xml(path: Path, xml: str | None) -> Element | None:
    """The root of an XML text, or None where it is none or is malformed.

    Raises
    ------
    ImageError
        It is larger than any real one, or defines entities, which can make a small text huge.
    """
    if not xml:
        return None
    if len(xml) > LARGEST_BYTES or xml.count("<") > _MOST_TAGS:
        raise ImageError(f"{path} holds more metadata than any real image (over {LARGEST_BYTES >> 20} MiB of XML)")
    if any(word in xml for word in _FORBIDDEN):
        raise ImageError(f"{path} holds XML that defines entities, which OME metadata never does; it is not read")
    try:
        return ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return None


def children(element: Element, name: str) -> Iterator[Element]:
    """The children whose names end so, as tifffile takes them."""
    for child in element:
        if child.tag.endswith(name):
            yield child


def pixels_of(root: Element) -> Iterator[tuple[Element, Element]]:
    """Each image with its pixels."""
    for image in children(root, "Image"):
        for pixels in children(image, "Pixels"):
            yield image, pixels


def number_of(element: Element, name: str, default: int = 1) -> int:
    """An attribute as `int` reads it ("+1_000" is a number too), or the default where it is none."""
    try:
        return int(element.get(name, default))
    except ValueError:
        return default


def check_sizes(path: Path, root: Element) -> None:
    """Refuse more planes than are allowed, in all images together, and sizes that are no numbers.

    Raises
    ------
    ImageError
        There are more than `MAX_PLANES`, or as many labels along an axis; or a size is no number.
    """
    for _, pixels in pixels_of(root):
        _check_numbers(path, pixels, _SIZES)
        for child in pixels:
            _check_numbers(path, child, _COUNTS)
    most = sum(_declared_planes(pixels) for _, pixels in pixels_of(root))
    for extensions in children(root, "StructuredAnnotations"):
        most = max(most, max(map(_modulo_labels, extensions.iter())))
    if most > MAX_PLANES:
        raise ImageError(f"{path} declares {shown(most)} planes; at most {MAX_PLANES} are allowed")


def _check_numbers(path: Path, element: Element, names: frozenset[str]) -> None:
    for name in sorted(names.intersection(element.keys())):
        try:
            int(element.get(name, ""))
        except ValueError:
            raise ImageError(
                f"{path} is damaged: its OME-XML says {name}={element.get(name, '')[:_SHOWN]!r}, which is no number; "
                "export it again"
            ) from None


def _declared_planes(pixels: Element) -> int:
    most = max(prod(abs(number_of(pixels, f"Size{axis}")) for axis in "TZC"), 1)
    for child in pixels:
        for name in _COUNTS.intersection(child.keys()):
            most = max(most, abs(number_of(child, name)))
    return most


def _modulo_labels(element: Element) -> int:
    """How many labels an extension of the axes declares by its first, last and step."""
    with suppress(ValueError, ZeroDivisionError, OverflowError, KeyError):
        step = float(element.get("Step", 1))
        return int((float(element.attrib["End"]) - float(element.attrib["Start"])) / step) + 1
    return 0


def check_files(path: Path, document: OmeXml) -> None:
    """Refuse other files of the image that are missing or not beside it.

    Raises
    ------
    ImageError
        Says which.
    """
    for name in document.files:
        if Path(name).name != name or "\\" in name:
            raise ImageError(f"{path} refers to {name}, outside its own folder; put all files in one folder")
        if not path.with_name(name).is_file():
            raise ImageError(f"{path} is one of several files of an image; {name} is missing beside it, add it")


def _files(path: Path, root: Element) -> tuple[str, ...]:
    found = {
        file_of(path, root, data) for _, pixels in pixels_of(root) for data in pixels if data.tag.endswith("TiffData")
    }
    return tuple(sorted(name for name in found if name is not None))


def file_of(path: Path, root: Element, data: Element) -> str | None:
    """The file with the planes of a TiffData element; None for `path` itself."""
    for uuid in data:
        if uuid.tag.endswith("UUID"):
            name = uuid.get("FileName", "")
            own = uuid.text == root.get("UUID") or name.lower() == path.name.lower()
            return None if own else name
    return None


def whole_image(root: Element) -> str | None:
    """The file that describes all of the image, where this one says that it does not."""
    pointer = next(children(root, "BinaryOnly"), None)
    return None if pointer is None else pointer.get("MetadataFile", "another file")


def describes(element: tuple[Element, Element], name: str, height: int, width: int) -> bool:
    """Whether an image of `pixels_of` can be the one of this name (as far as both have one) and size."""
    image, pixels = element
    named = not name or not image.get("Name") or image.get("Name") == name
    return named and (number_of(pixels, "SizeY"), number_of(pixels, "SizeX")) == (height, width)


def read_metadata(root: Element, image: Element, pixels: Element, dtype_bits: int) -> ImageMetadata:
    """What the XML says of one image; `dtype_bits` of an integer type, 0 of others."""
    if record := own_record(root):
        return replace(from_record(record), file_format="ome-tiff")
    unit = standard_unit(pixels.get("PhysicalSizeXUnit", "µm"))
    x, y, z = (_physical_size(pixels, axis, unit) for axis in "XYZ")
    channels = list(children(pixels, "Channel"))
    return ImageMetadata(
        pixel_size=(y, x) if x is not None and y is not None else None,
        z_spacing=z,
        unit=unit if (x, y, z) != (None, None, None) else None,
        channel_names=_names(channels),
        channel_colors=_colours(channels),
        bit_depth=_significant_bits(pixels, dtype_bits),
        acquisition=from_ome(root, image),
        time_step_s=time_step(pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit")),
        file_format="ome-tiff",
    )


def own_record(root: Element) -> dict[str, Any]:
    """What this program wrote about its own image; empty for files of others."""
    for annotation in root.iterfind("{*}StructuredAnnotations/{*}MapAnnotation"):
        text = annotation.findtext("{*}Value/{*}M")
        if annotation.get("Namespace") == METADATA_KEY and text is not None:
            with suppress(ValueError, RecursionError):
                loaded = json.loads(text)
                return loaded if isinstance(loaded, dict) else {}
    return {}


def _physical_size(pixels: Element, axis: str, unit: str | None) -> float | None:
    with suppress(ValueError):
        size = float(pixels.get(f"PhysicalSize{axis}", ""))
        own_unit = standard_unit(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        if 0 < size < inf and unit is not None and own_unit is not None:
            return convert_length(size, own_unit, unit)
    return None


def _significant_bits(pixels: Element, dtype_bits: int) -> int | None:
    bits = number_of(pixels, "SignificantBits", 0)
    return bits if 0 < bits < dtype_bits else None


def _names(channels: list[Element]) -> tuple[str, ...]:
    names = tuple(channel.get("Name", "") for channel in channels)
    return names if any(names) else ()


def _colours(channels: list[Element]) -> tuple[Colour, ...]:
    """OME stores red, green, blue and alpha as one signed number, white where there is none."""
    if not any("Color" in channel.attrib for channel in channels):
        return ()
    return tuple(_colour(number_of(channel, "Color", -1) & 0xFFFFFFFF) for channel in channels)


def _colour(number: int) -> Colour:
    return number >> 24, (number >> 16) & 255, (number >> 8) & 255
