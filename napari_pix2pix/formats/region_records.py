"""Which regions of an unfinished output are done, and what must be on the disk of them.

Each finished region has a file of its own, written after its pixels lie on the disk, with a note of every part of it
that was written and its checksums. A file that is damaged or does not fit is no evidence, and neither are pixels that
differ from their note.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from pix2pix_training.atomic import atomic_write

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
