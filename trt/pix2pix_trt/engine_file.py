"""One file for a compiled generator: what it was compiled from and for, and the compiled bytes, sealed by a checksum.

Layout: 8 bytes of magic, the length of the header (8 bytes, little-endian), the header in JSON, the compiled bytes, and
the SHA-256 of all of these (32 bytes). A file that was cut, altered, or made by another version is never used.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pix2pix_training.atomic import atomic_write
from pix2pix_training.errors import EngineFileError

SUFFIX = ".engine"
_MAGIC = b"PIX2PIX\x01"
_SEAL_BYTES = 32
_MAX_HEADER_BYTES = 1_000_000
_OWNER_ONLY = 0o600


@dataclass(frozen=True, kw_only=True)
class EngineFile:
    """`key` is everything that the compiled bytes depend on, in JSON values; `sha256` that of the whole file."""

    key: Mapping[str, Any]
    payload: bytes
    sha256: str


def write_engine_file(path: Path, key: Mapping[str, Any], payload: bytes) -> EngineFile:
    """Write atomically, readable by the owner only.

    Raises
    ------
    OutputError, Pix2PixError
        The folder cannot be written; the disk is full.
    """
    header = json.dumps(key, sort_keys=True).encode()
    start = _MAGIC + len(header).to_bytes(8, "little") + header
    seal = hashlib.sha256(start)
    seal.update(payload)
    whole = seal.copy()
    whole.update(seal.digest())
    with atomic_write(path) as partial, _owner_only(partial) as file:
        for part in (start, payload, seal.digest()):
            file.write(part)
    return EngineFile(key=key, payload=payload, sha256=whole.hexdigest())


def read_engine_file(path: Path, *, sha256: str | None = None) -> EngineFile:
    """Read a file and check its seal, and against `sha256` where that is known.

    Raises
    ------
    EngineFileError
        The file is missing, cut, altered, or none of ours.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EngineFileError(f"{path} cannot be read ({error.strerror or error}); give a compiled engine") from error
    if not content.startswith(_MAGIC[:7]):
        raise EngineFileError(f"{path} is not a compiled engine of this program; give a file made by `compile`")
    if not content.startswith(_MAGIC):
        raise EngineFileError(f"{path} was made by another version of this program; compile the model again")
    body = memoryview(content)[:-_SEAL_BYTES]
    if len(content) < 16 + _SEAL_BYTES or hashlib.sha256(body).digest() != content[-_SEAL_BYTES:]:
        raise EngineFileError(f"{path} is damaged or was altered (its checksum differs); compile the model again")
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256.lower():
        raise EngineFileError(f"{path} has SHA-256 {found}, not {sha256}; use the file that was compiled for you")
    header_bytes = int.from_bytes(content[8:16], "little")
    if header_bytes > min(_MAX_HEADER_BYTES, len(body) - 16):
        raise EngineFileError(f"{path} has no valid header; compile the model again")
    return EngineFile(
        key=json.loads(content[16 : 16 + header_bytes]), payload=bytes(body[16 + header_bytes :]), sha256=found
    )


def _owner_only(path: Path) -> BinaryIO:
    return os.fdopen(
        os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), _OWNER_ONLY), "wb"
    )
