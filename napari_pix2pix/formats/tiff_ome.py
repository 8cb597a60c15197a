"""Checks of what an OME-TIFF declares, made before tifffile acts on it; and the metadata it holds.

tifffile would open files outside the folder, fill what is missing with zeros, and build a list as long as a damaged
header says.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from math import prod
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import tifffile

from napari_pix2pix.formats.source import MAX_PLANES
from pix2pix_training.errors import ImageError

logger = logging.getLogger(__name__)


def check_ome(path: Path, tif: tifffile.TiffFile) -> None:
    """Refuse an OME-TIFF that names missing or foreign files, or declares absurd sizes.

    Raises
    ------
    ImageError
        Another file of the set is missing or not in the same folder, or there are too many planes.
    """
    root = parsed_xml(tif.ome_metadata)
    if root is None:
        return
    if (elsewhere := root.find("{*}BinaryOnly")) is not None:
        whole = elsewhere.get("MetadataFile", "another file")
        logger.warning("%s is one of several files of an image; open %s for all of it", path, whole)
    for pixels in root.iterfind("{*}Image/{*}Pixels"):
        _check_sizes(path, pixels)
    _check_files(path, root)


def companion_files(path: Path, tif: tifffile.TiffFile) -> tuple[Path, ...]:
    """The other files of the image that `path` is one of, or describes."""
    root = parsed_xml(tif.ome_metadata)
    return () if root is None else tuple(path.with_name(name) for name in sorted(set(_companions(path, root))))


def parsed_xml(xml: str | None) -> Element | None:
    """The root of an XML text, or None where it is none or is malformed."""
    try:
        return ElementTree.fromstring(xml) if xml else None
    except ElementTree.ParseError:
        return None


def _check_sizes(path: Path, pixels: Element) -> None:
    planes = prod(_count(pixels, f"Size{axis}") for axis in "TZC")
    listed = (_count(data, name) for data in pixels.iterfind("{*}TiffData") for name in _TIFF_DATA_COUNTS)
    most = max(planes, *listed, 1)
    if most > MAX_PLANES:
        raise ImageError(f"{path} declares {most} planes; at most {MAX_PLANES} are allowed")


_TIFF_DATA_COUNTS = ("PlaneCount", "NumPlanes", "IFD", "FirstT", "FirstZ", "FirstC")


def _count(element: Element, name: str) -> int:
    text = element.get(name, "1")
    return int(text) if text.isdecimal() else 1


def _check_files(path: Path, root: Element) -> None:
    for name in _companions(path, root):
        if Path(name).name != name or "\\" in name:
            raise ImageError(f"{path} refers to {name}, outside its own folder; put all files in one folder")
        if not path.with_name(name).is_file():
            raise ImageError(f"{path} is one of several files of an image; {name} is missing beside it, add it")


def _companions(path: Path, root: Element) -> Iterator[str]:
    """Names of the other files of the image."""
    own_uuid = root.get("UUID")
    for element in root.iterfind("{*}Image/{*}Pixels/{*}TiffData/{*}UUID"):
        name = element.get("FileName", "")
        if element.text != own_uuid and name.lower() != path.name.lower():
            yield name
