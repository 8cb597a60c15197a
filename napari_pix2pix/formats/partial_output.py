"""An output that is made region by region, can be gone on with after a kill, and can be shared by several processes.

The regions are written to ``NAME.partial``, the unfinished output itself, where its format can be written in any order;
those of others, and all that are shared but OME-Zarr, wait in an OME-Zarr within the `OutputState`. Whoever finds all
regions recorded verifies them, has those computed again that were damaged, and completes the output.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from napari_pix2pix.formats.ome_zarr_store import OmeZarrCanvas, require_store
from napari_pix2pix.formats.output_state import (
    WHOLE,
    Begun,
    OutputState,
    Part,
    RegionRecord,
    RegionRecords,
    output_identity,
    require_own,
)
from napari_pix2pix.formats.registry import Format, format_named
from napari_pix2pix.formats.remote import RemotePath, reported
from napari_pix2pix.formats.remote_output import CLAIM, claim, release
from napari_pix2pix.formats.tile_grid import Cutting, TileCollector, in_squares
from napari_pix2pix.formats.writing import Canvas, Tile, check_output, written
from pix2pix_training.array_source import AnyArray
from pix2pix_training.atomic import partial_path, publish, remove, sync_to_disk, write_error
from pix2pix_training.cancel import Cancel
from pix2pix_training.errors import OutputError, Pix2PixError
from pix2pix_training.regions import Region

logger = logging.getLogger(__name__)

_STORE_FORMAT = "ome-zarr"
_MOST_VERIFICATIONS = 3
_DAMAGE = (ValueError, IndexError, KeyError, TypeError, struct.error, EOFError, OverflowError, FileNotFoundError)
"""What readers raise where the beginning of a file was changed or is gone."""


class PartialOutput:
    """An unfinished output that this process may write to; made by `open_partial`.

    Attributes
    ----------
    regions : all of them, in the order of their numbers.
    plan : as it was when the output was begun.

    Parameters
    ----------
    canvas : what regions are written to; None where all are there and the output only lacks its name.
    before : see `open_partial`.
    """

    def __init__(
        self,
        state: OutputState,
        place: _Place,
        canvas: Canvas | None,
        cutting: Cutting,
        begun: Begun,
        *,
        before: list[int] | None,
        overwrite: bool,
    ) -> None:
        self.regions = cutting.regions
        self.plan: Mapping[str, Any] = begun.plan
        self._path = state.path
        self._state = state
        self._place = place
        self._canvas = canvas
        self._cutting = cutting
        self._run = begun.run
        self._overwrite = overwrite
        self._before = before
        self._records = RegionRecords(state.folder, len(self.regions))
        self._notes: dict[Region, Any] = {}
        self._collector: TileCollector | None = None
        if canvas is not None and place.is_file:  # it has to be known where its parts lie
            self._lost = {number for number in self._records.noted() if not self._is_intact(number)}
        else:
            self._lost = set()

    def finished(self) -> set[int]:
        """Numbers of the regions that some process has recorded; whether they are intact is found at completion."""
        return self._records.noted() - self._lost

    def facts(self, number: int) -> Mapping[str, Any]:
        """What was recorded of a region; nothing where it is not."""
        record = self._records.read(number)
        return {} if record is None else record.facts

    def begin(self, number: int) -> None:
        """Make ready for the tiles of a region; what was there of it counts no longer."""
        with self._writing():
            self._require()
            self._records.remove(number)
            self._notes = {}
            self._collector = in_squares(
                self._cutting.spec, self._cutting.part_px, partial(self._put, self.regions[number].plane)
            )

    def _put(self, plane: tuple[int, ...], region: Region, pixels: AnyArray) -> None:
        assert self._canvas is not None
        self._notes[region] = self._canvas.write_part(plane, region, pixels)

    def add(self, region: Region, pixels: AnyArray) -> None:
        """Write a tile, shape (samples, height, width), of the region that was begun."""
        assert self._collector is not None
        with self._writing():
            self._collector.add(region, pixels)

    def record(self, number: int, facts: Mapping[str, Any]) -> None:
        """Note that all tiles of a region were written, and what is known of it, ready for JSON."""
        with self._writing():
            self._require()
            notes = [self._notes[part] for part in self._cutting.parts_of(number)]
            self._records.write(number, RegionRecord(notes, facts))
            self._lost.discard(number)

    def shared(self, name: str, make: Callable[[], bytes], cancel: Cancel) -> bytes:
        """What `make` gives: made by one of the processes, while the others wait, and kept with the output."""
        with self._writing():
            return self._state.shared(name, make, self._require, cancel)

    def finish(self, compute: Callable[[int], None], cancel: Cancel) -> bool:
        """Complete the output and give it its name, if the regions of all processes are there; whether that is so.

        Of several processes that finish at the same time, one completes the output.

        Parameters
        ----------
        compute : makes and records a region; called for those that are not as they were recorded.
        """
        with self._writing():
            if self._is_begun() and len(self.finished()) < len(self.regions):
                self._require()
                return False
            with self._state.alone(cancel):
                if not self._is_begun() and output_identity(self._path) not in (None, self._before):
                    return True  # another process has just done it
                self._require()
                if self._canvas is not None:
                    self._verify(compute, cancel)
                self._publish(cancel)
        return True

    def _verify(self, compute: Callable[[int], None], cancel: Cancel) -> None:
        damaged = list(range(len(self.regions)))
        for _ in range(_MOST_VERIFICATIONS):
            damaged = [number for number in damaged if not self._is_intact(number, cancel)]
            if not damaged:
                return
            for number in damaged:
                compute(number)
        raise Pix2PixError(f"{self._path} could not be completed: what is written there changes; check the disk")

    def _is_intact(self, number: int, cancel: Cancel | None = None) -> bool:
        """Whether a region is as it was recorded. Reads all that was written of it."""
        record, parts, plane = self._records.read(number), self._cutting.parts_of(number), self.regions[number].plane
        assert self._canvas is not None
        if record is None or len(record.notes) != len(parts):
            return False
        with suppress(*_DAMAGE):
            for part, note in zip(parts, record.notes, strict=True):
                if cancel is not None:
                    cancel.check()
                if not self._canvas.restore(plane, part, note):
                    return False
            return True
        return False

    def _publish(self, cancel: Cancel) -> None:
        spec, file_format = self._cutting.spec, self._place.output_format
        try:
            check_output(self._path, spec, file_format=file_format, overwrite=self._overwrite)
        except OutputError as error:
            raise Pix2PixError(str(error)) from error  # midway
        if isinstance(self._path, RemotePath):
            assert self._canvas is not None
            self._canvas.finish(self._path)
            release(self._path, self._run)
        elif self._place.is_output:
            if self._canvas is not None:
                self._canvas.finish(self._path)
                self._canvas.close()
                self._note_complete(self._place.path)
            publish(self._place.path, self._path)
        else:
            steps = written(
                self._path,
                spec,
                self._tiles(),
                file_format=file_format,
                overwrite=self._overwrite,
                before_publishing=self._note_complete,
            )
            with closing(steps):
                for _ in steps:
                    cancel.check()
        self._state.clear()

    def _note_complete(self, output: Path) -> None:
        self._require()
        self._state.note_complete(output)

    def _tiles(self) -> Iterator[Tile]:
        """The finished image, in parts."""
        assert isinstance(self._canvas, OmeZarrCanvas)
        for number, place in enumerate(self.regions):
            for part in self._cutting.parts_of(number):
                yield place.plane, part, self._canvas.read(place.plane, part)

    def _is_begun(self) -> bool:
        """Whether the output is still the one that this process has opened."""
        begun = self._state.begun()
        return begun is not None and begun.run == self._run

    def _require(self) -> None:
        """Stop where somebody has removed what was written so far: it might be begun anew, without that."""
        if not self._is_begun():
            raise Pix2PixError(
                f"{self._path} could not be completed: {self._state.folder.name} was removed while it was written; "
                "run again"
            )
        self._place.require()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One clear line where the disk is full, or else cannot be written."""
        try:
            with reported(self._path):
                yield
        except OSError as error:
            raise write_error(self._path, error) from error


@contextmanager
def open_partial(
    path: Path,
    cutting: Cutting,
    *,
    file_format: str,
    request: Mapping[str, Any],
    plan: Mapping[str, Any],
    before: list[int] | None = None,
    part: Part = WHOLE,
    resume: bool = False,
    overwrite: bool = False,
    cancel: Cancel,
) -> Iterator[PartialOutput | None]:
    """Begin an output, or go on with it; None where it is to be gone on with, and another process has completed it.

    Parameters
    ----------
    request : what the output is made from, by name, ready for JSON; to resume it needs the same.
    plan : how, ready for JSON; a resumed output keeps the one that it was begun with.
    before : `output_identity` of what was there when the work was asked for, and is not the result of it.
    part : that of this process. Parts of a shared output always go on with what is there.
    resume : go on with what is there.
    overwrite : throw it away instead, and replace an older complete output. With neither, nothing may be there yet.
    cancel : ends waiting for other processes.

    Raises
    ------
    OutputError
        Another process is writing to this output; it was begun with another request; or it was begun and is neither to
        be resumed nor to be overwritten.
    Pix2PixError
        It cannot be written.
    """
    state, goes_on = OutputState(path), resume or part.count > 1
    with ExitStack() as stack:
        try:
            require_own(state)
            stack.callback(state.remove_if_empty)
            stack.enter_context(state.claimed(part))
            with state.alone(cancel), reported(path):
                begun = former = state.begun()
                is_done = begun is None and goes_on and output_identity(path) not in (None, before)
                if begun is not None and not goes_on:
                    state.discard(overwrite=overwrite)
                    begun = None
                if begun is None and not is_done:
                    begun = state.begin(request, plan, len(cutting.regions), alone=part.count == 1)
                if begun is not None:
                    _check_same(path, begun, request)
                    _claim(state, begun, former)
                    place = _place(state, file_format, begun)
                    place.check_part(path, part)
                    canvas = None
                    if not state.is_written(place.path):
                        canvas = place.opened(cutting, begun.frame) or _made_anew(state, place, cutting, begun, part)
                        stack.callback(canvas.close)
            output = None
            if begun is not None:
                stack.callback(_leave, state, place, part)
                output = PartialOutput(state, place, canvas, cutting, begun, before=before, overwrite=overwrite)
        except OSError as error:
            raise write_error(path, error) from error
        yield output


@dataclass(frozen=True)
class _Place:
    """Where regions are written: to the output itself, or to a store in which they wait."""

    path: Path
    format: Format
    output_format: str
    is_output: bool

    @property
    def is_file(self) -> bool:
        """Written by one process alone."""
        return self.format.name != _STORE_FORMAT

    def check_part(self, path: Path, part: Part) -> None:
        if self.is_file and part.count > 1:
            raise OutputError(
                f"{path} was begun by one process alone, and only one can go on with a file of this format; use "
                "--resume without --shard or --dask"
            )

    def begin(self, cutting: Cutting) -> Canvas:
        """Make it anew, without pixels."""
        assert self.format.begin is not None and self.format.open_canvas is not None
        self.remove()
        self.format.begin(self.path, cutting.spec, cutting.part_px)
        if self.path.is_file():
            sync_to_disk(self.path)
        return self.format.open_canvas(self.path, cutting.spec, cutting.part_px)

    def remove(self) -> None:
        """Remove what is there, but not the claim to it."""
        if isinstance(self.path, RemotePath):
            self.path.remove_below(but=CLAIM)
        else:
            remove(self.path)

    def opened(self, cutting: Cutting, frame: Any) -> Canvas | None:
        """As an earlier run has left it; None where there is none, or it is damaged, which makes it worthless."""
        assert self.format.open_canvas is not None
        with suppress(*_DAMAGE), ExitStack() as stack:
            self.require()
            canvas = self.format.open_canvas(self.path, cutting.spec, cutting.part_px)
            stack.callback(canvas.close)
            if list(canvas.frame(frame[0])) == frame:
                stack.pop_all()
                return canvas
        return None

    def require(self) -> None:
        """Raise `FileNotFoundError` where it was removed; zarr would make the folders anew."""
        if self.is_file:
            self.path.stat()
        else:
            require_store(self.path)


def _claim(state: OutputState, begun: Begun, former: Begun | None) -> None:
    """Tell other machines who writes an output in a bucket; what was begun in vain is forgotten."""
    if isinstance(state.path, RemotePath):
        try:
            claim(state.path, begun.run, None if former is None else former.run)
        except Pix2PixError:
            if former is None:
                state.clear()
            raise


def _place(state: OutputState, file_format: str, begun: Begun) -> _Place:
    own, store = format_named(file_format), format_named(_STORE_FORMAT)
    assert own is not None and store is not None
    if isinstance(state.path, RemotePath):  # nothing can be renamed there
        return _Place(state.path, store, file_format, is_output=True)
    if own == store or (own.open_canvas is not None and begun.alone):
        return _Place(partial_path(state.path), own, file_format, is_output=True)
    return _Place(state.tiles, store, file_format, is_output=False)


def _made_anew(state: OutputState, place: _Place, cutting: Cutting, begun: Begun, part: Part) -> Canvas:
    """Something to write to where there is nothing of use; what was recorded is found missing at completion."""
    if state.keeps_work:
        if state.others_at_work(part):
            raise Pix2PixError(
                f"{place.path} was damaged or removed while others write to it; stop them, and run again"
            )
        logger.warning("%s was damaged or removed and is begun again", place.path)
    canvas = place.begin(cutting)
    state.note_frame(begun, list(canvas.frame()))
    return canvas


def _leave(state: OutputState, place: _Place, part: Part) -> None:
    """Tidy up where nothing was done yet and nobody else is at work.

    Where somebody has removed the output while it was written, what was written since is of no use.
    """
    with suppress(OSError):
        begun = state.begun()
        if begun is None:
            if isinstance(place.path, RemotePath):
                return
            with suppress(FileNotFoundError):
                place.require()
                return
            place.remove()
        elif not state.keeps_work and not state.others_at_work(part):
            place.remove()
            if isinstance(place.path, RemotePath):
                release(place.path, begun.run)
            state.clear()


def _check_same(path: Path, begun: Begun, request: Mapping[str, Any]) -> None:
    for name, value in request.items():
        if begun.request.get(name) != value:
            other = f"other {name}" if name.endswith("s") else f"another {name}"
            raise OutputError(
                f"{path} was begun with {other} and cannot be resumed; give the same as then, another output, "
                "or start again with --overwrite and without --resume"
            )
