"""GIF, read and written by Pillow: 256 colours, or grey. PNG takes its place unless an output is called so."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL.GifImagePlugin import GifImageFile

from napari_pix2pix.formats.metadata import FEWEST_GREYS, ImageMetadata
from napari_pix2pix.formats.raster import (
    RasterSource,
    channels_first,
    collected,
    eight_bit_reason,
    encoded,
    say_frames,
    with_palette,
)
from napari_pix2pix.formats.source import check_decode_budget
from napari_pix2pix.formats.writing import OutputSpec, Steps, Tile
from pix2pix_training.array_source import AnyArray

NAME = "gif"
SUFFIXES = (".gif",)
SIGNATURES = (b"GIF87a", b"GIF89a")
WRITTEN_AS = "png"
LOSES = ("place", "origin", "steps", "orientation", "pixel size", "white")

_LIMIT_PX = 65535


def open_source(path: Path) -> RasterSource:
    """Open a GIF file: palettes stay indices, except of greys, which are values; a transparent colour is no data.

    Of an animation it is the first frame.
    """
    with path.open("rb") as file, GifImageFile(file) as image:
        say_frames(path, image)
        width, height = image.size
        check_decode_budget(path, (height, width), np.dtype(np.uint8), "the image")  # colours come with the pixels
        palette = _palette(image)
        transparent: int | None = image.info.get("transparency")
    grey = palette is not None and _is_of_greys(palette)
    return RasterSource(
        path,
        lambda: _decode(path, palette[:, 0] if palette is not None and grey else None, transparent),
        shape=(1, height, width),
        dtype=np.dtype(np.uint8),
        metadata=ImageMetadata(file_format=NAME),
        palette=None if grey else palette,
        masked=transparent is not None,
    )


def _palette(image: GifImageFile) -> NDArray[np.uint8] | None:
    """Shape (colours, 3), as many as indices can name; None where pixels are grey values."""
    if image.mode != "P":
        return None
    colours = np.zeros((256, 3), np.uint8)
    known = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    colours[: len(known)] = known
    return colours


def _is_of_greys(palette: NDArray[np.uint8]) -> bool:
    """Whether colours, in any order, are shades: of few they are classes."""
    return bool((palette == palette[:, :1]).all()) and len(np.unique(palette[:, 0])) >= FEWEST_GREYS


def _decode(path: Path, greys: NDArray[np.uint8] | None, transparent: int | None) -> AnyArray:
    """Indices, or the grey values that they stand for; with the opacity where a colour is transparent."""
    with path.open("rb") as file, GifImageFile(file) as image:
        indices = channels_first(np.asarray(image))
    values = indices if greys is None else greys[indices]
    if transparent is None:
        return values
    return np.concatenate([values, np.where(indices == transparent, 0, 255).astype(np.uint8)])


def incompatibility(spec: OutputSpec) -> str | None:
    """Why GIF cannot hold an image."""
    if spec.channels != 1:
        return f"GIF holds 256 colours, the image has {spec.channels} channels; use the format png"
    if max(spec.height, spec.width) > _LIMIT_PX:
        return f"GIF holds at most {_LIMIT_PX} pixels per side; use the format png or tiff"
    return eight_bit_reason(spec, "GIF")


def write(path: Path, spec: OutputSpec, tiles: Iterable[Tile]) -> Steps:
    """Write a file that does not exist yet; `spec` has been checked to fit the format."""
    image = with_palette((yield from collected(spec, tiles)), spec)
    path.write_bytes(encoded(image, "GIF", optimize=False))  # which would number the colours anew
