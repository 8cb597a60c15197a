"""What is free on this machine."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from pix2pix_training import machine
from pix2pix_training.machine import available_memory_bytes


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
