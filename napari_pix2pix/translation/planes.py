"""Feature planes of the exact scheme: in memory while a budget lasts, else in temporary files on disk."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pix2pix_training.errors import Pix2PixError
from pix2pix_training.machine import is_memory, scratch_folder
from pix2pix_training.regions import Region, Size

logger = logging.getLogger(__name__)

_NUMPY: dict[torch.dtype, np.dtype[Any]] = {
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
    torch.uint8: np.dtype(np.uint8),
}


class FeaturePlane:
    """Features of one level over a whole image, written and read by windows of cells.

    What is stored is raw, as a convolution gave it, or as the integers that the next convolutions take.
    """

    def __init__(self, level: int, cells: _Cells, device: torch.device) -> None:
        self.level = level
        self.device = device
        self.cells = cells
        self.size: Size = (cells.shape[0], cells.shape[1])

    def read(self, window: Region) -> Tensor:
        """Features (1, C, h, w), in channels_last order; not to be changed, as they may lie in the plane's memory.

        Their strides say that order of the first axis too: without it PyTorch takes another one for what it makes of
        them, and copies many times over.
        """
        return self.cells.read(window).to(self.device)[None].permute(0, 3, 1, 2)

    def windows(self, regions: Iterable[Region]) -> Generator[Tensor, None, None]:
        """`read` of each region in turn."""
        for region in regions:
            yield self.read(region)

    def write(self, region: Region, raw: Tensor) -> None:
        """Store (1, C, h, w)."""
        self.cells.write(region, raw[0].permute(1, 2, 0))


class _MemoryCells:
    """Shape (rows, columns, channels) in a tensor."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self.shape = tuple(tensor.shape)
        self.memory_bytes = tensor.numel() * tensor.element_size()

    def read(self, window: Region) -> Tensor:
        return self._tensor[window.slices]

    def write(self, region: Region, cells: Tensor) -> None:
        self._tensor[region.slices] = cells.to(self._tensor)

    def close(self) -> None:
        self._tensor = self._tensor.new_empty(0)


class _DiskCells:
    """Shape (rows, columns, channels) in a file without a name, which a killed process does not leave behind.

    Read and written by plain file access: a memory map would count as memory of the process, and a full disk would kill
    the process.
    """

    memory_bytes = 0

    def __init__(self, folder: Path, shape: tuple[int, int, int], dtype: torch.dtype) -> None:
        self.shape = shape
        self._dtype = dtype
        self._folder = folder
        try:
            self._file = tempfile.TemporaryFile(prefix=".pix2pix-", dir=folder)  # noqa: SIM115
        except OSError as error:
            raise _disk_error(folder, error.strerror or str(error)) from error

    def read(self, window: Region) -> Tensor:
        cells = np.empty((window.height, window.width, self.shape[2]), _NUMPY[self._dtype])
        for row, values in enumerate(cells, window.y0):
            self._seek(row, window.x0)
            self._file.readinto(_bytes_of(values))
        return torch.from_numpy(cells)

    def write(self, region: Region, cells: Tensor) -> None:
        array = cells.to("cpu", self._dtype).contiguous().numpy()
        try:
            for row, values in enumerate(array, region.y0):
                self._seek(row, region.x0)
                self._file.write(_bytes_of(values))
        except OSError as error:
            raise _disk_error(self._folder, error.strerror or str(error)) from error

    def _seek(self, row: int, column: int) -> None:
        self._file.seek((row * self.shape[1] + column) * self.shape[2] * _NUMPY[self._dtype].itemsize)

    def close(self) -> None:
        self._file.close()


_Cells = _MemoryCells | _DiskCells


def _bytes_of(values: NDArray[Any]) -> memoryview:
    return values.reshape(-1).view(np.uint8).data


class PlaneStore:
    """Owner of the planes of one image; a context manager that frees memory and disk at the end.

    Parameters
    ----------
    device : where planes in memory lie.
    memory_bytes : what they may take together; a plane that does not fit goes to disk.
    dtype : of the features.
    folder : for planes on disk; None for `scratch_folder`.
    """

    def __init__(
        self,
        device: torch.device,
        memory_bytes: int,
        dtype: torch.dtype = torch.float32,
        folder: Path | None = None,
    ) -> None:
        self._device = device
        self._left = memory_bytes
        self._dtype = dtype
        self._folder = folder
        self._planes: list[FeaturePlane] = []

    def new(self, level: int, channels: int, size: Size) -> FeaturePlane:
        """An empty plane."""
        shape = (*size, channels)
        if self._bytes(shape) > self._left:
            return self._own(level, self._on_disk(shape))
        return self._own(level, _MemoryCells(torch.empty(shape, dtype=self._dtype, device=self._device)))

    def adopt(self, level: int, features: Tensor) -> FeaturePlane:
        """A plane of given features (1, C, h, w), without copying them where they may stay in memory."""
        cells = features[0].permute(1, 2, 0)
        if cells.numel() * self._dtype.itemsize <= self._left:
            return self._own(level, _MemoryCells(cells.to(self._dtype)))
        plane = self._own(level, self._on_disk((cells.shape[0], cells.shape[1], cells.shape[2])))
        plane.write(Region.whole(cells.shape[0], cells.shape[1]), features)
        return plane

    def release(self, plane: FeaturePlane) -> None:
        """Give a plane's memory or disk space back."""
        self._planes.remove(plane)
        self._left += plane.cells.memory_bytes
        plane.cells.close()

    def _own(self, level: int, cells: _Cells) -> FeaturePlane:
        self._left -= cells.memory_bytes
        plane = FeaturePlane(level, cells, self._device)
        self._planes.append(plane)
        return plane

    def _bytes(self, shape: tuple[int, int, int]) -> int:
        return shape[0] * shape[1] * shape[2] * self._dtype.itemsize

    def _on_disk(self, shape: tuple[int, int, int]) -> _DiskCells:
        folder = self._folder or scratch_folder()
        try:
            needed, free = self._bytes(shape), shutil.disk_usage(folder).free
        except OSError as error:
            raise _disk_error(folder, error.strerror or str(error)) from error
        if is_memory(folder):
            logger.warning(
                "feature planes that do not fit into --max-memory go to %s, which is memory on this machine; choose a "
                "folder on a disk with --scratch",
                folder,
            )
        if needed > free:
            raise _disk_error(folder, f"{needed / 2**30:.1f} GiB are needed, {free / 2**30:.1f} GiB are free")
        return _DiskCells(folder, shape, self._dtype)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for plane in list(self._planes):
            self.release(plane)


def _disk_error(folder: Path, reason: str) -> Pix2PixError:
    return Pix2PixError(
        f"feature planes cannot be kept in {folder}: {reason}; allow more memory (--max-memory), or give a folder on "
        "a larger disk (--scratch)"
    )
