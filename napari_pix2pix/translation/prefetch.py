"""Reading ahead: one thread prepares the next items while the caller works on the present one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

from pix2pix_training.cancel import Cancel
from pix2pix_training.remarks import heard_alike

Task = TypeVar("Task")
Item = TypeVar("Item")

_POLL_S = 0.05


class _Worker(threading.Thread):
    """A thread that is asked to stop by setting `stop`."""

    def __init__(self, work: Callable[[], None], stop: Cancel) -> None:
        super().__init__(target=heard_alike(work), name="prefetch", daemon=True)
        self.stop = stop


def current_cancel() -> Cancel:
    """What is set when the calling thread's work is no longer wanted, for work on an item that takes long.

    Only a thread of `prefetched` is told.
    """
    thread = threading.current_thread()
    return thread.stop if isinstance(thread, _Worker) else Cancel()


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error


def prefetched(
    prepare: Callable[[Task], Item], tasks: Iterable[Task], *, ahead: int = 1, cancel: Cancel | None = None
) -> Generator[Item, None, None]:
    """``prepare(task)`` for each task, in order, made in one other thread.

    At most `ahead` finished items wait, besides the one in work. An error of `prepare` is raised where its item was
    due. However the iteration ends, the thread has ended before this generator has.

    Parameters
    ----------
    cancel : ends the wait for an item; the thread sees `current_cancel` set.
    """
    finished: queue.Queue[tuple[Item] | _Failure | None] = queue.Queue(maxsize=ahead)
    stop = Cancel()

    def put(entry: tuple[Item] | _Failure | None) -> None:
        while not stop.is_set():
            try:
                finished.put(entry, timeout=_POLL_S)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            for task in tasks:
                if stop.is_set():
                    return
                put((prepare(task),))
        except BaseException as error:
            put(_Failure(error))
        else:
            put(None)

    thread = _Worker(work, stop)
    thread.start()
    try:
        yield from _until_end(finished, cancel or Cancel())
    finally:
        stop.set()
        thread.join()


def computed_ahead(items: Iterable[Item], cancel: Cancel | None = None) -> Generator[Item, None, None]:
    """The same items, each made while the caller works on the one before."""
    return prefetched(_itself, items, cancel=cancel)


def _itself(item: Item) -> Item:
    return item


def _until_end(finished: queue.Queue[tuple[Item] | _Failure | None], cancel: Cancel) -> Generator[Item, None, None]:
    while (entry := _next(finished, cancel)) is not None:
        if isinstance(entry, _Failure):
            raise entry.error
        yield entry[0]


def _next(finished: queue.Queue[tuple[Item] | _Failure | None], cancel: Cancel) -> tuple[Item] | _Failure | None:
    while True:
        cancel.check()
        try:
            return finished.get(timeout=_POLL_S)
        except queue.Empty:
            continue
