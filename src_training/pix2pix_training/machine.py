"""What this machine has for us: memory that is free, also of a GPU, what this process has taken, folders on disks."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from platformdirs import user_cache_path

if TYPE_CHECKING:
    import torch

_CGROUP = Path("/sys/fs/cgroup")
_IN_MEMORY = ("tmpfs", "ramfs")


def available_memory_bytes() -> int:
    """Memory that new work can take: what the system says is free, or what a container still allows, if less."""
    return min([int(psutil.virtual_memory().available), *_container_left()])


def _container_left() -> Iterator[int]:
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


def free_gpu_bytes(device: torch.device) -> int:
    """Memory of a CUDA device that no process has taken."""
    import torch

    return int(torch.cuda.mem_get_info(device)[0])


def default_budget_bytes(device: torch.device) -> int:
    """Half of the memory that is free where a network runs."""
    free = available_memory_bytes()
    if device.type == "cuda":
        free = min(free_gpu_bytes(device), 2 * free)
    return max(1, free // 2)


def peak_memory_bytes() -> int:
    """Most memory that this process has held at a time since its start (peak resident set)."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def scratch_folder() -> Path:
    """A folder on a disk for what does not fit into memory; created where it is missing.

    The folder for temporary files, which is memory (tmpfs) on many machines; else the user's cache.
    """
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
        path, mounts = Path(os.path.realpath(folder)), psutil.disk_partitions(all=True)
    except OSError:
        return False
    holding = [(len(mount.mountpoint), mount.fstype) for mount in mounts if path.is_relative_to(mount.mountpoint)]
    return bool(holding) and max(reversed(holding), key=lambda mount: mount[0])[1] in _IN_MEMORY
