"""Many files as one raster: tiles of equal type side by side, transparent where there are none."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Lock

import numpy as np

from napari_pix2pix.formats.georeference import Georeference
from napari_pix2pix.formats.metadata import ImageMetadata
from napari_pix2pix.formats.source import ImageSource, open_image
from napari_pix2pix.formats.tile_layout import MapTile, TileIndex, TileLayout
from pix2pix_training.array_source import AnyArray, Opacity
from pix2pix_training.choices import AlphaChoice
from pix2pix_training.errors import ImageError
from pix2pix_training.invalid_pixels import OPAQUE, invalid_values
from pix2pix_training.regions import Region

logger = logging.getLogger(__name__)

_OPEN_BYTES = 512 << 20
_BYTES_PER_FILE = 128 << 20
_MOST_OPEN = 128
_LONGEST_SIDE = 2**31 - 1


class MosaicSource(ImageSource):
    """Tiles of a folder; where several overlap, the first by name is seen, or where that holds no data the next.

    Parameters
    ----------
    first : one of the tiles; the others are of its type.
    georeference : of the raster; None where it is unknown.
    nodata : the value of all tiles; None where they differ in it.
    masked : whether a tile has pixels without data by other means than `nodata`.
    alpha : what an alpha channel of a tile is; see `open_image`.
    reopen : opens the folder with another choice.
    """

    def __init__(
        self,
        path: Path,
        first: ImageSource,
        layout: TileLayout,
        georeference: Georeference | None,
        *,
        nodata: float | None,
        masked: bool,
        alpha: AlphaChoice,
        reopen: Callable[[AlphaChoice], MosaicSource],
    ) -> None:
        height, width = layout.size
        if max(height, width) > _LONGEST_SIDE:
            raise ImageError(
                f"{path}: its tiles lie so far apart that they span {height} x {width} pixels; check where each lies"
            )
        super().__init__(
            path,
            axes="CYX",
            shape=(first.shape[-3], height, width),
            dtype=first.dtype,
            metadata=_metadata(first.metadata, layout, georeference),
            nodata=nodata,
            palette=first.palette,
        )
        covered = sum(tile.region.height * tile.region.width for tile in layout.tiles)
        if covered < height * width / 2:
            logger.warning("%s: tiles cover %.0f %% of their rectangle", path, 100 * covered / (height * width))
        self.masked = masked or not layout.covers_all()
        self._reopen = reopen
        self._index = TileIndex(layout.tiles)
        self._open = _OpenTiles(path, alpha)
        self._lock = Lock()

    def with_alpha(self, choice: AlphaChoice) -> ImageSource:
        """The same with the alpha of its tiles as `choice` says."""
        if choice == "auto":
            return self
        self.close()
        return self._reopen(choice)

    def _read(self, region: Region, plane: tuple[int, ...]) -> AnyArray:
        return self._read_with_opacity(region, plane)[0]

    def _read_with_opacity(self, region: Region, plane: tuple[int, ...]) -> tuple[AnyArray, Opacity | None]:
        result = np.full((self.shape[0], region.height, region.width), self.nodata or 0, self.dtype)
        opacity = np.zeros((region.height, region.width), np.uint8)
        for tile in self._index.touching(region):
            part = tile.region.common(region)
            pixels, own_opacity = self._pixels(tile, part)
            inside = part.seen_from(region).slices
            shown = (opacity[inside] == 0) & (own_opacity > 0)
            result[(slice(None), *inside)][:, shown] = pixels[:, shown]
            opacity[inside][shown] = own_opacity[shown]
        return result, opacity if self.masked else None

    def _pixels(self, tile: MapTile, part: Region) -> tuple[AnyArray, Opacity]:
        """Pixels of a tile, and how opaque they are; not where they are no data by the tile's own nodata value."""
        with self._lock:
            image = self._open.get(tile.name)
            check_alike(image, self.shape[0], (tile.region.height, tile.region.width), self)
            pixels, opacity = image.read_with_opacity(part.seen_from(tile.region))
        if opacity is None:
            opacity = np.full(pixels.shape[1:], OPAQUE, np.uint8)
        invalid = invalid_values(pixels, image.nodata)
        opacity[invalid.all(0) if image.nodata == self.nodata else invalid.any(0)] = 0
        return pixels, opacity

    def close(self) -> None:
        with self._lock:
            self._open.close()


def check_alike(image: ImageSource, channels: int, size: tuple[int, int], others: ImageSource) -> None:
    """Raise `ImageError` where a tile is not of the type, size and colours of the others."""
    expected = (channels, *size)
    if (image.shape, image.dtype) != (expected, others.dtype) or not _same_palette(image, others):
        raise ImageError(
            f"{image.path} has {image.shape} of {image.dtype}, the tiles before it {expected} of {others.dtype}, or "
            "another palette; all tiles must be alike"
        )


def _same_palette(first: ImageSource, second: ImageSource) -> bool:
    if first.palette is None or second.palette is None:
        return first.palette is second.palette
    return np.array_equal(first.palette, second.palette)


def _metadata(first: ImageMetadata, layout: TileLayout, georeference: Georeference | None) -> ImageMetadata:
    size = None if georeference is None else georeference.pixel_size
    return replace(
        first,
        file_format="tiles",
        tiles=layout,
        georeference=georeference,
        pixel_size=size,
        unit=None if size is None or georeference is None else georeference.unit,
    )


class _OpenTiles:
    """The tiles read last, open as long as they fit a budget of bytes."""

    def __init__(self, folder: Path, alpha: AlphaChoice) -> None:
        self._folder = folder
        self._alpha = alpha
        self._images: OrderedDict[str, ImageSource] = OrderedDict()
        self._bytes = 0

    def get(self, name: str) -> ImageSource:
        if name not in self._images:
            self._images[name] = open_image(self._folder / name, alpha=self._alpha)
            self._bytes += _cost(self._images[name])
        self._images.move_to_end(name)
        while len(self._images) > 1 and (self._bytes > _OPEN_BYTES or len(self._images) > _MOST_OPEN):
            self._drop()
        return self._images[name]

    def _drop(self) -> None:
        image = self._images.popitem(last=False)[1]
        self._bytes -= _cost(image)
        image.close()

    def close(self) -> None:
        while self._images:
            self._drop()


def _cost(image: ImageSource) -> int:
    """Bytes that an open tile may keep decoded."""
    size = image.dtype.itemsize * int(np.prod(image.shape))
    return size if image.decoded_whole else min(size, _BYTES_PER_FILE)
