"""Generators of the core in worker threads: stopped between events, closed in the thread, errors as one line.

A generator worker of napari ends without a word where a RuntimeError is raised (CUDA out of memory is one), and leaves
the generator to the garbage collector when it is asked to quit. Neither happens here.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

from napari.qt.threading import GeneratorWorkerSignals, create_worker
from napari.utils.notifications import show_error
from qtpy.compat import isalive
from qtpy.QtCore import QObject, Signal
from superqt.utils import GeneratorWorker

from napari_pix2pix._widgets.form_words import in_form_words
from pix2pix_training.cancel import Cancel, Interrupted
from pix2pix_training.errors import Pix2PixError
from pix2pix_training.remarks import remarks

logger = logging.getLogger(__name__)

MakeEvents = Callable[[], Iterable[Any]]
_Connection = tuple[Any, Callable[..., None]]
"""A signal and a slot."""
_BATCH_SECONDS = 0.1
_LOADED_FILES = Path("/proc/self/maps")


class CoreSignals(GeneratorWorkerSignals):
    """With one for errors of its own, as napari's handling of `errored` fails under PySide6, and one for remarks."""

    failed = Signal(object)
    remarked = Signal(str)


class CoreWorker(GeneratorWorker):
    """Runs what `make_worker` gives it; `quit` asks it to stop after the present event."""

    def __init__(self, function: Callable[..., Any], make_events: MakeEvents, stop: Cancel) -> None:
        super().__init__(function, make_events, stop, self._fail, self._remark, SignalsClass=CoreSignals)
        self.stop = stop

    def _fail(self, error: Exception) -> None:
        self.signals.failed.emit(error)

    def _remark(self, line: str) -> None:
        self.signals.remarked.emit(line)

    def quit(self) -> None:
        self.stop.set()


def make_worker(
    make_events: MakeEvents,
    *,
    on_events: Callable[[list[Any]], None],
    on_error: Callable[[Exception], None],
    on_end: Callable[[], None],
    on_remark: Callable[[str], None] | None = None,
    stop: Cancel | None = None,
) -> CoreWorker:
    """What runs the generator that `make_events` makes, in a thread, once it is started with `start`.

    The callbacks run in the main thread.
    `on_events` gets what happened since the last call, at most ten times a second. Every error is shown as a napari
    notification besides `on_error`. `on_remark` gets each line that the core has to say about the images, see
    `pix2pix_training.remarks`. `on_end` comes last, always. `stop` is set when the worker is asked to end, for
    generators that look at it themselves, between events too. Once the object whose methods the callbacks are has been
    deleted by Qt, they are not called any more.
    """
    keep_triton_out()
    worker: CoreWorker = create_worker(
        guarded_events,
        make_events,
        stop or Cancel(),
        _start_thread=False,
        _worker_class=CoreWorker,
        _ignore_errors=True,
    )
    connections: list[_Connection] = [(worker.yielded, on_events), (worker.failed, _notify), (worker.failed, on_error)]
    connections += [] if on_remark is None else [(worker.remarked, on_remark)]
    connections.append((worker.finished, on_end))
    connections = [(signal, _while_alive(slot)) for signal, slot in connections]
    for signal, slot in connections:
        signal.connect(slot)
    worker.finished.connect(partial(_disconnect, connections))
    return worker


def _while_alive(slot: Callable[..., None]) -> Callable[..., None]:
    """`slot`, which does nothing once Qt has deleted the object that it is a method of.

    Qt lets go of a bound method by itself, but not of a `partial` of one: a late answer would touch deleted widgets.
    """
    method = slot.func if isinstance(slot, partial) else slot
    owner = getattr(method, "__self__", None)
    if not isinstance(slot, partial) or not isinstance(owner, QObject):
        return slot

    def call(*arguments: Any) -> None:
        if isalive(owner):
            slot(*arguments)

    return call


def _disconnect(connections: list[_Connection]) -> None:
    """Let go of slots and what they hold: napari's list of tasks keeps every worker as long as its window."""
    while connections:
        signal, slot = connections.pop()
        with suppress(TypeError, RuntimeError, SystemError):  # the receiver is gone already, as each Qt binding says it
            signal.disconnect(slot)


def _notify(error: Exception) -> None:
    show_error(str(error))


def guarded_events(
    make_events: MakeEvents,
    stop: Cancel,
    fail: Callable[[Exception], None],
    remark: Callable[[str], None],
) -> Generator[list[Any], None, None]:
    """Events in batches until they end or `stop` is set; then the core's generator is closed, which saves its state.

    An error ends them too, and is handed to `fail` as a `Pix2PixError` of one line. What is decided about images on the
    way is handed to `remark`, in the thread that decides it.
    """
    try:
        with remarks(lambda line: remark(in_form_words(line))):
            yield from _batches(make_events, stop)
    except Interrupted:
        logger.debug("a worker was interrupted")
    except Pix2PixError as error:
        fail(Pix2PixError(in_form_words(str(error))))  # without its traceback, which holds the networks
    except Exception as error:
        logger.exception("unexpected error in a worker")
        fail(Pix2PixError(_one_line(error)))
    finally:
        release_gpu_memory()


def _batches(make_events: MakeEvents, stop: Cancel) -> Generator[list[Any], None, None]:
    batch: list[Any] = []
    sent = time.monotonic()
    with closing(_generator(make_events)) as events:
        for event in events:
            batch.append(event)
            if stop.is_set():
                break
            if time.monotonic() - sent >= _BATCH_SECONDS:
                yield batch
                batch, sent = [], time.monotonic()
    if batch:
        yield batch


def _generator(make_events: MakeEvents) -> Generator[Any, None, None]:
    yield from make_events()


def _one_line(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, ImportError | OSError) and "torch" in str(error).lower():
        return f"PyTorch could not be loaded ({first}); start napari after `import torch`, or reinstall torch"
    if isinstance(error, MemoryError) or "out of memory" in first.lower():
        return f"memory ran out ({first or 'MemoryError'}); choose a smaller patch, batch, width or tile"
    return f"{type(error).__name__}: {first}"


def release_gpu_memory() -> None:
    """Give cached memory of the GPU back to others; does nothing where torch was never loaded."""
    torch = sys.modules.get("torch")
    if torch is None:
        return
    with suppress(RuntimeError):
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        if torch.backends.mps.is_available():
            torch.mps.empty_cache()


def keep_triton_out() -> None:
    """Hide Triton from this process if it could not be loaded without a crash; does nothing where it is loaded.

    Mesa's OpenGL drivers (software rendering, AMD) load ``libLLVM``. Triton, which PyTorch imports as soon as an
    optimiser makes a step, holds another LLVM, and loading it after Mesa's ends the process with a segmentation fault.
    The networks here do not use Triton, so it is made to look absent, in such a process only.
    """
    modules: dict[str, Any] = sys.modules
    if "triton" in modules or not _has_loaded_llvm():
        return
    logger.debug("the OpenGL driver has loaded LLVM, so Triton is not used")
    modules["triton"] = None


def _has_loaded_llvm() -> bool:
    try:
        return "libLLVM" in _LOADED_FILES.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False  # not Linux
