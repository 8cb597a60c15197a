"""PNG: by Pillow; colours of 16 bits, which Pillow reduces to 8, and transparent colours by imagecodecs."""

from __future__ import annotations

import json
import logging
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile, PngInfo

from napari_pix2pix.formats.metadata import (
    METADATA_KEY,
    ImageMetadata,
    dots_per_inch,
    is_grey_ramp,
    resolution_fields,
    to_record,
)
from napari_pix2pix.formats.opacity import from_opacity
from napari_pix2pix.formats.raster import (
    RasterSource,
    channels_first,
    collected,
    encoded,
    exif_of,
    is_sideways,
    own_metadata,
    read_orientation,
    say_colour_profile,
    say_frames,
    single_plane_reason,
    upright,
    with_palette,
)
from napari_pix2pix.formats.writing import OutputSpec, Steps, Tile
from pix2pix_training.array_source import AnyArray
from pix2pix_training.errors import ImageError
from pix2pix_training.invalid_pixels import OPAQUE

NAME = "png"
SUFFIXES = (".png",)
LOSES = ("place", "origin", "steps", "white")
SIGNATURES = (b"\x89PNG\r\n\x1a\n",)

logger = logging.getLogger(__name__)

_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGB_ALPHA = 0, 2, 3, 4, 6
_CHANNELS = {_GREY: 1, _RGB: 3, _PALETTE: 1, _GREY_ALPHA: 1, _RGB_ALPHA: 3}
_LONGEST_EXIF = 1 << 20
_SRGB_GAMMA = 0.45455
_HEADER_END = len(SIGNATURES[0]) + 25
_METRES_PER_INCH = 0.0254


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """How pixels are stored; `opacity` has the alpha of each colour of a palette, empty where all are opaque."""

    bits: int
    colours: int
    transparent: bool
    opacity: NDArray[np.uint8]
    orientation: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the decoded pixels: bool for 1-bit grey, uint16 for 16 bits, else uint8."""
        if self.bits == 1 and self.colours == _GREY:
            return np.dtype(np.bool_)
        return np.dtype(np.uint16 if self.bits == 16 else np.uint8)


def open_source(path: Path) -> RasterSource:
    """Open a PNG file, turned upright as its EXIF orientation says.

    1-bit grey is bool, 2- and 4-bit grey are scaled to 8 bits, palettes stay indices, alpha is the last
    channel, of a palette the opacity of pixels. Of an animation it is the first frame.

    Raises
    ------
    ImageError
        The file ends before its last chunk, or its header is damaged.
    """
    with path.open("rb") as file:
        bits, colours = _checked_header(path, file)
        orientation = read_orientation(_exif(path, file))
        file.seek(0)
        with PngImageFile(file) as image:
            say_frames(path, image)
            _say_colours(path, image)
            kind = _kind(image, bits, colours, orientation)
            width, height = image.size
            palette = _palette(path, image) if colours == _PALETTE else None
            metadata = _metadata(image, is_sideways(orientation))
    size = (width, height) if is_sideways(orientation) else (height, width)
    has_alpha = kind.transparent and colours != _PALETTE
    source = RasterSource(
        path,
        lambda: _decode(path, kind),
        shape=(_CHANNELS[colours] + has_alpha, *size),
        dtype=kind.dtype,
        metadata=replace(metadata, rgb=colours in (_RGB, _RGB_ALPHA), file_format=NAME),
        palette=palette,
        masked=kind.transparent and colours == _PALETTE,
    )
    source.alpha = "certain" if has_alpha else "none"
    return source


def _checked_header(path: Path, file: BinaryIO) -> tuple[int, int]:
    """Bits of a sample, and kind of colours."""
    header = file.read(_HEADER_END)
    if len(header) < _HEADER_END:
        raise ImageError(f"{path} is cut short within its header; copy it again")
    width, height, bits, colours = struct.unpack(">IIBB", header[16:26])
    if colours not in _CHANNELS or bits not in (1, 2, 4, 8, 16) or not width or not height:
        raise ImageError(f"{path} is damaged: its header declares {width} x {height} pixels of {bits} bits ({colours})")
    return bits, colours


def _exif(path: Path, file: BinaryIO) -> bytes | None:
    """Pillow finds what stands before the pixels; many programs write it behind. Also proves that the file is whole."""
    found = None
    for name, length in _chunks(path, file):
        if name == b"eXIf" and length <= _LONGEST_EXIF:
            found = b"Exif\0\0" + file.read(length)
    return found


def _chunks(path: Path, file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Name and length of each chunk behind the header; the file stands at its content."""
    file.seek(0, 2)
    size = file.tell()
    end = _HEADER_END
    name = b""
    while name != b"IEND":
        file.seek(end)
        beginning = file.read(8)
        length, name = struct.unpack(">I4s", beginning) if len(beginning) == 8 else (size, b"")
        end += length + 12
        if end > size:
            raise ImageError(f"{path} is cut short: it has {size} bytes, and more are to follow; copy it again")
        yield name, length


def _say_colours(path: Path, image: PngImageFile) -> None:
    say_colour_profile(path, image.info.get("icc_profile"))
    gamma = image.info.get("gamma")
    if gamma and not {"srgb", "icc_profile"} & image.info.keys() and abs(gamma - _SRGB_GAMMA) > 0.01:
        logger.warning(
            "%s declares a gamma of %.3g, which is not applied: values are used as they are stored", path, gamma
        )


def _kind(image: PngImageFile, bits: int, colours: int, orientation: int) -> _Kind:
    transparency = image.info.get("transparency")
    is_mask = colours == _GREY and bits == 1  # has two values, both used
    return _Kind(
        bits=bits,
        colours=colours,
        transparent=colours in (_GREY_ALPHA, _RGB_ALPHA) or (transparency is not None and not is_mask),
        opacity=_opacity(transparency) if colours == _PALETTE else np.zeros(0, np.uint8),
        orientation=orientation,
    )


def _opacity(transparency: bytes | int | None) -> NDArray[np.uint8]:
    """For every index; those that the file does not list are opaque."""
    if transparency is None:
        return np.zeros(0, np.uint8)
    alphas = b"\xff" * transparency + b"\0" if isinstance(transparency, int) else transparency
    return np.frombuffer(alphas[:256].ljust(256, b"\xff"), np.uint8)


def _palette(path: Path, image: PngImageFile) -> NDArray[np.uint8] | None:
    colours = b"" if image.palette is None else bytes(image.palette.palette)
    if not colours or len(colours) % 3:
        raise ImageError(f"{path} is damaged: its palette is missing or incomplete")
    palette = np.frombuffer(colours, np.uint8).reshape(-1, 3).copy()
    return None if is_grey_ramp(palette) else palette


def _metadata(image: PngImageFile, sideways: bool) -> ImageMetadata:
    """From the text that this program writes where there is one, else from the physical pixel size."""
    text = image.info.get(METADATA_KEY)
    if isinstance(text, str) and (own := own_metadata(text, sideways=sideways)) is not None:
        return own
    x, y = image.info.get("dpi", (0, 0))
    return ImageMetadata(**resolution_fields((x, y) if sideways else (y, x))) if x > 0 and y > 0 else ImageMetadata()


def _decode(path: Path, kind: _Kind) -> AnyArray:
    transparent_colour = kind.transparent and kind.colours in (_GREY, _RGB)
    if transparent_colour or (kind.bits == 16 and kind.colours != _GREY):
        pixels = channels_first(imagecodecs.png_decode(path.read_bytes()))
    else:
        with path.open("rb") as file, PngImageFile(file) as image:
            pixels = channels_first(np.asarray(image))
    if kind.transparent and kind.colours == _PALETTE:
        pixels = np.concatenate([pixels, kind.opacity[pixels]])
    return upright(pixels, kind.orientation)


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


def write(path: Path, spec: OutputSpec, tiles: Iterable[Tile]) -> Steps:
    """Write a file that does not exist yet; `spec` has been checked to fit the format."""
    samples = yield from collected(spec, tiles)
    if spec.masked:
        _write_masked(path, spec, samples)
    else:
        _write(path, spec, samples)


def _write_masked(path: Path, spec: OutputSpec, samples: AnyArray) -> None:
    """Samples (Y, X, channels and opacity); alpha is left out where all pixels are opaque.

    A palette gets one more colour for the pixels that are fully transparent; it cannot hold others that are so in part.
    Black and white become grey.
    """
    pixels, alpha = samples[..., :-1], samples[..., -1]
    pixels = pixels[..., 0] if spec.channels == 1 else pixels
    if (alpha == from_opacity(np.uint8(OPAQUE), spec.dtype)).all():
        _write(path, spec, np.ascontiguousarray(pixels))
    elif spec.palette is not None:
        transparent = len(spec.palette)
        palette = np.concatenate([spec.palette, np.zeros((1, 3), np.uint8)])
        indices = np.where(alpha == 0, np.uint8(transparent), pixels)
        _write(path, replace(spec, palette=palette), indices, transparency=b"\xff" * transparent + b"\0")
    else:
        grey = samples.astype(np.uint8) * np.uint8(255) if spec.dtype == np.bool_ else samples
        _write(path, spec, grey)


def _write(path: Path, spec: OutputSpec, pixels: AnyArray, transparency: bytes | None = None) -> None:
    """Pixels (Y, X) or (Y, X, samples)."""
    record = to_record(spec.metadata)
    text = json.dumps(record) if record else ""
    if pixels.dtype == np.uint16 and pixels.ndim == 3:
        path.write_bytes(_sixteen_bits(spec.metadata, pixels, text))
        return
    image = with_palette(pixels, spec)
    info = PngInfo()
    if text:
        info.add_itxt(METADATA_KEY, text)
    resolution = dots_per_inch(spec.metadata)
    options = {
        "exif": exif_of(spec.metadata),
        "dpi": resolution and resolution[::-1] if _fits(resolution) else None,
        "transparency": transparency,
    }
    given = {name: value for name, value in options.items() if value is not None}
    path.write_bytes(encoded(image, "PNG", pnginfo=info, **given))


def _fits(resolution: tuple[float, float] | None) -> bool:
    return resolution is not None and all(1 <= dots / _METRES_PER_INCH < 2**31 for dots in resolution)


def _sixteen_bits(metadata: ImageMetadata, pixels: AnyArray, text: str) -> bytes:
    """Chunks that imagecodecs does not write are put behind the header."""
    largest = pixels.nbytes + 2 * len(pixels) + 4096  # what small images take is underestimated otherwise
    encoded = bytes(imagecodecs.png_encode(pixels, out=largest))
    extra = b""
    if (resolution := dots_per_inch(metadata)) and _fits(resolution):
        y, x = (round(dots / _METRES_PER_INCH) for dots in resolution)
        extra += _chunk(b"pHYs", struct.pack(">IIB", x, y, 1))
    if (exif := exif_of(metadata)) is not None:
        extra += _chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    if text:
        extra += _chunk(b"iTXt", METADATA_KEY.encode() + b"\0\0\0\0\0" + text.encode())
    return encoded[:_HEADER_END] + extra + encoded[_HEADER_END:]


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
