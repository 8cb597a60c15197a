"""Files and folders that appear under their final name only when they are complete.

The one place where an output gets its name: written as ``NAME.partial`` beside it, flushed to disk, then renamed.
A reader (or the next run after a crash) sees the old file or the new one, never half of either.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pix2pix_training.errors import OutputError, Pix2PixError

PARTIAL_SUFFIX = ".partial"
REPLACED_SUFFIX = ".replaced"
_DISK_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))  # Windows knows no quota error


def partial_path(path: Path) -> Path:
    """Where `path` lies while it is being written: ``NAME.partial`` in the same folder."""
    return path.with_name(path.name + PARTIAL_SUFFIX)


def check_writable_target(path: Path, overwrite: bool, *, replaceable_folder: bool = False) -> None:
    """Refuse an output that could not be written, before any work is done for it. Creates nothing.

    Parameters
    ----------
    replaceable_folder : a folder at `path` may be overwritten, as it is an image and nothing else.

    Raises
    ------
    OutputError
        `path` is a folder, exists without `overwrite`, or its folder cannot be written or created.
    """
    if path.is_dir() and not replaceable_folder:
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
        ``NAME.partial`` beside `path`, not existing yet; the block must create it, as a file or a folder of files that
        it has flushed, and close it.

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
        publish(partial, path)
    except BaseException as error:
        with suppress(OSError):
            remove(partial)
        if isinstance(error, OSError):
            raise write_error(path, error) from error
        raise


def _prepare(partial: Path) -> None:
    """Create the folder, and remove what a killed run may have left."""
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        remove(partial)
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


def publish(partial: Path, path: Path) -> None:
    """Give a complete file or folder its final name, in place of what has it now; return once that is on the disk.

    A file replaces a file in one step. Where one of them is a folder, the old one stands aside under another name
    for a moment.
    """
    sync_to_disk(partial)
    aside = path.with_name(path.name + REPLACED_SUFFIX)
    if path.exists() and (path.is_dir() or partial.is_dir()):
        remove(aside)
        path.rename(aside)
    partial.replace(path)
    sync_to_disk(path.parent)
    remove(aside)


def remove(path: Path) -> None:
    """Remove a file or a folder with all that it holds, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync_to_disk(path: Path) -> None:
    """Return once the content of a file (or, except on Windows, the entries of a folder) is on the disk."""
    if sys.platform == "win32" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
