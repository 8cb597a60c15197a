"""Pairs as a network sees them: mapped to [-1, 1], augmented, in batches on the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pix2pix_training.array_source import AnyArray, ArraySource, Region, channel_count, plane_size
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
from pix2pix_training.intensity_jitter import IntensityJitter
from pix2pix_training.invalid_pixels import FilledSource
from pix2pix_training.pairs import Pair
from pix2pix_training.patches import Patch, PatchSampler
from pix2pix_training.resident_images import ResidentImages
from pix2pix_training.valid_planes import require_data, valid_planes

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
        require_data(source)
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
    """Batches of augmented patches in [-1, 1] on the device; batch `number` is the same whenever it is asked for.

    With `resident` all images are kept on the device; otherwise pixels go there patch by patch, in their stored type
    too.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        sampler: PatchSampler,
        source_mapping: Mapping,
        target_mapping: Mapping,
        patch_size: int,
        device: torch.device,
        jitter: IntensityJitter | None = None,
        *,
        resident: bool = False,
    ) -> None:
        self._sampler = sampler
        self._source_mappings = [resolved(source_mapping, pair.source) for pair in pairs]
        self._target_mapping = target_mapping
        self._patch_size = patch_size
        self._device = device
        self._jitter = jitter
        self._resident = (
            (ResidentImages([p.source for p in pairs], device), ResidentImages([p.target for p in pairs], device))
            if resident
            else None
        )

    def batch(self, number: int, batch_size: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Sources and targets (N, C, S, S), and the mask (N, 1, S, S) of valid pixels, None where all are."""
        patches = [self._sampler.patch(number * batch_size + i) for i in range(batch_size)]
        mappings = [self._source_mappings[p.pair_index] for p in patches]
        stored_sources, stored_targets = self._stored(patches)
        sources = self._images(patches, stored_sources, mappings)
        if self._jitter is not None:
            sources = [self._jitter.apply(s, patch.draw) for s, patch in zip(sources, patches, strict=True)]
        targets = self._images(patches, stored_targets, [self._target_mapping] * batch_size)
        masks = self._masks(patches) if any(p.valid is not None for p in patches) else None
        return torch.stack(sources), torch.stack(targets), masks

    def _stored(self, patches: Sequence[Patch]) -> tuple[list[Tensor], list[Tensor]]:
        """Pixels of sources and of targets (C, h, w) in their stored type, on the device."""
        if self._resident is None:
            images = ([p.source for p in patches], [p.target for p in patches])
            return _uploaded(images[0], self._device), _uploaded(images[1], self._device)
        sources, targets = self._resident
        places = [(p.pair_index, p.plane, p.draw.region) for p in patches]
        return [sources.crop(*place) for place in places], [targets.crop(*place) for place in places]

    def _images(self, patches: Sequence[Patch], stored: Sequence[Tensor], mappings: Sequence[Mapping]) -> list[Tensor]:
        images = []
        for patch, pixels, mapping in zip(patches, stored, mappings, strict=True):
            mapped = mapping.to_network(pixels[None])[0]
            smooth = not isinstance(mapping, CategoryMapping)
            images.append(apply_draw(mapped, patch.draw, self._patch_size, smooth=smooth))
        return images

    def _masks(self, patches: Sequence[Patch]) -> Tensor:
        uploaded = _uploaded([_valid_pixels(p)[None] for p in patches], self._device)
        masks = [
            apply_draw(mask.float(), patch.draw, self._patch_size, smooth=False)
            for patch, mask in zip(patches, uploaded, strict=True)
        ]
        return torch.stack(masks) > 0.5


def _valid_pixels(patch: Patch) -> NDArray[np.bool_]:
    region = patch.draw.region
    return np.ones((region.height, region.width), bool) if patch.valid is None else patch.valid


def _uploaded(arrays: Sequence[AnyArray], device: torch.device) -> list[Tensor]:
    """Arrays of one dtype on the device, in that dtype, by a single copy, which a host with CUDA does not wait for."""
    tensors = [to_tensor(array) for array in arrays]
    joined = torch.cat([tensor.flatten() for tensor in tensors])
    on_device = joined.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else joined.to(device)
    parts = on_device.split_with_sizes([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


def validation_images(
    pairs: Sequence[Pair], source_mapping: Mapping, target_mapping: Mapping, size: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Source and target (1, C, H, W) in [-1, 1] of the middle plane of each pair, cut to its central `size` pixels."""
    for pair in pairs:
        region = _centre(*plane_size(pair.source), size)
        planes = valid_planes(pair)
        plane = planes[len(planes) // 2]
        source = to_tensor(FilledSource(pair.source).read(region, plane))[None].to(device)
        target = to_tensor(FilledSource(pair.target).read(region, plane))[None].to(device)
        yield resolved(source_mapping, pair.source).to_network(source), target_mapping.to_network(target)


def _centre(height: int, width: int, size: int) -> Region:
    y0, x0 = max(0, (height - size) // 2), max(0, (width - size) // 2)
    return Region(y0, min(height, y0 + size), x0, min(width, x0 + size))
