"""OME metadata in a file of its own (``.companion.ome``), beside the TIFF files that hold the pixels."""

from __future__ import annotations

from pathlib import Path

from napari_pix2pix.formats import ome_xml
from napari_pix2pix.formats.tiff import TiffSource, open_tiff
from pix2pix_training.errors import ImageError

NAME = "ome-companion"
SUFFIXES: tuple[str, ...] = ()
READ_SUFFIXES = (".companion.ome",)
SIGNATURES = (b"<?xml", b"<OME")
WRITTEN_AS = "ome-tiff"


def open_source(path: Path) -> TiffSource:
    """Open the first image that an OME-XML file describes.

    Raises
    ------
    ImageError
        It is no OME-XML, names no file with pixels, or one that is missing or not beside it.
    """
    return open_series(path, 0)


def open_series(path: Path, number: int) -> TiffSource:
    """Open one of the images that an OME-XML file describes, counted from 0; see `open_source`."""
    xml = read_xml(path)
    document = ome_xml.parsed_ome(path, xml)
    if document is None:
        raise ImageError(f"{path} is damaged or cut short: its XML does not end as it begins; copy it again")
    if not document.root.tag.endswith("}OME"):
        raise ImageError(f"{path} is XML, but no OME metadata")
    if not document.files:
        raise ImageError(f"{path} names no TIFF file with the pixels; open the TIFF instead")
    first = document.files[0]
    if Path(first).name != first or "\\" in first or not path.with_name(first).is_file():
        raise ImageError(f"{path} describes {first}, which is missing beside it; put all files in one folder")
    return open_tiff(path, path.with_name(first), xml, number)


def members(path: Path) -> tuple[Path, ...]:
    """The file itself, and those that it describes."""
    document = ome_xml.parsed_ome(path, read_xml(path))
    return (path,) if document is None else (path, *(path.with_name(name) for name in document.files))


def read_xml(path: Path) -> str:
    """The text of the file, unless it is too large to be OME metadata.

    Raises
    ------
    ImageError
        It is too large.
    """
    if path.stat().st_size > ome_xml.LARGEST_BYTES:
        raise ImageError(f"{path} is too large for OME metadata ({ome_xml.LARGEST_BYTES >> 20} MiB are allowed)")
    return path.read_text(encoding="utf-8")
