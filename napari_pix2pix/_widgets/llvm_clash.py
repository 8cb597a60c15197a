"""Keeps PyTorch from crashing napari where the OpenGL driver has brought an LLVM of its own.

Mesa's drivers (software rendering, AMD) load ``libLLVM``. Triton, which PyTorch imports as soon as an optimiser makes a
step, holds another LLVM, and loading it after Mesa's ends the process with a segmentation fault. The networks here do
not use Triton, so it is made to look absent, in such a process only.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

_LOADED_FILES = Path("/proc/self/maps")


def keep_triton_out() -> None:
    """Hide Triton from this process if it could not be loaded without a crash; does nothing where it is loaded."""
    modules: dict[str, Any] = sys.modules
    if "triton" in modules or not _has_loaded_llvm():
        return
    logger.debug("the OpenGL driver has loaded LLVM, so Triton is not used")
    modules["triton"] = None


def _has_loaded_llvm() -> bool:
    try:
        return "libLLVM" in _LOADED_FILES.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False  # not Linux
