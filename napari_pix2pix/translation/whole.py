"""The definition of a translation: the padded image goes through the network at once."""

from __future__ import annotations

from collections.abc import Generator

from torch import Tensor

from napari_pix2pix.translation.padded_image import PaddedImage
from napari_pix2pix.translation.tiling import tiles_of
from pix2pix_training.array_source import Region
from pix2pix_training.networks import Generator as Network
from pix2pix_training.networks import set_noise_origin


def whole_tiles(network: Network, image: PaddedImage, tile: int) -> Generator[tuple[Region, Tensor], None, None]:
    """Regions of the image in reading order with the network's output there, (1, C, h, w).

    `tile` only cuts the result, so that what follows takes little memory.
    """
    set_noise_origin(network, 0, 0)
    output = network(image.read(Region(0, image.size[0], 0, image.size[1])))
    for region in tiles_of(image.image_size, tile):
        yield region, output[..., *region.slices]
