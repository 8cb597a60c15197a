"""Files and folders that appear under their final name only when they are complete, with one writer at a time.

The one place where an output gets its name. It is written in a hidden folder beside it, ``.NAME.pix2pix``, flushed to
disk, then renamed. A reader (or the next run after a crash) sees the old output or the new one, never half of either.
That folder is the only thing that is ever cleared without being asked, and its lock holds off other processes.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from tempfile import mkdtemp
from threading import get_ident

from pix2pix_training.errors import OutputError, Pix2PixError
from pix2pix_training.locks import busy, is_locked, locked

logger = logging.getLogger(__name__)

_PARTIAL_SUFFIX = ".partial"
WORKING_SUFFIX = ".pix2pix"
_TEMPORARY_PREFIX = "pix2pix-"
_LOCK = "lock"
_REPLACED = "replaced"
_LONGEST_NAME_BYTES = 200
_DISK_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))  # Windows knows no quota error
_BROKEN_DISK = (*_DISK_FULL, errno.EIO)
_NO_FLUSH_HERE = (errno.EINVAL, errno.ENOTSUP, errno.EACCES)

_unfinished: dict[Path, tuple[Path, int]] = {}
"""Working folders of this process, the outputs that they are for, and the threads that write them."""
_temporary: set[Path] = set()


def partial_path(path: Path) -> Path:
    """Where an output that is made region by region lies until it is complete: ``NAME.partial`` in the same folder."""
    return path.with_name(path.name + _PARTIAL_SUFFIX)


def working_folder(path: Path) -> Path:
    """The hidden folder beside `path` in which `atomic_write` keeps what is not complete; there only meanwhile."""
    name = path.name
    if len(os.fsencode(name)) > _LONGEST_NAME_BYTES:
        name = blake2b(os.fsencode(name), digest_size=16).hexdigest()
    return path.with_name(f".{name}{WORKING_SUFFIX}")


def check_writable_target(path: Path, overwrite: bool, *, replaceable_folder: bool = False) -> None:
    """Refuse an output that could not be written, before any work is done for it. Leaves nothing behind.

    An output that a killed run had moved aside is put back first.

    Parameters
    ----------
    replaceable_folder : a folder at `path` may be overwritten, as it is an image and nothing else.

    Raises
    ------
    OutputError
        `path` is a folder, exists without `overwrite`, is being written by another process, or its folder cannot be
        written or created.
    Pix2PixError
        The disk is full or fails.
    """
    with refused(path):
        if path.is_dir() and not replaceable_folder:
            raise OutputError(f"{path} is a folder; give the name of a file")
        _refuse_lost_links(path)
        folder = working_folder(path)
        if _unfinished.get(folder) != (path, get_ident()) and is_locked(folder / _LOCK):
            raise busy(path)
        _require_own(folder)
        _put_back(path, folder)
        _require_free(path, overwrite)
        if path.exists() and not path.is_file() and not path.is_dir():
            raise OutputError(f"{path} is no ordinary file and is not replaced; choose another name")
        _check_folder(path)


@contextmanager
def refused(path: Path) -> Iterator[None]:
    """What the system says while an output at `path` is checked, as errors of `check_writable_target`."""
    try:
        yield
    except OSError as error:
        if error.errno in _BROKEN_DISK:
            raise write_error(path, error) from error
        raise OutputError(f"{path} cannot be written: {error.strerror or error}; choose another name") from error


def check_nameable(path: Path, beside: Path | None = None) -> None:
    """Refuse an output with a name that the disk does not take (`OutputError`), also of what lies `beside` it."""
    with refused(path), suppress(FileNotFoundError, NotADirectoryError):
        _refuse_lost_links(path)
        (beside or path).lstat()


def _require_free(path: Path, overwrite: bool) -> None:
    if not overwrite and _is_there(path):
        raise OutputError(f"{path} exists already; choose another name or allow overwriting (--overwrite)")


def _check_folder(path: Path) -> None:
    """The nearest existing ancestor must be a folder that this user may write to, which is tried."""
    ancestor = next((parent for parent in path.absolute().parents if parent.exists()), path.absolute().parent)
    if not ancestor.is_dir():
        raise OutputError(f"{path} cannot be written: {ancestor} is not a folder")
    try:
        probe = working_folder(ancestor / f"{path.name}.try")  # one that was left by a kill goes with the next try
        probe.mkdir(exist_ok=True)
        probe.rmdir()
    except FileNotFoundError:  # another process has removed it
        return
    except OSError as error:
        if error.errno in _BROKEN_DISK:
            raise
        raise OutputError(
            f"{path} cannot be written: no permission to write in {ancestor} ({error.strerror}); choose another folder"
        ) from error


def _refuse_lost_links(path: Path) -> None:
    """Nothing can be written to a link to nothing, or to itself, nor into a folder that is one."""
    for place in (path, *path.absolute().parents):
        if place.is_symlink() and not place.exists():
            try:
                place.stat()
            except OSError as error:
                leads = "back to itself" if error.errno == errno.ELOOP else "nowhere"
                raise OutputError(
                    f"{path} cannot be written: {place} is a link that leads {leads}; choose another place"
                ) from error


def _require_own(folder: Path) -> None:
    """A working folder that this program has made holds a lock; anything else of its name is a user's."""
    if _is_there(folder) and not (folder / _LOCK).is_file():
        with suppress(OSError):
            folder.rmdir()  # empty: left by a run that was killed just then
        if _is_there(folder) and not (folder / _LOCK).is_file():
            raise OutputError(f"{folder} is in the way and was not made by this program; rename it")


@contextmanager
def atomic_write(path: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Give the path to write to; rename it to `path` when the block ends, remove it when the block fails.

    Parent folders are created. Whatever stood at `path` is replaced in one step, and survives a failure.

    Parameters
    ----------
    overwrite : may replace what stands at `path`. `check_writable_target` asks the same before the work.

    Yields
    ------
    Path
        A path that does not exist yet, of the same file name and on the same disk; the block must create it, as a file
        or a folder of files that it has flushed, and close it.

    Raises
    ------
    OutputError
        Another process is writing `path`, or it exists and may not be replaced.
    Pix2PixError
        Writing failed midway, for example because the disk is full.
    """
    try:
        with _claimed(path) as folder:
            _require_free(path, overwrite)
            partial = folder / path.name
            yield partial
            if not overwrite and _is_there(path):
                raise Pix2PixError(f"{path} was made by another program meanwhile and is left as it is; run again")
            _publish(partial, path, folder)
    except OSError as error:
        raise write_error(path, error) from error


@contextmanager
def reserved(path: Path, overwrite: bool, *, replaceable_folder: bool = False) -> Iterator[None]:
    """Hold off other processes that would write `path` while it is worked for; this thread may write it.

    Raises what `check_writable_target` raises, at once.
    """
    check_writable_target(path, overwrite, replaceable_folder=replaceable_folder)
    with _claimed(path):
        _require_free(path, overwrite)
        yield


@contextmanager
def _claimed(path: Path) -> Iterator[Path]:
    """The working folder of `path`, empty but for its lock, and removed in the end; this thread may claim it again."""
    folder = working_folder(path)
    if _unfinished.get(folder) == (path, get_ident()):
        yield folder
        return
    _refuse_lost_links(path)
    new_folders = _missing_folders(path)
    try:
        _require_own(folder)
        with locked(folder / _LOCK, path):
            _unfinished[folder] = path, get_ident()
            try:
                _clear(folder, path)
                yield folder
            finally:
                with suppress(OSError):
                    _clear(folder, path)
                del _unfinished[folder]
    finally:
        _leave(folder)
        for made in new_folders:
            with suppress(OSError):
                made.rmdir()


def _leave(folder: Path) -> None:
    """Remove a working folder, or mark what could not be removed from it as this program's."""
    try:
        folder.rmdir()
    except FileNotFoundError:
        return
    except OSError:  # not empty, or another process has it by now
        with suppress(OSError):
            (folder / _LOCK).touch()


def _missing_folders(path: Path) -> list[Path]:
    """Folders that have to be made for `path`, the innermost first."""
    with suppress(OSError):
        return [parent for parent in path.parents if not parent.exists()]
    return []


def _is_there(path: Path) -> bool:
    return os.path.lexists(path)


def _clear(folder: Path, path: Path) -> None:
    """Remove what lies in a working folder, after what is needed from it has been put back."""
    _put_back(path, folder)
    for entry in folder.iterdir():
        if entry.name != _LOCK:
            remove(entry)


def _put_back(path: Path, folder: Path) -> None:
    """Give an output its name again that was moved aside for a new one which did not come."""
    aside = folder / _REPLACED
    if aside.exists() and not _is_there(path):
        aside.rename(path)
        logger.warning("%s was put back: a run was killed while it replaced it", path)


def clear_leftovers(path: Path) -> None:
    """Remove what a killed run has left beside an output that is complete, if anything."""
    folder = working_folder(path)
    with suppress(OSError, OutputError):
        _require_own(folder)
        if folder.exists():
            with _claimed(path):
                pass


@contextmanager
def temporary_folder(parent: Path | None = None) -> Iterator[Path]:
    """An empty folder in `parent`, else in the system's place for temporary files; removed in the end.

    Raises
    ------
    Pix2PixError
        None can be made there.
    """
    try:
        folder = Path(mkdtemp(prefix=_TEMPORARY_PREFIX, dir=parent))
    except OSError as error:
        place = parent or "the folder for temporary files (environment variable TMPDIR)"
        raise Pix2PixError(f"{place}: no folder can be made there: {error.strerror or error}") from error
    _temporary.add(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _temporary.discard(folder)


def remove_unfinished() -> None:
    """Remove what this process has not completed, for one that ends at once. Never fails."""
    for folder, (path, _) in list(_unfinished.items()):
        with suppress(OSError):
            _clear(folder, path)
        with suppress(OSError):
            (folder / _LOCK).unlink()
            folder.rmdir()
    for folder in list(_temporary):
        shutil.rmtree(folder, ignore_errors=True)


def write_error(path: Path, error: OSError) -> Pix2PixError:
    """The one-line error for a failed write of `path`."""
    reason = error.strerror or str(error)
    if error.errno in _DISK_FULL:
        reason = "the disk is full; free some space and run again"
    elif error.errno == errno.ENOENT:
        reason = "its folder, or what was written there so far, was removed; run again"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        reason += "; allow writing there and run again, or choose another folder"
    return Pix2PixError(f"{path} could not be completed: {reason}")


def publish(partial: Path, path: Path) -> None:
    """Give a complete file or folder its final name, in place of what has it now; return once that is on the disk.

    A file replaces a file in one step. Where one of them is a folder, they change places in one step where the
    operating system can do that; else the old one stands aside for a moment, and is put back if the new one does not
    come. What was replaced is removed; a process that is killed before may leave it at `partial`.

    Raises
    ------
    OutputError
        Another process is writing `path`.
    OSError
        It cannot be written.
    """
    with _claimed(path) as folder:
        _publish(partial, path, folder)


def _publish(partial: Path, path: Path, folder: Path) -> None:
    sync_to_disk(partial)
    replaced = None
    if not _is_there(path) or not (path.is_dir() or partial.is_dir()):
        partial.replace(path)
    elif _exchange(partial, path):
        replaced = partial
    else:
        replaced = folder / _REPLACED
        path.rename(replaced)
        try:
            partial.rename(path)
        except BaseException:
            replaced.rename(path)
            raise
    sync_to_disk(path.parent)
    if replaced is not None:
        try:
            remove(replaced)
        except OSError as error:
            logger.warning("%s is complete, but what it was before remains at %s: %s", path, replaced, error.strerror)


def _exchange(first: Path, second: Path) -> bool:
    """Let two files or folders change their names in one step; False where that cannot be done here."""
    if sys.platform == "win32":
        return False
    names, library = (os.fsencode(first), os.fsencode(second)), ctypes.CDLL(None)
    if hasattr(library, "renameat2"):  # Linux
        here, exchange = -100, 2
        return bool(library.renameat2(here, names[0], here, names[1], exchange) == 0)
    if hasattr(library, "renamex_np"):  # macOS
        swap = 2
        return bool(library.renamex_np(*names, swap) == 0)
    return False


def remove(path: Path) -> None:
    """Remove a file or a folder with all that it holds, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync_to_disk(path: Path) -> None:
    """Return once the content of a file (or, except on Windows, the entries of a folder) is on the disk."""
    is_folder = path.is_dir()
    if sys.platform == "win32" and is_folder:
        return
    try:
        descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if not is_folder or error.errno not in _NO_FLUSH_HERE:  # some file systems cannot flush folders
            raise
