"""What is going to happen: scheme, split levels, tile size, and what they cost; decided before any pixel is read."""

from __future__ import annotations

from dataclasses import dataclass

from napari_pix2pix.translation.settings import Scheme
from napari_pix2pix.translation.tiling import Size
from pix2pix_training.config import Statistics


@dataclass(frozen=True, kw_only=True)
class Split:
    """One step of the exact scheme: levels above `stop` run tile by tile over the plane of level `start`.

    `tile` is the side of a tile in cells of level `start`, a multiple of 2 ** (stop - start). `keep_raw`: where the
    statistics of decoder levels are gathered, their raw output is stored instead of computed again.
    """

    start: int
    stop: int
    tile: int
    keep_raw: bool = False


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How one plane of an image is translated, and the predicted cost.

    Attributes
    ----------
    scheme : "whole", "exact" or "blend".
    statistics : what the norm layers use under this scheme.
    tile : side of the tiles of the result in pixels.
    splits : of the exact scheme for U-Nets, from the image to the deepest plane.
    halo : pixels around a tile, for exact tiles of a ResNet; overlap of neighbouring windows for "blend".
    padded_size : rows and columns of the padded image.
    working_set_bytes : predicted peak of activations, planes and tiles, without weights.
    plane_bytes : most bytes of feature planes at a time, in memory or on disk.
    memory_for_planes_bytes : planes beyond this go to disk.
    mac_overhead : multiply-accumulates relative to running the whole image at once.
    tiles : number of tiles of the result.
    """

    scheme: Scheme
    statistics: Statistics
    tile: int
    splits: tuple[Split, ...] = ()
    halo: int = 0
    padded_size: Size
    working_set_bytes: int
    plane_bytes: int = 0
    memory_for_planes_bytes: int = 0
    mac_overhead: float
    tiles: int

    @property
    def split_level(self) -> int | None:
        return self.splits[0].stop if self.splits else None
