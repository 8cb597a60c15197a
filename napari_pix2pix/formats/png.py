"""PNG: decoded by Pillow, and by imagecodecs where it has 16 bits, because Pillow reduces colours to 8."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from napari_pix2pix.formats.metadata import METADATA_KEY, to_record
from napari_pix2pix.formats.opacity import from_opacity
from napari_pix2pix.formats.png_header import SIGNATURE, PngHeader, read_png_header
from napari_pix2pix.formats.raster import RasterSource, channels_first, collected, micrometres, single_plane_reason
from napari_pix2pix.formats.writing import OutputSpec, Tile
from pix2pix_training.array_source import AnyArray
from pix2pix_training.invalid_pixels import OPAQUE

NAME = "png"
SUFFIXES = (".png",)
SIGNATURES = (SIGNATURE,)

_HEADER_END = len(SIGNATURE) + 25
_COLOUR_TYPE_OFFSET = len(SIGNATURE) + 17
_PALETTE_TYPE = 3


def open_source(path: Path) -> RasterSource:
    """Open a PNG file.

    1-bit grey is bool, 2- and 4-bit grey are scaled to 8 bits, palettes stay indices, alpha is the
    last channel, of a palette the opacity of pixels.
    """
    header = read_png_header(path)
    has_alpha = header.has_alpha and not header.is_indexed
    source = RasterSource(
        path,
        lambda: _decode(path, header),
        shape=(header.channels + has_alpha, header.height, header.width),
        dtype=header.dtype,
        metadata=header.metadata,
        palette=header.palette,
        masked=header.has_alpha and header.is_indexed,
    )
    source.alpha = "certain" if has_alpha else "none"
    return source


def _decode(path: Path, header: PngHeader) -> AnyArray:
    if header.bits == 16 or (header.has_alpha and not header.is_indexed):  # makes alpha of a transparent colour
        return channels_first(imagecodecs.png_decode(path.read_bytes()))
    with path.open("rb") as file, PngImageFile(file) as image:
        pixels = channels_first(np.asarray(image))
    return np.concatenate([pixels, header.opacity[pixels]]) if header.has_alpha else pixels


def incompatibility(spec: OutputSpec) -> str | None:
    """Why PNG cannot hold an image."""
    if spec.dtype not in (np.uint8, np.uint16, np.bool_) or (spec.dtype == np.bool_ and spec.channels != 1):
        return f"PNG cannot hold {spec.channels} channels of {spec.dtype}; use the format tiff"
    if spec.palette is not None and (spec.dtype != np.uint8 or len(spec.palette) + spec.masked > 256):
        return "PNG holds palettes of at most 256 colours, with 8-bit indices; use the format tiff"
    return single_plane_reason(spec, "PNG")


def holds_mask(spec: OutputSpec) -> bool:
    """Alpha is one, of a palette a transparent colour."""
    return spec.palette is None or len(spec.palette) < 256


def write(path: Path, spec: OutputSpec, tiles: Iterable[Tile], file_format: str) -> None:
    """Write a file that does not exist yet; `spec` has been checked to fit the format."""
    del file_format
    pixels = collected(spec, tiles)
    path.write_bytes(_masked(spec, pixels) if spec.masked else _encoded(spec, pixels))


def _masked(spec: OutputSpec, samples: AnyArray) -> bytes:
    """Samples (Y, X, channels and opacity); alpha is left out where all pixels are opaque.

    A palette gets one more colour for the pixels that are fully transparent; it cannot hold others that are so in part.
    Black and white become grey.
    """
    pixels, alpha = samples[..., :-1], samples[..., -1]
    if spec.dtype == np.bool_ and not alpha.all():
        return _masked(replace(spec, dtype=np.dtype(np.uint8)), samples.astype(np.uint8) * np.uint8(255))
    pixels = pixels[..., 0] if spec.channels == 1 else pixels
    if (alpha == from_opacity(np.uint8(OPAQUE), spec.dtype)).all():
        return _encoded(spec, np.ascontiguousarray(pixels))
    if spec.palette is None:
        return _encoded(spec, samples)
    transparent = len(spec.palette)
    palette = np.concatenate([spec.palette, np.zeros((1, 3), np.uint8)])
    indices = np.where(alpha == 0, np.uint8(transparent), pixels)
    return _encoded(replace(spec, palette=palette), indices, _chunk(b"tRNS", b"\xff" * transparent + b"\0"))


def _encoded(spec: OutputSpec, pixels: AnyArray, transparency: bytes = b"") -> bytes:
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
    size = micrometres(spec.metadata)
    if size is not None and all(1 <= 1e6 / s < 2**31 for s in size):
        yield _chunk(b"pHYs", struct.pack(">IIB", round(1e6 / size[1]), round(1e6 / size[0]), 1))
    if record := to_record(spec.metadata):
        text = json.dumps(record).encode()
        yield _chunk(b"iTXt", METADATA_KEY.encode() + b"\0\0\0\0\0" + text)
    if spec.palette is not None:
        yield _chunk(b"PLTE", spec.palette.tobytes())


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
