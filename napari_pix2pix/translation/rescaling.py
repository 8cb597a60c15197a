"""Translating an image at the pixel size that the model was trained on, and back at the image's own.

The image is resampled as it is read. What the model makes of it waits in a temporary file, because going back needs
neighbouring tiles, and is resampled from there as it is written.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import numpy as np

from napari_pix2pix.formats.metadata import ImageMetadata
from napari_pix2pix.formats.resampling import ResampledSource
from napari_pix2pix.formats.source import open_image
from napari_pix2pix.formats.writing import OutputSpec, write_image
from napari_pix2pix.translation.fitted_image import FittedImage
from napari_pix2pix.translation.invalid_output import InvalidMarks
from napari_pix2pix.translation.pipeline import OutputTile, Progress, Translator
from napari_pix2pix.translation.plan import Plan
from napari_pix2pix.translation.scratch import scratch_folder
from pix2pix_training.array_source import plane_indices, plane_size
from pix2pix_training.atomic import temporary_folder
from pix2pix_training.intensity import CategoryMapping
from pix2pix_training.invalid_pixels import FilledSource
from pix2pix_training.regions import Region

_REGION_PX = 1024


def rescaled_tiles(
    image: FittedImage,
    translator: Translator,
    folder: Path | None,
    *,
    plan: Plan,
    progress: Progress | None = None,
    masked: bool = False,
) -> Generator[OutputTile, None, None]:
    """Translate a rescaled image, and give tiles at its own size, invalid pixels marked as there.

    Parameters
    ----------
    folder : for the temporary file, where the settings name none; it must exist when the first tile is asked for. None
        for a place of its own.
    plan : how the rescaled image is translated.
    masked : tiles have one more sample; see `OutputSpec.masked`.
    """
    mapping = translator.model.target.mapping
    with temporary_folder(translator.scratch or folder or scratch_folder()) as temporary:
        path = _translated(image, translator, temporary / "matched.tif", plan, progress)
        with open_image(path) as small:
            result = ResampledSource(small, plane_size(image.own), nearest=isinstance(mapping, CategoryMapping))
            filled = FilledSource(image.own)
            marks = InvalidMarks(filled, result.dtype, mapping, masked=masked)
            for plane in plane_indices(image.own):
                for region in Region.whole(*plane_size(image.own)).tiles(_REGION_PX):
                    pixels = result.read(region, plane)
                    yield plane, region, marks.on(pixels, filled.opacity(region, plane))


def _translated(image: FittedImage, translator: Translator, path: Path, plan: Plan, progress: Progress | None) -> Path:
    spec = OutputSpec(
        axes=image.axes,
        shape=translator.output_shape(image),
        dtype=np.dtype(translator.output_dtype),
        metadata=ImageMetadata(),
    )
    with closing(translator.tiles(image, plan=plan, progress=progress, scratch=path.parent)) as tiles:
        return write_image(path, spec, tiles, file_format="tiff")
