"""Makes the k-th open, write, flush, rename, making or removing of a file below a folder fail, as a disk may.

Works within this process, on the functions of `os` and `io` that everything in Python goes through; files that are open
for writing are real files of the operating system whose `write` may fail. What native libraries write by themselves is
not seen here: `no_file_longer_than` reaches that.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from pix2pix_training import atomic

Kind = Literal["open", "read", "write", "flush", "rename", "make", "remove"]


_OF_PYTORCH = "torchinductor"
"""In the names of folders that it makes for itself, once."""


@dataclass(frozen=True)
class Fault:
    """The k-th call of a kind (from 1) fails; a persistent fault stays from then on.

    `error` is a number of `errno`, or None for a lack of memory.
    """

    kind: Kind
    number: int
    error: int | None
    persistent: bool = False

    def __str__(self) -> str:
        name = "MemoryError" if self.error is None else errno.errorcode[self.error]
        return f"{self.kind} {self.number} {name}{' from then on' if self.persistent else ''}"

    def happens_at(self, kind: Kind, counts: Mapping[Kind, int]) -> bool:
        if self.kind != kind:
            return False
        return counts[kind] == self.number or (self.persistent and counts[kind] > self.number)

    def happen(self, path: str) -> None:
        raise MemoryError() if self.error is None else OSError(self.error, os.strerror(self.error), path)


@dataclass(frozen=True)
class Kill:
    """The process is killed before its k-th call (from 1) of any kind that changes something."""

    number: int

    def __str__(self) -> str:
        return f"killed before call {self.number}"

    def happens_at(self, kind: Kind, counts: Mapping[Kind, int]) -> bool:
        return kind != "read" and changes(counts) == self.number

    def happen(self, _path: str) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Limit:
    """No file can grow beyond `length` bytes."""

    length: int

    def __str__(self) -> str:
        return f"no file beyond {self.length} bytes"


def changes(counts: Mapping[Kind, int]) -> int:
    """Number of calls that change something."""
    return sum(counts.values()) - counts.get("read", 0)


@dataclass
class Calls:
    """How many calls there were below `folder`, and whether the fault came to pass."""

    folder: str
    fault: Fault | Kill | None
    counts: Counter[Kind] = field(default_factory=Counter)
    is_hit: bool = False

    def add(self, kind: Kind, path: Any) -> None:
        """Count a call; raises where it is to fail."""
        place = _text(path)
        if place is None or not place.startswith(self.folder) or _OF_PYTORCH in place:
            return
        self.counts[kind] += 1
        if self.fault is not None and self.fault.happens_at(kind, self.counts):
            self.is_hit = True
            self.fault.happen(place)


def _text(path: Any) -> str | None:
    if isinstance(path, int):
        try:
            return str(Path(f"/proc/self/fd/{path}").readlink())
        except OSError:
            return None
    try:
        return os.path.abspath(os.fsdecode(path))  # noqa: PTH100 (as names are given to the functions of `os`)
    except TypeError:
        return None


class _File(io.FileIO):
    """A file whose writes may fail."""

    calls: Calls

    def write(self, content: Any, /) -> int:
        self.calls.add("write", self.fileno())
        return super().write(content)


@contextmanager
def injected(folder: Path, fault: Fault | Kill | None) -> Iterator[Calls]:
    """Within it, `fault` happens to files below `folder`; without one, calls are counted."""
    calls = Calls(f"{folder}{os.sep}", fault)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builtins, "open", _opening(calls, io.open))
        patch.setattr(io, "open", builtins.open)
        patch.setattr(os, "open", _os_open(calls, os.open))
        patch.setattr(os, "fsync", _counted(calls, "flush", os.fsync))
        patch.setattr(os, "mkdir", _counted(calls, "make", os.mkdir))
        for name in ("rename", "replace", "link"):
            patch.setattr(os, name, _counted(calls, "rename", getattr(os, name)))
        for name in ("unlink", "rmdir", "remove"):
            patch.setattr(os, name, _counted(calls, "remove", getattr(os, name)))
        patch.setattr(atomic, "_exchange", _counted(calls, "rename", atomic._exchange))
        yield calls


def _counted(calls: Calls, kind: Kind, function: Callable[..., Any]) -> Callable[..., Any]:
    def counted(path: Any, *arguments: Any, **options: Any) -> Any:
        if options.get("dir_fd") is None:
            calls.add(kind, path)
        return function(path, *arguments, **options)

    return counted


def _os_open(calls: Calls, function: Callable[..., int]) -> Callable[..., int]:
    def opened(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        if options.get("dir_fd") is None:
            calls.add("open" if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) else "read", path)
        return function(path, flags, *arguments, **options)

    return opened


def _opening(calls: Calls, function: Callable[..., Any]) -> Callable[..., Any]:
    def opened(file: Any, mode: str = "r", buffering: int = -1, *arguments: Any, **options: Any) -> Any:
        writes = any(letter in mode for letter in "wax+")
        calls.add("open" if writes else "read", file)
        if not writes or "b" not in mode or options.get("opener") is not None:
            return function(file, mode, buffering, *arguments, **options)
        raw = _File(file, mode.replace("b", "").replace("t", ""), closefd=options.get("closefd", True))
        raw.calls = calls
        if buffering == 0:
            return raw
        return io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)

    return opened


@contextmanager
def no_file_longer_than(length: int) -> Iterator[None]:
    """Within it the operating system refuses to let a file grow beyond `length` bytes, whoever writes it."""
    import resource  # not on Windows

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (length, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
