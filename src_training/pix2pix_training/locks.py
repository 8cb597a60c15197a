"""One writer at a time: locks of the operating system, which end with their process however it ends.

A lock is an empty file. It is removed when it is let go; one that a killed process has left is free.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pix2pix_training.errors import OutputError

RUN_LOCK = ".pix2pix-run.lock"
"""Of the folder of a run, in it."""
_MOST_TRIES = 100
_LOOK_S = 0.01
_NO_LOCKS_HERE = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)


@contextmanager
def locked(lock_file: Path, output: Path) -> Iterator[None]:
    """Be the only one who writes `output` for the duration of the block, among all processes and threads.

    Parameters
    ----------
    lock_file : created, with its folder, where it is missing. Whatever a file of that name holds stays as it is.
    output : what the lock is for, as the error names it.

    Raises
    ------
    OutputError
        Another one has the lock; said at once, without waiting.
    OSError
        The lock file cannot be created.
    """
    descriptor = _acquired(lock_file)
    if descriptor is None:
        raise busy(output)
    try:
        yield
    finally:
        _release(lock_file, descriptor)


def busy(output: Path) -> OutputError:
    """The error of a second writer."""
    return OutputError(f"{output} is being written by another process; wait for it, or give another name")


def is_locked(lock_file: Path) -> bool:
    """Whether somebody holds a lock now. Creates nothing."""
    try:
        descriptor = os.open(lock_file, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _take(descriptor, shared=True)
    finally:
        os.close(descriptor)


def _acquired(lock_file: Path) -> int | None:
    """A descriptor of the file with the lock on it, None where another one has it."""
    for is_last_try in (number == _MOST_TRIES for number in range(1, _MOST_TRIES + 1)):
        try:
            lock_file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # the last holder has just removed the folder
            if is_last_try:
                raise
            continue
        try:
            taken = _take(descriptor)
            if taken and _is_still(lock_file, descriptor):
                return descriptor
            is_held = not taken and not _take(descriptor, shared=True)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if is_held:
            return None
        if not taken:  # others only look whether it is held; else the last holder has just removed the file
            time.sleep(_LOOK_S)
    return None


def _release(lock_file: Path, descriptor: int) -> None:
    """Remove the file before the lock is let go, so that nobody can hold a lock on a file without a name for long."""
    with suppress(OSError):
        if sys.platform != "win32" and os.fstat(descriptor).st_size == 0:
            lock_file.unlink()
    os.close(descriptor)
    if sys.platform == "win32":  # an open file has to stay there
        with suppress(OSError):
            lock_file.unlink()


def _is_still(lock_file: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(lock_file.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _take(descriptor: int, *, shared: bool = False) -> bool:
        del shared  # not known there
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _take(descriptor: int, *, shared: bool = False) -> bool:
        """Without waiting; shared by all who only look, and by nobody who holds it."""
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            # a file system without locks holds nobody off
            return error.errno in _NO_LOCKS_HERE
        return True
