"""The work behind the Save button: a result as a file that keeps pixel size, axes and channel names. No napari."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from napari_pix2pix._widgets.translation_job import Translated
from pix2pix_training.array_source import AnyArray, Region

USUAL_SUFFIX = ".ome.tif"
_STRIP_ROWS = 1024


@dataclass(frozen=True, kw_only=True)
class SaveRequest:
    """A result in memory, and the file to write."""

    result: Translated
    path: Path


@dataclass(frozen=True, kw_only=True)
class Saved:
    """The file is complete."""

    path: Path


def with_suffix(path: Path) -> Path:
    """The path as it is where it has an ending, else with the usual one."""
    return path if path.suffix else path.with_name(path.name + USUAL_SUFFIX)


def saving_events(request: SaveRequest) -> Generator[Saved, None, None]:
    """Write the file of `request`, in place of one that is there.

    Raises
    ------
    OutputError
        The format cannot hold the image, or the file cannot be written.
    """
    from napari_pix2pix.formats.writing import resolve_format, write_image

    spec, pixels = request.result.spec, request.result.pixels
    assert isinstance(pixels, np.ndarray)  # other results are files already
    file_format = resolve_format(request.path, "same", None)
    if file_format == "tiff" and spec.metadata.georeference is not None:
        file_format = "geotiff"
    write_image(request.path, spec, _strips(pixels), file_format=file_format, overwrite=True)
    yield Saved(path=request.path)


def _strips(pixels: AnyArray) -> Iterator[tuple[tuple[int, ...], Region, AnyArray]]:
    height, width = pixels.shape[-2:]
    for plane in product(*map(range, pixels.shape[:-3])):
        for y0 in range(0, height, _STRIP_ROWS):
            region = Region(y0, min(y0 + _STRIP_ROWS, height), 0, width)
            index: tuple[Any, ...] = (*plane, slice(None), *region.slices)
            yield plane, region, pixels[index]
