"""How much memory this process may still take, without packages beyond the standard library."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_FALLBACK_BYTES = 4 << 30
_CGROUP = Path("/sys/fs/cgroup")


def available_memory_bytes() -> int:
    """Memory that new work can take: what the system says is free, or what a container still allows, if less."""
    candidates = [n for n in (_linux_available(), _windows_available(), *_cgroup_left()) if n is not None]
    return min(candidates, default=_half_of_physical())


def _linux_available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = (int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    return next(found, None)


def _cgroup_left() -> Iterator[int]:
    """What the limits of a container leave, for version 2 and version 1 of Linux control groups."""
    for folder, limit_name, used_name, cache_name in (
        (_CGROUP, "memory.max", "memory.current", "inactive_file"),
        (_CGROUP / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        limit, used = _number_in(folder / limit_name), _number_in(folder / used_name)
        if limit is not None and used is not None and limit < 2**60:
            yield max(0, limit - used + _statistic_in(folder / "memory.stat", cache_name))


def _number_in(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _statistic_in(path: Path, name: str) -> int:
    """An entry of a "name value" file, 0 where it is missing; files cached in memory can be dropped at once."""
    try:
        rows = (line.split() for line in path.read_text(encoding="ascii").splitlines())
        return next((int(row[1]) for row in rows if row[0] == name), 0)
    except (OSError, ValueError, IndexError):
        return 0


def _windows_available() -> int | None:
    if sys.platform != "win32":
        return None

    class MemoryStatus(ctypes.Structure):
        _fields_ = [
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *((name, ctypes.c_ulonglong) for name in ("total", "free", "p0", "p1", "v0", "v1", "x")),
        ]

    status = MemoryStatus(length=ctypes.sizeof(MemoryStatus))
    return int(status.free) if ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)) else None


def _half_of_physical() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return _FALLBACK_BYTES
