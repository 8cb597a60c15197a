"""How much memory this process may still take."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path

_FALLBACK_BYTES = 4 << 30
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def available_memory_bytes() -> int:
    """Free memory of the machine, or of the container where that is less; a guess of 4 GiB where it cannot be told."""
    if sys.platform == "win32":
        return _windows_bytes()
    if _MEMINFO.exists():
        return min(_linux_bytes(), _container_bytes())
    return _half_of_installed()


def _linux_bytes() -> int:
    found = re.search(r"^MemAvailable:\s+(\d+) kB", _MEMINFO.read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else _half_of_installed()


def _container_bytes() -> int:
    """What a cgroup (version 2) still allows; file cache that can be dropped counts as free."""
    try:
        limit = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text())
        droppable = re.search(r"^inactive_file (\d+)", (_CGROUP / "memory.stat").read_text(), re.MULTILINE)
    except (OSError, ValueError):  # no cgroup, or the limit is the word "max"
        return sys.maxsize
    return max(0, limit - used + (int(droppable[1]) if droppable else 0))


def _half_of_installed() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):
        return _FALLBACK_BYTES


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX of the Windows API."""

    _fields_ = (
        ("length", ctypes.c_uint32),
        ("load_percent", ctypes.c_uint32),
        ("total", ctypes.c_uint64),
        ("available", ctypes.c_uint64),
        ("page_file", ctypes.c_uint64 * 2),
        ("address_space", ctypes.c_uint64 * 3),
    )


def _windows_bytes() -> int:
    status = _MemoryStatus()
    status.length = ctypes.sizeof(status)
    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009 - absent from the stubs of other platforms
    return int(status.available) if kernel.GlobalMemoryStatusEx(ctypes.byref(status)) else _FALLBACK_BYTES
