"""The one interface of all schemes: an image and a plan in, tiles of the network's output."""

from __future__ import annotations

from collections.abc import Generator, Mapping

from torch import Tensor

from napari_pix2pix.translation.blend import blended_tiles
from napari_pix2pix.translation.exact import exact_tiles, gathered_norms
from napari_pix2pix.translation.halo import halo_tiles
from napari_pix2pix.translation.padded_image import PaddedImage
from napari_pix2pix.translation.plan import Plan
from napari_pix2pix.translation.stages import Stages
from napari_pix2pix.translation.whole import whole_tiles
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
