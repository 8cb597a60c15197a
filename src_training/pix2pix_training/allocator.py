"""How the C library keeps the memory that was freed, where that library is glibc; elsewhere nothing is done.

What is chosen holds for the whole process until it ends, so it is for commands, not for a library within somebody
else's process.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_KEPT_BYTES = 2**30
"""Blocks up to this size, and free memory up to it, are kept; `mallopt` takes a C int."""
_SHARED_BYTES = 2**25
"""What glibc itself comes to keep, on 64 bits, once blocks of that size were freed."""


def keep_freed_memory() -> None:
    """Have freed blocks kept for the next step of training instead of being returned to the system.

    Gradients of large layers are freed and allocated again at every step. glibc maps blocks above 32 MiB anew each
    time, and the system then clears page after page of them.
    """
    _set_options({_M_MMAP_THRESHOLD: _KEPT_BYTES, _M_TRIM_THRESHOLD: _KEPT_BYTES})


def share_freed_memory() -> None:
    """Have what one thread has freed serve the others; glibc keeps it apart for each.

    For threads that make few and large blocks, which hardly ever wait for each other. To be called before the first
    thread begins, as glibc looks once, when it does, into how many parts it may divide memory. What is kept is said
    too, as glibc keeps hardly anything where the environment has a say, which it has in the workers of Dask.
    """
    _set_options({_M_ARENA_MAX: 1, _M_MMAP_THRESHOLD: _SHARED_BYTES, _M_TRIM_THRESHOLD: 2 * _SHARED_BYTES})


def _set_options(options: Mapping[int, int]) -> None:
    """Those of `mallopt`."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for option, value in options.items():
            mallopt(option, value)
