"""Which units of an unfinished output are done, and what must be on the disk of them.

Each process appends to a file of its own, one line for a unit, with a note of what was written and its checksums. A
line is written after that lies on the disk, so that a killed process leaves at most one unit without its line. Lines
that are cut or do not fit are no evidence.
"""

from __future__ import annotations

import json
import os
from collections.abc import Container
from contextlib import suppress
from pathlib import Path
from typing import Any

from napari_pix2pix.formats.ome_zarr_layout import Layout, Unit

_PREFIX = "units-"


class UnitLedger:
    """The record of one process among those that share a store.

    Parameters
    ----------
    folder : beside the store; holds the files of all processes.
    writer : name of this process among them.
    """

    def __init__(self, folder: Path, writer: str) -> None:
        path = folder / f"{_PREFIX}{writer}.jsonl"
        self._file = path.open("ab")
        if self._file.tell():
            self._file.write(b"\n")  # ends a line that a killed process may have left unfinished

    def add(self, unit: Unit, note: Any) -> None:
        """Note a finished unit, with anything ready for JSON; returns when that is on the disk."""
        entry = {"plane": unit.plane, "row": unit.row, "column": unit.column, "note": note}
        self._file.write(json.dumps(entry).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def noted_units(folder: Path, layout: Layout) -> dict[Unit, Any]:
    """The units that some process has finished, with the last note of each; what was written is not looked at."""
    known: dict[Unit, Any] = {}
    units = set(layout.units())
    for path in sorted(folder.glob(f"{_PREFIX}*.jsonl")):
        with path.open("rb") as file:
            known.update(entry for line in file if (entry := _parsed(line, units)) is not None)
    return known


def _parsed(line: bytes, units: Container[Unit]) -> tuple[Unit, Any] | None:
    with suppress(ValueError, KeyError, TypeError, RecursionError):
        entry: Any = json.loads(line)
        unit = Unit(tuple(map(int, entry["plane"])), int(entry["row"]), int(entry["column"]))
        if unit in units:
            return unit, entry["note"]
    return None
