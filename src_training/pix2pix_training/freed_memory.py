"""What a process that does nothing but train tells its C library about memory; where that is not glibc, nothing."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 2**30
"""Blocks up to this size, and free memory up to it, are kept; `mallopt` takes a C int."""


def keep_freed_memory() -> None:
    """Have freed blocks kept for the next step of training instead of being returned to the system.

    Gradients of large layers are freed and allocated again at every step. glibc maps blocks above 32 MiB anew each
    time, and the system then clears page after page of them. This holds for the whole process until it ends, so it is
    for a command, not for a library within somebody else's process.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
