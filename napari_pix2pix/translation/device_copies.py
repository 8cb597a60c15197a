"""Copies between the memory of the host and that of a GPU, made while the GPU computes.

They go through page-locked memory and have streams of their own, so that of three tiles one comes in, one is computed
and one goes out at a time. PyTorch keeps the page-locked buffers and uses them again. On other devices tensors are
simply moved. The CUDA side was never executed by us on a GPU yet.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

Label = TypeVar("Label")


@dataclass(frozen=True)
class Upload:
    """A tensor on its way to a GPU, there after the event `finished`; or without it, one that is yet to be moved."""

    _tensor: Tensor
    _device: torch.device
    _finished: Any = None

    def received(self) -> Tensor:
        """The tensor on the device, for work on the current stream of the calling thread."""
        if self._finished is None:
            return self._tensor.to(self._device)
        current = torch.cuda.current_stream(self._device)
        current.wait_event(self._finished)
        _hold(self._tensor, current)
        return self._tensor


class Uploader:
    """Sends tensors to a device, from any one thread at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if _is_gpu(device) else None  # type: ignore[no-untyped-call]

    def send(self, stored: Tensor) -> Upload:
        """Start copying a tensor in the memory of the host to a GPU."""
        if self._stream is None:
            return Upload(stored, self._device)
        finished = torch.cuda.Event()  # type: ignore[no-untyped-call]
        with _on(self._stream):
            tensor = _pinned(stored).to(self._device, non_blocking=True)
            finished.record(self._stream)
        return Upload(tensor, self._device, finished)


def downloaded(
    tiles: Iterable[tuple[Label, Tensor]], device: torch.device
) -> Generator[tuple[Label, Tensor], None, None]:
    """The same tiles in the memory of the host, in order; from a GPU each one when the next has been asked for."""
    if not _is_gpu(device):
        for label, tile in tiles:
            yield label, tile.cpu()
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    before: tuple[Label, _Download] | None = None
    for label, tile in tiles:
        present = label, _Download(tile, stream)
        if before is not None:
            yield before[0], before[1].result()
        before = present
    if before is not None:
        yield before[0], before[1].result()


class _Download:
    """A tile that is copied out once it is computed."""

    def __init__(self, tile: Tensor, stream: Any) -> None:
        stream.wait_stream(torch.cuda.current_stream(tile.device))
        with _on(stream):
            self._result = _pinned_like(tile)
            self._result.copy_(tile, non_blocking=True)
            _hold(tile, stream)
            self._finished = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._finished.record(stream)

    def result(self) -> Tensor:
        """The tile; waits for it."""
        self._finished.synchronize()
        return self._result


def _is_gpu(device: torch.device) -> bool:
    return device.type == "cuda"


def _on(stream: Any) -> AbstractContextManager[Any]:
    return torch.cuda.stream(stream)


def _hold(tensor: Tensor, stream: Any) -> None:
    """Keep the tensor's memory from being given to others before what is queued on the stream is done."""
    tensor.record_stream(stream)


def _pinned(tensor: Tensor) -> Tensor:
    return tensor.pin_memory()


def _pinned_like(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
