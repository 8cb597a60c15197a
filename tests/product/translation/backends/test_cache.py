"""The folder of engines: one build per key, and a rebuild, never a wrong engine, whatever is wrong with a file."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import stat
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from napari_pix2pix.translation.backends.cache import EngineCache, default_folder
from pix2pix_training.cancel import Interrupted
from pix2pix_training.errors import EngineError

KEY = {"model": "m", "version": "1.7", "gpu": "A", "driver": "13.0", "precision": "fp32", "tile": 256}
posix = pytest.mark.skipif(sys.platform == "win32", reason="file modes of POSIX")


class Builds:
    """Builds that can be told apart, and counted."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> bytes:
        self.count += 1
        return f"build {self.count}".encode()


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines")


def test_built_once_then_found(cache: EngineCache) -> None:
    builds = Builds()
    assert not cache.contains(KEY)
    assert cache.get_or_build(KEY, builds) == b"build 1"
    assert cache.contains(KEY)
    assert cache.get_or_build(dict(reversed(KEY.items())), builds) == b"build 1"


@pytest.mark.parametrize("name", KEY)
def test_any_other_circumstance_is_another_engine(cache: EngineCache, name: str) -> None:
    builds = Builds()
    cache.get_or_build(KEY, builds)
    assert cache.get_or_build({**KEY, name: "other"}, builds) == b"build 2"
    assert cache.get_or_build(KEY, builds) == b"build 1"


@pytest.mark.parametrize(
    "damage",
    [lambda c: c[: len(c) // 2], lambda c: c[:-1] + b"x", lambda c: b"", lambda c: c.replace(b"build 1", b"build x")],
)
def test_damaged_engine_is_built_again(
    cache: EngineCache, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    builds = Builds()
    cache.get_or_build(KEY, builds)
    path = cache.path(KEY)
    path.write_bytes(damage(path.read_bytes()))
    assert cache.get_or_build(KEY, builds) == b"build 2"
    assert "not used" in caplog.text
    assert cache.get_or_build(KEY, builds) == b"build 2"


def test_engine_under_the_name_of_another_is_built_again(cache: EngineCache) -> None:
    builds = Builds()
    cache.get_or_build(KEY, builds)
    other = {**KEY, "gpu": "B"}
    cache.path(KEY).rename(cache.path(other))
    assert cache.get_or_build(other, builds) == b"build 2"


@pytest.mark.parametrize("error", [Interrupted(), EngineError("no"), KeyboardInterrupt()])
def test_failed_build_leaves_nothing(cache: EngineCache, error: BaseException) -> None:
    def build() -> bytes:
        raise error

    with pytest.raises(type(error)):
        cache.get_or_build(KEY, build)
    assert not cache.contains(KEY)
    assert cache.get_or_build(KEY, Builds()) == b"build 1"


def test_longest_unused_engines_go_first(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path / "engines", limit_bytes=3500)
    for number in range(3):
        cache.get_or_build({"n": number}, lambda: bytes(1000))
        os.utime(cache.path({"n": number}), (number, number))
    cache.get_or_build({"n": 0}, Builds())  # used, so no longer the oldest
    cache.get_or_build({"n": 3}, lambda: bytes(1000))
    assert [cache.contains({"n": n}) for n in range(4)] == [True, False, True, True]


def test_engine_beyond_the_limit_is_kept_alone(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path / "engines", limit_bytes=100)
    cache.get_or_build({"n": 0}, lambda: bytes(10))
    cache.get_or_build({"n": 1}, lambda: bytes(1000))
    assert [cache.contains({"n": n}) for n in range(2)] == [False, True]


@posix
def test_folder_and_engines_are_the_owners_only(cache: EngineCache) -> None:
    cache.get_or_build(KEY, Builds())
    modes = {stat.S_IMODE(p.stat().st_mode) for p in cache.folder.iterdir()}
    assert modes == {0o600}
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700


@posix
def test_folder_that_others_can_write_is_not_trusted(cache: EngineCache, caplog: pytest.LogCaptureFixture) -> None:
    builds = Builds()
    cache.get_or_build(KEY, builds)
    cache.folder.chmod(0o777)
    assert cache.get_or_build(KEY, builds) == b"build 2"
    assert "other users" in caplog.text


@posix
def test_folder_that_others_can_read_is_closed(cache: EngineCache) -> None:
    cache.folder.mkdir(parents=True, mode=0o755)
    cache.get_or_build(KEY, Builds())
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700


def test_folder_of_another_user_is_not_trusted(
    cache: EngineCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    builds = Builds()
    cache.get_or_build(KEY, builds)
    monkeypatch.setattr(os, "getuid", lambda: 123456, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache.get_or_build(KEY, builds) == b"build 2"
    assert "another user" in caplog.text


def test_folder_that_cannot_be_made_costs_only_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    builds = Builds()
    cache = EngineCache(tmp_path / "file" / "engines")
    assert cache.get_or_build(KEY, builds) == b"build 1"
    assert cache.get_or_build(KEY, builds) == b"build 2"
    assert "cannot be used" in caplog.text


@pytest.mark.parametrize(
    "number, words", [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "Read-only file system; allow writing there")]
)
def test_full_or_read_only_disk_costs_only_time(
    cache: EngineCache, number: int, words: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("pix2pix_training.atomic.sync_to_disk", refuse)
    assert cache.get_or_build(KEY, Builds()) == b"build 1"
    assert words in caplog.text
    assert not cache.contains(KEY)
    assert not list(cache.folder.glob("*.partial"))


def _build_slowly(folder: Path, log: Path) -> None:
    def build() -> bytes:
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(0.5)
        return b"compiled"

    logging.disable()
    assert EngineCache(folder).get_or_build(KEY, build) == b"compiled"


def test_of_two_processes_one_builds(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    arguments = (tmp_path / "engines", tmp_path / "log")
    processes = [context.Process(target=_build_slowly, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert len((tmp_path / "log").read_text().split()) == 1


def _build_and_die(folder: Path, log: Path) -> None:
    def build() -> bytes:
        log.write_text("building")
        time.sleep(60)
        raise AssertionError("not killed")

    EngineCache(folder).get_or_build(KEY, build)


def test_when_the_builder_is_killed_the_one_that_waits_builds(tmp_path: Path) -> None:
    folder, log = tmp_path / "engines", tmp_path / "log"
    builder = multiprocessing.get_context("spawn").Process(target=_build_and_die, args=(folder, log))
    builder.start()
    while not log.exists():
        assert builder.is_alive()
        time.sleep(0.01)
    results: list[bytes] = []
    waiting = threading.Thread(target=lambda: results.append(EngineCache(folder).get_or_build(KEY, Builds())))
    waiting.start()
    waiting.join(0.2)
    assert not results
    builder.kill()
    builder.join()
    waiting.join(30)
    assert results == [b"build 1"]
    assert EngineCache(folder).contains(KEY)


def test_what_is_discarded_is_built_again(cache: EngineCache) -> None:
    builds = Builds()
    cache.get_or_build(KEY, builds)
    for _ in range(2):
        cache.discard(cache.path(KEY))
    assert cache.get_or_build(KEY, builds) == b"build 2"


def test_the_default_folder_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder().name == "engines"
    assert "napari-pix2pix" in str(default_folder())
