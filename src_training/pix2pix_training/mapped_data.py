"""Pairs as a network sees them: mapped to [-1, 1], augmented, in batches on the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from pix2pix_training.array_source import AnyArray, ArraySource, Region, channel_count, plane_indices, plane_size
from pix2pix_training.augmentation import apply_draw
from pix2pix_training.config import Values
from pix2pix_training.errors import ImageError, SettingsError
from pix2pix_training.intensity import (
    CategoryMapping,
    Mapping,
    dtype_mapping,
    fitted_categories,
    fitted_mapping,
    image_mapping,
    is_constant,
    resolved,
    to_tensor,
)
from pix2pix_training.invalid_pixels import FilledSource
from pix2pix_training.pairs import Pair
from pix2pix_training.patches import Patch, PatchSampler

MAX_AUTOMATIC_CATEGORIES = 64


def fit_mapping(sources: Sequence[ArraySource], values: Values, side: str) -> Mapping:
    """The intensity mapping of one side of the training pairs, as `values` asks.

    "auto": indexed images with at most 64 entries in use are categories; 8-bit images use the range of their dtype;
    others the percentiles of the training set. A constant target, and an image without a valid pixel, are refused.
    """
    if side == "target":
        if values == "image":
            raise SettingsError(
                "target values cannot be mapped per image, because there is no way back; use training-set"
            )
        if is_constant(sources):
            raise ImageError(
                f"the target has one constant value in all {len(sources)} images, so there is nothing to learn"
            )
    for source in sources:
        FilledSource(source).require_valid_pixels()
    first = sources[0]
    if values == "auto":
        values = _automatic(sources)
    if values == "categories":
        return fitted_categories(sources)
    if values == "training-set":
        return fitted_mapping(sources)
    make = dtype_mapping if values == "dtype" else image_mapping
    return make(first.dtype, channel_count(first))


def _automatic(sources: Sequence[ArraySource]) -> Values:
    first = sources[0]
    if first.palette is not None and len(fitted_categories(sources).values) <= MAX_AUTOMATIC_CATEGORIES:
        return "categories"
    return "dtype" if first.dtype in (np.uint8, np.bool_) else "training-set"


class MappedPairs:
    """Batches of augmented patches in [-1, 1] on the device; batch `number` is the same whenever it is asked for."""

    def __init__(
        self,
        pairs: Sequence[Pair],
        sampler: PatchSampler,
        source_mapping: Mapping,
        target_mapping: Mapping,
        patch_size: int,
        device: torch.device,
    ) -> None:
        self._sampler = sampler
        self._source_mappings = [resolved(source_mapping, pair.source) for pair in pairs]
        self._target_mapping = target_mapping
        self._patch_size = patch_size
        self._device = device

    def batch(self, number: int, batch_size: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Sources and targets (N, C, S, S), and the mask (N, 1, S, S) of valid pixels, None where all are."""
        patches = [self._sampler.patch(number * batch_size + i) for i in range(batch_size)]
        sources = [self._image(p, p.source, self._source_mappings[p.pair_index]) for p in patches]
        targets = [self._image(p, p.target, self._target_mapping) for p in patches]
        valid = torch.stack([self._mask(p) for p in patches]) if any(p.valid is not None for p in patches) else None
        return torch.stack(sources), torch.stack(targets), valid

    def _image(self, patch: Patch, stored: AnyArray, mapping: Mapping) -> Tensor:
        mapped = mapping.to_network(to_tensor(stored)[None].to(self._device))[0]
        return apply_draw(mapped, patch.draw, self._patch_size, smooth=not isinstance(mapping, CategoryMapping))

    def _mask(self, patch: Patch) -> Tensor:
        region = patch.draw.region
        mask = np.ones((region.height, region.width), bool) if patch.valid is None else patch.valid
        mapped = torch.from_numpy(mask)[None].to(self._device, torch.float32)
        return apply_draw(mapped, patch.draw, self._patch_size, smooth=False) > 0.5


def validation_images(
    pairs: Sequence[Pair], source_mapping: Mapping, target_mapping: Mapping, size: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Source and target (1, C, H, W) in [-1, 1] of the middle plane of each pair, cut to its central `size` pixels."""
    for pair in pairs:
        region = _centre(*plane_size(pair.source), size)
        planes = list(plane_indices(pair.source))
        plane = planes[len(planes) // 2]
        source = to_tensor(FilledSource(pair.source).read(region, plane))[None].to(device)
        target = to_tensor(FilledSource(pair.target).read(region, plane))[None].to(device)
        yield resolved(source_mapping, pair.source).to_network(source), target_mapping.to_network(target)


def _centre(height: int, width: int, size: int) -> Region:
    y0, x0 = max(0, (height - size) // 2), max(0, (width - size) // 2)
    return Region(y0, min(height, y0 + size), x0, min(width, x0 + size))
