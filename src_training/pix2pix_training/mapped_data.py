"""Pairs as a network sees them: mapped to [-1, 1], augmented, in batches on the device."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pix2pix_training.array_source import AnyArray
from pix2pix_training.augmentation import apply_draw
from pix2pix_training.config import TrainingConfig
from pix2pix_training.intensity import CategoryMapping, Mapping, to_tensor
from pix2pix_training.intensity_jitter import IntensityJitter, measured_jitter
from pix2pix_training.patches import Patch, PatchSampler
from pix2pix_training.preparation import PreparedData
from pix2pix_training.resident_images import ResidentReader, fits_on_device


def mapped_pairs(config: TrainingConfig, data: PreparedData, device: torch.device) -> tuple[MappedPairs, int]:
    """Batches of patches, and how many patches an epoch has."""
    pairs = [prepared.pair for prepared in data.training]
    is_resident = fits_on_device([image for pair in pairs for image in (pair.source, pair.target)], device)
    sampler = PatchSampler(
        pairs,
        patch_size=config.patch_size,
        augmentation=config.augmentation,
        sampling=config.sampling,
        target_mapping=data.target_mapping,
        seed=config.seed,
        planes=[prepared.planes for prepared in data.training],
        reader=ResidentReader(pairs, device) if is_resident else None,
    )
    images = [(prepared.pair.source, prepared.planes, prepared.source_mapping) for prepared in data.training]
    patches = MappedPairs(
        sampler,
        [prepared.source_mapping for prepared in data.training],
        data.target_mapping,
        config.patch_size,
        device,
        measured_jitter(images, config.augmentation.intensity_jitter),
        read_ahead=device.type != "cpu" and not is_resident,
    )
    return patches, sampler.patches_per_epoch


class MappedPairs:
    """Batches of augmented patches in [-1, 1] on the device; batch `number` is the same whenever it is asked for.

    Pixels go to the device in their stored type. A sampler may give patches that lie there already.

    Parameters
    ----------
    source_mappings : of each pair of the sampler.
    read_ahead : read the next batch while the device works on the one that was given; for devices beside the CPU.

    Attributes
    ----------
    skipped : patches that were drawn and not taken for the batches so far.
    """

    def __init__(
        self,
        sampler: PatchSampler,
        source_mappings: Sequence[Mapping],
        target_mapping: Mapping,
        patch_size: int,
        device: torch.device,
        jitter: IntensityJitter | None = None,
        *,
        read_ahead: bool = False,
    ) -> None:
        self._sampler = sampler
        self._source_mappings = source_mappings
        self._target_mapping = target_mapping
        self._patch_size = patch_size
        self._device = device
        self._jitter = jitter
        self._reader = ThreadPoolExecutor(1, "patches") if read_ahead else None
        self._ahead: dict[tuple[int, int], Future[list[Patch]]] = {}
        self.skipped = 0

    def batch(self, number: int, batch_size: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Sources and targets (N, C, S, S), and the mask (N, 1, S, S) of valid pixels, None where all are."""
        patches = self._patches(number, batch_size)
        self.skipped += sum(patch.skipped for patch in patches)
        mappings = [self._source_mappings[p.pair_index] for p in patches]
        sources = self._images(patches, _on_device([p.source for p in patches], self._device), mappings)
        if self._jitter is not None:
            sources = [self._jitter.apply(s, patch.draw) for s, patch in zip(sources, patches, strict=True)]
        stored_targets = _on_device([p.target for p in patches], self._device)
        targets = self._images(patches, stored_targets, [self._target_mapping] * batch_size)
        masks = self._masks(patches) if any(p.valid is not None for p in patches) else None
        return torch.stack(sources), torch.stack(targets), masks

    def close(self) -> None:
        """Read no further ahead."""
        if self._reader is not None:
            self._reader.shutdown(wait=False, cancel_futures=True)

    def _patches(self, number: int, batch_size: int) -> list[Patch]:
        if self._reader is None:
            return self._read(number, batch_size)
        wanted = self._ahead.pop((number, batch_size), None) or self._reader.submit(self._read, number, batch_size)
        self._ahead = {(number + 1, batch_size): self._reader.submit(self._read, number + 1, batch_size)}
        return wanted.result()

    def _read(self, number: int, batch_size: int) -> list[Patch]:
        return [self._sampler.patch(number * batch_size + i) for i in range(batch_size)]

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


def _on_device(stored: Sequence[AnyArray | Tensor], device: torch.device) -> list[Tensor]:
    """Patches of one dtype on the device, where they may lie already."""
    resident = [pixels for pixels in stored if isinstance(pixels, Tensor)]
    return resident if len(resident) == len(stored) else _uploaded([np.asarray(p) for p in stored], device)


def _uploaded(arrays: Sequence[AnyArray], device: torch.device) -> list[Tensor]:
    """Arrays of one dtype on the device, in that dtype, by a single copy, which a host with CUDA does not wait for."""
    tensors = [to_tensor(array) for array in arrays]
    joined = torch.cat([tensor.flatten() for tensor in tensors])
    on_device = joined.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else joined.to(device)
    parts = on_device.split_with_sizes([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
