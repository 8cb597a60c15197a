"""Random changes of a patch: enlargement, flips and quarter turns, and contrast and brightness of the source alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import assert_never

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pix2pix_training.array_source import Region
from pix2pix_training.config import AugmentationConfig, Flips
from pix2pix_training.content import ContentMap


@dataclass(frozen=True, kw_only=True)
class PatchDraw:
    """One draw: `region` to read, and what to do with its pixels.

    `scale` and `offset` (y, x) place the patch in the enlarged image; at scale 1 the region is the patch. `contrast`
    and `brightness` are by how much those of the source change, as shares in [-1, 1] of the largest change
    (`IntensityJitter`).
    """

    region: Region
    scale: tuple[float, float]
    offset: tuple[int, int]
    flip_horizontal: bool
    flip_vertical: bool
    quarter_turns: int
    contrast: float
    brightness: float


def draw_patch(
    rng: np.random.Generator,
    height: int,
    width: int,
    size: int,
    config: AugmentationConfig,
    content: ContentMap | None = None,
) -> PatchDraw:
    """Place a patch of `size` pixels in an image enlarged by the jitter (paper, section 6.2: 286 -> 256).

    All positions are equally likely, or as likely as the image has `content` there.
    """
    enlarged = enlarged_size(height, width, config)
    corners = (enlarged[0] - size + 1, enlarged[1] - size + 1)
    offset = _uniform_corner(rng, corners) if content is None else _content_corner(rng, corners, content)
    scale = (enlarged[0] / height, enlarged[1] / width)
    y0, y1 = _span(offset[0], size, scale[0], height)
    x0, x1 = _span(offset[1], size, scale[1], width)
    horizontal, vertical = _flipped_axes(config.flips)
    return PatchDraw(
        region=Region(y0, y1, x0, x1),
        scale=scale,
        offset=offset,
        flip_horizontal=horizontal and bool(rng.integers(2)),
        flip_vertical=vertical and bool(rng.integers(2)),
        quarter_turns=int(rng.integers(4)) if config.quarter_turns else 0,
        contrast=rng.uniform(-1, 1) if config.intensity_jitter else 0.0,
        brightness=rng.uniform(-1, 1) if config.intensity_jitter else 0.0,
    )


def _flipped_axes(flips: Flips) -> tuple[bool, bool]:
    """Whether patches are flipped horizontally, and vertically."""
    match flips:
        case "none":
            return False, False
        case "horizontal":
            return True, False
        case "both":
            return True, True
        case _:
            assert_never(flips)


def enlarged_size(height: int, width: int, config: AugmentationConfig) -> tuple[int, int]:
    """Height and width of an image after the scale jitter."""
    return round(height * config.scale_jitter), round(width * config.scale_jitter)


def _uniform_corner(rng: np.random.Generator, corners: tuple[int, int]) -> tuple[int, int]:
    return int(rng.integers(corners[0])), int(rng.integers(corners[1]))


def _content_corner(rng: np.random.Generator, corners: tuple[int, int], content: ContentMap) -> tuple[int, int]:
    y, x = content.draw_corner(rng)
    return min(int(y * corners[0]), corners[0] - 1), min(int(x * corners[1]), corners[1] - 1)


def _span(offset: int, size: int, scale: float, limit: int) -> tuple[int, int]:
    """Pixels of the image that the patch, and cubic interpolation around it, may touch."""
    if scale == 1:
        return offset, offset + size
    first, last = (offset + 0.5) / scale - 0.5, (offset + size - 0.5) / scale - 0.5
    return max(0, math.floor(first) - 1), min(limit, math.ceil(last) + 2)


def apply_draw(pixels: Tensor, draw: PatchDraw, size: int, *, smooth: bool) -> Tensor:
    """Pixels of `draw.region` (C, h, w) -> patch (C, size, size).

    `smooth` interpolates with a cubic and keeps within [-1, 1]; otherwise the nearest pixel is taken, for categories
    and masks.
    """
    if draw.scale != (1.0, 1.0):
        pixels = _resample(pixels, draw, size, smooth=smooth)
    if draw.flip_horizontal:
        pixels = pixels.flip(-1)
    if draw.flip_vertical:
        pixels = pixels.flip(-2)
    return torch.rot90(pixels, draw.quarter_turns, (-2, -1)) if draw.quarter_turns else pixels


def _resample(pixels: Tensor, draw: PatchDraw, size: int, *, smooth: bool) -> Tensor:
    """The patch of the enlarged image; pixel centres map as in any image resize."""
    steps = torch.arange(size, device=pixels.device, dtype=torch.float32) + 0.5
    y = (steps + draw.offset[0]) / draw.scale[0] - draw.region.y0
    x = (steps + draw.offset[1]) / draw.scale[1] - draw.region.x0
    grid_y, grid_x = torch.meshgrid(2 * y / draw.region.height - 1, 2 * x / draw.region.width - 1, indexing="ij")
    grid = torch.stack([grid_x, grid_y], -1)[None]
    mode = "bicubic" if smooth else "nearest"
    patch = F.grid_sample(pixels[None], grid, mode=mode, padding_mode="border", align_corners=False)[0]
    return patch.clamp(-1, 1) if smooth else patch
