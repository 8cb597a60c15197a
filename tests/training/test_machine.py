"""What is free on this machine, and that freed memory is kept for the next step of training."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from pix2pix_training import machine
from pix2pix_training.machine import available_memory_bytes

CHILD = """
import resource
import torch
from pix2pix_training.machine import keep_freed_memory

KEPT
def page_faults(size):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(size)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

page_faults(2**25)
print(page_faults(2**24))
"""


def page_faults_of_64_mib_after_128(*, kept: bool) -> int:
    code = CHILD.replace("KEPT", "keep_freed_memory()" if kept else "")
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_large_blocks_are_not_mapped_again() -> None:
    mapped, kept = (page_faults_of_64_mib_after_128(kept=kept) for kept in (False, True))
    assert kept < mapped / 10


ARENAS = """
import ctypes, tempfile, threading
from pix2pix_training.machine import share_freed_memory

SHARED
c = ctypes.CDLL(None)
c.malloc.restype = c.fopen.restype = ctypes.c_void_p
barrier = threading.Barrier(4)
def work():
    barrier.wait()
    c.malloc(1000)
    barrier.wait()
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
with tempfile.NamedTemporaryFile() as file:
    stream = ctypes.c_void_p(c.fopen(file.name.encode(), b"w"))
    c.malloc_info(0, stream)
    c.fclose(stream)
    print(file.read().count(b"<heap nr="))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_threads_take_their_memory_from_one_place() -> None:
    own, shared = (
        int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for code in (ARENAS.replace("SHARED", ""), ARENAS.replace("SHARED", "share_freed_memory()"))
    )
    assert shared == 1 < own


def test_a_container_may_allow_less_than_the_system_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=8 << 30))
    assert available_memory_bytes() == 8 << 30
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text(f"{3 << 30}\n")
    assert available_memory_bytes() == 8 << 30
    (tmp_path / "memory.max").write_text(f"{4 << 30}\n")
    assert available_memory_bytes() == 1 << 30
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {1 << 30}\n")
    assert available_memory_bytes() == 2 << 30
