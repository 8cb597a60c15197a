"""A folder on a disk for what does not fit into memory.

The system's folder for temporary files is memory (tmpfs) on many machines; what goes there takes what is short.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from platformdirs import user_cache_path

_IN_MEMORY = ("tmpfs", "ramfs")
_MOUNTS = Path("/proc/self/mounts")


def scratch_folder() -> Path:
    """The folder for temporary files where it lies on a disk, else the user's cache; created where it is missing."""
    temporary = Path(tempfile.gettempdir())
    if not is_memory(temporary):
        return temporary
    cache = user_cache_path("napari-pix2pix")
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        return temporary
    return temporary if is_memory(cache) else cache


def is_memory(folder: Path) -> bool:
    """Whether a folder lies in a file system that is kept in memory; False where that is not known."""
    if sys.platform != "linux":
        return False
    try:
        mounts = [line.split() for line in _MOUNTS.read_text(encoding="utf-8").splitlines()]
        path = Path(os.path.realpath(folder))
    except OSError:
        return False
    holding = [(len(point), kind) for _, point, kind, *_ in mounts if path.is_relative_to(_unescaped(point))]
    return bool(holding) and max(reversed(holding), key=lambda mount: mount[0])[1] in _IN_MEMORY


def _unescaped(point: str) -> str:
    """Mount points are listed with spaces as octal numbers."""
    return point.encode().decode("unicode_escape") if "\\" in point else point
