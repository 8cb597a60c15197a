"""A tiled, compressed TIFF that fills in any order, each byte written once.

All structure comes first, written by tifffile with empty tables. Compressed tiles follow as they come; at the end the
tables say where they lie, which the TIFF format leaves open.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from pix2pix_training.array_source import AnyArray, Closable

TILE_PX = 256
COMPRESSION = "zstd"

_ZSTD_LEVEL = 1  # on differences, higher levels cost much time and gain nothing
_MOST_WORKERS = 8
_OFFSETS, _LENGTHS, _SUBIFDS = 324, 325, 330
_LONG, _LONG8 = 4, 16
_DIGEST_BYTES = 16


@dataclass(frozen=True)
class TileShape:
    """What the tiles of a file hold.

    Attributes
    ----------
    sizes : height and width of each level of the pyramid.
    planes : number of planes; in the file their pages follow each other.
    pages_per_plane : channels are spread evenly over so many pages.
    channels : of a plane.
    """

    sizes: tuple[tuple[int, int], ...]
    planes: int
    pages_per_plane: int
    channels: int
    dtype: np.dtype[Any]

    def grid(self, level: int) -> tuple[int, int]:
        """Rows and columns of tiles."""
        height, width = self.sizes[level]
        return -(-height // TILE_PX), -(-width // TILE_PX)

    @property
    def pages(self) -> int:
        return self.planes * self.pages_per_plane


class Piece(NamedTuple):
    """Tiles that were written one behind the other: where, how long each, and a checksum of their bytes."""

    start: int
    lengths: Sequence[int]
    digest: str


Square = tuple[int, int, int, int]
"""Level, plane, row and column of a tile."""


def write_structure(path: Path, shape: TileShape, pages: Sequence[dict[str, Any]], *, bigtiff: bool, ome: bool) -> None:
    """Write all directories, without tiles.

    Parameters
    ----------
    pages : further arguments of `TiffWriter.write` for each level.
    """
    count = shape.pages
    with tifffile.TiffWriter(path, bigtiff=bigtiff, byteorder="<", ome=ome) as tif:
        for level, options in enumerate(pages):
            rows, columns = shape.grid(level)
            empty = (b"" for _ in range(count * rows * columns))
            tif.write(
                empty,
                dtype=shape.dtype,
                tile=(TILE_PX, TILE_PX),
                compression=COMPRESSION,
                predictor=predictor(shape.dtype),
                **options,
            )


class TiledTiff(Closable):
    """The tiles of a file that `write_structure` has begun; a context manager.

    Tiles are compressed by threads. What an earlier run has written and is not taken in by `restore` is written over.
    """

    def __init__(self, path: Path, shape: TileShape) -> None:
        self.shape = shape
        self._file = path.open("r+b")
        self._tables = _tables_of(self._file, shape)
        self._first = 0
        self._size = self._end = self._file.seek(0, os.SEEK_END)
        if not all(table.fits(self._size, prod(shape.grid(table.level))) for table in self._tables):
            raise ValueError(f"{path.name}: a table of tiles is damaged")
        grids = [(shape.pages, *shape.grid(level)) for level in range(len(shape.sizes))]
        self._offsets = [np.zeros(grid, np.int64) for grid in grids]
        self._lengths = [np.zeros(grid, np.int64) for grid in grids]
        self._predictor = predictor(shape.dtype)
        self._workers = ThreadPoolExecutor(min(os.cpu_count() or 1, _MOST_WORKERS))
        self._pending: deque[tuple[int, tuple[int, int, int], Future[bytes]]] = deque()
        self._piece: _OpenPiece | None = None

    def frame(self, size: int | None = None) -> tuple[int, str]:
        """How many bytes stand before the tiles (all, where there are no tiles yet), and their checksum.

        Tables are emptied for it; `finish` fills them.
        """
        for table in self._tables:
            table.offsets.write(self._file, np.zeros(table.offsets.count, np.int64))
            table.lengths.write(self._file, np.zeros(table.lengths.count, np.int64))
        self._first = self._end = self._size if size is None else size
        self._file.seek(0)
        return self._end, _digest(self._file, self._end)

    def put(self, level: int, plane: int, row: int, column: int, pixels: AnyArray) -> None:
        """Write a tile of all channels, shape (C, TILE_PX, TILE_PX) or less, which must not change afterwards."""
        missing = [(0, TILE_PX - length) for length in pixels.shape[1:]]
        pixels = np.pad(pixels, ((0, 0), *missing)) if any(after for _, after in missing) else pixels
        for page, samples in enumerate(np.split(np.moveaxis(pixels, 0, -1), self.shape.pages_per_plane, axis=-1)):
            position = (plane * self.shape.pages_per_plane + page, row, column)
            self._pending.append((level, position, self._workers.submit(encode_tile, samples, self._predictor)))
        while len(self._pending) > 2 * _MOST_WORKERS:
            self._store_next()

    def _store_next(self) -> None:
        level, position, future = self._pending.popleft()
        encoded = future.result()
        if self._end < self._size:
            self._size = self._file.truncate(self._end)
        self._file.seek(self._end)
        self._file.write(encoded)
        self._place(level, position, self._end, len(encoded))
        if self._piece is not None:
            self._piece.add(encoded)
        self._end += len(encoded)

    def _place(self, level: int, position: tuple[int, int, int], offset: int, length: int) -> None:
        self._offsets[level][position] = offset
        self._lengths[level][position] = length

    def begin_piece(self) -> None:
        """What is put from now on is a piece, until `finish_piece`."""
        self._store_all()
        self._piece = _OpenPiece(self._end)

    def finish_piece(self) -> Piece:
        """The piece, when it is on the disk."""
        assert self._piece is not None
        self._store_all()
        self._file.flush()
        os.fsync(self._file.fileno())
        piece, self._piece = self._piece.closed(), None
        return piece

    def _store_all(self) -> None:
        while self._pending:
            self._store_next()

    def restore(self, piece: Piece, squares: Sequence[Square]) -> bool:
        """Take in a piece of an earlier run, of the tiles in the order in which they were put; whether it is intact."""
        size = sum(piece.lengths)
        end, until = piece.start + size, max(self._size, self._end)
        fits = self._first <= piece.start <= end <= until and min(piece.lengths, default=0) >= 0
        if not fits or len(piece.lengths) != len(squares) * self.shape.pages_per_plane:
            return False
        self._file.seek(piece.start)
        if _digest(self._file, size) != piece.digest:
            return False
        offset = piece.start
        lengths = iter(piece.lengths)
        for level, plane, row, column in squares:
            for page in range(self.shape.pages_per_plane):
                length = next(lengths)
                self._place(level, (plane * self.shape.pages_per_plane + page, row, column), offset, length)
                offset += length
        self._end = max(self._end, offset)
        return True

    def read(self, square: Square) -> AnyArray:
        """A tile that was put, shape (C, TILE_PX, TILE_PX)."""
        self._store_all()
        self._file.flush()
        level, plane, row, column = square
        pages = []
        for page in range(self.shape.pages_per_plane):
            position = (plane * self.shape.pages_per_plane + page, row, column)
            self._file.seek(int(self._offsets[level][position]))
            encoded = self._file.read(int(self._lengths[level][position]))
            samples = self.shape.channels // self.shape.pages_per_plane
            pages.append(decode_tile(encoded, (TILE_PX, TILE_PX, samples), self.shape.dtype, self._predictor))
        return np.ascontiguousarray(np.moveaxis(np.concatenate(pages, axis=-1), -1, 0))

    def finish(self) -> None:
        """Fill the tables, when all tiles were put."""
        self._store_all()
        self._file.truncate(self._end)
        for table in self._tables:
            table.offsets.write(self._file, self._offsets[table.level][table.page].ravel())
            table.lengths.write(self._file, self._lengths[table.level][table.page].ravel())
        self._file.flush()

    def close(self) -> None:
        """Stop the threads and close the file; tiles that were put and are not in a piece may be missing."""
        self._workers.shutdown(cancel_futures=True)
        with suppress(OSError):  # what counts was flushed before, and has failed there
            self._file.close()


class _OpenPiece:
    def __init__(self, start: int) -> None:
        self._start = start
        self._lengths: list[int] = []
        self._content = blake2b(digest_size=_DIGEST_BYTES)

    def add(self, encoded: bytes) -> None:
        self._lengths.append(len(encoded))
        self._content.update(encoded)

    def closed(self) -> Piece:
        return Piece(self._start, self._lengths, self._content.hexdigest())


def _digest(file: BinaryIO, size: int) -> str:
    content = blake2b(digest_size=_DIGEST_BYTES)
    while size and (block := file.read(min(size, 1 << 20))):
        content.update(block)
        size -= len(block)
    return content.hexdigest()


@dataclass(frozen=True)
class _Entry:
    """Where the numbers of a tag stand in the file, and how."""

    offset: int
    dtype: np.dtype[Any]

    count: int

    def fits(self, size: int, count: int) -> bool:
        """Whether there are so many, within a file of that size."""
        return self.count == count and self.offset + count * self.dtype.itemsize <= size

    def write(self, file: BinaryIO, numbers: NDArray[np.int64]) -> None:
        file.seek(self.offset)
        file.write(numbers.astype(self.dtype).tobytes())


@dataclass(frozen=True)
class _Table:
    level: int
    page: int
    offsets: _Entry
    lengths: _Entry

    def fits(self, size: int, tiles: int) -> bool:
        return self.offsets.fits(size, tiles) and self.lengths.fits(size, tiles)


class _Layout:
    """How a directory is stored, in classic TIFF and in BigTIFF."""

    def __init__(self, file: BinaryIO) -> None:
        self._size = file.seek(0, os.SEEK_END)
        file.seek(2)
        (version,) = struct.unpack("<H", file.read(2))
        big = version == 43
        self.first = 8 if big else 4
        self.number = np.dtype("<u8" if big else "<u4")
        self.count = np.dtype("<u8" if big else "<u2")
        self.entry = np.dtype([("code", "<u2"), ("type", "<u2"), ("count", self.number), ("value", self.number)])

    def read(self, file: BinaryIO, offset: int, dtype: np.dtype[Any], count: int = 1) -> AnyArray:
        file.seek(offset)
        return np.frombuffer(file.read(min(dtype.itemsize * count, self._size)), dtype)


def _tables_of(file: BinaryIO, shape: TileShape) -> list[_Table]:
    """Those of all pages, and of the levels of each, which are its SubIFDs."""
    layout = _Layout(file)
    tables = []
    offset = int(layout.read(file, layout.first, layout.number)[0])
    for page in range(shape.pages):
        entries, start, after = _directory(file, layout, offset)
        tables.append(_table(layout, entries, start, 0, page))
        levels = _values(file, layout, entries, start, _SUBIFDS) if len(shape.sizes) > 1 else ()
        for level, place in enumerate(levels, 1):
            sub_entries, sub_start, _ = _directory(file, layout, int(place))
            tables.append(_table(layout, sub_entries, sub_start, level, page))
        offset = int(layout.read(file, after, layout.number)[0])
    return tables


def _directory(file: BinaryIO, layout: _Layout, offset: int) -> tuple[AnyArray, int, int]:
    """Its entries, the place of the first, and of the link to the next directory."""
    count = int(layout.read(file, offset, layout.count)[0])
    start = offset + layout.count.itemsize
    return layout.read(file, start, layout.entry, count), start, start + count * layout.entry.itemsize


def _entry(layout: _Layout, entries: AnyArray, start: int, code: int) -> _Entry:
    """Where the numbers of a tag stand: in its entry, if they fit there."""
    index = int(np.flatnonzero(entries["code"] == code)[0])
    found = entries[index]
    dtype = np.dtype({3: "<u2", _LONG: "<u4", 13: "<u4", _LONG8: "<u8", 18: "<u8"}[int(found["type"])])
    in_entry = int(found["count"]) * dtype.itemsize <= layout.number.itemsize
    place = start + index * layout.entry.itemsize + 4 + layout.number.itemsize if in_entry else int(found["value"])
    return _Entry(place, dtype, int(found["count"]))


def _values(file: BinaryIO, layout: _Layout, entries: AnyArray, start: int, code: int) -> AnyArray:
    entry = _entry(layout, entries, start, code)
    return layout.read(file, entry.offset, entry.dtype, entry.count)


def _table(layout: _Layout, entries: AnyArray, start: int, level: int, page: int) -> _Table:
    offsets, lengths = (_entry(layout, entries, start, code) for code in (_OFFSETS, _LENGTHS))
    return _Table(level, page, offsets, lengths)


def predictor(dtype: np.dtype[Any]) -> int:
    """The TIFF predictor that suits a type: horizontal differences, the floating point one, or none for bool."""
    return {"b": 1, "f": 3}.get(dtype.kind, 2)


def encode_tile(samples: AnyArray, predictor_tag: int) -> bytes:
    """A tile of shape (Y, X, samples) as its compressed bytes in a little-endian TIFF."""
    little = np.ascontiguousarray(samples, samples.dtype.newbyteorder("<"))
    if predictor_tag == 2:
        little = imagecodecs.delta_encode(little, axis=-2)
    elif predictor_tag == 3:
        little = imagecodecs.floatpred_encode(little, axis=-2)
    elif samples.dtype == np.bool_:
        little = np.packbits(samples, axis=-2)
    return bytes(imagecodecs.zstd_encode(little.tobytes(), _ZSTD_LEVEL))


def decode_tile(encoded: bytes, shape: tuple[int, int, int], dtype: np.dtype[Any], predictor_tag: int) -> AnyArray:
    """The inverse of `encode_tile`, in native byte order."""
    stored = imagecodecs.zstd_decode(encoded)
    if dtype == np.bool_:
        packed = np.frombuffer(stored, np.uint8).reshape(shape[0], -1, shape[2])
        return np.unpackbits(packed, axis=-2, count=shape[1]).astype(np.bool_)
    little = np.frombuffer(stored, dtype.newbyteorder("<")).reshape(shape)
    if predictor_tag == 2:
        little = imagecodecs.delta_decode(little, axis=-2)
    elif predictor_tag == 3:
        little = imagecodecs.floatpred_decode(little, axis=-2)
    return little.astype(dtype, copy=False)
