"""The definition of a translation: the padded image goes through the network at once."""

from __future__ import annotations

from collections.abc import Generator

from torch import Tensor

from napari_pix2pix.translation.padded_image import PaddedImage
from napari_pix2pix.translation.stages import Stages
from napari_pix2pix.translation.tiling import tiles_of
from pix2pix_training.array_source import Region


def whole_tiles(stages: Stages, image: PaddedImage, tile: int) -> Generator[tuple[Region, Tensor], None, None]:
    """Wanted regions of the image in reading order with the network's output there, (1, C, h, w).

    `tile` only cuts the result, so that what follows takes little memory.
    """
    output = stages.run_whole(image.read(Region(0, image.size[0], 0, image.size[1])), (0, 0))
    for region in tiles_of(image.image_size, tile):
        if image.wants(region):
            yield region, output[..., *region.slices]
