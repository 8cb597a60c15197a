"""The definition of a translation: the padded image goes through the network at once."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace

from torch import Tensor

from napari_pix2pix.translation.cost import receptive_radius
from napari_pix2pix.translation.padded_image import PaddedImage
from napari_pix2pix.translation.stages import Stages
from pix2pix_training.regions import Region


def whole_tiles(
    stages: Stages, image: PaddedImage, region: Region, tile: int, norms: Mapping[str, Tensor] | None = None
) -> Generator[tuple[Region, Tensor], None, None]:
    """Tiles of a region of the image in reading order with the network's output there, (1, C, h, w).

    Parameters
    ----------
    region : goes through at once with what the network needs to see around it.
    tile : only cuts the result, so that what follows takes little memory.
    norms : scale and shift of norms on the statistics of the image, see `exact.gathered_norms`; without them those of
        the window are found, which must be the image then.
    """
    part = image.part(region, receptive_radius(stages.config), stages.config.stride)
    at = replace(stages, origin=(part.window.y0, part.window.x0))
    output = at.run_whole(part.read(Region.whole(*part.size)), (0, 0), norms)
    for kept in region.tiles(tile):
        yield kept, output[..., *kept.seen_from(part.window).slices]
