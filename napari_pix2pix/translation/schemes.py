"""The one interface of all schemes: an image and a plan in, tiles of the network's output."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from napari_pix2pix.translation.padded_image import PaddedImage
from napari_pix2pix.translation.plan import Plan
from napari_pix2pix.translation.whole import whole_tiles
from pix2pix_training.array_source import Region
from pix2pix_training.networks import Generator


def network_tiles(network: Generator, image: PaddedImage, plan: Plan) -> Iterator[tuple[Region, Tensor]]:
    """Regions of the image in reading order, and the network's output (1, C, h, w) there."""
    return whole_tiles(network, image, plan.tile)
