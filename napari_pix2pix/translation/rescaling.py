"""Back from the pixel size that the model was trained on to the image's own.

The image is resampled as it is read. What the model makes of it waits in a temporary file, because going back needs
neighbouring tiles, and is resampled from there as it is written.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

from napari_pix2pix.formats.resampling import ResampledSource
from napari_pix2pix.formats.source import open_image
from napari_pix2pix.formats.writing import Tile
from napari_pix2pix.translation.fitted_image import FittedImage
from napari_pix2pix.translation.invalid_output import InvalidMarks
from pix2pix_training.array_source import plane_indices, plane_size, whole_plane
from pix2pix_training.intensity import CategoryMapping, Mapping
from pix2pix_training.invalid_pixels import FilledSource

_REGION_PX = 1024


def at_own_size(image: FittedImage, translated: Path, mapping: Mapping, *, masked: bool) -> Generator[Tile, None, None]:
    """Tiles of a rescaled image at its own size, from a file of its translation; invalid pixels are marked as there.

    Parameters
    ----------
    mapping : of the translation's pixels.
    masked : tiles have one more sample; see `OutputSpec.masked`.
    """
    with open_image(translated) as small:
        result = ResampledSource(small, plane_size(image.own), nearest=isinstance(mapping, CategoryMapping))
        filled = FilledSource(image.own)
        marks = InvalidMarks(filled, result.dtype, mapping, masked=masked)
        for plane in plane_indices(image.own):
            for region in whole_plane(image.own).tiles(_REGION_PX):
                pixels = result.read(region, plane)
                yield plane, region, marks.on(pixels, filled.opacity(region, plane))
