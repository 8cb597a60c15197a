"""Compressed tiles of a TIFF, waiting in a temporary file until their page is written."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Self

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from pix2pix_training.array_source import AnyArray

TILE_PX = 256
_ZSTD_LEVEL = 1  # on differences, higher levels cost much time and gain nothing
_DEFLATE_LEVEL = 6
_MOST_WORKERS = 8


class TileSpool:
    """Takes tiles in any order and gives them back page by page; compresses in threads. A context manager.

    Parameters
    ----------
    folder : where the temporary file lies, without a name.
    planes : number of planes.
    pages_per_plane : the channels of a tile are spread evenly over so many pages.
    sizes : height and width of each level.
    dtype : of the pixels.
    deflate : compress as every TIFF reader understands, instead of by zstd, which is faster.
    """

    def __init__(
        self,
        folder: Path,
        *,
        planes: int,
        pages_per_plane: int,
        sizes: Sequence[tuple[int, int]],
        dtype: np.dtype[Any],
        deflate: bool = False,
    ) -> None:
        self.sizes = sizes
        self._pages_per_plane = pages_per_plane
        self._predictor = predictor(dtype)
        self._compress = _deflated if deflate else _zstandard
        grids = [(planes * pages_per_plane, -(-height // TILE_PX), -(-width // TILE_PX)) for height, width in sizes]
        self._offsets = [np.zeros(grid, np.int64) for grid in grids]
        self._lengths = [np.zeros(grid, np.int64) for grid in grids]
        self._workers = ThreadPoolExecutor(min(os.cpu_count() or 1, _MOST_WORKERS))
        self._pending: deque[tuple[int, tuple[int, int, int], Future[bytes]]] = deque()
        self._file = TemporaryFile(dir=folder)  # noqa: SIM115
        self.nbytes = 0

    def put(self, level: int, plane: int, row: int, column: int, square: AnyArray) -> None:
        """Keep a tile of all channels, shape (C, TILE_PX, TILE_PX), which must not change afterwards."""
        first = plane * self._pages_per_plane
        for index, samples in enumerate(np.split(np.moveaxis(square, 0, -1), self._pages_per_plane, axis=-1)):
            encoded = self._workers.submit(encode_tile, samples, self._predictor, self._compress)
            self._pending.append((level, (first + index, row, column), encoded))
        while len(self._pending) > 2 * _MOST_WORKERS:
            self._store_next()

    def _store_next(self) -> None:
        level, position, future = self._pending.popleft()
        encoded = future.result()
        self._offsets[level][position] = self.nbytes
        self._lengths[level][position] = len(encoded)
        self.nbytes += self._file.write(encoded)

    def finish(self) -> None:
        """Wait for the tiles that are still being compressed; afterwards `nbytes` is final."""
        while self._pending:
            self._store_next()

    def tiles(self, level: int) -> Iterator[bytes]:
        """All tiles of a level, page by page, in reading order."""
        for offset, length in zip(self._offsets[level].flat, self._lengths[level].flat, strict=True):
            self._file.seek(int(offset))
            yield self._file.read(int(length))

    def lengths(self, level: int) -> NDArray[np.int64]:
        """Bytes of each tile of a level, in the order of `tiles`."""
        return self._lengths[level].ravel()

    @property
    def count(self) -> int:
        """Number of tiles of all levels."""
        return sum(lengths.size for lengths in self._lengths)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._workers.shutdown(cancel_futures=True)
        self._file.close()


def predictor(dtype: np.dtype[Any]) -> int:
    """The TIFF predictor that suits a type: horizontal differences, the floating point one, or none for bool."""
    return {"b": 1, "f": 3}.get(dtype.kind, 2)


def encode_tile(samples: AnyArray, predictor_tag: int, compress: Callable[[bytes], bytes]) -> bytes:
    """A tile of shape (Y, X, samples) as its compressed bytes in a little-endian TIFF."""
    little = np.ascontiguousarray(samples, samples.dtype.newbyteorder("<"))
    if predictor_tag == 2:
        little = imagecodecs.delta_encode(little, axis=-2)
    elif predictor_tag == 3:
        little = imagecodecs.floatpred_encode(little, axis=-2)
    elif samples.dtype == np.bool_:
        little = np.packbits(samples, axis=-2)
    return compress(little.tobytes())


def _zstandard(tile: bytes) -> bytes:
    return bytes(imagecodecs.zstd_encode(tile, _ZSTD_LEVEL))


def _deflated(tile: bytes) -> bytes:
    return bytes(imagecodecs.deflate_encode(tile, _DEFLATE_LEVEL))
