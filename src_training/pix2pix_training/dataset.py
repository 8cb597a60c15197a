"""Pairs of images as a dataset of patches: which are drawn, and how they are read.

Knows nothing of what becomes of their pixels; that is in `batches`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Protocol, assert_never

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from pix2pix_training.array_source import AnyArray, ArraySource, plane_indices, plane_size, whole_plane
from pix2pix_training.augmentation import PatchDraw, draw_patch, enlarged_size
from pix2pix_training.content import ContentMap, block_side, block_spread
from pix2pix_training.intensity import Mapping, to_tensor
from pix2pix_training.invalid_pixels import FilledSource
from pix2pix_training.machine import free_gpu_bytes
from pix2pix_training.pairs import Pair
from pix2pix_training.patch_config import AugmentationConfig, SamplingConfig
from pix2pix_training.regions import Region

log = logging.getLogger(__name__)

_MAX_DRAWS = 20
_MIN_VALID_SHARE = 0.1
_SHARE_OF_FREE_MEMORY = 0.25
_BLOCK_PX = 16
Plane = tuple[int, ...]
_Entry = tuple[int, Plane]
"""Index of a pair, and of a plane in its leading axes."""
Pixels = AnyArray | Tensor


@dataclass(frozen=True)
class PatchPixels:
    """Stored pixels (C, h, w) of a region of a pair, as arrays or on a device, and which are valid (None: all)."""

    source: Pixels
    target: Pixels
    valid: NDArray[np.bool_] | None


@dataclass(frozen=True)
class Patch(PatchPixels):
    """A random patch before augmentation, and how many were drawn and not taken before it."""

    pair_index: int
    plane: Plane
    draw: PatchDraw
    skipped: int


class PatchReader(Protocol):
    """What gives the pixels of pairs, invalid ones filled."""

    def read(self, index: int, plane: Plane, region: Region) -> PatchPixels:
        """Pixels of a region of one plane of pair `index`."""
        ...

    def is_constant(self, patch: Patch) -> bool:
        """Whether all valid pixels of the source, or of the target, have one value in each channel."""
        ...


class ImageReader:
    """Reads from the images each time."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._sources = [FilledSource(pair.source) for pair in pairs]
        self._targets = [FilledSource(pair.target) for pair in pairs]

    def read(self, index: int, plane: Plane, region: Region) -> PatchPixels:
        source, source_invalid = self._sources[index].read_with_mask(region, plane)
        target, target_invalid = self._targets[index].read_with_mask(region, plane)
        return PatchPixels(source, target, valid_in_both(source_invalid, target_invalid))

    def is_constant(self, patch: Patch) -> bool:
        return any(has_one_value(np.asarray(side), patch.valid) for side in (patch.source, patch.target))


def valid_in_both(source: NDArray[np.bool_] | None, target: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    """Valid pixels, from the masks of invalid ones; None where all are valid."""
    invalid = [mask for mask in (source, target) if mask is not None]
    return ~np.logical_or.reduce(invalid) if invalid else None


def has_one_value(pixels: AnyArray, valid: NDArray[np.bool_] | None) -> bool:
    """Whether all valid pixels of (C, h, w) have one value in each channel."""
    if valid is None and (pixels[:, ::16, ::16] != pixels[:, :1, :1]).any():  # a few pixels tell nearly always
        return False
    values = pixels.reshape(pixels.shape[0], -1) if valid is None else pixels[:, valid]
    return bool((values == values[:, :1]).all())


class PatchDataset(Dataset[Patch]):
    """Random paired patches, each a function of `seed` and its number alone, so that a resumed run sees the same ones.

    In an epoch each image gives as many patches as cover it once, in random order; numbers go on over all epochs. A
    patch that is nearly all invalid, or constant in source or target, is drawn again; where a plane has no other,
    another plane gives the patch.

    Parameters
    ----------
    pairs : at least as large as a patch.
    target_mapping : puts the channels of targets on one scale, for "content" placement.
    planes : those of each pair to use; all by default.
    reader : what reads them; the images themselves by default.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        *,
        patch_size: int,
        augmentation: AugmentationConfig,
        sampling: SamplingConfig,
        target_mapping: Mapping,
        seed: int,
        planes: Sequence[Sequence[Plane]] | None = None,
        reader: PatchReader | None = None,
    ) -> None:
        self._pairs = pairs
        self._reader = reader or ImageReader(pairs)
        self.patch_size = patch_size
        self._augmentation = augmentation
        self._sampling = sampling
        self.target_mapping = target_mapping
        self._seed = seed
        self._entries: list[_Entry] = []
        for index, pair in enumerate(pairs):
            height, width = plane_size(pair.source)
            patches = -(-height // patch_size) * -(-width // patch_size)
            for plane in plane_indices(pair.source) if planes is None else planes[index]:
                self._entries += [(index, plane)] * patches
        self._order: tuple[int, NDArray[np.int64]] | None = None
        self._content: dict[_Entry, ContentMap] = {}
        self._block_px = block_side(sum(prod(pair.target.shape) // pair.target.shape[-3] for pair in pairs))
        self._poor: set[int] = set()

    def __len__(self) -> int:
        """Patches of an epoch."""
        return len(self._entries)

    def __getitem__(self, number: int) -> Patch:
        """Patch `number`, counted from 0 over all epochs."""
        epoch, position = divmod(number, len(self._entries))
        own = self._entries[self._epoch_order(epoch)[position]]
        rng = np.random.default_rng([self._seed, 2, number])
        for skipped in range(_MAX_DRAWS):
            patch = self._read(own, rng, skipped)
            if self._is_useful(patch):
                return patch
        self._warn_of(own[0])
        for skipped in range(_MAX_DRAWS, 2 * _MAX_DRAWS):
            substitute = self._read(self._entries[int(rng.integers(len(self._entries)))], rng, skipped)
            if self._is_useful(substitute):
                return substitute
        return replace(patch, skipped=2 * _MAX_DRAWS)

    def _read(self, entry: _Entry, rng: np.random.Generator, skipped: int) -> Patch:
        size = plane_size(self._pairs[entry[0]].source)
        draw = draw_patch(rng, *size, self.patch_size, self._augmentation, self._placed_by(entry))
        pixels = self._reader.read(*entry, draw.region)
        return Patch(pixels.source, pixels.target, pixels.valid, *entry, draw, skipped)

    def _is_useful(self, patch: Patch) -> bool:
        if patch.valid is not None and patch.valid.mean() < _MIN_VALID_SHARE:
            return False
        return not (self._sampling.skip_constant and self._reader.is_constant(patch))

    def _placed_by(self, entry: _Entry) -> ContentMap | None:
        """Where the plane has content, if patches are placed by it."""
        match self._sampling.placement:
            case "uniform":
                return None
            case "content":
                return self._content_of(entry)
            case _:
                assert_never(self._sampling.placement)

    def _content_of(self, entry: _Entry) -> ContentMap | None:
        """None where the target is constant in the whole plane."""
        if entry not in self._content:
            index, plane = entry
            target = FilledSource(self._pairs[index].target)
            height, width = plane_size(target)
            enlarged = enlarged_size(height, width, self._augmentation)
            self._content[entry] = ContentMap(
                block_spread(target, plane, self.target_mapping, self._block_px),
                block_px=self._block_px,
                plane=(height, width),
                patch=(self.patch_size * height / enlarged[0], self.patch_size * width / enlarged[1]),
            )
        content = self._content[entry]
        return None if content.is_empty else content

    def _warn_of(self, pair_index: int) -> None:
        if pair_index not in self._poor:
            self._poor.add(pair_index)
            log.warning(
                "%s: %d patches drawn in a row are constant or without valid pixels; patches from elsewhere stand in. "
                "Take it out of the training set, or cut it to what has content",
                self._pairs[pair_index].source.name,
                _MAX_DRAWS,
            )

    def _epoch_order(self, epoch: int) -> NDArray[np.int64]:
        if self._order is None or self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng([self._seed, 3, epoch]).permutation(len(self._entries)))
        return self._order[1]


def fits_on_device(sources: Sequence[ArraySource], device: torch.device) -> bool:
    """Whether all `sources` take at most a quarter of what is free on a CUDA device; False for other devices."""
    if device.type != "cuda":
        return False
    return sum(prod(s.shape) * s.dtype.itemsize for s in sources) <= _SHARE_OF_FREE_MEMORY * free_gpu_bytes(device)


class ResidentReader:
    """A `PatchReader` of planes on a GPU, in their stored type, so that a patch is a view of what lies there already.

    Each plane is read once, whole. What has to be known of a patch besides its pixels is answered from what was noted
    then, so that the host neither reads the image again nor waits for the device.
    """

    def __init__(self, pairs: Sequence[Pair], device: torch.device) -> None:
        self._images = [(FilledSource(pair.source), FilledSource(pair.target)) for pair in pairs]
        self._device = device
        self._planes: dict[tuple[int, Plane], _ResidentPlanes] = {}

    def read(self, index: int, plane: Plane, region: Region) -> PatchPixels:
        planes = self._resident(index, plane)
        valid = None if planes.valid is None else planes.valid[region.slices]
        source, target = (pixels[:, *region.slices] for pixels in (planes.source.pixels, planes.target.pixels))
        return PatchPixels(source, target, None if valid is None or valid.all() else valid)

    def is_constant(self, patch: Patch) -> bool:
        planes = self._resident(patch.pair_index, patch.plane)
        sides = ((planes.source, patch.source), (planes.target, patch.target))
        return any(
            not plane.surely_varies(patch.draw.region)
            and has_one_value(np.asarray(torch.as_tensor(pixels).cpu()), patch.valid)
            for plane, pixels in sides
        )

    def _resident(self, index: int, plane: Plane) -> _ResidentPlanes:
        if (index, plane) not in self._planes:
            stored = [image.read_with_mask(whole_plane(image), plane) for image in self._images[index]]
            valid = valid_in_both(stored[0][1], stored[1][1])
            source, target = (_on_device(pixels, valid, self._device) for pixels, _ in stored)
            self._planes[index, plane] = _ResidentPlanes(source, target, valid)
        return self._planes[index, plane]


@dataclass(frozen=True)
class _ResidentPlane:
    """A plane (C, H, W) on a device; on the host the extremes (C, rows, columns) of its whole blocks.

    The extremes of a block with invalid pixels are the wrong way round, or equal where the plane is constant.
    """

    pixels: Tensor
    low: AnyArray
    high: AnyArray

    def surely_varies(self, region: Region) -> bool:
        """Whether the blocks in a region tell that it has several values, which they do nearly always."""
        rows = slice(-(-region.y0 // _BLOCK_PX), region.y1 // _BLOCK_PX)
        columns = slice(-(-region.x0 // _BLOCK_PX), region.x1 // _BLOCK_PX)
        low, high = self.low[:, rows, columns], self.high[:, rows, columns]
        if low.size == 0:
            return False
        known = low <= high
        return bool((low < high).any() or (known & (low != low[:, :1, :1]) & known[:, :1, :1]).any())


@dataclass(frozen=True)
class _ResidentPlanes:
    """Planes of source and target, and their valid pixels (H, W), None where all are."""

    source: _ResidentPlane
    target: _ResidentPlane
    valid: NDArray[np.bool_] | None


def _on_device(stored: AnyArray, valid: NDArray[np.bool_] | None, device: torch.device) -> _ResidentPlane:
    low, high = _blocks(stored, np.min), _blocks(stored, np.max)
    if valid is not None and low.size:
        tainted = ~_blocks(valid[None], np.min)[0]
        low[:, tainted], high[:, tainted] = stored.max(), stored.min()
    return _ResidentPlane(to_tensor(stored).to(device), low, high)


def _blocks(stored: AnyArray, extreme: Callable[..., AnyArray]) -> AnyArray:
    """An extreme of each whole block, (C, rows, columns)."""
    channels, height, width = stored.shape
    rows, columns = height // _BLOCK_PX, width // _BLOCK_PX
    whole = stored[:, : rows * _BLOCK_PX, : columns * _BLOCK_PX]
    blocks = whole.reshape(channels, rows, _BLOCK_PX, columns, _BLOCK_PX)
    return extreme(blocks, axis=(2, 4)) if blocks.size else np.zeros((channels, rows, columns), stored.dtype)
