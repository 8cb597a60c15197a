"""BMP, read and written by Pillow; where nobody asks for it, PNG takes its place in outputs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile

from napari_pix2pix.formats.metadata import ImageMetadata, dots_per_inch, resolution_fields
from napari_pix2pix.formats.raster import (
    RasterSource,
    channels_first,
    collected,
    eight_bit_reason,
    encoded,
    with_palette,
)
from napari_pix2pix.formats.writing import OutputSpec, Steps, Tile
from pix2pix_training.array_source import AnyArray

NAME = "bmp"
SUFFIXES = (".bmp",)
SIGNATURES = (b"BM",)
WRITTEN_AS = "png"
LOSES = ("place", "origin", "steps", "orientation", "white")


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


def _palette(image: Image.Image) -> NDArray[np.uint8] | None:
    if image.mode != "P":
        return None
    return np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)


def _decode(path: Path) -> AnyArray:
    with path.open("rb") as file, BmpImageFile(file) as image:
        return channels_first(np.asarray(image))


def incompatibility(spec: OutputSpec) -> str | None:
    """Why BMP cannot hold an image."""
    return eight_bit_reason(spec, "BMP")


def write(path: Path, spec: OutputSpec, tiles: Iterable[Tile]) -> Steps:
    """Write a file that does not exist yet; `spec` has been checked to fit the format."""
    image = with_palette((yield from collected(spec, tiles)), spec)
    resolution = dots_per_inch(spec.metadata)
    options: dict[str, Any] = {"dpi": resolution[::-1]} if resolution else {}
    path.write_bytes(encoded(image, "BMP", **options))
