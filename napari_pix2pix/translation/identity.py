"""What tells an image from others, so that work on one is never gone on with on another: its content above all."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from napari_pix2pix.formats.source import ImageSource, damage_reported
from pix2pix_training.array_source import ArraySource, channel_count, plane_indices, plane_size
from pix2pix_training.cancel import Cancel
from pix2pix_training.regions import Region

_WHOLE_BYTES = 64 << 20
"""Up to here all of a file counts, and when it was changed does not; of larger ones samples, and when."""
_SAMPLES = 64
_SAMPLE_BYTES = 1 << 20
_STRIP_BYTES = 1 << 25


def image_identity(source: ImageSource) -> list[Any]:
    """Of an open image, ready for JSON: of all files that hold it, and which image in them it is."""
    identity: list[Any] = []
    for path in source.files:
        with damage_reported(path):
            identity.append(file_identity(path))
    return [*identity, *([source.series] if source.series else [])]


def content_identity(source: ArraySource, cancel: Cancel) -> list[Any]:
    """What tells the content of an image from others, ready for JSON: every pixel counts, its name does not.

    All of it is read, a strip at a time; raises `Interrupted` where `cancel` is set.
    """
    content = blake2b(digest_size=16)
    height, width = plane_size(source)
    rows = max(1, _STRIP_BYTES // max(1, channel_count(source) * width * source.dtype.itemsize))
    for plane in plane_indices(source):
        for strip in Region.whole(height, width).strips(rows):
            cancel.check()
            pixels, opacity = source.read_with_opacity(strip, plane)
            content.update(np.ascontiguousarray(pixels).data)
            content.update(b"" if opacity is None else np.ascontiguousarray(opacity).data)
    return [list(source.shape), source.dtype.name, source.nodata, content.hexdigest()]


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
