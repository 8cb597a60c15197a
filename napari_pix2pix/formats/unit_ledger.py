"""Which units of an unfinished output are done, and what their files must contain.

Each process appends to a file of its own, one line for a unit, which names the unit's shards with their sizes and
checksums. A line is written after the shards lie on the disk, so that a killed process leaves at most one unit without
its line. Lines that are cut or do not fit are no evidence, and neither is a shard that differs from its line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from napari_pix2pix.formats.ome_zarr_layout import Layout, Unit

_PREFIX = "units-"
_DIGEST_BYTES = 16
_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class ShardRecord:
    """File of a shard, relative to the store, and its content; no digest for a blank shard, which has no file."""

    key: str
    digest: str | None


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

    def add(self, unit: Unit, shards: Sequence[ShardRecord]) -> None:
        """Note a finished unit; returns when that is on the disk."""
        entry = {
            "plane": unit.plane,
            "row": unit.row,
            "column": unit.column,
            "shards": [[shard.key, shard.digest] for shard in shards],
        }
        self._file.write(json.dumps(entry).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def record_of(store: Path, file: Path) -> ShardRecord:
    """What the file of a shard holds now."""
    return ShardRecord(file.relative_to(store).as_posix(), _digest(file) if file.exists() else None)


def intact_units(folder: Path, store: Path, layout: Layout) -> set[Unit]:
    """Units that some process has finished and whose shards are as it left them. Reads all their files."""
    return {unit for unit, shards in _noted(folder, layout).items() if _intact(store, shards)}


def noted_units(folder: Path, layout: Layout) -> set[Unit]:
    """Units that some process has finished, as noted, without a look at their files."""
    return set(_noted(folder, layout))


def _noted(folder: Path, layout: Layout) -> dict[Unit, tuple[ShardRecord, ...]]:
    """The last line of each unit."""
    known: dict[Unit, tuple[ShardRecord, ...]] = {}
    for path in sorted(folder.glob(f"{_PREFIX}*.jsonl")):
        with path.open("rb") as file:
            known.update(entry for line in file if (entry := _parsed(line, layout)) is not None)
    return known


def _parsed(line: bytes, layout: Layout) -> tuple[Unit, tuple[ShardRecord, ...]] | None:
    with suppress(ValueError, KeyError, TypeError):
        entry: Any = json.loads(line)
        unit = Unit(tuple(map(int, entry["plane"])), int(entry["row"]), int(entry["column"]))
        shards = tuple(ShardRecord(str(key), digest) for key, digest in entry["shards"])
        if [shard.key for shard in shards] == list(unit_keys(layout, unit)):
            return unit, shards
    return None


def unit_keys(layout: Layout, unit: Unit) -> Iterator[str]:
    """Files of a unit's shards, relative to the store."""
    return (layout.shard_key(level, unit) for level in range(layout.unit_levels))


def _intact(store: Path, shards: Sequence[ShardRecord]) -> bool:
    return all(record_of(store, store / shard.key) == shard for shard in shards)


def _digest(file: Path) -> str:
    content = blake2b(digest_size=_DIGEST_BYTES)
    with file.open("rb") as opened:
        while block := opened.read(_READ_BYTES):
            content.update(block)
    return content.hexdigest()
