"""An output that is made unit by unit, can be gone on with after a kill, and can be shared by several processes.

The units are collected in an OME-Zarr: ``NAME.partial``, where that is what the output will be, else one within
``NAME.partial.state``. That folder also holds what the output is made from (``request.json``), the ledgers of finished
units, and the locks. Locks are those of the operating system: they end with their process, however that ends.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from napari_pix2pix.formats.naming import image_stem
from napari_pix2pix.formats.ome_zarr_layout import Layout, Unit
from napari_pix2pix.formats.ome_zarr_store import OmeZarrStore, create_store
from napari_pix2pix.formats.unit_ledger import UnitLedger, intact_units, noted_units, record_of
from napari_pix2pix.formats.writing import Tile, check_output, write_image
from pix2pix_training.array_source import AnyArray
from pix2pix_training.atomic import atomic_write, partial_path, publish, remove, write_error
from pix2pix_training.errors import OutputError, SettingsError

_STATE_SUFFIX = ".state"
_REQUEST = "request.json"
_PLAN = "plan"
_FINISHING = "finishing"


@dataclass(frozen=True)
class Shard:
    """Part `index` (from 1) of `count` parts of the work, each for a process of its own."""

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise SettingsError(f"shard {self.index}/{self.count} does not exist; the first is 1/{self.count}")

    def of(self, units: list[Unit]) -> list[Unit]:
        """A run of neighbours, so that few tiles are needed by two processes."""
        return units[(self.index - 1) * len(units) // self.count : self.index * len(units) // self.count]


WHOLE = Shard()


class PartialOutput:
    """An unfinished output that this process may write to; made by `open_partial`.

    Attributes
    ----------
    mine : units of this process.
    finished : those of them that were finished, and found intact, when it was opened.
    plan : as it was when the output was begun.
    """

    def __init__(
        self,
        path: Path,
        file_format: str,
        layout: Layout,
        shard: Shard,
        *,
        plan: Mapping[str, Any],
        overwrite: bool,
    ) -> None:
        self._path = path
        self._file_format = file_format
        self._layout = layout
        self._overwrite = overwrite
        self._state, self._store_path = _places(path, file_format)
        self.plan = plan
        self.mine = shard.of(list(layout.units()))
        intact = intact_units(self._state, self._store_path, layout)
        self.finished = intact.intersection(self.mine)
        self._store = OmeZarrStore(self._store_path, layout)
        self._ledger = UnitLedger(self._state, str(shard.index))

    def put(self, unit: Unit, pixels: AnyArray) -> None:
        """Write a unit, shape (C, height, width), and note it as finished."""
        with _writing(self._path):
            files = self._store.write_unit(unit, pixels)
            self._ledger.add(unit, [record_of(self._store_path, file) for file in files])

    def close(self) -> None:
        self._ledger.close()

    def finish(self) -> bool:
        """Complete the output and give it its name, if the units of all processes are there; whether that is so.

        Of several processes that finish at the same time, one completes the output.
        """
        with _writing(self._path), FileLock(self._state / f"{_FINISHING}.lock"):
            if not (self._state / _REQUEST).exists():
                return True  # another process has just done it
            if len(noted_units(self._state, self._layout)) < prod(self._layout.spec.leading_shape) * prod(
                self._layout.grid
            ):
                return False
            check_output(self._path, self._layout.spec, file_format=self._file_format, overwrite=self._overwrite)
            if self._file_format == "ome-zarr":
                self._store.finish(image_stem(self._path))
                publish(self._store_path, self._path)
            else:
                write_image(self._path, self._layout.spec, self._tiles(), file_format=self._file_format, overwrite=True)
            (self._state / _REQUEST).unlink()
        return True

    def _tiles(self) -> Iterator[Tile]:
        """The finished image, unit by unit."""
        for unit in self._layout.units():
            region = self._layout.shard_region(0, unit.row, unit.column)
            yield unit.plane, region, self._store.read(0, unit.plane, region)


@contextmanager
def open_partial(
    path: Path,
    layout: Layout,
    *,
    file_format: str,
    request: Mapping[str, Any],
    plan: Mapping[str, Any],
    shard: Shard,
    resume: bool,
    overwrite: bool,
) -> Iterator[PartialOutput]:
    """Begin an output, or go on with it.

    Parameters
    ----------
    request : what the output is made from, by name, ready for JSON; to resume it needs the same.
    plan : how, ready for JSON; a resumed output keeps the one that it was begun with.
    resume : go on with what is there; else it is thrown away. Parts of a shared output always go on.
    overwrite : the complete output may take the place of an older one.

    Raises
    ------
    OutputError
        Another process is writing to this output, or it was begun with another request.
    Pix2PixError
        It cannot be written.
    """
    state, store = _places(path, file_format)
    with ExitStack() as stack:
        with _writing(path):
            state.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_locked(path, state, shard))
            with FileLock(state / f"{_FINISHING}.lock"):
                begun = _begun(state) if resume or shard.count > 1 else None
                if begun is None or not store.exists():
                    _discard(state, store)
                    _begin(state, store, layout, image_stem(path), {**request, _PLAN: plan})
                    begun = {**request, _PLAN: plan}
            _check_same(path, begun, request)
            output = PartialOutput(path, file_format, layout, shard, plan=begun[_PLAN], overwrite=overwrite)
        stack.callback(output.close)
        yield output
    if not (state / _REQUEST).exists():
        shutil.rmtree(state, ignore_errors=True)


def is_begun(path: Path) -> bool:
    """Whether an unfinished output of that name can be gone on with."""
    return (_state_folder(path) / _REQUEST).exists()


def _state_folder(path: Path) -> Path:
    partial = partial_path(path)
    return partial.with_name(partial.name + _STATE_SUFFIX)


def _places(path: Path, file_format: str) -> tuple[Path, Path]:
    """The state folder, and the store."""
    state = _state_folder(path)
    return state, partial_path(path) if file_format == "ome-zarr" else state / "tiles.ome.zarr"


@contextmanager
def _locked(path: Path, state: Path, shard: Shard) -> Iterator[None]:
    """Hold the lock of this part. A process that does all of the work holds off those that do parts of it."""
    busy = OutputError(f"{path} is being written by another process; wait for it, or give another name")
    lock = FileLock(state / f"writer-{shard.index}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise busy from error
    try:
        others = [other for other in state.glob("writer-*.lock") if other != Path(lock.lock_file)]
        if shard.count == 1 and any(_held(other) for other in others):
            raise busy
        yield
    finally:
        lock.release()


def _held(lock_file: Path) -> bool:
    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def _begun(state: Path) -> dict[str, Any] | None:
    with suppress(OSError, ValueError):
        begun: Any = json.loads((state / _REQUEST).read_text(encoding="utf-8"))
        if isinstance(begun, dict) and _PLAN in begun:
            return begun
    return None


def _discard(state: Path, store: Path) -> None:
    """Remove what an earlier run has left, but not the locks."""
    (state / _REQUEST).unlink(missing_ok=True)
    remove(store)
    for ledger in state.glob("*.jsonl"):
        ledger.unlink()


def _begin(state: Path, store: Path, layout: Layout, name: str, request: Mapping[str, Any]) -> None:
    create_store(store, layout, name)
    with atomic_write(state / _REQUEST) as partial:
        partial.write_text(json.dumps(request, indent=1), encoding="utf-8")


def _check_same(path: Path, begun: Mapping[str, Any], request: Mapping[str, Any]) -> None:
    wanted = json.loads(json.dumps(request))
    for name, value in wanted.items():
        if begun.get(name) != value:
            raise OutputError(
                f"{partial_path(path)} was begun with another {name} and cannot be resumed; give the same as then, or "
                f"remove {_state_folder(path).name} to start again"
            )


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """One clear line where the disk is full, or else cannot be written."""
    try:
        yield
    except OSError as error:
        raise write_error(path, error) from error
