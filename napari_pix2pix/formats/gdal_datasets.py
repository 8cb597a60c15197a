"""Datasets of rasterio, which is imported when the first is opened: with little cache, one for each thread.

A dataset of GDAL must not be used by two threads at once, so that each reader borrows one of its own.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from pix2pix_training.errors import ImageError

if TYPE_CHECKING:
    import rasterio

_CACHE_MEGABYTES = "64"
"""Decoded blocks that GDAL keeps, of all datasets together; its own default is 5 % of the memory."""


def use_rasterio() -> None:
    """Import rasterio for the first time; what it logs, and says of images without a place, is said by this program."""
    os.environ.setdefault("GDAL_CACHEMAX", _CACHE_MEGABYTES)
    from rasterio.errors import NotGeoreferencedWarning

    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
    logging.getLogger("rasterio").addHandler(logging.NullHandler())


def check_name(path: Path) -> None:
    """Raise `ImageError` where a path is no text, so that GDAL cannot open it."""
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError as error:
        raise ImageError(f"{path}: this name is not UTF-8, which GDAL needs of GeoTIFFs; rename the file") from error


def open_dataset(path: Path, *options: Any, **named_options: Any) -> Any:
    """Open a local file by ``rasterio.open``.

    Raises
    ------
    ImageError
        See `check_name`.
    """
    check_name(path)
    use_rasterio()
    import rasterio

    return rasterio.open(path.absolute(), *options, **named_options)


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[rasterio.DatasetReader]:
    """A dataset to read, closed in the end."""
    with open_dataset(path, **options) as dataset:
        yield dataset


class DatasetPool:
    """As many datasets of one file as there are threads that read it at the same time."""

    def __init__(self, path: Path, **options: Any) -> None:
        self._path = path
        self._options = options
        self._idle: list[rasterio.DatasetReader] = []
        self._lock = Lock()
        self._closed = False

    @contextmanager
    def borrowed(self) -> Iterator[rasterio.DatasetReader]:
        """A dataset that no other thread uses meanwhile."""
        with self._lock:
            dataset = self._idle.pop() if self._idle else None
        dataset = dataset or open_dataset(self._path, **self._options)
        try:
            yield dataset
        finally:
            with self._lock:
                self._idle.append(dataset)
            if self._closed:
                self.close()

    def close(self) -> None:
        """Close those that nobody uses now, and the others when they are given back."""
        self._closed = True
        with self._lock:
            while self._idle:
                self._idle.pop().close()
