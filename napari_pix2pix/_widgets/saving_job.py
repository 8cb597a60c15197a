"""The work behind the Save button: a result as a file that keeps pixel size, axes and channel names. No napari."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_pix2pix._widgets.translation_job import Translated
from napari_pix2pix.formats.opacity import to_opacity, with_opacity
from pix2pix_training.array_source import AnyArray, ArraySource, MemorySource, plane_indices, whole_plane
from pix2pix_training.invalid_pixels import OPAQUE, invalid_values
from pix2pix_training.regions import Region

if TYPE_CHECKING:
    from napari_pix2pix.formats.writing import OutputSpec

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
    result = request.result
    save_image(request.path, replace(result.spec, masked=False), as_image(result))
    yield Saved(path=request.path)


def save_image(path: Path, spec: OutputSpec, image: ArraySource) -> None:
    """Write the file of an image, in place of one that is there; see `saving_events`."""
    from napari_pix2pix.formats.writing import check_output, resolve_format, write_image
    from napari_pix2pix.translation.sinks import with_mask

    file_format = resolve_format(path, "same", None)
    if file_format == "tiff" and spec.metadata.georeference is not None:
        file_format = "geotiff"
    chosen = check_output(path, spec, file_format=file_format, overwrite=True)
    spec = with_mask(spec, image, chosen)
    write_image(path, spec, _strips(image, masked=spec.masked), file_format=chosen, overwrite=True)


def as_image(result: Translated) -> MemorySource:
    """A result in memory as an image that knows which of its pixels hold no data."""
    samples, spec = result.pixels, result.spec
    assert isinstance(samples, np.ndarray)  # other results are files already
    opacity = to_opacity(samples[..., -1, :, :]) if spec.masked else None
    return MemorySource(samples[..., : spec.channels, :, :], axes=spec.axes, nodata=spec.nodata, opacity=opacity)


def _strips(image: ArraySource, *, masked: bool) -> Iterator[tuple[tuple[int, ...], Region, AnyArray]]:
    for plane in plane_indices(image):
        for region in whole_plane(image).strips(_STRIP_ROWS):
            pixels, opacity = image.read_with_opacity(region, plane)
            if opacity is None and masked:
                opacity = np.where(invalid_values(pixels, image.nodata).any(0), 0, OPAQUE).astype(np.uint8)
            yield plane, region, with_opacity(pixels, opacity) if masked else pixels
