"""The header of a PNG file, read without decoding a pixel; also proves that the file is complete."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from napari_pix2pix.formats.metadata import (
    METADATA_KEY,
    ImageMetadata,
    from_record,
    is_grey_ramp,
    meaningful_pixel_size,
)
from pix2pix_training.errors import ImageError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGB_ALPHA = 0, 2, 3, 4, 6
_CHANNELS = {_GREY: 1, _RGB: 3, _PALETTE: 1, _GREY_ALPHA: 1, _RGB_ALPHA: 3}
_KEPT_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"pHYs", b"iTXt")
_LONGEST_KEPT_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class PngHeader:
    """What the chunks before the pixels say; `channels` does not count alpha.

    `opacity` has the alpha of each colour of a palette, empty where all are opaque.
    """

    width: int
    height: int
    bits: int
    channels: int
    has_alpha: bool
    is_indexed: bool
    palette: NDArray[np.uint8] | None
    opacity: NDArray[np.uint8]
    metadata: ImageMetadata

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the decoded pixels: bool for 1-bit grey, uint16 for 16 bits, else uint8."""
        if self.bits == 1 and not self.is_indexed:
            return np.dtype(np.bool_)
        return np.dtype(np.uint16 if self.bits == 16 else np.uint8)


def read_png_header(path: Path) -> PngHeader:
    """Read the header of a PNG file.

    Raises
    ------
    ImageError
        The file ends before its last chunk, or its header is damaged.
    """
    with path.open("rb") as file:
        file.seek(len(SIGNATURE))
        chunks = dict(_kept_chunks(path, file))
    if len(chunks.get(b"IHDR", b"")) != 13:
        raise ImageError(f"{path} is damaged: a PNG file must begin with its header")
    return _header(path, chunks)


def _kept_chunks(path: Path, file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Names and contents of the chunks worth knowing, up to the end of the image; skips over the pixels."""
    size = path.stat().st_size
    name = b""
    while name != b"IEND":
        start = file.read(8)
        if len(start) < 8 or file.tell() + (length := int.from_bytes(start[:4])) + 4 > size:
            raise ImageError(f"{path} is cut short: the end of the image is missing; copy or download it again")
        name = start[4:]
        end = file.tell() + length + 4
        if name in _KEPT_CHUNKS and length <= _LONGEST_KEPT_CHUNK:
            yield name, file.read(length)
        file.seek(end)


def _header(path: Path, chunks: dict[bytes, bytes]) -> PngHeader:
    width, height, bits, kind = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    if kind not in _CHANNELS or bits not in (1, 2, 4, 8, 16) or not width or not height:
        raise ImageError(f"{path} is damaged: its header declares {width} x {height} pixels of {bits} bits ({kind})")
    transparency = b"" if kind == _GREY and bits == 1 else chunks.get(b"tRNS", b"")  # a mask has two values, both used
    return PngHeader(
        width=width,
        height=height,
        bits=bits,
        channels=_CHANNELS[kind],
        has_alpha=kind in (_GREY_ALPHA, _RGB_ALPHA) or bool(transparency),
        is_indexed=kind == _PALETTE,
        palette=_palette(path, chunks) if kind == _PALETTE else None,
        opacity=_opacity(transparency if kind == _PALETTE else b""),
        metadata=replace(_metadata(chunks), rgb=kind in (_RGB, _RGB_ALPHA), file_format="png"),
    )


def _palette(path: Path, chunks: dict[bytes, bytes]) -> NDArray[np.uint8] | None:
    colours = chunks.get(b"PLTE", b"")
    if not colours or len(colours) % 3:
        raise ImageError(f"{path} is damaged: its palette is missing or incomplete")
    palette = np.frombuffer(colours, dtype=np.uint8).reshape(-1, 3).copy()
    return None if is_grey_ramp(palette) else palette


def _opacity(alphas: bytes) -> NDArray[np.uint8]:
    """For every index; those that the file does not list are opaque."""
    return np.frombuffer(alphas.ljust(256, b"\xff"), np.uint8) if alphas else np.zeros(0, np.uint8)


def _metadata(chunks: dict[bytes, bytes]) -> ImageMetadata:
    """From the chunk that this program writes where there is one, else from the physical pixel size."""
    keyword, _, text = chunks.get(b"iTXt", b"").partition(b"\0")
    if keyword == METADATA_KEY.encode():
        return from_record(json.loads(text.split(b"\0")[-1]))
    size = _physical_size(chunks.get(b"pHYs", b""))
    return ImageMetadata() if size is None else ImageMetadata(pixel_size=size, unit="µm")


def _physical_size(content: bytes) -> tuple[float, float] | None:
    if len(content) != 9:
        return None
    x_per_metre, y_per_metre, unit = struct.unpack(">IIB", content)
    if unit != 1 or not x_per_metre or not y_per_metre:
        return None
    return meaningful_pixel_size((1e6 / y_per_metre, 1e6 / x_per_metre))
