"""An output that is made unit by unit, can be gone on with after a kill, and can be shared by several processes.

The units are written to ``NAME.partial``, the unfinished output itself, where its format can be written in any order.
Others, and all that are shared but OME-Zarr, are collected in an OME-Zarr within ``NAME.partial.state``. That folder
also holds what the output is made from (``request.json``), the ledgers of finished units, and the locks. Locks are
those of the operating system: they end with their process, however that ends.
"""

from __future__ import annotations

import json
import logging
import shutil
import struct
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from napari_pix2pix.formats.canvas import Canvas
from napari_pix2pix.formats.ome_zarr_layout import Layout, Unit
from napari_pix2pix.formats.ome_zarr_store import OmeZarrCanvas
from napari_pix2pix.formats.registry import Format, format_named
from napari_pix2pix.formats.unit_ledger import UnitLedger, noted_units
from napari_pix2pix.formats.writing import Tile, check_output, write_image
from pix2pix_training.array_source import AnyArray, Region
from pix2pix_training.atomic import atomic_write, partial_path, publish, remove, sync_to_disk, write_error
from pix2pix_training.errors import OutputError, SettingsError

logger = logging.getLogger(__name__)

_STATE_SUFFIX = ".state"
_REQUEST = "request.json"
_PLAN = "plan"
_FINISHING = "finishing"
_FRAME = "frame"
_STORE_FORMAT = "ome-zarr"
_DAMAGE = (ValueError, IndexError, KeyError, TypeError, struct.error, EOFError, OverflowError)
"""What readers raise where the beginning of a file was changed."""


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
        canvas: Canvas,
        *,
        plan: Mapping[str, Any],
        overwrite: bool,
    ) -> None:
        self._path = path
        self._file_format = file_format
        self._layout = layout
        self._overwrite = overwrite
        self._state = _state_folder(path)
        self._place = _place(path, file_format, shard)
        self.plan = plan
        self.mine = shard.of(list(layout.units()))
        self._canvas = canvas
        self.finished = self._intact().intersection(self.mine)
        self._ledger = UnitLedger(self._state, str(shard.index))

    def _intact(self) -> set[Unit]:
        """The units that some process has finished and that are as it left them. Reads all that was written of them."""
        noted = noted_units(self._state, self._layout)
        return {unit for unit, note in noted.items() if self._canvas.restore(unit.plane, self._region(unit), note)}

    def _region(self, unit: Unit) -> Region:
        return self._layout.shard_region(0, unit.row, unit.column)

    def put(self, unit: Unit, pixels: AnyArray) -> None:
        """Write a unit, shape (C, height, width), and note it as finished."""
        with _writing(self._path):
            self._ledger.add(unit, self._canvas.write_part(unit.plane, self._region(unit), pixels))

    def close(self) -> None:
        self._ledger.close()
        self._canvas.close()

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
            if self._place.is_output:
                self._canvas.finish(self._path)
                self._canvas.close()
                publish(self._place.path, self._path)
            else:
                tiles = self._collected(OmeZarrCanvas(self._place.path, self._layout))
                write_image(self._path, self._layout.spec, tiles, file_format=self._file_format, overwrite=True)
            (self._state / _REQUEST).unlink()
        return True

    def _collected(self, store: OmeZarrCanvas) -> Iterator[Tile]:
        """The finished image, unit by unit."""
        for unit in self._layout.units():
            yield unit.plane, self._region(unit), store.read(unit.plane, self._region(unit))


@dataclass(frozen=True)
class _Place:
    """Where units are written: to the output itself, or to a store in which they wait."""

    path: Path
    format: Format
    is_output: bool

    def begin(self, layout: Layout) -> Canvas:
        """Make it anew, without pixels."""
        assert self.format.begin is not None
        self.format.begin(self.path, layout.spec)
        if self.path.is_file():
            sync_to_disk(self.path)
        return self._open(layout)

    def opened(self, layout: Layout, frame: Any) -> Canvas | None:
        """As an earlier run has left it; None where it is damaged, which makes it worthless.

        Raises
        ------
        OutputError
            A store in which the parts of several processes wait is damaged.
        """
        canvas = None
        with suppress(*_DAMAGE):
            canvas = self._open(layout)
            if list(canvas.frame(frame[0])) == frame:
                return canvas
        if canvas is not None:
            canvas.close()
        if not self.is_output:
            raise OutputError(f"{self.path} is damaged; remove it to start again")
        logger.warning("%s is damaged and is begun again", self.path)
        return None

    def _open(self, layout: Layout) -> Canvas:
        assert self.format.open_canvas is not None
        return self.format.open_canvas(self.path, layout.spec, layout.unit_px)


def _place(path: Path, file_format: str, shard: Shard) -> _Place:
    own, store = format_named(file_format), format_named(_STORE_FORMAT)
    assert own is not None and store is not None
    if own == store or (own.open_canvas is not None and shard.count == 1):
        return _Place(partial_path(path), own, is_output=True)
    return _Place(_state_folder(path) / "tiles.ome.zarr", store, is_output=False)


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
    state, place = _state_folder(path), _place(path, file_format, shard)
    with ExitStack() as stack:
        with _writing(path):
            state.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_locked(path, state, shard))
            with FileLock(state / f"{_FINISHING}.lock"):
                begun = _begun(state) if resume or shard.count > 1 else None
                canvas = None
                if begun is not None and place.path.exists():
                    _check_same(path, begun, request)
                    canvas = place.opened(layout, begun.get(_FRAME))
                if begun is None or canvas is None:
                    _discard(state, place.path)
                    begun = {**request, _PLAN: plan}
                    canvas = _begin(state, place, layout, begun)
                stack.callback(canvas.close)
            output = PartialOutput(path, file_format, layout, shard, canvas, plan=begun[_PLAN], overwrite=overwrite)
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


def _begin(state: Path, place: _Place, layout: Layout, request: Mapping[str, Any]) -> Canvas:
    canvas = place.begin(layout)
    with atomic_write(state / _REQUEST) as partial:
        partial.write_text(json.dumps({**request, _FRAME: canvas.frame()}, indent=1), encoding="utf-8")
    return canvas


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
