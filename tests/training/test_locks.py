"""A lock is held by one; whoever only looks whether it is held neither holds it nor is in the way."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from pix2pix_training.errors import OutputError
from pix2pix_training.locks import is_locked, locked


@pytest.mark.skipif(os.name == "nt", reason="a look takes the lock for a moment there")
def test_a_look_is_not_taken_for_a_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with many processes, which may leave off in the middle of a look."""
    lock, close = tmp_path / "a.lock", os.close
    lock.touch()
    looks, goes_on = threading.Event(), threading.Event()

    def closes_late(descriptor: int) -> None:
        if threading.current_thread() is looker:
            looks.set()
            goes_on.wait(10)
        close(descriptor)

    monkeypatch.setattr(os, "close", closes_late)
    looker = threading.Thread(target=is_locked, args=(lock,))
    looker.start()
    assert looks.wait(10)
    assert not is_locked(lock)
    threading.Timer(0.2, goes_on.set).start()
    with locked(lock, tmp_path / "out"):
        assert is_locked(lock)
        with pytest.raises(OutputError, match="is being written by another process"), locked(lock, tmp_path / "out"):
            pass
    looker.join()
    assert not lock.exists()
