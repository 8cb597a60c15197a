"""The folder beside an unfinished output that says what it is made from and how far it is: ``NAME.partial.state``.

It holds ``request.json``, the records of finished regions, what is known of the whole image, and the locks. Locks are
those of the operating system: they end with their process, however that ends. Of an output in a bucket, the folder
lies on a disk, see `remote_output`.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any
from uuid import uuid4

from napari_pix2pix.formats.remote import RemotePath
from napari_pix2pix.formats.remote_output import release, state_folder
from napari_pix2pix.formats.source import is_zarr
from pix2pix_training.atomic import WORKING_SUFFIX, atomic_write, check_nameable, partial_path, remove
from pix2pix_training.cancel import Cancel
from pix2pix_training.errors import OutputError, SettingsError
from pix2pix_training.locks import busy, is_locked, locked

logger = logging.getLogger(__name__)

_REQUEST = "request.json"
_COMPLETE = "complete.json"
_SHARED = "shared"
_TILES = "tiles.ome.zarr"
_LOCK = "state.lock"
_POLL_S = 0.05
_MOST_CLAIMS = 10
"""Tries to get the lock of a part, which others that begin may hold for a moment; see `remove_free_locks`."""
_DIGEST_BYTES = 16


@dataclass(frozen=True)
class Part:
    """Part `index` (from 1) of `count` parts of the work, each for a process of its own.

    Every `count`-th region is of a part, counted from `offset`.
    """

    index: int = 1
    count: int = 1
    offset: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise SettingsError(
                f"shard {self.index}/{self.count} does not exist; the first is 1/{max(self.count, 1)}, for as many "
                "processes as the second number says"
            )

    def of(self, regions: int) -> range:
        """Numbers of the regions of this part."""
        return range((self.index - 1 - self.offset) % self.count, regions, self.count)


WHOLE = Part()


@dataclass(frozen=True, kw_only=True)
class Begun:
    """What an unfinished output was begun with.

    Attributes
    ----------
    request : what it is made from, by name.
    plan : how.
    regions : number of them.
    alone : by a process for all of the work.
    run : tells it from one that is begun later under the same name.
    frame : of the canvas, see `Canvas.frame`; None while there is none.
    """

    request: Mapping[str, Any]
    plan: Mapping[str, Any]
    regions: int
    alone: bool
    run: str
    frame: Any = None


def _beside(path: Path) -> Path:
    """The folder for an output on a disk; refuses a name that leaves no room for it (`OutputError`)."""
    folder = path.with_name(partial_path(path).name + ".state")
    check_nameable(path, folder)
    return folder


class OutputState:
    """What lies beside an output while it is made.

    Attributes
    ----------
    path : the output.
    folder : of the state.
    tiles : a store within it, for outputs that are put together at the end.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = state_folder(path) if isinstance(path, RemotePath) else _beside(path)
        self.tiles = self.folder / _TILES

    # --- what it says

    def begun(self) -> Begun | None:
        """None where nothing was begun, or is not known any more."""
        with suppress(OSError, *DAMAGE):
            return Begun(**unsealed_json((self.folder / _REQUEST).read_text(encoding="utf-8")))
        return None

    @property
    def is_complete(self) -> bool:
        """Whether the output has its name, although a process was killed before it could remove what was needed.

        One in a bucket is there when its metadata are, which were removed when it was begun.
        """
        if isinstance(self.path, RemotePath):
            begun = self.begun()
            return begun is not None and begun.frame is not None and is_zarr(self.path)
        return self._noted_complete(self.path)

    def is_written(self, partial: Path) -> bool:
        """Whether a process was killed between completing the output at `partial` and giving it its name."""
        return self._noted_complete(partial)

    def _noted_complete(self, output: Path) -> bool:
        with suppress(OSError, ValueError, RecursionError):
            noted: Any = json.loads((self.folder / _COMPLETE).read_text(encoding="utf-8"))
            return noted is not None and noted == output_identity(output)
        return False

    @property
    def regions_done(self) -> int:
        return len(list((self.folder / RECORDS).glob("*.json")))

    @property
    def keeps_work(self) -> bool:
        """Whether there is anything that would have to be computed again."""
        return self.regions_done > 0 or any((self.folder / _SHARED).glob("*"))

    def kept_in_words(self) -> str | None:
        """How much of an unfinished output is done; None where there is nothing to go on with."""
        begun = self.begun()
        if begun is None or self.is_complete or not self.keeps_work:
            return None
        return f"{self.regions_done} of {begun.regions} regions of {self.path} are done"

    # --- how it changes

    def begin(self, request: Mapping[str, Any], plan: Mapping[str, Any], regions: int, *, alone: bool) -> Begun:
        """Note what an output is made from, in the place of all that was known before."""
        self.clear()
        return self._noted(Begun(request=request, plan=plan, regions=regions, alone=alone, run=uuid4().hex))

    def note_frame(self, begun: Begun, frame: Any) -> None:
        """Add what a canvas was begun with."""
        self._noted(replace(begun, frame=frame))

    def _noted(self, begun: Begun) -> Begun:
        """As it is read back."""
        with atomic_write(self.folder / _REQUEST) as partial:
            partial.write_text(sealed_json(asdict(begun)), encoding="utf-8")
        stored = self.begun()
        if stored is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.folder))
        return stored

    def discard(self, *, overwrite: bool) -> None:
        """Make room for a new beginning; work is thrown away only where that was asked for."""
        done = self.kept_in_words()
        if done is not None and not overwrite:
            raise OutputError(f"{done} already; add --resume to go on with them, or --overwrite to start again")
        if done is not None:
            logger.warning("%s already, which is thrown away: --overwrite was given without --resume", done)

    def note_complete(self, output: Path) -> None:
        """From here on, what has this identity under the final name is the complete output."""
        with atomic_write(self.folder / _COMPLETE) as partial:
            partial.write_text(json.dumps(output_identity(output)), encoding="utf-8")

    def clear(self) -> None:
        """Remove everything but the locks, last of all what says whether the output is complete."""
        last = (_REQUEST, _COMPLETE)
        for entry in self.folder.iterdir() if self.folder.is_dir() else ():
            if entry.suffix != ".lock" and entry.name not in last:
                remove(entry)
        for name in last:
            remove(self.folder / name)

    def remove_free_locks(self) -> None:
        """Those that a killed process has left."""
        for file in self.folder.glob("*.lock"):
            with suppress(OSError, OutputError), locked(file, self.path):
                pass

    def remove_if_empty(self) -> None:
        with suppress(OSError):
            self.folder.rmdir()

    def strangers(self) -> list[Path]:
        """What is there of a user's own."""
        if not self.folder.is_dir():
            return [self.folder] if self.folder.exists() else []
        return [entry for entry in self.folder.iterdir() if not _is_own(entry.name)]

    # --- who works on it

    @contextmanager
    def claimed(self, part: Part) -> Iterator[None]:
        """Hold the lock of a part. Other parts of as many may be made at the same time, but no others."""
        with ExitStack() as stack:
            for is_last_try in (number == _MOST_CLAIMS for number in range(1, _MOST_CLAIMS + 1)):
                try:
                    stack.enter_context(locked(self.folder / _lock_name(part), self.path))
                    break
                except OutputError:
                    if is_last_try:
                        raise
                    time.sleep(_POLL_S)
            alike = f"-of-{part.count}.lock"
            if any(is_locked(other) for other in self._other_parts(part) if not other.name.endswith(alike)):
                raise busy(self.path)
            yield

    def is_claimed(self, part: Part) -> bool:
        """Whether somebody holds the lock of a part now."""
        return is_locked(self.folder / _lock_name(part))

    def others_at_work(self, part: Part) -> bool:
        return any(map(is_locked, self._other_parts(part)))

    def _other_parts(self, part: Part) -> list[Path]:
        return [file for file in self.folder.glob("part-*.lock") if file.name != _lock_name(part)]

    @contextmanager
    def alone(self, cancel: Cancel, name: str = _LOCK) -> Iterator[None]:
        """Hold a lock that others hold for a time."""
        with ExitStack() as stack:
            while True:
                try:
                    stack.enter_context(locked(self.folder / name, self.path))
                    break
                except OutputError:
                    cancel.check()
                    time.sleep(_POLL_S)
            yield

    def shared(self, name: str, make: Callable[[], bytes], check: Callable[[], None], cancel: Cancel) -> bytes:
        """What `make` gives: made by one of the processes, while the others wait, and kept.

        `check` raises where it cannot be kept.
        """
        file = self.folder / _SHARED / name
        known = _unsealed(file)
        if known is not None:
            return known
        with self.alone(cancel, f"{name}.lock"):
            known = _unsealed(file)
            if known is None:
                check()
                known = make()
                check()
                with atomic_write(file) as partial:
                    partial.write_bytes(_sealed(known))
        return known


def output_identity(path: Path) -> list[int] | None:
    """Tells a complete output from another one under its name, and stays when it is renamed; None where none is."""
    try:
        stat = (path / "zarr.json" if path.is_dir() else path).stat()
    except OSError:
        return None
    return [stat.st_ino, stat.st_size, stat.st_mtime_ns]


def _is_own(name: str) -> bool:
    """Whether that is what things in the folder are called."""
    suffixes = (".lock", WORKING_SUFFIX, ".cog.tif", ".cog.tif.vrt")
    return name in (RECORDS, _SHARED, _REQUEST, _COMPLETE, _TILES) or name.endswith(suffixes)


def _lock_name(part: Part) -> str:
    return f"part-{part.index}-of-{part.count}.lock"


def _sealed(content: bytes) -> bytes:
    return blake2b(content, digest_size=_DIGEST_BYTES).digest() + content


def _unsealed(file: Path) -> bytes | None:
    """What was sealed; None where that is missing or damaged."""
    try:
        stored = file.read_bytes()
    except OSError:
        return None
    content = stored[_DIGEST_BYTES:]
    return content if stored == _sealed(content) else None


RECORDS = "regions"
"""Folder of the records, within the state."""


DAMAGE = (ValueError, KeyError, TypeError, RecursionError)
"""What `unsealed_json` raises of a damaged text."""


def sealed_json(content: Mapping[str, Any]) -> str:
    """A table as text, with a checksum of it."""
    return json.dumps({**content, "checksum": _checksum(content)}, indent=1)


def unsealed_json(text: str) -> dict[str, Any]:
    """The inverse of `sealed_json`."""
    content: Any = json.loads(text)
    if not isinstance(content, dict) or content.pop("checksum") != _checksum(content):
        raise ValueError("the checksum is that of another content")
    return content


def _checksum(content: Mapping[str, Any]) -> str:
    return blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class RegionRecord:
    """A finished region: what is noted of its parts, in their order, and what else is known of it, ready for JSON."""

    notes: Sequence[Any]
    facts: Mapping[str, Any]


class RegionRecords:
    """The records of all processes that make an output, in a folder of its state; `count` is the number of regions."""

    def __init__(self, state: Path, count: int) -> None:
        self._folder = state / RECORDS
        self._count = count

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.json"

    def write(self, number: int, record: RegionRecord) -> None:
        """Note a finished region; returns when that is on the disk."""
        with atomic_write(self._path(number)) as partial:
            partial.write_text(sealed_json({"parts": record.notes, "facts": record.facts}), encoding="utf-8")

    def read(self, number: int) -> RegionRecord | None:
        """The record of a region, None where there is none that can be read."""
        with suppress(OSError, *DAMAGE):
            entry = unsealed_json(self._path(number).read_text(encoding="utf-8"))
            return RegionRecord(list(entry["parts"]), dict(entry["facts"]))
        return None

    def remove(self, number: int) -> None:
        self._path(number).unlink(missing_ok=True)

    def noted(self) -> set[int]:
        """Numbers of all regions that have a record, without a look at it."""
        with suppress(FileNotFoundError):
            names = (entry.name.removesuffix(".json") for entry in os.scandir(self._folder))
            return {int(name) for name in names if name.isdecimal() and int(name) < self._count}
        return set()


def is_begun(path: Path) -> bool:
    """Whether an unfinished output of that name can be gone on with."""
    state = OutputState(path)
    return state.begun() is not None and not state.is_complete


def is_there(path: Path) -> bool:
    """Whether there is an output; of one in a bucket, objects alone do not make it."""
    if not isinstance(path, RemotePath):
        return path.exists()
    try:
        return is_zarr(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error


def holds_result(path: Path, replaces: list[int] | None) -> bool:
    """Whether there is a complete output, and not the one of the identity `replaces`, which is to give way to it."""
    return is_there(path) and not is_begun(path) and output_identity(path) != replaces


def kept_in_words(path: Path) -> str | None:
    """How much of an unfinished output is done; None where there is nothing to go on with."""
    return OutputState(path).kept_in_words()


def clear_completed(path: Path) -> None:
    """Remove what a process that was killed has left beside an output that was complete already."""
    state = OutputState(path)
    if state.is_complete:
        begun = state.begun()
        if begun is not None and isinstance(path, RemotePath):
            release(path, begun.run)
        elif begun is not None and (begun.alone or path.is_dir()):
            remove(partial_path(path))  # what the output has taken the place of
        state.clear()
    if state.begun() is None:
        state.remove_free_locks()
    state.remove_if_empty()


def require_own(state: OutputState) -> None:
    """What lies where the unfinished output is to be, but was not begun by this program, is a user's."""
    if state.begun() is not None:
        return
    partial = partial_path(state.path)
    in_the_way = not isinstance(partial, RemotePath) and partial.exists()
    strangers = [*([partial] if in_the_way else []), *state.strangers()]
    if strangers:
        raise OutputError(
            f"{strangers[0]} is in the way of {state.path.name}, and is no unfinished output that this program can go "
            "on with; rename or remove it"
        )
