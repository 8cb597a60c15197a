"""Keeps decoded planes in memory while a budget lasts, and only a few files open.

Training takes random patches from many images, many times: a compressed file must not be decoded for each of them,
and thousands of files cannot be open at once.
"""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from pickle import PicklingError
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pix2pix.formats.source import ImageSource, open_image
from pix2pix_training.array_source import AnyArray, Closable, Opacity, whole_plane
from pix2pix_training.choices import AlphaChoice
from pix2pix_training.errors import ImageError
from pix2pix_training.machine import available_memory_bytes
from pix2pix_training.regions import Region

logger = logging.getLogger(__name__)

MAX_OPEN_FILES = 32
_SHARE_OF_AVAILABLE = 4

_Key = tuple[Path, int]
"""A file, and the number of an image in it."""


def _usual_budget() -> int:
    return available_memory_bytes() // _SHARE_OF_AVAILABLE


class PixelCache(Closable):
    """Opens images that share one budget of decoded bytes; thread-safe, and a context manager.

    Parameters
    ----------
    budget_bytes : decoded planes to keep; a quarter of the memory available now by default. Planes that no longer fit
        are read from their file each time.
    alpha : what an alpha channel is; see `open_image`.
    """

    def __init__(self, budget_bytes: int | None = None, alpha: AlphaChoice = "auto") -> None:
        self._asked = budget_bytes
        self._left = _usual_budget() if budget_bytes is None else budget_bytes
        self._planes: dict[tuple[_Key, tuple[int, ...]], tuple[AnyArray, Opacity | None]] = {}
        self._open: OrderedDict[_Key, ImageSource] = OrderedDict()
        self._alpha = alpha
        self._decided: dict[_Key, AlphaChoice] = {}
        self._is_full = False
        self._lock = Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process: the same files, which it opens itself, and its share of the budget.

        Raises
        ------
        PicklingError
            All that was read is kept, so that another process would only decode it again.
        """
        if not self._is_full:
            raise PicklingError("the images are in memory")
        budget = _usual_budget() if self._asked is None else self._asked
        return PixelCache, (budget // (os.cpu_count() or 1), self._alpha), {"_decided": self._decided}

    def open(self, path: Path, series: int = 0) -> CachedSource:
        """Open one of the images in a file; what is wrong with its header is said now, with its pixels on reading.

        Raises
        ------
        ImageError
            See `open_image`.
        """
        with self._lock:
            return CachedSource(self, self._opened((path, series)))

    def read(self, source: CachedSource, region: Region, plane: tuple[int, ...]) -> tuple[AnyArray, Opacity | None]:
        """Like `ArraySource.read_with_opacity`."""
        image_key = (source.path, source.series)
        key = (image_key, plane)
        with self._lock:
            if key not in self._planes:
                image = self._opened(image_key)
                if not self._keep(key, image):
                    return self._read_once(image, region, plane)
            pixels, opacity = self._planes[key]
        return pixels[(slice(None), *region.slices)].copy(), None if opacity is None else opacity[region.slices].copy()

    def _keep(self, key: tuple[_Key, tuple[int, ...]], image: ImageSource) -> bool:
        """Decode a whole plane if it still fits; whether it did."""
        *_, channels, height, width = image.shape
        size = height * width * (channels * image.dtype.itemsize + image.masked)
        if size > self._left:
            self._is_full = True
            return False
        self._planes[key] = image.read_with_opacity(whole_plane(image), key[1])
        self._left -= size
        self._release(image)
        return True

    def _read_once(self, image: ImageSource, region: Region, plane: tuple[int, ...]) -> tuple[AnyArray, Opacity | None]:
        pixels = image.read_with_opacity(region, plane)
        self._release(image)
        return pixels

    def _release(self, image: ImageSource) -> None:
        """Files that are decoded whole would keep their pixels beyond the budget."""
        if image.decoded_whole:
            self._open.pop((image.path, image.series)).close()

    def _opened(self, key: _Key) -> ImageSource:
        if key not in self._open:
            while len(self._open) >= MAX_OPEN_FILES:
                self._open.popitem(last=False)[1].close()
            image = open_image(*key, self._decided.get(key, self._alpha))
            self._open[key] = image
            if self._alpha == "auto":  # decided once, for a file that is opened again and again
                self._decided[key] = "mask" if image.masked else "keep"
        self._open.move_to_end(key)
        return self._open[key]

    def close(self) -> None:
        """Close all files and drop the pixels; sources opened here can still be read, from their files."""
        with self._lock:
            self._planes.clear()
            while self._open:
                self._open.popitem()[1].close()


class CachedSource:
    """An `ArraySource` over a file that a `PixelCache` opens, reads and closes as needed."""

    def __init__(self, cache: PixelCache, image: ImageSource) -> None:
        self._cache = cache
        self.path = image.path
        self.series = image.series
        self.name = image.name
        self.axes = image.axes
        self.shape = image.shape
        self.dtype = image.dtype
        self.nodata = image.nodata
        self.palette = image.palette
        self.channel_names = image.channel_names
        self.masked = image.masked
        self.metadata = image.metadata

    def read(self, region: Region, plane: tuple[int, ...] = ()) -> AnyArray:
        """Pixels of one plane, shape (channels, region.height, region.width), in the stored dtype."""
        return self._cache.read(self, region, plane)[0]

    def read_with_opacity(self, region: Region, plane: tuple[int, ...] = ()) -> tuple[AnyArray, Opacity | None]:
        """The same, and how opaque they are; see `ArraySource`."""
        return self._cache.read(self, region, plane)


def check_alike(images: Sequence[CachedSource]) -> None:
    """One side of all pairs: one palette, and a remark where 0 does not mean the same in all."""
    _share_palette(images)
    white = next((image for image in images if image.metadata.white_is_zero), None)
    black = next((image for image in images if not image.metadata.white_is_zero), None)
    if white is not None and black is not None:
        logger.warning(
            "0 is white in %s and black in %s; values are used as they are stored, so save all images in one way",
            white.path,
            black.path,
        )


def _share_palette(images: Sequence[CachedSource]) -> None:
    """Give all images the longest of their palettes; programs leave out the last colours where they are not used.

    Raises
    ------
    ImageError
        Some have a palette and others have none, or one index means different colours.
    """
    longest = max(images, key=lambda image: -1 if image.palette is None else len(image.palette))
    if longest.palette is None:
        return
    for image in images:
        if image.palette is None:
            raise ImageError(
                f"{longest.path} is an indexed image with a palette and {image.path} is not; save all in the same way"
            )
        _check_same_colours(image, image.palette, longest, longest.palette)
        image.palette = longest.palette


def _check_same_colours(
    image: CachedSource, palette: NDArray[np.uint8], other: CachedSource, longest: NDArray[np.uint8]
) -> None:
    differing = np.flatnonzero((palette != longest[: len(palette)]).any(axis=1))
    if differing.size:
        index = int(differing[0])
        raise ImageError(
            f"colour {index} of the palette is {tuple(palette[index].tolist())} in {image.path} and "
            f"{tuple(longest[index].tolist())} in {other.path}; save all images with the same palette"
        )
