"""Training images kept on a GPU in their stored type, so that a patch is a view of what lies there already."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from pix2pix_training.array_source import ArraySource, Region, whole_plane
from pix2pix_training.intensity import to_tensor
from pix2pix_training.invalid_pixels import FilledSource

_SHARE_OF_FREE_MEMORY = 0.25


def fits_on_device(sources: Sequence[ArraySource], device: torch.device) -> bool:
    """Whether all `sources` take at most a quarter of what is free on a CUDA device; False for other devices."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return sum(prod(s.shape) * s.dtype.itemsize for s in sources) <= _SHARE_OF_FREE_MEMORY * free


class ResidentImages:
    """Planes of images on a device, each copied there when it is first asked for, invalid pixels filled."""

    def __init__(self, sources: Sequence[ArraySource], device: torch.device) -> None:
        self._sources = [FilledSource(source) for source in sources]
        self._device = device
        self._planes: dict[tuple[int, tuple[int, ...]], Tensor] = {}

    def crop(self, index: int, plane: tuple[int, ...], region: Region) -> Tensor:
        """Stored pixels (C, h, w) of a region of one plane of image `index`."""
        if (index, plane) not in self._planes:
            source = self._sources[index]
            self._planes[index, plane] = to_tensor(source.read(whole_plane(source), plane)).to(self._device)
        return self._planes[index, plane][:, *region.slices]
