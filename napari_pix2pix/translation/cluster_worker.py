"""What a worker of a Dask cluster does: its share of an image, in a process that keeps the model. Knows no client."""

from __future__ import annotations

import logging
import os
import pickle
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import gethostname
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

from napari_pix2pix.formats.output_state import OutputState, Part, holds_result
from napari_pix2pix.translation.progress import TilesDone, TranslationReport, ended
from napari_pix2pix.translation.settings import TranslationSettings
from pix2pix_training.cancel import Cancel, Interrupted
from pix2pix_training.errors import ClusterError, Pix2PixError
from pix2pix_training.remarks import remarks

if TYPE_CHECKING:
    from distributed import Worker

    from napari_pix2pix.translation.batch import Job
    from napari_pix2pix.translation.progress import Event as TranslationEvent
    from napari_pix2pix.translation.translator import Translator

_LOOK_S = 0.2
_TELL_S = 0.5
_MOST_WAIT_S = 30.0
"""For the lock of a region whose last worker is believed dead, but not gone yet."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """A part of one image, and all that a worker has to know to make it.

    Attributes
    ----------
    model, model_digest : the file, and what it must hold.
    was_complete : the output is complete already, and stays as it is.
    replaces : `output_identity` of what the output takes the place of.
    topic, number : under which progress is told, and of which share.
    memory_limit, threads : of this process; None for those of the worker.
    """

    model: Path
    model_digest: str
    settings: TranslationSettings
    job: Job
    part: Part
    file_format: str
    overwrite: bool
    may_be_empty: bool
    was_complete: bool
    replaces: list[int] | None
    topic: str
    number: int
    memory_limit: int | None
    threads: int | None


@dataclass(frozen=True, kw_only=True)
class ShareDone:
    """What came of a share. `report` is None where others have completed the output before it was begun."""

    worker: str
    report: TranslationReport | None
    remarks: tuple[str, ...]


def work(request: bytes) -> ShareDone:
    """Make a pickled `Share`. A process makes one at a time, with all threads that it has.

    Raises
    ------
    ClusterError
        The worker lacks something that others have.
    Pix2PixError
        As in any other process.
    """
    from distributed import Reschedule, get_worker

    share: Share = pickle.loads(request)
    worker = get_worker()
    try:
        with _cancelled_with_task(worker) as cancel, _turn, remarks() as said:
            cancel.check()
            return _made(share, worker, cancel, said)
    except Interrupted:
        raise Reschedule from None  # ignored where the client has cancelled it


def _made(share: Share, worker: Worker, cancel: Cancel, said: list[str]) -> ShareDone:
    name, output = f"{worker.address} ({gethostname()})", share.job.output
    for path in (share.model, *share.job.inputs):
        if not path.exists():
            raise ClusterError(f"the worker {name} does not find {path}; give paths that all workers share")
    translator = _translator(share, worker, name)
    _wait_for_last_worker(OutputState(output), share.part, cancel)
    if holds_result(output, share.replaces) and not share.was_complete:
        return ShareDone(worker=name, report=None, remarks=())
    return _translated(share, translator, worker, name, cancel, said)


def _translated(
    share: Share, translator: Translator, worker: Worker, name: str, cancel: Cancel, said: list[str]
) -> ShareDone:
    from napari_pix2pix.translation.pipeline import file_events
    from napari_pix2pix.translation.sinks import FileSink

    told, before_the_end = 0.0, 0

    def tell(event: TranslationEvent) -> None:
        nonlocal told, before_the_end
        before_the_end = len(said)
        if isinstance(event, TilesDone) and time.monotonic() >= told + _TELL_S:
            told = time.monotonic()
            worker.log_event(share.topic, [share.number, event.fraction])

    sink = FileSink(
        share.job.output,
        file_format=share.file_format,
        overwrite=share.overwrite,
        resume=True,
        part=share.part,
        replaces=share.replaces,
    )
    with translator.interruptible(cancel):
        events = file_events(
            share.job.inputs, translator, sink, series=share.job.series, may_be_empty=share.may_be_empty
        )
        report = ended(events, tell)
    # What is said at the end is about the values of all regions, so it is for whoever sees all of them.
    return ShareDone(worker=name, report=report, remarks=tuple(said if report.complete else said[:before_the_end]))


def _wait_for_last_worker(state: OutputState, part: Part, cancel: Cancel) -> None:
    until = time.monotonic() + _MOST_WAIT_S
    while state.is_claimed(part) and time.monotonic() < until:
        cancel.check()
        time.sleep(_LOOK_S)


_turn = Lock()
_kept: dict[tuple[Path, str, TranslationSettings], Translator] = {}
"""That of the last share; the next one has the same model nearly always."""


def _translator(share: Share, worker: Worker, name: str) -> Translator:
    """The model made ready, once in this process."""
    key = share.model, share.model_digest, share.settings
    if key not in _kept:
        _kept.clear()
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch is loaded, as in `translate`
        logging.getLogger("tifffile").setLevel(logging.CRITICAL)
        import torch

        from napari_pix2pix.translation.translator import Translator
        from pix2pix_training.allocator import share_freed_memory
        from pix2pix_training.model_file import load_model

        share_freed_memory()
        torch.set_num_threads(share.threads or max(torch.get_num_threads(), worker.state.nthreads))
        try:
            translator = Translator(load_model(share.model), share.settings)
        except Pix2PixError as error:
            raise ClusterError(f"the worker {name} cannot run the model: {error}") from error
        if translator.model_digest != share.model_digest:
            raise ClusterError(f"the worker {name} has another model as {share.model}; give a path that all share")
        translator.memory_limit = share.memory_limit or worker.memory_manager.memory_limit
        _kept[key] = translator
    return _kept[key]


@contextmanager
def _cancelled_with_task(worker: Worker) -> Iterator[Cancel]:
    """A `Cancel` that is set when the scheduler wants the running task no more, as when its client is gone."""
    key, cancel, over = worker.get_current_task(), Cancel(), Event()

    def watch() -> None:
        while not over.wait(_LOOK_S):
            task = worker.state.tasks.get(key)
            wanted = task is not None and task.state in ("executing", "long-running")
            if not wanted or worker.status.name in ("closing", "closed", "failed"):
                cancel.set()
                return

    Thread(target=watch, name="wanted", daemon=True).start()
    try:
        yield cancel
    finally:
        over.set()
