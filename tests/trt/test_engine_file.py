"""Compiled engines on disk: what is not exactly what was written is never used."""

from __future__ import annotations

import hashlib
import stat
import sys
from pathlib import Path

import pytest

from pix2pix_training.errors import EngineFileError
from pix2pix_trt.engine_file import read_engine_file, write_engine_file

KEY = {"model": "m", "shapes": {"image": [1, 3, 256, 256]}}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.engine"
    written = write_engine_file(path, KEY, b"compiled")
    assert read_engine_file(path, sha256=written.sha256) == written
    assert (written.key, written.payload) == (KEY, b"compiled")
    assert written.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [p.name for p in tmp_path.iterdir()] == ["a.engine"]


@pytest.mark.skipif(sys.platform == "win32", reason="file modes of POSIX")
def test_only_the_owner_may_read(tmp_path: Path) -> None:
    path = tmp_path / "a.engine"
    write_engine_file(path, KEY, b"compiled")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.engine"
    write_engine_file(path, KEY, b"compiled")
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(EngineFileError, match=r"a\.engine"):
            read_engine_file(path)


def test_every_altered_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.engine"
    write_engine_file(path, KEY, b"compiled")
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(EngineFileError, match=r"a\.engine"):
            read_engine_file(path)


def test_another_file_than_the_named_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.engine"
    write_engine_file(path, KEY, b"compiled")
    with pytest.raises(EngineFileError, match="SHA-256"):
        read_engine_file(path, sha256="0" * 64)


@pytest.mark.parametrize("content", [b"", b"\x89PNG", b"PIX2PIX\x02" + bytes(100)])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.engine"
    path.write_bytes(content)
    with pytest.raises(EngineFileError, match="compile"):
        read_engine_file(path)


def test_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(EngineFileError, match="cannot be read") as caught:
        read_engine_file(tmp_path / "none.engine")
    assert "\n" not in str(caught.value)
