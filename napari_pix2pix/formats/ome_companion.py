"""OME metadata in a file of its own (``.companion.ome``), beside the TIFF files that hold the pixels."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from napari_pix2pix.formats.tiff import TiffSource, open_tiff
from pix2pix_training.errors import ImageError

NAME = "ome-companion"
SUFFIXES: tuple[str, ...] = ()
SIGNATURES = (b"<?xml", b"<OME")
WRITTEN_AS = "ome-tiff"

_LARGEST_BYTES = 200 << 20


def open_source(path: Path) -> TiffSource:
    """Open the image that an OME-XML file describes.

    Raises
    ------
    ImageError
        It is no OME-XML, names no file with pixels, or one that is missing or not beside it.
    """
    if path.stat().st_size > _LARGEST_BYTES:
        raise ImageError(f"{path} is too large for OME metadata ({_LARGEST_BYTES >> 20} MiB are allowed)")
    xml = path.read_text(encoding="utf-8")
    root = ElementTree.fromstring(xml)
    if not root.tag.endswith("}OME"):
        raise ImageError(f"{path} is XML, but no OME metadata")
    names = (uuid.get("FileName") for uuid in root.iterfind("{*}Image/{*}Pixels/{*}TiffData/{*}UUID"))
    first = next((name for name in names if name), None)
    if first is None:
        raise ImageError(f"{path} names no TIFF file with the pixels; open the TIFF instead")
    if Path(first).name != first or "\\" in first or not path.with_name(first).is_file():
        raise ImageError(f"{path} describes {first}, which is missing beside it; put all files in one folder")
    return open_tiff(path, path.with_name(first), xml)
