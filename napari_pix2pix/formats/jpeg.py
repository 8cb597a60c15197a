"""JPEG, read and written by Pillow."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from napari_pix2pix.formats.metadata import ImageMetadata, meaningful_pixel_size
from napari_pix2pix.formats.raster import RasterSource, channels_first, collected, micrometres, single_plane_reason
from napari_pix2pix.formats.writing import OutputSpec, Tile
from pix2pix_training.array_source import AnyArray
from pix2pix_training.errors import ImageError

NAME = "jpeg"
SUFFIXES = (".jpg", ".jpeg", ".jpe")
SIGNATURES = (b"\xff\xd8\xff",)

_LIMIT_PX = 65_500
_QUALITY = 95
_EXIF_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)
_MICROMETRES_PER_JFIF_UNIT = {1: 25_400.0, 2: 10_000.0}


def open_source(path: Path) -> RasterSource:
    """Open a JPEG file, turned upright as its EXIF orientation says; CMYK is refused."""
    with path.open("rb") as file, JpegImageFile(file) as image:
        channels = _channels(path, image)
        width, height = image.size
        sideways = image.getexif().get(_EXIF_ORIENTATION) in _SIDEWAYS
        metadata = ImageMetadata(
            file_format=NAME, rgb=channels == 3, **_physical(_jfif_pixel_size(image.info, sideways))
        )
    size = (width, height) if sideways else (height, width)
    return RasterSource(
        path, lambda: _decode(path), shape=(channels, *size), dtype=np.dtype(np.uint8), metadata=metadata
    )


def _channels(path: Path, image: Image.Image) -> int:
    if image.mode not in ("L", "RGB"):
        raise ImageError(f"{path} is a JPEG in {image.mode} colours; convert it to RGB or grey")
    return len(image.getbands())


def _decode(path: Path) -> AnyArray:
    with path.open("rb") as file, JpegImageFile(file) as image:
        return channels_first(np.asarray(ImageOps.exif_transpose(image)))


def _jfif_pixel_size(info: dict[str | tuple[int, int], Any], sideways: bool) -> tuple[float, float] | None:
    unit = _MICROMETRES_PER_JFIF_UNIT.get(info.get("jfif_unit", 0))
    x_density, y_density = info.get("jfif_density", (0, 0))
    if unit is None or x_density <= 0 or y_density <= 0:
        return None
    size = (unit / y_density, unit / x_density)
    return meaningful_pixel_size(size[::-1] if sideways else size)


def _physical(pixel_size: tuple[float, float] | None) -> dict[str, Any]:
    return {} if pixel_size is None else {"pixel_size": pixel_size, "unit": "µm"}


def incompatibility(spec: OutputSpec) -> str | None:
    """Why JPEG cannot hold an image."""
    if spec.dtype != np.uint8 or spec.palette is not None:
        kind = "a palette" if spec.palette is not None else str(spec.dtype)
        return f"JPEG cannot hold {kind}; use the format png or tiff"
    if max(spec.height, spec.width) > _LIMIT_PX:
        return f"JPEG holds at most {_LIMIT_PX} pixels per side; use the format tiff"
    return single_plane_reason(spec, "JPEG")


def write(path: Path, spec: OutputSpec, tiles: Iterable[Tile], file_format: str) -> None:
    """Write a file that does not exist yet; `spec` has been checked to fit the format."""
    del file_format
    dpi = tuple(25_400 / size for size in reversed(micrometres(spec.metadata) or ()))
    options = {"dpi": dpi} if dpi else {}
    image = Image.fromarray(collected(spec, tiles))
    image.save(path, "JPEG", quality=_QUALITY, subsampling=0, **options)
