"""Chooses the plan for an image from the network, the settings and a memory budget."""

from __future__ import annotations

from napari_pix2pix.translation.plan import Plan
from napari_pix2pix.translation.settings import TranslationSettings
from napari_pix2pix.translation.tiling import Size, tile_count
from pix2pix_training.config import GeneratorConfig, InferenceConfig

_OUTPUT_TILE = 1024


def padded_size(size: Size, stride: int) -> Size:
    return -(-size[0] // stride) * stride, -(-size[1] // stride) * stride


def make_plan(
    size: Size,
    config: GeneratorConfig,
    inference: InferenceConfig,
    settings: TranslationSettings,
    budget_bytes: int,
) -> Plan:
    """The plan for a plane of `size` (rows, columns) within `budget_bytes`."""
    tile = settings.tile or _OUTPUT_TILE
    return Plan(
        scheme="whole",
        statistics=inference.statistics,
        tile=tile,
        padded_size=padded_size(size, config.stride),
        working_set_bytes=0,
        mac_overhead=1.0,
        tiles=tile_count(size, tile),
    )
