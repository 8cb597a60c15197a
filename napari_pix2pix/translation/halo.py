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
from napari_pix2pix.translation.tiling import clipped, inside, tiles_of, window_around
from pix2pix_training.array_source import Region


def halo_tiles(
    stages: Stages, image: PaddedImage, tile: int, halo: int
) -> Generator[tuple[Region, Tensor], None, None]:
    """Wanted regions of the image in reading order with the network's output there.

    `tile` and `halo` fit its strides.
    """
    regions = [r for r in tiles_of(image.size, tile) if image.wants(r)]
    windows = [window_around(region, halo, image.size) for region in regions]
    with closing(image.windows(windows)) as inputs:
        for region, window, x in zip(regions, windows, inputs, strict=True):
            kept = clipped(region, image.image_size)
            yield kept, stages.run_whole(x, (window.y0, window.x0))[..., *inside(kept, window).slices]
