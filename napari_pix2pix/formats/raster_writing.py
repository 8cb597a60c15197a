"""PNG and JPEG, collected in memory and encoded in one piece."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_pix2pix.formats.metadata import METADATA_KEY, convert_length, to_record
from napari_pix2pix.formats.png_header import SIGNATURE
from napari_pix2pix.formats.writing import OutputSpec, Tile
from pix2pix_training.array_source import AnyArray

_JPEG_QUALITY = 95
_HEADER_END = len(SIGNATURE) + 25
_COLOUR_TYPE_OFFSET = len(SIGNATURE) + 17
_PALETTE_TYPE = 3


def write(path: Path, spec: OutputSpec, tiles: Iterable[Tile], file_format: str) -> None:
    """Write a file that does not exist yet; `spec` has been checked to fit the format."""
    pixels = _collected(spec, tiles)
    encoded = _jpeg(spec, pixels) if file_format == "jpeg" else _png(spec, pixels)
    path.write_bytes(encoded)


def _collected(spec: OutputSpec, tiles: Iterable[Tile]) -> AnyArray:
    """Shape (Y, X) for one channel, else (Y, X, 3)."""
    image = np.empty((spec.height, spec.width, spec.channels), spec.dtype)
    for _, region, pixels in tiles:
        image[region.slices] = np.moveaxis(pixels, 0, -1)
    return image[..., 0] if spec.channels == 1 else image


def _jpeg(spec: OutputSpec, pixels: AnyArray) -> bytes:
    buffer = BytesIO()
    dpi = tuple(25_400 / size for size in reversed(_micrometres(spec) or ()))
    options = {"dpi": dpi} if dpi else {}
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0, **options)
    return buffer.getvalue()


def _micrometres(spec: OutputSpec) -> tuple[float, float] | None:
    """Pixel size (y, x)."""
    if spec.metadata.pixel_size is None or spec.metadata.unit is None:
        return None
    y, x = (convert_length(size, spec.metadata.unit, "µm") for size in spec.metadata.pixel_size)
    return None if y is None or x is None else (y, x)


def write_transparent_png(path: Path, spec: OutputSpec, pixels: AnyArray, alpha: AnyArray) -> None:
    """Write pixels of shape (C, Y, X), which fit `spec`, with their opacity, shape (Y, X).

    Alpha is scaled to the range of the pixels' type. A palette gets one more colour for the pixels that are fully
    transparent; it cannot hold others that are so in part.
    """
    if spec.palette is None:
        samples = np.moveaxis(np.concatenate([pixels, _rescaled(alpha, spec.dtype)[None]]), 0, -1)
        encoded = _png(spec, np.ascontiguousarray(samples))
    else:
        transparent = len(spec.palette)
        palette = np.concatenate([spec.palette, np.zeros((1, 3), np.uint8)])
        indices = np.where(alpha == 0, np.uint8(transparent), pixels[0])
        encoded = _png(replace(spec, palette=palette), indices, _chunk(b"tRNS", b"\xff" * transparent + b"\0"))
    path.write_bytes(encoded)


def _rescaled(alpha: AnyArray, dtype: np.dtype[Any]) -> AnyArray:
    scaled = alpha * (np.iinfo(dtype).max / np.iinfo(alpha.dtype).max)
    return np.rint(scaled).astype(dtype)


def _png(spec: OutputSpec, pixels: AnyArray, transparency: bytes = b"") -> bytes:
    encoded = _one_bit_png(pixels) if spec.dtype == np.bool_ else bytes(imagecodecs.png_encode(pixels))
    if spec.palette is not None:
        encoded = _with_palette_type(encoded)
    extra = b"".join(_extra_chunks(spec))
    return encoded[:_HEADER_END] + extra + transparency + encoded[_HEADER_END:]


def _one_bit_png(pixels: NDArray[np.bool_]) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _with_palette_type(grey: bytes) -> bytes:
    """An 8-bit grey PNG declared as indexed; the pixels are stored in the same way."""
    header = bytearray(grey[len(SIGNATURE) + 8 : _HEADER_END - 4])
    header[_COLOUR_TYPE_OFFSET - len(SIGNATURE) - 8] = _PALETTE_TYPE
    return grey[: len(SIGNATURE)] + _chunk(b"IHDR", bytes(header)) + grey[_HEADER_END:]


def _extra_chunks(spec: OutputSpec) -> Iterator[bytes]:
    """Physical size for other programs, the exact metadata for this one, then the palette."""
    size = _micrometres(spec)
    if size is not None and all(1 <= 1e6 / s < 2**31 for s in size):
        yield _chunk(b"pHYs", struct.pack(">IIB", round(1e6 / size[1]), round(1e6 / size[0]), 1))
    if record := to_record(spec.metadata):
        text = json.dumps(record).encode()
        yield _chunk(b"iTXt", METADATA_KEY.encode() + b"\0\0\0\0\0" + text)
    if spec.palette is not None:
        yield _chunk(b"PLTE", spec.palette.tobytes())


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
