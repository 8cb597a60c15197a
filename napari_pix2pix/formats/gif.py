"""GIF, read and written by Pillow: 256 colours, or grey."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.GifImagePlugin import GifImageFile

from napari_pix2pix.formats.metadata import ImageMetadata, is_grey_ramp
from napari_pix2pix.formats.raster import RasterSource, channels_first, collected, eight_bit_reason, say_frames
from napari_pix2pix.formats.writing import OutputSpec, Tile
from pix2pix_training.array_source import AnyArray

NAME = "gif"
SUFFIXES = (".gif",)
SIGNATURES = (b"GIF87a", b"GIF89a")
LOSES = ("place", "origin", "orientation", "pixel size")


def open_source(path: Path) -> RasterSource:
    """Open a GIF file: palettes stay indices, except a grey ramp; a transparent colour is no data.

    Of an animation it is the first frame.
    """
    with path.open("rb") as file, GifImageFile(file) as image:
        say_frames(path, image)
        width, height = image.size
        palette = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3) if image.mode == "P" else None
        transparent: int | None = image.info.get("transparency")
    return RasterSource(
        path,
        lambda: _decode(path, transparent),
        shape=(1, height, width),
        dtype=np.dtype(np.uint8),
        metadata=ImageMetadata(file_format=NAME),
        palette=None if palette is None or is_grey_ramp(palette) else palette,
        masked=transparent is not None,
    )


def _decode(path: Path, transparent: int | None) -> AnyArray:
    with path.open("rb") as file, GifImageFile(file) as image:
        indices = channels_first(np.asarray(image))
    if transparent is None:
        return indices
    return np.concatenate([indices, np.where(indices == transparent, 0, 255).astype(np.uint8)])


def incompatibility(spec: OutputSpec) -> str | None:
    """Why GIF cannot hold an image."""
    if spec.channels != 1:
        return f"GIF holds 256 colours, the image has {spec.channels} channels; use the format png"
    return eight_bit_reason(spec, "GIF")


def write(path: Path, spec: OutputSpec, tiles: Iterable[Tile], file_format: str) -> None:
    """Write a file that does not exist yet; `spec` has been checked to fit the format."""
    del file_format
    image = Image.fromarray(collected(spec, tiles))
    if spec.palette is not None:
        image.putpalette(spec.palette.tobytes())
    image.save(path, "GIF", optimize=False)  # which would number the colours anew
