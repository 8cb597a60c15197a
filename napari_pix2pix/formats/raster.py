"""PNG, JPEG and BMP: formats without chunks, decoded whole on the first read and kept.

Pillow decodes, by its plugin for the one format that the first bytes show. PNG of 16 bits goes through imagecodecs,
because Pillow reduces colours to 8 bits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.Image import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from napari_pix2pix.formats.metadata import ImageMetadata, meaningful_pixel_size
from napari_pix2pix.formats.png_header import PngHeader, read_png_header
from napari_pix2pix.formats.source import ImageSource, check_decode_budget, damage_reported
from pix2pix_training.array_source import AnyArray, Region
from pix2pix_training.errors import ImageError

logger = logging.getLogger(__name__)

_EXIF_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)
_MICROMETRES_PER_JFIF_UNIT = {1: 25_400.0, 2: 10_000.0}


class RasterSource(ImageSource):
    """An image that is decoded whole; `decode` gives shape (C, Y, X), its last channel is alpha where there is one."""

    decoded_whole = True

    def __init__(
        self,
        path: Path,
        decode: Callable[[], AnyArray],
        *,
        shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        metadata: ImageMetadata,
        palette: NDArray[np.uint8] | None = None,
        has_alpha: bool = False,
    ) -> None:
        check_decode_budget(path, shape, dtype, "an image")
        super().__init__(path, axes="CYX", shape=shape, dtype=dtype, metadata=metadata, palette=palette)
        self.has_alpha = has_alpha
        self._decode = decode
        self._pixels: AnyArray | None = None
        self._lock = Lock()
        self._warned = False

    def read_with_alpha(self, region: Region) -> tuple[AnyArray, AnyArray | None]:
        self._check(region, ())
        with damage_reported(self.path):
            samples = self._decoded()[(slice(None), *region.slices)].copy()
        return (samples[:-1], samples[-1]) if self.has_alpha else (samples, None)

    def _read(self, region: Region, plane: tuple[int, ...]) -> AnyArray:
        samples = self._decoded()
        if self.has_alpha and not self._warned:
            self._warned = True
            _warn_of_alpha(self.path, samples[-1])
        return samples[(slice(self.shape[0]), *region.slices)].copy()

    def _decoded(self) -> AnyArray:
        with self._lock:
            if self._pixels is None:
                self._pixels = self._decode_checked()
            return self._pixels

    def _decode_checked(self) -> AnyArray:
        pixels = self._decode()
        expected = (self.shape[0] + self.has_alpha, *self.shape[1:])
        if (pixels.shape, pixels.dtype) != (expected, self.dtype):
            raise ImageError(
                f"{self.path} is damaged: it decodes to {pixels.shape} of {pixels.dtype}, "
                f"its header says {expected} of {self.dtype}"
            )
        return pixels

    def close(self) -> None:
        with self._lock:
            self._pixels = None


def open_source(path: Path) -> RasterSource:
    """Open a PNG, JPEG or BMP file.

    PNG: 1-bit grey is bool, 2- and 4-bit grey are scaled to 8 bits, palettes stay indices, alpha is ignored (with a
    warning where it is not opaque). JPEG: turned upright as its EXIF orientation says; CMYK is refused.
    """
    with path.open("rb") as file:
        beginning = file.read(2)
    if beginning == b"\x89P":
        return _open_png(path)
    return _open_jpeg(path) if beginning == b"\xff\xd8" else _open_bmp(path)


def _open_png(path: Path) -> RasterSource:
    header = read_png_header(path)
    return RasterSource(
        path,
        lambda: _decode_png(path, header),
        shape=(header.channels, header.height, header.width),
        dtype=header.dtype,
        metadata=header.metadata,
        palette=header.palette,
        has_alpha=header.has_alpha,
    )


def _decode_png(path: Path, header: PngHeader) -> AnyArray:
    if header.bits == 16 or (header.has_alpha and not header.is_indexed):  # makes alpha of a transparent colour
        return _channels_first(imagecodecs.png_decode(path.read_bytes()))
    with path.open("rb") as file, PngImageFile(file) as image:
        pixels = _channels_first(np.asarray(image))
    return np.concatenate([pixels, header.opacity[pixels]]) if header.has_alpha else pixels


def _warn_of_alpha(path: Path, alpha: AnyArray) -> None:
    if alpha.min() < np.iinfo(alpha.dtype).max:
        logger.warning("%s is transparent in places; its alpha channel is ignored", path)


def _channels_first(pixels: AnyArray) -> AnyArray:
    """Shape (Y, X) or (Y, X, C) to (C, Y, X)."""
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0))


def _open_jpeg(path: Path) -> RasterSource:
    with path.open("rb") as file, JpegImageFile(file) as image:
        channels = _jpeg_channels(path, image)
        width, height = image.size
        sideways = image.getexif().get(_EXIF_ORIENTATION) in _SIDEWAYS
        metadata = ImageMetadata(
            file_format="jpeg", rgb=channels == 3, **_physical(_jfif_pixel_size(image.info, sideways))
        )
    size = (width, height) if sideways else (height, width)
    return RasterSource(
        path, lambda: _decode_jpeg(path), shape=(channels, *size), dtype=np.dtype(np.uint8), metadata=metadata
    )


def _jpeg_channels(path: Path, image: Image) -> int:
    if image.mode not in ("L", "RGB"):
        raise ImageError(f"{path} is a JPEG in {image.mode} colours; convert it to RGB or grey")
    return len(image.getbands())


def _decode_jpeg(path: Path) -> AnyArray:
    with path.open("rb") as file, JpegImageFile(file) as image:
        return _channels_first(np.asarray(ImageOps.exif_transpose(image)))


def _jfif_pixel_size(info: dict[str | tuple[int, int], Any], sideways: bool) -> tuple[float, float] | None:
    micrometres = _MICROMETRES_PER_JFIF_UNIT.get(info.get("jfif_unit", 0))
    x_density, y_density = info.get("jfif_density", (0, 0))
    if micrometres is None or x_density <= 0 or y_density <= 0:
        return None
    size = (micrometres / y_density, micrometres / x_density)
    return meaningful_pixel_size(size[::-1] if sideways else size)


def _physical(pixel_size: tuple[float, float] | None) -> dict[str, Any]:
    return {} if pixel_size is None else {"pixel_size": pixel_size, "unit": "µm"}


def _open_bmp(path: Path) -> RasterSource:
    with path.open("rb") as file, BmpImageFile(file) as image:
        mode = image.mode
        width, height = image.size
        palette = _bmp_palette(image)
    channels = 3 if mode in ("RGB", "RGBA") else 1
    return RasterSource(
        path,
        lambda: _decode_bmp(path)[:channels],
        shape=(channels, height, width),
        dtype=np.dtype(np.bool_ if mode == "1" else np.uint8),
        metadata=ImageMetadata(file_format="bmp", rgb=channels == 3),
        palette=palette,
    )


def _bmp_palette(image: Image) -> NDArray[np.uint8] | None:
    if image.mode != "P":
        return None
    return np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)


def _decode_bmp(path: Path) -> AnyArray:
    with path.open("rb") as file, BmpImageFile(file) as image:
        return _channels_first(np.asarray(image))
