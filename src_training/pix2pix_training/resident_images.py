"""Training images kept on a GPU in their stored type, so that a patch is a view of what lies there already.

Each plane is read once, whole. What has to be known of a patch besides its pixels is answered from what was noted then,
so that the host neither reads the image again nor waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pix2pix_training.array_source import AnyArray, ArraySource, Region, whole_plane
from pix2pix_training.intensity import to_tensor
from pix2pix_training.invalid_pixels import FilledSource
from pix2pix_training.pairs import Pair
from pix2pix_training.patches import Patch, PatchPixels, Plane, has_one_value, valid_in_both

_SHARE_OF_FREE_MEMORY = 0.25
_BLOCK_PX = 16


def fits_on_device(sources: Sequence[ArraySource], device: torch.device) -> bool:
    """Whether all `sources` take at most a quarter of what is free on a CUDA device; False for other devices."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return sum(prod(s.shape) * s.dtype.itemsize for s in sources) <= _SHARE_OF_FREE_MEMORY * free


class ResidentReader:
    """A `PatchReader` of planes on a device, each copied there when it is first asked for, invalid pixels filled."""

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
