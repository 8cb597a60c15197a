"""OME-TIFF: microscopy's metadata in the first page, with a pyramid for large images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from napari_pix2pix.formats import tiff, tiff_writing
from napari_pix2pix.formats.writing import OutputSpec, Tile

NAME = "ome-tiff"
SUFFIXES = tuple(f".ome{suffix}" for suffix in tiff.SUFFIXES)


def incompatibility(spec: OutputSpec) -> str | None:
    """Why OME-TIFF cannot hold an image."""
    if spec.dtype in (np.float16, np.int64, np.uint64):
        return f"OME-TIFF cannot hold {spec.dtype}; use the format tiff"
    if len(spec.leading_axes) > 2:
        return f"OME-TIFF cannot hold the axes {spec.axes}; use the format tiff"
    return tiff_writing.incompatibility(spec)


def holds_nodata(spec: OutputSpec) -> bool:
    """GDAL's tag says it, of any number."""
    del spec
    return True


def write(path: Path, spec: OutputSpec, tiles: Iterable[Tile], file_format: str) -> None:
    """Write a file that does not exist yet; `spec` has been checked to fit the format."""
    tiff_writing.write(path, spec, tiles, file_format)
