"""What the program decided about an image that a user might see differently, kept so that it can be shown.

Whoever decides says so with `logging.getLogger(__name__).warning`, in one line that names the file and the decision.
The command line shows these lines on stderr and in ``--json``, the widgets in their forms, both through `remarks`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import partial
from typing import TypeVar

T = TypeVar("T")

_PACKAGES = ("napari_pix2pix", "pix2pix_training", "pix2pix_trt")
_listeners: ContextVar[tuple[_Collector, ...]] = ContextVar("listeners", default=())
"""Who hears the work that is done here; nobody in particular in a thread that was not started by `heard_alike`."""


@contextmanager
def remarks(show: Callable[[str], None] | None = None, *, worded: Callable[[str], str] = str) -> Iterator[list[str]]:
    """Collect the warnings of this project's packages, each message once.

    Work of others, which collect for themselves at the same time in another thread, is not heard.

    Parameters
    ----------
    show : called with each message as it comes, from the thread that says it.
    worded : what is to be kept and shown of a message.

    Yields
    ------
    list of str
        The messages so far, in order.
    """
    handler = _Collector(show, worded)
    loggers = [logging.getLogger(name) for name in _PACKAGES]
    for logger in loggers:
        logger.addHandler(handler)
    _listeners.set((*_listeners.get(), handler))
    try:
        yield handler.messages
    finally:
        _listeners.set(tuple(listener for listener in _listeners.get() if listener is not handler))
        for logger in loggers:
            logger.removeHandler(handler)


def heard_alike(work: Callable[[], T]) -> Callable[[], T]:
    """`work` for another thread, whose warnings are heard by whoever hears those of this one."""
    return partial(copy_context().run, work)


class _Collector(logging.Handler):
    def __init__(self, show: Callable[[str], None] | None, worded: Callable[[str], str]) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []
        self._show = show
        self._worded = worded

    def emit(self, record: logging.LogRecord) -> None:
        listeners = _listeners.get()
        if listeners and self not in listeners:
            return
        message = self._worded(" ".join(record.getMessage().split()))
        if message in self.messages:
            return
        self.messages.append(message)
        if self._show is not None:
            self._show(message)
