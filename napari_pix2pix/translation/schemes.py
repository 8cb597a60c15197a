"""The schemes behind one interface: an image and a plan in, tiles of the network's output.

``whole`` is the definition of a translation: the padded image goes through the network at once. Exact tiles of networks
with a finite receptive field and fixed statistics (the ResNet generator) are windows with that field around them, in
phase with the network's strides and clipped at the image border, so that the layers' own reflection acts on a tile only
at true borders. ``exact`` and ``blend`` are rooms of their own.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import replace

from torch import Tensor

from napari_pix2pix.translation.backends.stage_runner import Stages
from napari_pix2pix.translation.blend import blended_tiles
from napari_pix2pix.translation.cost import receptive_radius
from napari_pix2pix.translation.exact import exact_tiles, gathered_norms
from napari_pix2pix.translation.padded_image import PaddedImage
from napari_pix2pix.translation.plan import Plan
from pix2pix_training.regions import Region


def gathered_first(stages: Stages, image: PaddedImage, plan: Plan) -> dict[str, Tensor] | None:
    """What all regions of an image need to know of it: scale and shift of its norms; None where that is nothing."""
    if plan.gathering is None:
        return None
    return gathered_norms(stages, image, plan.gathering.splits, plan.gathering.memory_for_planes_bytes)


def network_tiles(
    stages: Stages, image: PaddedImage, region: Region, plan: Plan, norms: Mapping[str, Tensor] | None = None
) -> Generator[tuple[Region, Tensor], None, None]:
    """Tiles of a region of the image in reading order, and the network's output (1, C, h, w) there.

    But for rounding, it does not depend on the region. `norms` are those of `gathered_first`.
    """
    if plan.scheme == "whole":
        return whole_tiles(stages, image, region, plan.tile, norms)
    if plan.scheme == "blend":
        return blended_tiles(stages, image, region, plan.tile, plan.halo)
    if stages.config.architecture != "resnet":
        return exact_tiles(stages, image, region, plan.splits, plan.memory_for_planes_bytes, norms)
    return halo_tiles(stages, image, region, plan.tile, plan.halo)


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
