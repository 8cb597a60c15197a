"""An output appears whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from pix2pix_training import atomic
from pix2pix_training.atomic import (
    atomic_write,
    check_writable_target,
    clear_leftovers,
    publish,
    reserved,
    working_folder,
)
from pix2pix_training.errors import InputError, OutputError, Pix2PixError


def test_file_appears_under_its_final_name_only_when_complete(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "model.bin"
    with atomic_write(target) as partial:
        partial.write_bytes(b"pixels")
        assert partial.name == target.name
        assert partial.parent == working_folder(target) == target.with_name(".model.bin.pix2pix")
        assert not target.exists()
    assert target.read_bytes() == b"pixels"
    assert list(target.parent.iterdir()) == [target]


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
    with atomic_write(target) as partial:
        partial.write_bytes(b"left over from before")
        shutil.copytree(working_folder(target), tmp_path / "killed")
    (tmp_path / "killed").rename(working_folder(target))
    with atomic_write(target) as partial:
        assert not partial.exists()
        partial.write_bytes(b"new")
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("name", ["model.bin.partial", "model.bin.replaced", "model.bin.partial.state"])
def test_what_a_user_has_under_a_name_like_a_partial_one_stays(tmp_path: Path, name: str) -> None:
    folder, file = tmp_path / name, tmp_path / name / "notes.txt"
    folder.mkdir()
    file.write_text("mine")
    for content in (b"first", b"second"):
        with atomic_write(tmp_path / "model.bin") as partial:
            partial.write_bytes(content)
    assert file.read_text() == "mine"


@pytest.mark.parametrize("is_folder", [True, False])
def test_what_a_user_has_in_place_of_the_working_folder_is_refused_in_words(tmp_path: Path, is_folder: bool) -> None:
    target = tmp_path / "model.bin"
    own = working_folder(target) / "mine" if is_folder else working_folder(target)
    own.parent.mkdir(exist_ok=True)
    own.write_text("mine")
    with pytest.raises(OutputError, match="in the way"):
        check_writable_target(target, overwrite=False)
    with pytest.raises(OutputError, match="in the way"), atomic_write(target) as partial:
        partial.write_bytes(b"new")
    assert own.read_text() == "mine"


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_folder_takes_the_place_of_a_folder(
    tmp_path: Path, can_exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not can_exchange:
        monkeypatch.setattr(atomic, "_exchange", lambda *_: False)
    target = tmp_path / "store.zarr"
    for content in ("old", "new"):
        with atomic_write(target) as partial:
            partial.mkdir()
            (partial / "zarr.json").write_text(content)
            assert not target.exists() or (target / "zarr.json").read_text() == "old"
    assert (target / "zarr.json").read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="only these can exchange two names")
def test_folders_change_places_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old or new stands there at every moment: no call removes or moves the old one before."""
    monkeypatch.setattr(Path, "rename", None)
    test_a_folder_takes_the_place_of_a_folder(tmp_path, True, monkeypatch)


def test_killed_between_two_renames_the_old_output_is_put_back_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(atomic, "_exchange", lambda *_: False)
    target = tmp_path / "store.zarr"
    kept = working_folder(target) / "replaced"
    for begin in (_check_folder, _fail_to_write):
        kept.mkdir(parents=True)
        (kept / "zarr.json").write_text("old")
        (working_folder(target) / "lock").touch()
        begin(target)
        assert "store.zarr was put back: a run was killed" in caplog.messages.pop()
        assert (target / "zarr.json").read_text() == "old"
        shutil.rmtree(target)


def _check_folder(target: Path) -> None:
    check_writable_target(target, overwrite=True, replaceable_folder=True)


def _fail_to_write(target: Path) -> None:
    with suppress(ZeroDivisionError), atomic_write(target):
        raise ZeroDivisionError


def test_a_failing_second_rename_leaves_the_old_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "_exchange", lambda *_: False)
    target, partial = tmp_path / "store.zarr", tmp_path / "store.zarr.partial"
    for folder in (target, partial):
        folder.mkdir()
        (folder / "zarr.json").write_text(folder.name)
    rename = Path.rename

    def failing(self: Path, other: Path) -> Path:
        if self == partial:
            raise OSError(errno.EIO, "I/O")
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="I/O"):
        publish(partial, target)
    assert (target / "zarr.json").read_text() == "store.zarr"
    assert sorted(tmp_path.iterdir()) == [target, partial]


def test_a_second_writer_is_refused_at_once(tmp_path: Path) -> None:
    target = tmp_path / "model.bin"
    with reserved(target, overwrite=False):
        with ThreadPoolExecutor(1) as other:
            refused = other.submit(_refusal, target).result(timeout=1)
        assert "is being written by another process" in refused
        with atomic_write(target, overwrite=False) as partial:
            partial.write_bytes(b"mine")
    assert target.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [target]


def _refusal(target: Path) -> str:
    with pytest.raises(OutputError) as early:
        check_writable_target(target, overwrite=True)
    with pytest.raises(OutputError) as late, atomic_write(target):
        pass
    assert str(early.value) == str(late.value)
    return str(late.value)


def test_a_lock_of_a_killed_process_is_no_obstacle(tmp_path: Path) -> None:
    target = tmp_path / "model.bin"
    program = (
        "import os, pathlib, sys; from pix2pix_training.atomic import atomic_write\n"
        "with atomic_write(pathlib.Path(sys.argv[1])) as partial: partial.touch(); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(target)], check=False).returncode == 9
    assert (working_folder(target) / "lock").exists()
    with atomic_write(target, overwrite=False) as partial:
        partial.write_bytes(b"mine")
    assert list(tmp_path.iterdir()) == [target]


def test_leftovers_beside_a_complete_output_are_cleared(tmp_path: Path) -> None:
    target = tmp_path / "model.bin"
    target.write_bytes(b"complete")
    working_folder(target).mkdir()
    (working_folder(target) / "lock").touch()
    (working_folder(target) / "model.bin").write_bytes(b"old")
    clear_leftovers(target)
    assert list(tmp_path.iterdir()) == [target]
    assert target.read_bytes() == b"complete"
    working_folder(target).mkdir()  # killed between the last two steps
    clear_leftovers(target)
    assert list(tmp_path.iterdir()) == [target]
    working_folder(target).mkdir()
    (working_folder(target) / "mine").touch()
    clear_leftovers(target)
    assert (working_folder(target) / "mine").exists()


def test_a_look_at_a_folder_that_was_killed_leaves_nothing_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rmdir", _fail_with(KeyboardInterrupt()))
        check_writable_target(tmp_path / "new" / "model.bin", overwrite=False)
    assert list(tmp_path.iterdir()) != []
    check_writable_target(tmp_path / "new" / "model.bin", overwrite=False)
    assert list(tmp_path.iterdir()) == []


def _fail_with(error: BaseException) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail


def test_what_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "model.bin"
    with pytest.raises(Pix2PixError, match="meanwhile"), atomic_write(target, overwrite=False) as partial:
        partial.write_bytes(b"mine")
        target.write_bytes(b"of another program")
    assert target.read_bytes() == b"of another program"


def test_new_folders_go_with_a_failure(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), atomic_write(tmp_path / "a" / "b" / "model.bin"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_names_as_long_as_they_may_be(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 251 + ".bin")
    check_writable_target(target, overwrite=False)
    with atomic_write(target) as partial:
        partial.write_bytes(b"long")
    assert target.read_bytes() == b"long"
    with pytest.raises(OutputError, match="name too long"):
        check_writable_target(tmp_path / ("n" * 256), overwrite=False)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in folders")
def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="no ordinary file"):
        check_writable_target(tmp_path / "pipe", overwrite=True)


def test_what_is_unfinished_is_removed_by_a_process_that_ends_at_once(tmp_path: Path) -> None:
    with suppress(Pix2PixError), atomic_write(tmp_path / "model.bin") as partial:
        partial.write_bytes(b"half")
        with atomic.temporary_folder(tmp_path) as folder:
            (folder / "tile").touch()
            atomic.remove_unfinished()
            assert list(tmp_path.iterdir()) == []


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
    with pytest.raises(Pix2PixError, match="could not be completed"), atomic_write(target):
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
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT])
def test_permission_lost_midway_is_no_wrong_use(tmp_path: Path, code: int) -> None:
    with pytest.raises(Pix2PixError) as caught, atomic_write(tmp_path / "model.bin"):
        raise OSError(code, os.strerror(code))
    assert not isinstance(caught.value, InputError)
    assert str(caught.value).startswith(f"{tmp_path / 'model.bin'} could not be completed: ")
