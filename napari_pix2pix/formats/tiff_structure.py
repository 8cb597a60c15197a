"""What a TIFF file is made of: its chain of pages, its metadata in XML, the files of its set, the images in it.

Whatever would make tifffile take much memory, open files elsewhere or read a file cut short as if it were whole is
refused before tifffile acts on it.
"""

from __future__ import annotations

import logging
import struct
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree.ElementTree import Element

import tifffile

from napari_pix2pix.formats import micromanager, ome_xml
from napari_pix2pix.formats.ome_xml import OmeXml
from napari_pix2pix.formats.source import MAX_PLANES, shown
from pix2pix_training.errors import ImageError

logger = logging.getLogger(__name__)

_SCANNER_KINDS = ("lsm", "svs", "scn", "qpi", "ndpi", "bif", "avs", "philips", "indica", "eer", "mdgel")
"""Files of these hold one image; what else is in them are its thumbnail, its label and the like."""


def check_structure(path: Path, tif: tifffile.TiffFile) -> OmeXml | None:
    """Everything that can be checked before `TiffFile.series` is asked for; the OME-XML, where it is one.

    OME-XML that does not fit the pages is left out with a warning: some programs copy it to what they cut out.

    Raises
    ------
    ImageError
        Pages or files are missing, or more is declared than is allowed.
    """
    if not tif.pages:
        raise ImageError(f"{path} holds no image")
    check_page_chain(Path(tif.filehandle.path), tif)
    micromanager.check_micromanager(path, tif)
    document = ome_xml.parsed_ome(path, tif.ome_metadata)
    if document is None:
        return None
    if (whole := ome_xml.whole_image(document.root)) is not None:
        logger.warning("%s is one of several files of an image; open %s for all of it", path, whole)
    ome_xml.check_sizes(path, document.root)
    ome_xml.check_files(path, document)
    if (misfit := _misfit(path, tif, document.root)) is None:
        return document
    logger.warning(
        "%s: its OME metadata is of another image (%s) and is ignored: planes keep the order of the file", path, misfit
    )
    tif.is_ome = False
    return None


def _misfit(path: Path, tif: tifffile.TiffFile, root: Element) -> str | None:
    """How the size of an image differs from that of its first page, None where all are equal."""
    for _, pixels in ome_xml.pixels_of(root):
        data = next(ome_xml.children(pixels, "TiffData"), None)
        if data is None:
            continue
        name, page = ome_xml.file_of(path, root, data), ome_xml.number_of(data, "IFD", 0)
        if name is None:
            found = _page_size(tif, page)
        else:
            with tifffile.TiffFile(path.with_name(name)) as other:
                found = _page_size(other, page)
        declared = ome_xml.number_of(pixels, "SizeY"), ome_xml.number_of(pixels, "SizeX")
        if found is not None and found != declared:
            return f"{shown(*declared)} pixels, its page has {shown(*found)}"
    return None


def _page_size(tif: tifffile.TiffFile, index: int) -> tuple[int, int] | None:
    """Height and width, None where there is no such page."""
    try:
        page: Any = tif.pages.get(index)
    except IndexError:
        return None
    return int(page.imagelength), int(page.imagewidth)


def images_in(path: Path, tif: tifffile.TiffFile) -> list[tifffile.TiffPageSeries]:
    """The series that are images, and no smaller copies, masks, thumbnails or labels of others.

    Pages that are half as large as others but are not declared as copies are told of.
    """
    series = tif.series
    if series[0].kind in _SCANNER_KINDS:
        return series[:1]
    images = [one for one in series if not (one.keyframe.is_reduced or one.keyframe.is_mask)] or series[:1]
    for image in images:
        undeclared = [level for level in image.levels[1:] if image.kind == "generic" and not _is_copy(level.keyframe)]
        if undeclared:
            sizes = ", ".join(f"{level.keyframe.imagelength} x {level.keyframe.imagewidth}" for level in undeclared)
            logger.warning("%s: its pages of %s pixels are taken as smaller copies, and are not read", path, sizes)
    return images


def _is_copy(page: tifffile.TiffPage) -> bool:
    return bool(page.is_reduced or page.is_subifd)


def image_name(series: tifffile.TiffPageSeries) -> str:
    """What the file calls an image, "" where it does not."""
    return "" if series.name == "Baseline" else str(series.name or "")


def files_of_set(path: Path, tif: tifffile.TiffFile, document: OmeXml | None) -> tuple[Path, ...]:
    """The files of an image besides `path`."""
    own = micromanager.set_of(path, tif)
    if own or document is None:
        return tuple(file for file in own if file != path)
    return tuple(path.with_name(name) for name in document.files)


def check_page_chain(path: Path, tif: tifffile.TiffFile) -> None:
    """Refuse a file whose pages lead beyond its end or in a circle.

    Raises
    ------
    ImageError
        Pages are missing, or there are more than `MAX_PLANES`.
    """
    if tif.is_ndpi:  # 64-bit offsets in a 32-bit structure, which tifffile knows about
        return
    size = path.stat().st_size
    seen: set[int] = set()
    with path.open("rb") as file:
        offset = _first_page(file, tif)
        while offset:
            if offset in seen or len(seen) > MAX_PLANES:
                raise ImageError(f"{path} is damaged: its pages lead in a circle, or are more than {MAX_PLANES}")
            seen.add(offset)
            offset = _next_page(path, file, tif, offset, size)


def _first_page(file: BinaryIO, tif: tifffile.TiffFile) -> int:
    file.seek(8 if tif.is_bigtiff else 4)
    return _number(file, tif, "Q" if tif.is_bigtiff else "I")


def _next_page(path: Path, file: BinaryIO, tif: tifffile.TiffFile, offset: int, size: int) -> int:
    """Offset of the page after the one at `offset`, 0 for the last."""
    count_format, entry_bytes, link_format = ("Q", 20, "Q") if tif.is_bigtiff else ("H", 12, "I")
    try:
        file.seek(offset)
        entries = _number(file, tif, count_format)
        link = file.tell() + entries * entry_bytes
        if link >= size:
            raise struct.error
        file.seek(link)
        return _number(file, tif, link_format)
    except struct.error as error:
        raise ImageError(f"{path} is cut short: pages are missing at its end; copy it again") from error


def _number(file: BinaryIO, tif: tifffile.TiffFile, code: str) -> int:
    packed = struct.Struct(tif.byteorder + code)
    number: int = packed.unpack(file.read(packed.size))[0]
    return number
