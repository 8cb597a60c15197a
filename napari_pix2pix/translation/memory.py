"""How much memory a translation may take by default, and how much this process has used."""

from __future__ import annotations

import ctypes
import sys

import torch

from napari_pix2pix.formats.memory import available_memory_bytes


def default_budget_bytes(device: torch.device) -> int:
    """Half of what is free where the network runs."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return max(1, min(int(free), 2 * available_memory_bytes()) // 2)
    return max(1, available_memory_bytes() // 2)


def peak_memory_bytes() -> int:
    """Most memory that this process has held at a time since its start (peak resident set); 0 where unknown."""
    if sys.platform == "win32":
        return _windows_peak()
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _windows_peak() -> int:
    if sys.platform != "win32":
        return 0

    class Counters(ctypes.Structure):
        _fields_ = [
            ("size", ctypes.c_ulong),
            ("faults", ctypes.c_ulong),
            *((name, ctypes.c_size_t) for name in ("peak", "now", "a", "b", "c", "d", "e", "f")),
        ]

    counters = Counters(size=ctypes.sizeof(Counters))
    process = ctypes.c_void_p(ctypes.windll.kernel32.GetCurrentProcess())
    known = ctypes.windll.psapi.GetProcessMemoryInfo(process, ctypes.byref(counters), counters.size)
    return int(counters.peak) if known else 0
