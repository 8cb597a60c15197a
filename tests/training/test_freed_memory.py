"""Freed memory is kept for the next step of training, in processes of their own."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

CHILD = """
import resource
import torch
from pix2pix_training.freed_memory import keep_freed_memory

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
