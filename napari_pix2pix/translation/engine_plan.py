"""The plan that engines were compiled for, so that another machine cuts images up in the same way and they fit."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from napari_pix2pix.translation.plan import Plan, Split
from napari_pix2pix.translation.settings import Scheme, TranslationSettings
from pix2pix_training.regions import Size

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class EnginePlan:
    """Scheme, tile and splits of images whose sides are at most `size` pixels."""

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
