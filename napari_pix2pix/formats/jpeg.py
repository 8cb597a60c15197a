"""JPEG, read and written by Pillow."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from napari_pix2pix.formats.metadata import (
    METADATA_KEY,
    ImageMetadata,
    dots_per_inch,
    resolution_fields,
    to_record,
)
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
    single_plane_reason,
    upright,
)
from napari_pix2pix.formats.writing import OutputSpec, Steps, Tile
from pix2pix_training.array_source import AnyArray
from pix2pix_training.errors import ImageError

NAME = "jpeg"
SUFFIXES = (".jpg", ".jpeg", ".jpe")
LOSES = ("place", "nodata", "origin", "steps", "white")
SIGNATURES = (b"\xff\xd8\xff",)

logger = logging.getLogger(__name__)

_LIMIT_PX = 65_500
_QUALITY = 95
_DOTS_PER_INCH = {1: 1.0, 2: 2.54}
"""By the unit of density in the file: dots per inch, per centimetre."""
_LARGEST_DENSITY = 65_535
_LONGEST_COMMENT = 60_000


def open_source(path: Path) -> RasterSource:
    """Open a JPEG file, turned upright as its EXIF orientation says; CMYK is refused."""
    with path.open("rb") as file, JpegImageFile(file) as image:
        if image.mode not in ("L", "RGB"):
            raise ImageError(f"{path} is a JPEG in {image.mode} colours; convert it to RGB or grey")
        say_colour_profile(path, image.info.get("icc_profile"))
        width, height = image.size
        orientation = read_orientation(image.info.get("exif"))
        sideways = is_sideways(orientation)
        channels = len(image.getbands())
        metadata = replace(_metadata(image.info, sideways), file_format=NAME, rgb=channels == 3)
    size = (width, height) if sideways else (height, width)
    return RasterSource(
        path,
        lambda: _decode(path, orientation),
        shape=(channels, *size),
        dtype=np.dtype(np.uint8),
        metadata=metadata,
    )


def _decode(path: Path, orientation: int) -> AnyArray:
    with path.open("rb") as file, JpegImageFile(file) as image:
        return upright(channels_first(np.asarray(image)), orientation)


def _metadata(info: dict[str | tuple[int, int], Any], sideways: bool) -> ImageMetadata:
    """From the comment that this program writes where there is one, else from the density."""
    name, _, text = bytes(info.get("comment", b"")).partition(b" ")
    if name == METADATA_KEY.encode() and (own := own_metadata(text, sideways=sideways)) is not None:
        return own
    unit = _DOTS_PER_INCH.get(info.get("jfif_unit", 0))
    x, y = info.get("jfif_density", (0, 0))
    if unit is None or x <= 0 or y <= 0:
        return ImageMetadata()
    return ImageMetadata(**resolution_fields((x * unit, y * unit) if sideways else (y * unit, x * unit)))


def incompatibility(spec: OutputSpec) -> str | None:
    """Why JPEG cannot hold an image."""
    if spec.dtype != np.uint8 or spec.palette is not None:
        kind = "a palette" if spec.palette is not None else str(spec.dtype)
        return f"JPEG cannot hold {kind}; use the format png or tiff"
    if max(spec.height, spec.width) > _LIMIT_PX:
        return f"JPEG holds at most {_LIMIT_PX} pixels per side; use the format tiff"
    return single_plane_reason(spec, "JPEG")


def write(path: Path, spec: OutputSpec, tiles: Iterable[Tile]) -> Steps:
    """Write a file that does not exist yet; `spec` has been checked to fit the format."""
    options: dict[str, Any] = {}
    resolution = dots_per_inch(spec.metadata)
    if resolution is not None and all(1 <= round(dots) <= _LARGEST_DENSITY for dots in resolution):
        options["dpi"] = resolution[::-1]
    comment = f"{METADATA_KEY} {json.dumps(record)}".encode() if (record := to_record(spec.metadata)) else b""
    if 0 < len(comment) <= _LONGEST_COMMENT:
        options["comment"] = comment
    if (exif := exif_of(spec.metadata)) is not None:
        options["exif"] = exif
    logger.warning("JPEG changes values a little; take the format png or tiff where they are measured")
    image = Image.fromarray((yield from collected(spec, tiles)))
    path.write_bytes(encoded(image, "JPEG", quality=_QUALITY, subsampling=0, **options))
