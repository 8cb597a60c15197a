"""Batches for a training step: patches are read, sent to the device, mapped to [-1, 1] and augmented there."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pix2pix_training.array_source import AnyArray
from pix2pix_training.augmentation import IntensityJitter, apply_draw, apply_to_mask, apply_to_source
from pix2pix_training.dataset import Patch, PatchDataset
from pix2pix_training.errors import Pix2PixError, TrainingError
from pix2pix_training.intensity import CategoryMapping, Mapping, to_tensor
from pix2pix_training.remarks import heard_alike, remarks

log = logging.getLogger(__name__)

_USUAL_WORKERS = 4
_MOST_SENT_BYTES = 2**26


class Batches:
    """Batches of augmented patches in [-1, 1] on the device, one after the other.

    Pixels go to the device in their stored type. A dataset may give patches that lie there already.

    Parameters
    ----------
    source_mappings : of each pair of the dataset.
    first : number of the first patch; each is the same wherever one begins.
    stride : by how much the numbers of the first patches of batches differ; `batch_size` by default.
    ahead : whether the next batch is read while the device works on the one that was given.
    workers : processes that do so in place of a thread, for which they open the images again. None: some for a GPU and
        images that do not fit into memory.

    Attributes
    ----------
    skipped : patches that were drawn and not taken for the batches so far.
    """

    def __init__(
        self,
        dataset: PatchDataset,
        source_mappings: Sequence[Mapping],
        device: torch.device,
        jitter: IntensityJitter | None = None,
        *,
        batch_size: int,
        first: int = 0,
        stride: int | None = None,
        ahead: bool = False,
        workers: int | None = 0,
    ) -> None:
        self._source_mappings = source_mappings
        self._dataset = dataset
        self._device = device
        self._jitter = jitter
        numbers = (list(range(number, number + batch_size)) for number in count(first, stride or batch_size))
        workers = _number_of_workers(workers, dataset, device) if ahead else 0
        if workers:
            self._patches = _from_processes(dataset, numbers, workers)
        else:
            self._patches = _from_thread(dataset, numbers) if ahead else _in_turn(dataset, numbers)
        self.skipped = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        return self

    def __next__(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Sources and targets (N, C, S, S), and the mask (N, 1, S, S) of valid pixels, None where all are."""
        patches = next(self._patches)
        self.skipped += sum(patch.skipped for patch in patches)
        stored = [_on_device([getattr(p, side) for p in patches], self._device) for side in ("source", "target")]
        masks = self._masks(patches) if any(p.valid is not None or p.draw.leaves_image for p in patches) else None
        samples = zip(patches, *stored, strict=True)
        sources, targets = zip(*(self._augmented(*sample) for sample in samples), strict=True)
        return torch.stack(sources), torch.stack(targets), masks

    def close(self) -> None:
        """Read no further ahead."""
        self._patches.close()

    def _augmented(self, patch: Patch, stored_source: Tensor, stored_target: Tensor) -> tuple[Tensor, Tensor]:
        mapping = self._source_mappings[patch.pair_index]
        source = self._image(patch, stored_source, mapping)
        if not isinstance(mapping, CategoryMapping):
            source = apply_to_source(source, patch.draw, self._jitter)
        return source, self._image(patch, stored_target, self._dataset.target_mapping)

    def _image(self, patch: Patch, stored: Tensor, mapping: Mapping) -> Tensor:
        mapped = mapping.to_network(stored[None])[0]
        return apply_draw(mapped, patch.draw, self._dataset.patch_size, smooth=not isinstance(mapping, CategoryMapping))

    def _masks(self, patches: Sequence[Patch]) -> Tensor:
        uploaded = _uploaded([_valid_pixels(p)[None] for p in patches], self._device)
        size = self._dataset.patch_size
        return torch.stack(
            [apply_to_mask(mask, patch.draw, size) for patch, mask in zip(patches, uploaded, strict=True)]
        )


_Read = Generator[list[Patch], None, None]
"""The patches of one batch after the other."""


def _in_turn(dataset: PatchDataset, numbers: Iterator[list[int]]) -> _Read:
    for batch in numbers:
        yield [dataset[number] for number in batch]


def _from_thread(dataset: PatchDataset, numbers: Iterator[list[int]]) -> _Read:
    """The next batch is read meanwhile."""
    read, reader = heard_alike(partial(next, _in_turn(dataset, numbers))), ThreadPoolExecutor(1, "patches")
    try:
        following = reader.submit(read)
        while True:
            ready = following.result()
            following = reader.submit(read)
            yield ready
    finally:
        reader.shutdown(wait=False, cancel_futures=True)


def _from_processes(dataset: PatchDataset, numbers: Iterator[list[int]], workers: int) -> _Read:
    """Each process reads two batches ahead; what they say of the images is said here, once."""
    loader = DataLoader(
        _Told(dataset),
        batch_sampler=numbers,
        num_workers=workers,
        collate_fn=list,
        worker_init_fn=_ignore_interrupts,
        multiprocessing_context="spawn",  # a fork would share open files, and locks that other threads hold
        generator=torch.Generator(),  # else it would take from the random numbers of the networks
    )
    said: set[str] = set()
    with _own_signals():
        batches = iter(loader)
    while True:
        try:
            batch = next(batches)
        except RuntimeError as error:
            raise TrainingError(
                f"a process that reads images has ended ({str(error).splitlines()[0]}): it ran out of memory, or the "
                "script that trains does so outside of `if __name__ == '__main__'`; try fewer workers"
            ) from error
        for line in dict.fromkeys(line for _, lines in batch for line in lines):
            if line not in said:
                said.add(line)
                log.warning("%s", line)
        for result, _ in batch:
            if isinstance(result, Pix2PixError):
                raise result
        yield [_with_pixels(result, np.asarray) for result, _ in batch]


class _Told(Dataset[tuple[Patch | Pix2PixError, list[str]]]):
    """The patches of a dataset, or what is wrong with the images, and what was said while they were read."""

    def __init__(self, dataset: PatchDataset) -> None:
        self._dataset = dataset

    def __getitem__(self, number: int) -> tuple[Patch | Pix2PixError, list[str]]:
        with remarks() as said:
            try:
                return _with_pixels(self._dataset[number], to_tensor), said
            except Pix2PixError as error:
                return error, said


def _with_pixels(patch: Patch, kind: Callable[[Any], Any]) -> Patch:
    """A patch with its pixels as tensors, which processes share where arrays are sent piece by piece; or as arrays."""
    return replace(patch, source=kind(patch.source), target=kind(patch.target))


def _number_of_workers(asked: int | None, dataset: PatchDataset, device: torch.device) -> int:
    if asked == 0 or (asked is None and device.type == "cpu"):
        return 0
    if _can_be_sent(dataset):
        return asked or min(_USUAL_WORKERS, (os.cpu_count() or 1) - 1)
    if asked:
        log.warning("the images lie in memory, or cannot be opened by %d processes: a thread reads them", asked)
    return 0


def _can_be_sent(dataset: PatchDataset) -> bool:
    """Whether other processes can read the images: files are opened again, arrays would be copied for each process."""
    arrays: list[pickle.PickleBuffer] = []
    try:
        rest = pickle.dumps(dataset, protocol=5, buffer_callback=arrays.append)
    except Exception:  # what cannot be pickled raises anything
        return False
    return len(rest) + sum(array.raw().nbytes for array in arrays) <= _MOST_SENT_BYTES


_INTERRUPTS = [getattr(signal, name) for name in ("SIGINT", "SIGHUP") if hasattr(signal, name)]
"""What a terminal sends to all processes of a command; the one that trains decides what follows."""


@contextmanager
def _own_signals() -> Iterator[None]:
    """Processes that are started within it do not hear interrupts; one that dies raises nothing amid a step.

    That is then noticed where its batch is missing. Windows knows neither.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    mask, on_death = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS), signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, on_death)


def _ignore_interrupts(_worker: int) -> None:
    for number in _INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)


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
