"""What is going to happen: backend, scheme, split levels, tile size and cost; decided before any pixel is read."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import prod
from typing import Any

from napari_pix2pix.translation.region_grid import DEEP_FROM, RegionGrid, one_region
from napari_pix2pix.translation.settings import Backend, Scheme, TranslationSettings
from pix2pix_training.choices import Statistics
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.regions import Size

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BackendChoice:
    """The backend to use and the reason, in words; `alternative` where PyTorch takes over if it fails."""

    name: Backend
    reason: str
    alternative: bool = False


@dataclass(frozen=True, kw_only=True)
class Split:
    """One step of the exact scheme: levels above `stop` run tile by tile over the plane of level `start`.

    `tile` is the largest side of a tile in cells of level `start`, a multiple of 2 ** (stop - start); it is less where
    as many smaller ones do. `keep_raw`: where the statistics of decoder levels are gathered, their raw output is stored
    instead of computed again.
    """

    start: int
    stop: int
    tile: int
    keep_raw: bool = False

    @property
    def cell(self) -> int:
        """Cells of level `start` in a cell of level `stop`; a window has one of these around its tile."""
        return 1 << (self.stop - self.start)

    @property
    def window(self) -> int:
        return self.tile + 2 * self.cell


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How one plane of an image is translated, region by region, and the predicted cost.

    Attributes
    ----------
    region : rows and columns of a region; the last ones of a plane may be smaller.
    regions : number of regions of a plane.
    gathering : with more than one region, how the statistics of the image are gathered first; None where norms need
        none.
    backend : what runs it, and why.
    scheme : "whole", "exact" or "blend".
    statistics : what the norm layers use under this scheme.
    tile : side of the tiles of the result in pixels; of the windows for "blend".
    splits : of the exact scheme for U-Nets, from the image to the deepest plane; empty for other schemes.
    halo : pixels around an exact tile of a ResNet; least overlap of neighbouring windows for "blend".
    padded_size : rows and columns of the padded image.
    working_set_bytes : predicted peak of activations, planes in memory and tiles, without weights. This and
        `plane_bytes` are those of the largest region.
    plane_bytes : most bytes of feature planes at a time, in memory or on disk.
    memory_for_planes_bytes : planes beyond this go to disk.
    memory_for_samples_bytes : sums over dropout samples beyond this go to disk.
    mac_overhead : multiply-accumulates relative to running the whole image at once.
    tiles : number of tiles of the result.
    """

    region: Size
    regions: int
    gathering: Plan | None = None
    backend: BackendChoice
    scheme: Scheme
    statistics: Statistics
    tile: int
    splits: tuple[Split, ...] = ()
    halo: int = 0
    padded_size: Size
    working_set_bytes: int
    plane_bytes: int = 0
    memory_for_planes_bytes: int = 0
    memory_for_samples_bytes: int = 0
    mac_overhead: float
    tiles: int

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Plan:
        """What `dataclasses.asdict` gave, as JSON brings it back."""
        fields = dict(stored)
        fields["region"], fields["padded_size"] = tuple(stored["region"]), tuple(stored["padded_size"])
        fields["backend"] = BackendChoice(**stored["backend"])
        fields["splits"] = tuple(Split(**split) for split in stored["splits"])
        fields["gathering"] = None if stored["gathering"] is None else cls.from_json(stored["gathering"])
        return cls(**fields)

    @property
    def split_level(self) -> int | None:
        return self.splits[0].stop if self.splits else None

    @property
    def planes_on_disk(self) -> bool:
        return self.plane_bytes > self.memory_for_planes_bytes


@dataclass(frozen=True, kw_only=True)
class EnginePlan:
    """The plan that engines were compiled for, so that another machine cuts images up in the same way and they fit.

    Scheme, tile and splits of images whose sides are at most `size` pixels.
    """

    size: int
    scheme: Scheme
    tile: int
    splits: tuple[Split, ...]

    @classmethod
    def of(cls, plan: Plan, size: int) -> EnginePlan:
        return cls(size=size, scheme=plan.scheme, tile=plan.tile, splits=plan.splits)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> EnginePlan:
        return cls(**{**stored, "splits": tuple(Split(**split) for split in stored["splits"])})

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "splits": [asdict(split) for split in self.splits]}

    def serves(self, settings: TranslationSettings, size: Size) -> bool:
        """Whether a plane of `size` is to be cut up in this way: not where the user decides, or it is too large."""
        if settings.scheme != "auto" or settings.tile is not None or settings.split_level is not None:
            return False
        if max(size) > self.size:
            logger.warning(
                "the engines are for images of up to %d pixels a side, this one has %d x %d; what they lack is "
                "compiled here", self.size, *size,
            )  # fmt: skip
            return False
        return True

    def settings(self, settings: TranslationSettings) -> TranslationSettings:
        """`settings` with this plan's scheme and tile."""
        return replace(settings, scheme=self.scheme, tile=self.tile)


@dataclass(frozen=True)
class PlanRequest:
    """What a plan is made for: the regions of an image, the network, the settings, and what memory there is."""

    grid: RegionGrid
    config: GeneratorConfig
    inference: InferenceConfig
    settings: TranslationSettings
    budget_bytes: int
    on_cpu: bool
    splits: tuple[Split, ...]
    backend: BackendChoice

    @property
    def size(self) -> Size:
        return self.grid.size

    @property
    def padded(self) -> Size:
        return padded_size(self.size, self.config.stride)

    @property
    def window(self) -> Size:
        """What is seen for the largest region; the padded image where that is one region."""
        return self.grid.window

    @property
    def window_pixels(self) -> int:
        return prod(self.window)

    @property
    def as_one(self) -> PlanRequest:
        return replace(self, grid=one_region(self.size, self.config))

    @property
    def statistics(self) -> Statistics:
        return self.inference.statistics

    @property
    def gathers(self) -> bool:
        """Whether norm layers need passes over the image for their statistics."""
        return gathers(self.config, self.inference)

    @property
    def gathers_first(self) -> bool:
        """Whether that comes before all regions."""
        return self.gathers and self.grid.count > 1

    @property
    def gathers_on_the_way(self) -> bool:
        return self.gathers and not self.gathers_first

    @property
    def least_stop(self) -> int:
        """The level to which an image is split at least; less deep, a region would take more arithmetic."""
        return 1 if self.grid.count == 1 else min(DEEP_FROM - 1, self.config.depth - 1)

    @property
    def norm_copies(self) -> float:
        """Norm layers on the statistics of an image copy what they are given; measured on the whole network."""
        return 1.25 if self.gathers else 1.0

    @property
    def tile_bytes_per_pixel(self) -> int:
        """Tiles that wait for the network and for the file, in their stored types."""
        return 8 * (2 * self.config.source_channels + self.config.target_channels)

    def plan(self, **values: Any) -> Plan:
        """A plan of these values, with what follows from the request."""
        known = {"region": self.grid.side, "regions": self.grid.count, "padded_size": self.padded}
        return Plan(**{**known, "backend": self.backend, "statistics": self.statistics, **values})

    @property
    def budget(self) -> str:
        return f"{self.budget_bytes / 2**20:.0f} MiB"


def gathers(config: GeneratorConfig, inference: InferenceConfig) -> bool:
    """Whether norm layers need passes over the image for their statistics."""
    return inference.statistics == "image" and config.norm != "none"


def padded_size(size: Size, stride: int) -> Size:
    return -(-size[0] // stride) * stride, -(-size[1] // stride) * stride
