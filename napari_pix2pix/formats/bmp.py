"""BMP: read by Pillow, and written as PNG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL.BmpImagePlugin import BmpImageFile
from PIL.Image import Image

from napari_pix2pix.formats.metadata import ImageMetadata, resolution_fields
from napari_pix2pix.formats.raster import RasterSource, channels_first
from pix2pix_training.array_source import AnyArray

NAME = "bmp"
SUFFIXES = (".bmp",)
SIGNATURES = (b"BM",)
WRITTEN_AS = "png"


def open_source(path: Path) -> RasterSource:
    """Open a BMP file: 1-bit images are bool, palettes stay indices."""
    with path.open("rb") as file, BmpImageFile(file) as image:
        mode = image.mode
        width, height = image.size
        palette = _palette(image)
        x, y = image.info.get("dpi", (0, 0))
    channels = 3 if mode in ("RGB", "RGBA") else 1
    resolution = resolution_fields((y, x)) if x > 0 and y > 0 else {}
    return RasterSource(
        path,
        lambda: _decode(path)[:channels],
        shape=(channels, height, width),
        dtype=np.dtype(np.bool_ if mode == "1" else np.uint8),
        metadata=ImageMetadata(file_format=NAME, rgb=channels == 3, **resolution),
        palette=palette,
    )


def _palette(image: Image) -> NDArray[np.uint8] | None:
    if image.mode != "P":
        return None
    return np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)


def _decode(path: Path) -> AnyArray:
    with path.open("rb") as file, BmpImageFile(file) as image:
        return channels_first(np.asarray(image))
