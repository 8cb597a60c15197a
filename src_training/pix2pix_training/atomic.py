"""Files that appear under their final name only when they are complete.

The one place where an output gets its name: written as ``NAME.partial`` beside it, flushed to disk, then renamed.
A reader (or the next run after a crash) sees the old file or the new one, never half of either.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pix2pix_training.errors import OutputError, Pix2PixError

PARTIAL_SUFFIX = ".partial"
_DISK_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))  # Windows knows no quota error


def partial_path(path: Path) -> Path:
    """Where `path` lies while it is being written: ``NAME.partial`` in the same folder."""
    return path.with_name(path.name + PARTIAL_SUFFIX)


def check_writable_target(path: Path, overwrite: bool) -> None:
    """Refuse an output that could not be written, before any work is done for it. Creates nothing.

    Raises
    ------
    OutputError
        `path` is a folder, exists without `overwrite`, or its folder cannot be written or created.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder; give the name of a file")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists already; choose another name or allow overwriting (--overwrite)")
    _check_folder(path)


def _check_folder(path: Path) -> None:
    """The nearest existing ancestor must be a folder that this user may write to."""
    ancestor = next((parent for parent in path.absolute().parents if parent.exists()), path.absolute().parent)
    if not ancestor.is_dir():
        raise OutputError(f"{path} cannot be written: {ancestor} is not a folder")
    if not os.access(ancestor, os.W_OK):
        raise OutputError(f"{path} cannot be written: no permission to write in {ancestor}; choose another folder")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give the path to write to; rename it to `path` when the block ends, remove it when the block fails.

    Parent folders are created. Whatever stood at `path` is replaced, in one step, and survives a failure.
    Whether it may be replaced is for `check_writable_target` to say beforehand.

    Yields
    ------
    Path
        ``NAME.partial`` beside `path`, not existing yet; the block must create it and close it.

    Raises
    ------
    OutputError
        The folder cannot be created or written.
    Pix2PixError
        Writing failed midway, for example because the disk is full.
    """
    partial = partial_path(path)
    _prepare(partial)
    try:
        yield partial
        _publish(partial, path)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise write_error(path, error) from error
        raise


def _prepare(partial: Path) -> None:
    """Create the folder, and remove what a killed run may have left."""
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{partial} cannot be written: {error.strerror or error}; choose another folder") from error


def write_error(path: Path, error: OSError) -> Pix2PixError:
    """The one-line error for a failed write of `path`."""
    reason = error.strerror or str(error)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return OutputError(f"{path} cannot be written: {reason}; choose another folder")
    if error.errno in _DISK_FULL:
        return Pix2PixError(f"{path} could not be completed: the disk is full; free some space and run again")
    return Pix2PixError(f"{path} could not be completed: {reason}")


def _publish(partial: Path, path: Path) -> None:
    sync_to_disk(partial)
    partial.replace(path)
    if sys.platform != "win32":
        sync_to_disk(path.parent)


def sync_to_disk(path: Path) -> None:
    """Return once the content of a file (or, except on Windows, the entries of a folder) is on the disk."""
    descriptor = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
