"""Keeping a GPU busy: while it computes one tile, the tile before is copied out and the next one in.

Never executed by us on a GPU yet.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable

import torch
from torch import Tensor


def overlapped(
    run: Callable[[Tensor], Tensor], tiles: Iterable[Tensor], device: torch.device
) -> Generator[Tensor, None, None]:
    """The results of `run` for `tiles`, in order, as tensors in the memory of the host.

    Two tiles are under way at a time, each with a stream and pinned buffers of its own. A result comes when the tile
    after the next is asked of `tiles`, or when there are no more.

    Parameters
    ----------
    run : from a tensor on `device` to one on `device`, by work on the current stream.
    tiles : in the memory of the host, in the type that is to cross the bus.
    """
    slots = (_Slot(run, device), _Slot(run, device))
    number = 0
    for number, tile in enumerate(tiles, start=1):
        slot = slots[number % 2]
        if slot.busy:
            yield slot.result()
        slot.submit(tile)
    for slot in (slots[(number + 1) % 2], slots[number % 2]):
        if slot.busy:
            yield slot.result()


class _Slot:
    """One tile under way: copied in, computed, and copied out on a stream of its own."""

    def __init__(self, run: Callable[[Tensor], Tensor], device: torch.device) -> None:
        self.busy = False
        self._run = run
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._entering: Tensor | None = None
        self._leaving: Tensor | None = None

    def submit(self, tile: Tensor) -> None:
        self._entering = _fitting(self._entering, tile)
        self._entering.copy_(tile)
        with torch.cuda.stream(self._stream):
            output = self._run(self._entering.to(self._device, non_blocking=True))
            self._leaving = _fitting(self._leaving, output)
            self._leaving.copy_(output, non_blocking=True)
            self._done.record(self._stream)
        self.busy = True

    def result(self) -> Tensor:
        """The finished tile; waits for it."""
        self._done.synchronize()
        self.busy = False
        assert self._leaving is not None
        return self._leaving.clone()


def _fitting(buffer: Tensor | None, tensor: Tensor) -> Tensor:
    """The buffer if it has the tensor's shape and type, else a new one."""
    if buffer is not None and buffer.shape == tensor.shape and buffer.dtype is tensor.dtype:
        return buffer
    return _pinned(tensor)


def _pinned(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
