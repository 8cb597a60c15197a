"""The work behind the Save button: a result as a file that keeps pixel size, axes and channel names. No napari."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pix2pix._widgets.translation_job import Translated
from napari_pix2pix.formats.metadata import ImageMetadata
from pix2pix_training.array_source import AnyArray, Region

USUAL_SUFFIX = ".ome.tif"
_STRIP_ROWS = 1024


@dataclass(frozen=True, kw_only=True)
class SaveRequest:
    """A result of shape (*leading, C, Y, X) with its axes, one letter each, and what the file says about it."""

    result: Translated
    pixels: AnyArray
    axes: str
    metadata: ImageMetadata
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
    from napari_pix2pix.formats.writing import OutputSpec, resolve_format, write_image

    result, pixels = request.result, request.pixels
    spec = OutputSpec(
        axes=request.axes,
        shape=pixels.shape,
        dtype=pixels.dtype,
        metadata=request.metadata,
        palette=_palette(result),
        categories=result.is_categories,
    )
    file_format = resolve_format(request.path, "same", None)
    write_image(request.path, spec, _strips(pixels), file_format=file_format, overwrite=True)
    yield Saved(path=request.path)


def _palette(result: Translated) -> NDArray[np.uint8] | None:
    if not result.colors or result.pixels.dtype not in (np.uint8, np.uint16):
        return None
    palette = np.zeros((max(result.colors) + 1, 3), np.uint8)
    for value, color in result.colors.items():
        palette[value] = np.rint(color[:3] * 255)
    return palette


def _strips(pixels: AnyArray) -> Iterator[tuple[tuple[int, ...], Region, AnyArray]]:
    height, width = pixels.shape[-2:]
    for plane in product(*map(range, pixels.shape[:-3])):
        for y0 in range(0, height, _STRIP_ROWS):
            region = Region(y0, min(y0 + _STRIP_ROWS, height), 0, width)
            index: tuple[Any, ...] = (*plane, slice(None), *region.slices)
            yield plane, region, pixels[index]
