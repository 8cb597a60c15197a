"""Where the planes of a TIFF series lie, and regions of them: rows of uncompressed data, or strips and tiles.

The size of a strip or tile is checked before it is decoded, decoded ones are kept in a small cache, and a piece that
the file does not hold is an error, never zeros.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader, FileIO
from math import prod
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_pix2pix.formats.metadata import distinct, sorted_leading
from napari_pix2pix.formats.remote import RemotePath, as_path
from napari_pix2pix.formats.source import MAX_PLANES, check_decode_budget, shown
from pix2pix_training.array_source import AnyArray
from pix2pix_training.errors import ImageError
from pix2pix_training.regions import Region

logger = logging.getLogger(__name__)

CACHE_BYTES = 128 << 20
"""Decoded strips and tiles to keep per file; the last one is kept whatever its size."""

_MAX_OPEN_FILES = 16
_MOST_CHANNELS = 32
_JPEG_COMPRESSIONS = (6, 7, 34892, 33007)


@dataclass(frozen=True, kw_only=True)
class PlaneLayout:
    """How leading axes and channels map to stored planes.

    Attributes
    ----------
    axes : leading axes longer than 1 (any others, then T, then Z) and CYX.
    leading_shape : lengths of the leading axes.
    order : shape (*leading_shape, stored planes per plane); index of each stored plane in the order of the file.
    samples : channels within a stored plane, interleaved (RGBRGB...).
    """

    axes: str
    leading_shape: tuple[int, ...]
    order: NDArray[np.int64]
    samples: int

    @property
    def channels(self) -> int:
        return int(self.order.shape[-1]) * self.samples


def plane_layout(path: Path, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> PlaneLayout:
    """The layout of a series.

    Raises
    ------
    ImageError
        The axes are in an order that cannot be read, or declare more planes than the file holds.
    """
    outer, outer_shape = _outer_axes(path, series)
    _check_planes(path, tif, series, prod(outer_shape))
    _remark_on_channels_last(path, series, outer, outer_shape)
    return _sorted_layout(outer, outer_shape, int(series.keyframe.shaped[4]))


def _outer_axes(path: Path, series: tifffile.TiffPageSeries) -> tuple[str, tuple[int, ...]]:
    """The axes outside of a stored plane, and their lengths.

    Axes of length 1 within and behind it are left out: tifffile writes an array of (H, W, 1) as planes of YX and says
    YXQ. Where no axis is called Y or X, the last ones are the plane.
    """
    letters: str = series.get_axes(squeeze=False)
    lengths = tuple(int(length) for length in series.get_shape(squeeze=False))
    page = series.keyframe
    samples = int(page.shaped[4])
    stored = [page.imagelength, page.imagewidth, *([samples] if samples > 1 else [])]
    y, x = (letters.rfind(letter) for letter in "YX")
    if y == x == -1:
        y, x = len(letters) - len(stored), len(letters) - len(stored) + 1
    plane = [length for i, length in enumerate(lengths) if i in (y, x) or (i > y and length != 1)]
    if not 0 <= y < x or plane != stored:
        raise ImageError(
            f"{path} stores its axes as {letters}; planes of YX, with or without samples, are needed; "
            "save it with Y and X last"
        )
    return letters[:y], lengths[:y]


def _remark_on_channels_last(path: Path, series: Any, outer: str, lengths: tuple[int, ...]) -> None:
    """Many very narrow planes along an axis without a name may be an array with its channels last."""
    height, width = series.keyframe.imagelength, series.keyframe.imagewidth
    if outer[-1:] in ("Q", "I") and width <= _MOST_CHANNELS and min(height, lengths[-1]) >= 2 * width:
        logger.warning(
            "%s is read as %d planes of %d x %d pixels, as it is stored; if these are %d channels of one image, "
            "save it with the channels first",
            path,
            prod(lengths),
            height,
            width,
            width,
        )


def _sorted_layout(outer: str, outer_shape: tuple[int, ...], samples: int) -> PlaneLayout:
    channel_axes = [i for i, letter in enumerate(outer) if letter in "CS"]
    leading = sorted_leading(outer, outer_shape)
    single = [i for i in range(len(outer)) if i not in leading and i not in channel_axes]
    stored = np.arange(prod(outer_shape), dtype=np.int64).reshape(outer_shape)
    leading_shape = tuple(outer_shape[i] for i in leading)
    return PlaneLayout(
        axes=distinct("".join(outer[i] for i in leading)) + "CYX",
        leading_shape=leading_shape,
        order=stored.transpose(*leading, *single, *channel_axes).reshape(*leading_shape, -1),
        samples=samples,
    )


def _check_planes(path: Path, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, declared: int) -> None:
    """Compare the declared planes with what the file can hold, before anything of that size is allocated."""
    page = series.keyframe
    if tif.is_imagej:
        _check_imagej(path, tif, series, declared)
    plane_bytes = page.imagelength * page.imagewidth * page.shaped[4] * np.dtype(page.dtype).itemsize
    if declared > MAX_PLANES:
        raise ImageError(f"{path} declares {shown(declared)} planes; at most {MAX_PLANES} are allowed")
    start = contiguous_start(series)
    if start is not None:
        missing = start + declared * plane_bytes > tif.filehandle.size
    else:
        missing = declared > len(series) * page.shaped[0] or _has_gaps(series)
    if missing:
        raise ImageError(
            f"{path} declares {shown(declared)} planes, some of which are missing; "
            "copy the file again, with all files that belong to it beside it"
        )


def _check_imagej(path: Path, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, declared: int) -> None:
    """Planes that are missing, and a word on those that the lengths of the axes leave out."""
    if series.kind in ("generic", "uniform"):
        raise ImageError(f"{path} lacks planes of the stack that its ImageJ header declares; copy it again")
    images = (tif.imagej_metadata or {}).get("images")
    stored = max(len(tif.pages), images if isinstance(images, int) else 1)
    if stored > declared:
        logger.warning(
            "%s holds %s planes, and the channels, slices and frames in its ImageJ header are %d; only these are read",
            path,
            shown(stored),
            declared,
        )


def contiguous_start(series: tifffile.TiffPageSeries) -> int | None:
    """Offset of the first plane where all lie one behind the other in one file, uncompressed; else None."""
    return series.dataoffset if series.keyframe.is_final and not series.is_multifile else None


def _has_gaps(series: Any) -> bool:
    return any(page is None for page in series)


class PagePixels:
    """The stored planes of a series, each of shape (Y, X, samples); thread-safe."""

    def __init__(self, path: Path, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> None:
        page = series.keyframe
        self._path = path
        self._series = series
        self._separate, _, self._height, self._width, self._samples = page.shaped
        self._stored_dtype = np.dtype(page.dtype).newbyteorder(tif.byteorder)
        self._chunk = _chunk_size(page)
        self._raw = bool(page.is_final)
        self._start = contiguous_start(series)
        self._files = _Files()
        self._cache = _ChunkCache()
        self._lock = Lock()
        self._check(page)

    def _check(self, page: tifffile.TiffPage) -> None:
        """What can be told on opening: the size of a chunk, and that the first and last pages are complete."""
        if not self._raw:
            what = "a tile" if page.is_tiled else "a strip"
            check_decode_budget(self._path, (*self._chunk, self._samples), self._stored_dtype, what)
        if self._start == 0:
            raise _lacking(self._path)
        if self._start is None:
            for index in (0, len(self._series) - 1):
                self._check_complete(self._series[index])

    @property
    def _chunk_count(self) -> int:
        """Strips or tiles of a page."""
        height, width = self._chunk
        return int(self._separate) * -(-self._height // height) * -(-self._width // width)

    def _check_complete(self, page: Any) -> None:
        ends = [page.dataoffsets[0] + page.nbytes] if self._raw else []
        if not self._raw and min(len(page.dataoffsets), len(page.databytecounts)) < self._chunk_count:
            raise ImageError(
                f"{self._path} is damaged: {self._height} x {self._width} pixels are {self._chunk_count} strips or "
                f"tiles, it has {len(page.dataoffsets)}"
            )
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
            if offset == 0 or count == 0:
                raise _lacking(self._path)
            ends += [] if self._raw else [offset + count]
        if max(ends, default=0) > page.parent.filehandle.size:
            raise _cut_short(self._path)

    def read(self, index: int, region: Region) -> AnyArray:
        """Region of stored plane `index`, shape (region.height, region.width, samples), native byte order."""
        if self._start is not None:
            return self._read_rows(self._path, self._start + index * self._plane_bytes, region)
        page_index, sample = divmod(index, self._separate)
        with self._lock:
            page: Any = self._series[page_index]
        if self._raw:
            return self._read_page_rows(page, sample, region)
        return self._read_chunks(page, page_index, sample, region)

    @property
    def _plane_bytes(self) -> int:
        return self._height * self._row_bytes

    @property
    def _row_bytes(self) -> int:
        return self._width * self._samples * self._stored_dtype.itemsize

    def _read_page_rows(self, page: Any, sample: int, region: Region) -> AnyArray:
        if page.dataoffsets[0] == 0:
            raise _lacking(self._path)
        path = as_path(page.parent.filehandle.path)
        return self._read_rows(path, page.dataoffsets[0] + sample * self._plane_bytes, region)

    def _read_rows(self, path: Path, start: int, region: Region) -> AnyArray:
        """Uncompressed rows: in one piece where the region spans the width, else row by row."""
        result = np.empty((region.height, region.width, self._samples), self._stored_dtype)
        first = start + region.y0 * self._row_bytes + region.x0 * self._samples * self._stored_dtype.itemsize
        with self._lock:
            if region.width == self._width:
                self._fill(path, first, _bytes_of(result))
            else:
                for y in range(region.height):
                    self._fill(path, first + y * self._row_bytes, _bytes_of(result[y]))
        return result.astype(self._stored_dtype.newbyteorder("="), copy=False)

    def _fill(self, path: Path, offset: int, target: memoryview) -> None:
        if self._files.read(path, offset, target) < len(target):
            raise _cut_short(self._path)

    def _read_chunks(self, page: Any, page_index: int, sample: int, region: Region) -> AnyArray:
        result = np.empty((region.height, region.width, self._samples), self._stored_dtype.newbyteorder("="))
        for number, y, x in self._chunks_touched(sample, region):
            chunk = self._decoded(page, page_index, number)
            y0, x0 = max(region.y0, y), max(region.x0, x)
            piece = chunk[y0 - y : region.y1 - y, x0 - x : region.x1 - x]
            height, width = piece.shape[:2]
            result[y0 - region.y0 : y0 - region.y0 + height, x0 - region.x0 : x0 - region.x0 + width] = piece
        return result

    def _chunks_touched(self, sample: int, region: Region) -> Iterator[tuple[int, int, int]]:
        """Number of each strip or tile in the page, and the row and column of its first pixel."""
        height, width = self._chunk
        rows, columns = -(-self._height // height), -(-self._width // width)
        for row in range(region.y0 // height, -(-region.y1 // height)):
            for column in range(region.x0 // width, -(-region.x1 // width)):
                yield (sample * rows + row) * columns + column, row * height, column * width

    def _decoded(self, page: Any, page_index: int, number: int) -> AnyArray:
        """Shape (Y, X, samples); at the edges of the image it may be smaller or larger than the image there."""
        with self._lock:
            cached = self._cache.get((page_index, number))
            if cached is not None:
                return cached
            encoded = self._encoded(page, number)
            tables = _jpeg_tables(page)
        decoded: AnyArray = page.keyframe.decode(encoded, number, **tables)[0][0]
        with self._lock:
            self._cache.put((page_index, number), decoded)
        return decoded

    def _encoded(self, page: Any, number: int) -> bytes:
        offset, count = page.dataoffsets[number], page.databytecounts[number]
        if offset == 0 or count == 0:
            raise _lacking(self._path)
        encoded = bytearray(count)
        self._fill(as_path(page.parent.filehandle.path), offset, memoryview(encoded))
        return bytes(encoded)

    def close(self) -> None:
        with self._lock:
            self._files.close()
            self._cache.clear()


def _lacking(path: Path) -> ImageError:
    return ImageError(f"{path} lacks parts of its pixels (empty strips or tiles); save it again in full")


def _cut_short(path: Path) -> ImageError:
    return ImageError(f"{path} is cut short: pixels are missing at its end; copy it again")


def _chunk_size(page: tifffile.TiffPage) -> tuple[int, int]:
    """Height and width of a strip or tile."""
    if page.is_tiled:
        return int(page.tilelength), int(page.tilewidth)
    return max(1, min(int(page.rowsperstrip), int(page.imagelength))), int(page.imagewidth)


def _jpeg_tables(page: Any) -> dict[str, bytes | None]:
    if page.keyframe.compression not in _JPEG_COMPRESSIONS:
        return {}
    return {"jpegtables": page.jpegtables, "jpegheader": page.keyframe.jpegheader}


def _bytes_of(array: AnyArray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


class _Files:
    """The last few files of a series, open for reading."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, FileIO | BufferedReader] = OrderedDict()

    def read(self, path: Path, offset: int, target: memoryview) -> int:
        """Fill `target` with the bytes from `offset` on; the number of bytes that there were."""
        file = self._opened(path)
        file.seek(offset)
        done = 0
        while done < len(target) and (count := file.readinto(target[done:])):
            done += count
        return done

    def _opened(self, path: Path) -> FileIO | BufferedReader:
        if path not in self._open:
            while len(self._open) >= _MAX_OPEN_FILES:
                self._open.popitem(last=False)[1].close()
            is_remote = isinstance(path, RemotePath)  # where not every row should be a request
            self._open[path] = path.open("rb") if is_remote else path.open("rb", buffering=0)
        self._open.move_to_end(path)
        return self._open[path]

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()


class _ChunkCache:
    """Decoded chunks, the least recently used ones dropped first."""

    def __init__(self) -> None:
        self._chunks: OrderedDict[tuple[int, int], AnyArray] = OrderedDict()
        self._bytes = 0

    def get(self, key: tuple[int, int]) -> AnyArray | None:
        if key in self._chunks:
            self._chunks.move_to_end(key)
        return self._chunks.get(key)

    def put(self, key: tuple[int, int], chunk: AnyArray) -> None:
        if key not in self._chunks:
            self._chunks[key] = chunk
            self._bytes += chunk.nbytes
        while self._bytes > CACHE_BYTES and len(self._chunks) > 1:
            self._bytes -= self._chunks.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        self._chunks.clear()
        self._bytes = 0
