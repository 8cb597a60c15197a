"""Translating an image at the pixel size that the model was trained on, and back at the image's own.

The image is resampled as it is read. What the model makes of it waits in a temporary file beside the output, because
going back needs neighbouring tiles, and is resampled from there as it is written.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Protocol

import numpy as np

from napari_pix2pix.formats.metadata import ImageMetadata
from napari_pix2pix.formats.pixel_size import size_ratio, sizes_differ
from napari_pix2pix.formats.resampling import ResampledSource
from napari_pix2pix.formats.source import open_image
from napari_pix2pix.formats.writing import OutputSpec, write_image
from napari_pix2pix.translation.invalid_output import mark_invalid
from napari_pix2pix.translation.pipeline import OutputTile, Progress, Translator
from napari_pix2pix.translation.plan import Plan
from pix2pix_training.array_source import ArraySource, plane_indices, plane_size, regions_of
from pix2pix_training.atomic import temporary_folder
from pix2pix_training.errors import ImageError
from pix2pix_training.intensity import CategoryMapping
from pix2pix_training.invalid_pixels import FilledSource
from pix2pix_training.model_file import Model

logger = logging.getLogger(__name__)

_LARGEST_FACTOR = 64
_REGION_PX = 1024


class DescribedSource(ArraySource, Protocol):
    """An image with what a file says about it."""

    @property
    def metadata(self) -> ImageMetadata: ...


def fitting_source(source: DescribedSource, translator: Translator) -> ArraySource:
    """The image as the model is to see it: at the model's pixel size where the settings ask for it, else as it is.

    Where it is left as it is although its pixels have another size, a warning says so. See `matched_source`.
    """
    if translator.settings.match_pixel_size:
        return matched_source(source, translator.model)
    warn_of_pixel_size(source, translator.model)
    return source


def matched_source(source: DescribedSource, model: Model) -> ArraySource:
    """The image resampled to the pixel size of the model's training images; itself where they hardly differ.

    Raises
    ------
    ImageError
        Image or model do not say how large their pixels are, or one is absurd beside the other.
    """
    ratio = _ratio(source, model)
    if ratio is None:
        unknown = source.name if source.metadata.pixel_size is None else "the model"
        raise ImageError(f"{unknown} does not say how large its pixels are; leave out --match-pixel-size")
    if not sizes_differ(ratio):
        return source
    if not all(1 / _LARGEST_FACTOR <= factor <= _LARGEST_FACTOR for factor in ratio):
        raise ImageError(f"{source.name}: {_comparison(source, model)}; check the pixel size and its unit")
    height, width = (max(1, round(n * factor)) for n, factor in zip(plane_size(source), ratio, strict=True))
    categories = source.palette is not None or isinstance(model.source.mapping, CategoryMapping)
    return ResampledSource(FilledSource(source), (height, width), nearest=categories)


def warn_of_pixel_size(source: DescribedSource, model: Model) -> None:
    """A line where the image has pixels of a clearly different size than the model was trained on."""
    ratio = _ratio(source, model)
    if ratio is not None and sizes_differ(ratio):
        logger.warning("%s: %s; --match-pixel-size rescales it for the model", source.name, _comparison(source, model))


def _ratio(source: DescribedSource, model: Model) -> tuple[float, float] | None:
    own, trained = source.metadata, model.source
    return size_ratio(own.pixel_size, own.unit, trained.pixel_size, trained.unit)


def _comparison(source: DescribedSource, model: Model) -> str:
    sizes = (
        "?" if size is None else f"{size[0]:.4g} x {size[1]:.4g} {unit}"
        for size, unit in (
            (source.metadata.pixel_size, source.metadata.unit),
            (model.source.pixel_size, model.source.unit),
        )
    )
    return "pixels are {}, the model was trained on {}".format(*sizes)


def rescaled_tiles(
    source: DescribedSource,
    matched: ArraySource,
    translator: Translator,
    folder: Path | None,
    *,
    plan: Plan,
    progress: Progress | None,
    masked: bool = False,
) -> Generator[OutputTile, None, None]:
    """Translate `matched`, and give tiles at the size of `source`, invalid pixels marked as there.

    Parameters
    ----------
    folder : for the temporary file; it must exist when the first tile is asked for. None for the system's own place.
    plan : how `matched` is translated.
    masked : tiles have one more sample; see `OutputSpec.masked`.
    """
    mapping = translator.model.target.mapping
    with temporary_folder(folder) as temporary:
        path = _translated(matched, translator, temporary / "matched.tif", plan, progress)
        with open_image(path) as small:
            result = ResampledSource(small, plane_size(source), nearest=isinstance(mapping, CategoryMapping))
            filled = FilledSource(source)
            for plane in plane_indices(source):
                for region in regions_of(*plane_size(source), _REGION_PX):
                    pixels = result.read(region, plane)
                    marked = mark_invalid(pixels, filled, plane, region, mapping=mapping, masked=masked)
                    yield plane, region, marked


def _translated(
    matched: ArraySource, translator: Translator, path: Path, plan: Plan, progress: Progress | None
) -> Path:
    spec = OutputSpec(
        axes=matched.axes,
        shape=translator.output_shape(matched),
        dtype=np.dtype(translator.output_dtype),
        metadata=ImageMetadata(),
    )
    with closing(translator.tiles(matched, plan=plan, progress=progress)) as tiles:
        return write_image(path, spec, tiles, file_format="tiff")
