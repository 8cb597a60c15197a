"""An output appears whole or not at all."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from pix2pix_training.atomic import atomic_write, check_writable_target, partial_path
from pix2pix_training.errors import InputError, OutputError, Pix2PixError


def test_file_appears_under_its_final_name_only_when_complete(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "model.bin"
    with atomic_write(target) as partial:
        partial.write_bytes(b"pixels")
        assert partial == target.with_name("model.bin.partial")
        assert not target.exists()
    assert target.read_bytes() == b"pixels"
    assert not partial.exists()


@pytest.mark.parametrize("failure", [ValueError("bad"), KeyboardInterrupt(), GeneratorExit(), SystemExit(1)])
def test_failure_removes_the_partial_and_keeps_the_old_file(tmp_path: Path, failure: BaseException) -> None:
    target = tmp_path / "model.bin"
    target.write_bytes(b"old")
    with pytest.raises(type(failure)), atomic_write(target) as partial:
        partial.write_bytes(b"half")
        raise failure
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_leftover_of_a_killed_run_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "model.bin"
    partial_path(target).write_bytes(b"left over from before")
    with atomic_write(target) as partial:
        assert not partial.exists()
        partial.write_bytes(b"new")
    assert target.read_bytes() == b"new"


@pytest.mark.parametrize(
    ("code", "message"),
    [(errno.ENOSPC, "the disk is full"), (errno.EIO, os.strerror(errno.EIO))],
)
def test_failing_disk_is_one_line_and_not_an_input_error(tmp_path: Path, code: int, message: str) -> None:
    target = tmp_path / "model.bin"
    with pytest.raises(Pix2PixError, match=message) as caught, atomic_write(target) as partial:
        partial.write_bytes(b"half")
        raise OSError(code, os.strerror(code))
    assert not isinstance(caught.value, InputError)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Pix2PixError, match="could not be completed"), atomic_write(tmp_path / "model.bin"):
        pass


def test_existing_file_needs_permission_to_overwrite(tmp_path: Path) -> None:
    target = tmp_path / "model.bin"
    target.write_bytes(b"old")
    with pytest.raises(OutputError, match=r"exists already.*--overwrite"):
        check_writable_target(target, overwrite=False)
    check_writable_target(target, overwrite=True)


def test_folder_is_no_target(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"):
        check_writable_target(tmp_path, overwrite=True)


def test_file_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("text")
    target = tmp_path / "notes.txt" / "model.bin"
    with pytest.raises(OutputError, match=r"notes\.txt is not a folder"):
        check_writable_target(target, overwrite=False)
    with pytest.raises(OutputError, match="cannot be written"), atomic_write(target):
        pass


def test_missing_folder_is_fine_and_not_created_by_the_check(tmp_path: Path) -> None:
    check_writable_target(tmp_path / "a" / "b" / "model.bin", overwrite=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root and Windows may write everywhere")
def test_folder_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="no permission"):
            check_writable_target(tmp_path / "model.bin", overwrite=False)
        with pytest.raises(OutputError, match="cannot be written"), atomic_write(tmp_path / "model.bin") as partial:
            partial.write_bytes(b"")
    finally:
        tmp_path.chmod(0o700)
