"""The chain of pages of a TIFF, followed to its end.

A file that was cut short often lacks its last pages only; tifffile then reads the ones before as if they were all.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import tifffile

from napari_pix2pix.formats.source import MAX_PLANES
from pix2pix_training.errors import ImageError


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
