"""Exact tiles for networks with a finite receptive field and fixed statistics: the ResNet generator.

A window with the receptive field around its tile, in phase with the network's strides and clipped at the image border,
gives there what the whole image gives: the layers' own reflection acts on the tile only at true borders.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing

from torch import Tensor

from napari_pix2pix.translation.padded_image import PaddedImage
from napari_pix2pix.translation.stages import Stages
from pix2pix_training.regions import Region


def halo_tiles(
    stages: Stages, image: PaddedImage, region: Region, tile: int, halo: int
) -> Generator[tuple[Region, Tensor], None, None]:
    """Tiles of a region of the image in reading order with the network's output there, (1, C, h, w).

    `tile`, `halo` and the beginning of the region fit its strides.
    """
    regions = list(region.tiles(tile))
    windows = [kept.grown(halo, image.size).aligned(stages.config.stride) for kept in regions]
    with closing(image.windows(windows)) as inputs:
        for kept, window, x in zip(regions, windows, inputs, strict=True):
            yield kept, stages.run_whole(x, (window.y0, window.x0))[..., *kept.seen_from(window).slices]
