"""Random changes of a patch: those of its geometry for source, target and mask alike, others for the source alone."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pix2pix_training.array_source import ArraySource, plane_size
from pix2pix_training.choices import Flips
from pix2pix_training.content import ContentMap
from pix2pix_training.intensity import CategoryMapping, Mapping, to_tensor
from pix2pix_training.invalid_pixels import FilledSource
from pix2pix_training.patch_config import AugmentationConfig
from pix2pix_training.regions import Region

log = logging.getLogger(__name__)

_MOST_PLANES = 64
_TILE_PX = 256
_MOST_TILES = 16
_LEAST_CONTRAST = 1e-3
_BEND_PX = 32
_FEWEST_TO_FOLLOW = 5
_SHARE_TO_FOLLOW = 0.5
_HIDDEN_PX = 16


@dataclass(frozen=True, kw_only=True)
class PatchDraw:
    """One draw: `region` to read, and what to do with its pixels.

    `scale` and `offset` (y, x) place the patch in the enlarged image; at scale 1 and margin 0 the region is the patch.
    `contrast` and `brightness` are by how much those of the source change, as shares in [-1, 1] of the largest change
    (`IntensityJitter`). `margin` pixels around the patch are needed to turn it by `angle` degrees and to bend it by up
    to `elastic` pixels. `blur` and `noise` are standard deviations, in pixels and in intensity, `hidden` is a share of
    squares; `seed` is of what differs from pixel to pixel and from channel to channel.
    """

    region: Region
    scale: tuple[float, float]
    offset: tuple[int, int]
    flip_horizontal: bool
    flip_vertical: bool
    quarter_turns: int
    contrast: float
    brightness: float
    angle: float = 0.0
    elastic: float = 0.0
    margin: int = 0
    leaves_image: bool = False
    channel_jitter: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    hidden: float = 0.0
    seed: int = 0


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
    horizontal, vertical = _flipped_axes(config.flips)
    flip_horizontal = horizontal and bool(rng.integers(2))
    flip_vertical = vertical and bool(rng.integers(2))
    quarter_turns = int(rng.integers(4)) if config.quarter_turns else 0
    contrast, brightness = (rng.uniform(-1, 1) if config.intensity_jitter else 0.0 for _ in range(2))
    angle = rng.uniform(-config.rotation, config.rotation) if config.rotation else 0.0
    elastic = rng.uniform(0, config.elastic) if config.elastic else 0.0
    margin = _margin(size, angle, elastic)
    ends = [(first - margin, first + size + margin) for first in offset]
    y0, y1 = _span(*ends[0], scale[0], height)
    x0, x1 = _span(*ends[1], scale[1], width)
    return PatchDraw(
        region=Region(y0, y1, x0, x1),
        scale=scale,
        offset=offset,
        flip_horizontal=flip_horizontal,
        flip_vertical=flip_vertical,
        quarter_turns=quarter_turns,
        contrast=contrast,
        brightness=brightness,
        angle=angle,
        elastic=elastic,
        margin=margin,
        leaves_image=any(low < 0 or high > limit for (low, high), limit in zip(ends, enlarged, strict=True)),
        channel_jitter=config.channel_jitter,
        blur=rng.uniform(0, config.blur) if config.blur else 0.0,
        noise=rng.uniform(0, config.noise) if config.noise else 0.0,
        hidden=config.hidden,
        seed=int(rng.integers(2**62)) if _has_details(config) else 0,
    )


def _has_details(config: AugmentationConfig) -> bool:
    """Whether something differs from pixel to pixel, or from channel to channel."""
    return any((config.elastic, config.channel_jitter, config.noise, config.hidden))


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


def _margin(size: int, angle: float, elastic: float) -> int:
    """Pixels around a patch that come into it when it is turned about its centre and bent."""
    if not angle and not elastic:
        return 0
    spread = abs(math.cos(math.radians(angle))) + abs(math.sin(math.radians(angle)))
    return math.ceil((size / 2 + elastic) * spread - size / 2) + 1


def _span(first: int, end: int, scale: float, limit: int) -> tuple[int, int]:
    """Pixels of the image that those of the enlarged one, and cubic interpolation around them, may touch."""
    if scale != 1:
        first = math.floor((first + 0.5) / scale - 0.5) - 1
        end = math.ceil((end - 0.5) / scale - 0.5) + 2
    return max(0, first), min(limit, end)


def apply_draw(pixels: Tensor, draw: PatchDraw, size: int, *, smooth: bool) -> Tensor:
    """Pixels of `draw.region` (C, h, w) -> patch (C, size, size); what lies beyond the image is as its border.

    `smooth` interpolates and keeps within [-1, 1]; otherwise the nearest pixel is taken, for categories.
    """
    return _changed(pixels, draw, size, smooth=smooth, beyond="border")


def apply_to_mask(valid: Tensor, draw: PatchDraw, size: int) -> Tensor:
    """Whether pixels of `draw.region` are valid (1, h, w) -> the same of a patch; beyond the image there is none."""
    return _changed(valid.float(), draw, size, smooth=False, beyond="zeros") > 0.5


def _changed(pixels: Tensor, draw: PatchDraw, size: int, *, smooth: bool, beyond: str) -> Tensor:
    if draw.scale != (1.0, 1.0) or draw.margin:
        pixels = _resampled(pixels, draw, size, smooth=smooth, beyond=beyond)
    if draw.margin:
        pixels = _turned_and_bent(pixels, draw, size, smooth=smooth)
    flipped = [axis for axis, is_flipped in ((-1, draw.flip_horizontal), (-2, draw.flip_vertical)) if is_flipped]
    pixels = pixels.flip(flipped) if flipped else pixels
    return torch.rot90(pixels, draw.quarter_turns, (-2, -1)) if draw.quarter_turns else pixels


def _turned_and_bent(pixels: Tensor, draw: PatchDraw, size: int, *, smooth: bool) -> Tensor:
    """The patch without its margin (C, size, size)."""
    from torchvision import tv_tensors  # takes time, which other changes and translating do not need
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as v2

    patch: Tensor = tv_tensors.Image(pixels) if smooth else tv_tensors.Mask(pixels)  # of a mask the nearest is taken
    if draw.angle:
        patch = v2.rotate(patch, draw.angle, interpolation=InterpolationMode.BILINEAR)
    if draw.elastic:
        patch = v2.elastic(patch, _displacement(draw, size).to(pixels.device), interpolation=InterpolationMode.BILINEAR)
    patch = v2.center_crop(patch, [size, size])
    return patch.as_subclass(Tensor)


def _resampled(pixels: Tensor, draw: PatchDraw, size: int, *, smooth: bool, beyond: str) -> Tensor:
    """The patch with its margin from the enlarged image, which is never made as a whole.

    Pixel centres map as in any image resize.
    """
    steps = torch.arange(-draw.margin, size + draw.margin, device=pixels.device, dtype=torch.float32) + 0.5
    y = (steps + draw.offset[0]) / draw.scale[0] - draw.region.y0
    x = (steps + draw.offset[1]) / draw.scale[1] - draw.region.x0
    grid_y, grid_x = torch.meshgrid(2 * y / draw.region.height - 1, 2 * x / draw.region.width - 1, indexing="ij")
    grid = torch.stack([grid_x, grid_y], -1)[None]
    mode = "bicubic" if smooth else "nearest"
    patch = F.grid_sample(pixels[None], grid, mode=mode, padding_mode=beyond, align_corners=False)[0]
    return patch.clamp(-1, 1) if smooth else patch


def _displacement(draw: PatchDraw, size: int) -> Tensor:
    """Where each pixel of a patch with its margin is taken from, (1, S, S, 2), x before y, in half sides of the patch.

    Random moves of points about 32 pixels apart, and a cubic between them.
    """
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as v2

    side = size + 2 * draw.margin
    points = max(2, round(side / _BEND_PX))
    moves = np.random.default_rng([draw.seed, 0]).uniform(-1, 1, (2, points, points)).astype(np.float32)
    field: Tensor = v2.resize(
        torch.from_numpy(moves), [side, side], interpolation=InterpolationMode.BICUBIC, antialias=False
    )
    return (field.clamp(-1, 1) * (2 * draw.elastic / side)).movedim(0, -1)[None]


def apply_to_source(pixels: Tensor, draw: PatchDraw, jitter: IntensityJitter | None) -> Tensor:
    """Change the intensities of a source patch (C, H, W) in [-1, 1], which may leave that range."""
    if jitter is not None:
        pixels = jitter.apply(pixels, draw)
    if draw.channel_jitter:
        shares = np.random.default_rng([draw.seed, 1]).uniform(-1, 1, (2, len(pixels), 1, 1)).astype(np.float32)
        contrast, brightness = torch.from_numpy(shares).to(pixels.device)
        pixels = (math.log1p(draw.channel_jitter) * contrast).exp() * pixels + draw.channel_jitter * brightness
    if draw.blur:
        from torchvision.transforms.v2 import functional as v2

        side = min(2 * math.ceil(3 * draw.blur) + 1, 2 * min(pixels.shape[-2:]) - 1)
        pixels = v2.gaussian_blur(pixels, [side, side], [draw.blur, draw.blur])
    if draw.noise:
        numbers = torch.Generator(pixels.device).manual_seed(draw.seed)
        pixels = pixels + draw.noise * torch.randn(pixels.shape, generator=numbers, device=pixels.device)
    return _with_hidden_squares(pixels, draw) if draw.hidden else pixels


def _with_hidden_squares(pixels: Tensor, draw: PatchDraw) -> Tensor:
    """In their place the mean of each channel."""
    height, width = pixels.shape[-2:]
    squares = -(-height // _HIDDEN_PX), -(-width // _HIDDEN_PX)
    chosen = np.random.default_rng([draw.seed, 2]).random(squares) < draw.hidden
    hidden = torch.from_numpy(chosen.repeat(_HIDDEN_PX, 0).repeat(_HIDDEN_PX, 1)[:height, :width]).to(pixels.device)
    return torch.where(hidden, pixels.mean((-2, -1), keepdim=True), pixels)


@dataclass(frozen=True, kw_only=True)
class IntensityJitter:
    """Changes x to ``c * (x - mean) + mean + b``, the same for all channels.

    A norm with running statistics passes on how bright an image is. How much images of one kind differ in that is
    estimated by how much those to train on differ; a single image says nothing of it.

    Attributes
    ----------
    mean : of the images to train on, in [-1, 1].
    brightness : largest b.
    log_contrast : largest logarithm of c.
    """

    mean: float
    brightness: float
    log_contrast: float

    def apply(self, pixels: Tensor, draw: PatchDraw) -> Tensor:
        """Pixels of a source in [-1, 1], of any shape, as `draw` says; they may leave that range."""
        contrast = math.exp(self.log_contrast * draw.contrast)
        return contrast * pixels + (self.mean * (1 - contrast) + self.brightness * draw.brightness)


Image = tuple[ArraySource, Sequence[tuple[int, ...]], Mapping]
"""An image, those of its planes that are used, and its mapping."""


def measured_jitter(
    images: Sequence[Image], deviations: float, targets: Sequence[Image] | None = None
) -> IntensityJitter | None:
    """The jitter by `deviations` standard deviations of what mean and standard deviation are among images.

    Measured on at most 64 planes, evenly taken from all `images`, of each on at most 16 tiles of 256 pixels. Parts of
    an image that are sources of their own count as images. None where nothing would be changed: for categories, a
    single plane, or no deviations.

    Where the brightness of the `targets` follows that of the images, it is what is to be learned: it is not varied, and
    that is said. The same holds of contrast.
    """
    if deviations == 0 or any(isinstance(mapping, CategoryMapping) for _, _, mapping in images):
        return None
    planes = [(source, plane, mapping) for source, used, mapping in images for plane in used]
    chosen = _evenly(len(planes), _MOST_PLANES)
    if len(chosen) < 2:
        return None
    measured = _brightness_and_contrast([planes[i] for i in chosen])
    varied = deviations * measured.std(0)
    if targets is not None and not any(isinstance(mapping, CategoryMapping) for _, _, mapping in targets):
        planes = [(target, plane, mapping) for target, used, mapping in targets for plane in used]
        followed = _brightness_and_contrast([planes[i] for i in chosen])
        for column, name in enumerate(("brightness", "contrast")):
            if _follows(followed[:, column], measured[:, column]):
                log.warning("the %s of the targets follows that of the sources, so training does not vary it", name)
                varied[column] = 0
    return IntensityJitter(
        mean=float(measured[:, 0].mean()), brightness=float(varied[0]), log_contrast=float(varied[1])
    )


def _brightness_and_contrast(planes: Sequence[tuple[ArraySource, tuple[int, ...], Mapping]]) -> NDArray[np.float64]:
    """Mean and logarithm of the standard deviation of each plane, (planes, 2)."""
    measured = np.array([_mean_and_contrast(*plane) for plane in planes])
    measured[:, 1] = np.log(np.maximum(measured[:, 1], _LEAST_CONTRAST))
    return measured


def _follows(target: NDArray[np.float64], source: NDArray[np.float64]) -> bool:
    """Whether a line through what sources are explains at least half of how targets differ; five say the least."""
    if len(source) < _FEWEST_TO_FOLLOW or min(target.std(), source.std()) < _LEAST_CONTRAST:
        return False
    return float(np.corrcoef(source, target)[0, 1]) ** 2 >= _SHARE_TO_FOLLOW


def _mean_and_contrast(source: ArraySource, plane: tuple[int, ...], mapping: Mapping) -> tuple[float, float]:
    filled = FilledSource(source)
    tiles = list(Region.whole(*plane_size(source)).tiles(_TILE_PX))
    values = np.concatenate(
        [
            mapping.to_network(to_tensor(filled.read(tiles[i], plane))[None]).numpy().ravel()
            for i in _evenly(len(tiles), _MOST_TILES)
        ]
    )
    return float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))


def _evenly(count: int, most: int) -> list[int]:
    """At most so many of the indices below `count`, evenly spaced."""
    return [int(i) for i in np.linspace(0, count - 1, min(count, most)).round()]
