"""That freed memory is kept for the next step of training, and for other threads."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

CHILD = """
import resource
import torch
from pix2pix_training.allocator import keep_freed_memory

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

BEFORE
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


SHARED = "from pix2pix_training.allocator import share_freed_memory; share_freed_memory()"
COMMAND = "from napari_pix2pix.cli import interrupts; heard = interrupts.heard(); heard.__enter__()"


def arenas_of_four_threads(before: str) -> int:
    code = ARENAS.replace("BEFORE", before)
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
@pytest.mark.parametrize("before", [SHARED, COMMAND], ids=["asked for", "in a command"])
def test_threads_take_their_memory_from_one_place(before: str) -> None:
    assert arenas_of_four_threads(before) == 1 < arenas_of_four_threads("")
