"""What tells an image from others, so that work on one is never gone on with on another: its content above all."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from napari_pix2pix.formats.source import ImageSource, damage_reported

_WHOLE_BYTES = 64 << 20
"""Up to here all of a file counts, and when it was changed does not; of larger ones samples, and when."""
_SAMPLES = 64
_SAMPLE_BYTES = 1 << 20


def image_identity(source: ImageSource) -> list[Any]:
    """Of an open image, ready for JSON: of all files that hold it, and which image in them it is."""
    identity: list[Any] = []
    for path in source.files:
        with damage_reported(path):
            identity.append(file_identity(path))
    return [*identity, *([source.series] if source.series else [])]


def file_identity(path: Path) -> list[Any]:
    """Of a file, or of a folder that holds an image, ready for JSON: name, size and content.

    Of more than 64 MB, samples of the content and the times of change.
    """
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    stats = [file.stat() for file in files]
    total = sum(stat.st_size for stat in stats)
    digest = blake2b(digest_size=16)
    for file, stat in zip(files, stats, strict=True):
        digest.update(f"{file.relative_to(path).as_posix()} {stat.st_size}\n".encode())
        if total > _WHOLE_BYTES:
            digest.update(f"{stat.st_mtime_ns}\n".encode())
    for file, start, length in _pieces(files, [stat.st_size for stat in stats]):
        with file.open("rb") as opened:
            opened.seek(start)
            digest.update(opened.read(length))
    return [path.name, total, digest.hexdigest()]


def _pieces(files: Sequence[Path], sizes: Sequence[int]) -> list[tuple[Path, int, int]]:
    """Parts of files to be read, each with its start and length: evenly spread over all of them, with both ends."""
    total = sum(sizes)
    if total <= _WHOLE_BYTES:
        return [(file, 0, size) for file, size in zip(files, sizes, strict=True)]
    starts = [number * (total - _SAMPLE_BYTES) // (_SAMPLES - 1) for number in range(_SAMPLES)]
    pieces, before = [], 0
    for file, size in zip(files, sizes, strict=True):
        pieces += [(file, start - before, _SAMPLE_BYTES) for start in starts if before <= start < before + size]
        before += size
    return pieces
