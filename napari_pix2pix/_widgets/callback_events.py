"""Work that tells how far it is by calling a function, as a generator of what it tells. No napari, no Qt."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TypeVar

from pix2pix_training.cancel import Cancel
from pix2pix_training.remarks import heard_alike

Event = TypeVar("Event")


@dataclass(frozen=True)
class _End:
    error: BaseException | None


def told_events(work: Callable[[Callable[[Event], None]], None]) -> Generator[Event, None, None]:
    """What `work` tells by calling its argument, in order. It runs in another thread, and its error is raised here.

    Where the generator is closed, the next such call raises `Interrupted` in the work, and its end is waited for.
    """
    told: SimpleQueue[Event | _End] = SimpleQueue()
    is_closed = Cancel()

    def tell(event: Event) -> None:
        is_closed.check()
        told.put(event)

    def run() -> None:
        try:
            work(tell)
        except BaseException as error:
            told.put(_End(error))
        else:
            told.put(_End(None))

    thread = threading.Thread(target=heard_alike(run), name="work that tells", daemon=True)
    thread.start()
    try:
        while not isinstance(entry := told.get(), _End):
            yield entry
    finally:
        is_closed.set()
        thread.join()
    if entry.error is not None:
        raise entry.error
