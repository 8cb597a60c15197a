"""Ctrl-C, SIGTERM and SIGHUP: the first asks the work to stop, a second ends the program at once; one line, code 130.

A thread waits for signals, so that none of them raises anything in the middle of the work, of a library, or of an
import, and so that they are heard while the main thread computes. Where no work can stop by itself (see `stoppable`),
the first signal ends the program. This module is loaded before everything else and imports nothing that takes time.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from pix2pix_training.allocator import share_freed_memory
from pix2pix_training.cancel import Cancel

EXIT_INTERRUPTED = 130

_HANG_UP = getattr(signal, "SIGHUP", None)  # Windows has none
_SIGNALS = [number for number in (signal.SIGINT, signal.SIGTERM, _HANG_UP) if number is not None]
_SHOW_CURSOR = "\r\x1b[K\x1b[?25h"


class _Program:
    """What the program does now: the work that can stop, what an interruption would leave, whether it is at its end."""

    def __init__(self) -> None:
        self.work: tuple[Cancel, Callable[[str], None]] | None = None
        self.kept: Callable[[], str] = str
        self.as_json = False
        self.is_over = False
        self.seconds_to_stop: float | None = None
        self.before_end: Callable[[], object] = str


_program = _Program()
_ending = threading.Lock()
"""Held by whoever says the last line; never let go by a thread that ends the program."""


@contextmanager
def heard() -> Iterator[None]:
    """Listen to signals within the block, and to none behind it, when the program is about to end."""
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    for number in _SIGNALS:
        if number != _HANG_UP or signal.getsignal(number) != signal.SIG_IGN:  # `nohup` wants it ignored
            signal.signal(number, _left_to_the_thread)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_hold_signals, after_in_parent=_let_signals_through, after_in_child=_unheard)
    share_freed_memory()  # before the first thread
    threading.Thread(target=_listen, args=(receiver,), name="signals", daemon=True).start()
    try:
        yield
    finally:
        finish()
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def _left_to_the_thread(_number: int, _frame: object) -> None:
    pass


def _hold_signals() -> None:
    """Until a forked child is on its own: what it gets before would be heard by its parent, as they share a socket."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def _let_signals_through() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _unheard() -> None:
    """A child process that was forked ends by a signal as any program does; its parent need not hear of it."""
    signal.set_wakeup_fd(-1)
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    _let_signals_through()


def _listen(receiver: socket.socket) -> None:
    while received := receiver.recv(1):
        if received[0] in _SIGNALS:
            _on_signal(received[0])


def _on_signal(number: int) -> None:
    if _program.work is None:
        return _end_at_once()
    cancel, tell = _program.work
    if not cancel.is_set():
        cancel.set()
        if _program.seconds_to_stop is None:
            tell("stopping; press Ctrl-C again to stop at once")
        else:
            limit = threading.Timer(_program.seconds_to_stop, _end_at_once)
            limit.daemon = True
            limit.start()
    elif number != _HANG_UP:  # a terminal that closes may say so twice
        _end_at_once()
    return None


def _end_at_once() -> None:
    with _ending:
        if _program.is_over:
            return
        with suppress(Exception):
            _program.before_end()
        words = last_words()
        if (atomic := sys.modules.get("pix2pix_training.atomic")) is not None:
            with suppress(Exception):  # it may be half imported
                atomic.remove_unfinished()
        with suppress(OSError):
            if _program.as_json:
                os.write(1, f"{json.dumps({'error': words, 'code': EXIT_INTERRUPTED, 'warnings': []})}\n".encode())
        with suppress(OSError):
            os.write(2, ((_SHOW_CURSOR if os.isatty(2) else "") + f"error: {words}\n").encode())
        os._exit(EXIT_INTERRUPTED)


def begin(as_json: bool = False) -> None:
    """A command starts; `as_json` says that its last line on stdout is an object, of an error too."""
    global _program
    _program = _Program()
    _program.as_json = as_json


def ends_within(seconds: float, before_end: Callable[[], object]) -> None:
    """Whoever sends signals waits so long for the work to stop, and then kills; nobody presses keys.

    Parameters
    ----------
    before_end : called before the program ends at once.
    """
    _program.seconds_to_stop = seconds
    _program.before_end = before_end


def finish() -> None:
    """The command is over but for its last line: signals change nothing any more."""
    with _ending:
        _program.is_over = True


def leave(code: int) -> NoReturn:
    """End the program; after an interruption without waiting for threads that may still be at work.

    Python would look for cycles among all that PyTorch has loaded before it ends, which takes 0.7 s.
    """
    if code == EXIT_INTERRUPTED:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    gc.freeze()
    sys.exit(code)


@contextmanager
def stoppable(tell: Callable[[str], None]) -> Iterator[Cancel]:
    """Work that looks at the `Cancel` between its steps and stops by itself, at the first signal.

    Parameters
    ----------
    tell : shows a line; called from another thread.
    """
    cancel = Cancel()
    _program.work = cancel, tell
    try:
        yield cancel
    finally:
        _program.work = None


def keeps(words: str | Callable[[], str]) -> None:
    """What an interruption leaves from now on, for the last line, such as "nothing was written"."""
    _program.kept = words if callable(words) else lambda: words


def last_words() -> str:
    """ "interrupted", and what is kept."""
    with suppress(Exception):  # files may be in any state
        return "; ".join(filter(None, ("interrupted", _program.kept())))
    return "interrupted"
