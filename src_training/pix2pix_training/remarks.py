"""What the program decided about an image that a user might see differently, kept so that it can be shown.

Whoever decides says so with `logging.getLogger(__name__).warning`, in one line that names the file and the decision.
The command line shows these lines on stderr and in ``--json``, the widgets in their forms, both through `remarks`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_PACKAGES = ("napari_pix2pix", "pix2pix_training", "pix2pix_trt")


@contextmanager
def remarks(show: Callable[[str], None] | None = None) -> Iterator[list[str]]:
    """Collect the warnings of this project's packages, of all threads, each message once.

    Parameters
    ----------
    show : called with each message as it comes, from the thread that says it.

    Yields
    ------
    list of str
        The messages so far, in order.
    """
    handler = _Collector(show)
    loggers = [logging.getLogger(name) for name in _PACKAGES]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield handler.messages
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


class _Collector(logging.Handler):
    def __init__(self, show: Callable[[str], None] | None) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        message = " ".join(record.getMessage().split())
        if message in self.messages:
            return
        self.messages.append(message)
        if self._show is not None:
            self._show(message)
