"""Map tiles as one raster: a pyramid of web tiles (z/x/y.png), or a folder of georeferenced tiles.

A pyramid is read at its deepest zoom. Where tiles are missing or transparent, the raster is transparent.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import pi
from pathlib import Path
from threading import Lock

import numpy as np

from napari_pix2pix.formats import jpeg
from napari_pix2pix.formats.georeference import Georeference, web_mercator
from napari_pix2pix.formats.map_tile_writing import holds_mask, holds_nodata, incompatibility, may_replace, write
from napari_pix2pix.formats.metadata import ImageMetadata
from napari_pix2pix.formats.naming import is_image_path
from napari_pix2pix.formats.source import ImageSource, open_image
from napari_pix2pix.formats.tile_layout import TMS_FILE, MapTile, TileIndex, TileLayout
from pix2pix_training.array_source import AnyArray, Opacity, Region, whole_plane
from pix2pix_training.errors import ImageError
from pix2pix_training.invalid_pixels import OPAQUE, invalid_values

__all__ = [
    "NAME",
    "SUFFIXES",
    "MosaicSource",
    "holds_mask",
    "holds_nodata",
    "incompatibility",
    "is_tile_pyramid",
    "may_replace",
    "open_source",
    "write",
]

NAME = "tiles"
SUFFIXES = ("",)

logger = logging.getLogger(__name__)

_EARTH_RADIUS_M = 6_378_137.0
_OPEN_BYTES = 512 << 20
_BYTES_PER_FILE = 128 << 20
_MOST_OPEN = 128
_OFF_GRID_PX = 0.01

_Pyramid = dict[int, dict[tuple[int, int], str]]
"""For each zoom, the path of each tile by its row from the north and its column."""


class MosaicSource(ImageSource):
    """Tiles of equal type side by side; where several overlap, the first by name is seen."""

    def __init__(
        self, path: Path, first: ImageSource, layout: TileLayout, georeference: Georeference, *, masked: bool
    ) -> None:
        height, width = layout.size
        covered = sum(tile.region.height * tile.region.width for tile in layout.tiles)
        super().__init__(
            path,
            axes="CYX",
            shape=(first.shape[-3], height, width),
            dtype=first.dtype,
            metadata=_metadata(first.metadata, layout, georeference),
            nodata=first.nodata,
            palette=first.palette,
        )
        if covered < height * width / 2:
            logger.warning("%s: tiles cover %.0f %% of their rectangle", path, 100 * covered / (height * width))
        self.masked = masked or not layout.covers_all()
        self._index = TileIndex(layout.tiles)
        self._open = _OpenTiles(path)
        self._lock = Lock()

    def _read(self, region: Region, plane: tuple[int, ...]) -> AnyArray:
        return self._read_with_opacity(region, plane)[0]

    def _read_with_opacity(self, region: Region, plane: tuple[int, ...]) -> tuple[AnyArray, Opacity | None]:
        result = np.full((self.shape[0], region.height, region.width), self.nodata or 0, self.dtype)
        opacity = np.zeros((region.height, region.width), np.uint8)
        for tile in self._index.touching(region):
            part = tile.region.common(region)
            pixels, own_opacity = self._pixels(tile, part)
            inside = part.seen_from(region).slices
            shown = (opacity[inside] == 0) & ~invalid_values(pixels, self.nodata, own_opacity).all(0)
            result[(slice(None), *inside)][:, shown] = pixels[:, shown]
            opacity[inside][shown] = OPAQUE if own_opacity is None else own_opacity[shown]
        return result, opacity if self.masked else None

    def _pixels(self, tile: MapTile, part: Region) -> tuple[AnyArray, Opacity | None]:
        with self._lock:
            image = self._open.get(tile.name)
            expected = (self.shape[0], tile.region.height, tile.region.width)
            if (image.shape, image.dtype) != (expected, self.dtype) or not _same_palette(image, self):
                raise ImageError(
                    f"{image.path} has {image.shape} of {image.dtype}, the tiles before it {expected} of "
                    f"{self.dtype}, or another palette; all tiles must be alike"
                )
            return image.read_with_opacity(part.seen_from(tile.region))

    def close(self) -> None:
        with self._lock:
            self._open.close()


def _same_palette(first: ImageSource, second: ImageSource) -> bool:
    if first.palette is None or second.palette is None:
        return first.palette is second.palette
    return np.array_equal(first.palette, second.palette)


def _metadata(first: ImageMetadata, layout: TileLayout, georeference: Georeference) -> ImageMetadata:
    size = georeference.pixel_size
    return replace(
        first,
        file_format="tiles",
        tiles=layout,
        georeference=georeference,
        pixel_size=size,
        unit=None if size is None else georeference.unit,
    )


class _OpenTiles:
    """The tiles read last, open as long as they fit a budget of bytes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._images: OrderedDict[str, ImageSource] = OrderedDict()
        self._bytes = 0

    def get(self, name: str) -> ImageSource:
        if name not in self._images:
            self._images[name] = open_image(self._folder / name)
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


def is_tile_pyramid(path: Path) -> bool:
    """Whether a folder holds web tiles, z/x/y.png (or another image format)."""
    if not path.is_dir():
        return False
    columns = (column for zoom in _numbered(path) for column in _numbered(zoom))
    return any(_is_tile(file) for column in columns for file in column.iterdir())


def _numbered(folder: Path) -> Iterator[Path]:
    """Subfolders with a number for a name."""
    return (entry for entry in folder.iterdir() if entry.name.isdecimal() and entry.is_dir())


def _is_tile(file: Path) -> bool:
    return file.stem.isdecimal() and is_image_path(file)


def open_source(path: Path) -> MosaicSource:
    """Open a folder of map tiles as one image.

    Raises
    ------
    ImageError
        It holds no tiles, or tiles that do not fit together.
    """
    return _open_pyramid(path) if is_tile_pyramid(path) else _open_georeferenced(path)


def _open_pyramid(path: Path) -> MosaicSource:
    pyramid = _pyramid(path)
    zoom = max(pyramid)
    deepest = pyramid[zoom]
    top, left = min(row for row, _ in deepest), min(column for _, column in deepest)
    with open_image(path / min(deepest.values())) as first:
        size = first.shape[-1]
        if first.axes != "CYX" or first.shape[-2] != size:
            raise ImageError(f"{first.path} is no map tile: its shape is {first.shape}, a square image is needed")
        tiles = [
            MapTile(name, Region(y, y + size, x, x + size))
            for (row, column), name in deepest.items()
            for y, x in [((row - top) * size, (column - left) * size)]
        ]
        pixel_m = 2 * pi * _EARTH_RADIUS_M / (size * 2**zoom)
        half_m = pi * _EARTH_RADIUS_M
        place = web_mercator(
            pixel_size_m=pixel_m, left_m=left * size * pixel_m - half_m, top_m=half_m - top * size * pixel_m
        )
        layout = TileLayout(_by_name(tiles), _parents(path, pyramid), _tms_xml(path))
        return MosaicSource(path, first, layout, place, masked=any(_is_masked(path / tile.name) for tile in tiles))


def _is_masked(file: Path) -> bool:
    if file.suffix.lower() in jpeg.SUFFIXES:
        return False
    with open_image(file) as image:
        return image.masked


def _tms_xml(path: Path) -> str | None:
    return (path / TMS_FILE).read_text(encoding="utf-8") if (path / TMS_FILE).is_file() else None


def _by_name(tiles: Sequence[MapTile]) -> tuple[MapTile, ...]:
    return tuple(sorted(tiles, key=lambda tile: tile.name))


def _pyramid(path: Path) -> _Pyramid:
    from_south = (path / TMS_FILE).is_file()
    pyramid: _Pyramid = {}
    for zoom in _numbered(path):
        level = int(zoom.name)
        for column in _numbered(zoom):
            for file in filter(_is_tile, column.iterdir()):
                row = 2**level - 1 - int(file.stem) if from_south else int(file.stem)
                place = (row, int(column.name))
                name = file.relative_to(path).as_posix()
                if pyramid.setdefault(level, {}).setdefault(place, name) != name:
                    raise ImageError(f"{path} holds two tiles for one place: {pyramid[level][place]} and {name}")
    return pyramid


def _parents(path: Path, pyramid: _Pyramid) -> tuple[tuple[str, tuple[str | None, ...]], ...]:
    """Each tile of a lower zoom with the tiles it is made of (NW, NE, SW, SE), the deeper zooms first."""
    known = dict(pyramid[max(pyramid)])
    parents: list[tuple[str, tuple[str | None, ...]]] = []
    childless = 0
    for zoom in sorted(pyramid, reverse=True)[1:]:
        if zoom + 1 not in pyramid:
            raise ImageError(f"{path} lacks zoom {zoom + 1} between {zoom} and {max(pyramid)}; add it or remove {zoom}")
        made = {}
        for (row, column), name in sorted(pyramid[zoom].items()):
            children = tuple(known.get((2 * row + y, 2 * column + x)) for y in (0, 1) for x in (0, 1))
            if any(children):
                made[row, column] = name
                parents.append((name, children))
            else:
                childless += 1
        known = made
    if childless:
        logger.warning("%s: %d tiles have none of the deepest zoom below them and are left out", path, childless)
    return tuple(parents)


def _open_georeferenced(path: Path) -> MosaicSource:
    files = sorted(filter(is_image_path, path.iterdir()))
    if not files:
        raise ImageError(f"{path} is a folder, not an image file, and holds no map tiles")
    with open_image(files[0]) as first:
        place = _place(first)
        corners = [_corner(file, first, place) for file in files]
        top, left = min(y for y, _, _ in corners), min(x for _, x, _ in corners)
        tiles = [
            MapTile(file.name, Region(y - top, y - top + height, x - left, x - left + width))
            for file, (y, x, (height, width)) in zip(files, corners, strict=True)
        ]
        layout = TileLayout(_by_name(tiles), ())
        return MosaicSource(path, first, layout, place.moved(top, left), masked=any(map(_is_masked, files)))


def _place(image: ImageSource) -> Georeference:
    place = image.metadata.georeference
    if place is None or place.transform is None:
        raise ImageError(f"{image.path} is no georeferenced tile; give a folder of GeoTIFFs, or web tiles z/x/y.png")
    if image.axes != "CYX":
        raise ImageError(f"{image.path} is no map tile: its axes are {image.axes}")
    return place


def _corner(file: Path, first: ImageSource, origin: Georeference) -> tuple[int, int, tuple[int, int]]:
    """Row and column of a tile's first pixel, counted from that of the first tile, and its height and width."""
    with open_image(file) as image:
        place = _place(image)
        if (place.crs, image.nodata) != (origin.crs, first.nodata):
            raise ImageError(f"{file} and {first.path} differ in coordinate system or nodata value")
        y, x = _steps(place, origin)
        on_grid = abs(y - round(y)) <= _OFF_GRID_PX and abs(x - round(x)) <= _OFF_GRID_PX
        if not on_grid or not _same_scale(place, origin, max(image.shape[-2:])):
            raise ImageError(f"{file} does not lie on the pixel grid of {first.path}; resample the tiles to one grid")
        whole = whole_plane(image)
        return round(y), round(x), (whole.height, whole.width)


def _steps(place: Georeference, origin: Georeference) -> tuple[float, float]:
    """Rows and columns from the first pixel of `origin` to that of `place`."""
    assert place.transform is not None
    assert origin.transform is not None
    a, b, c, d, e, f = origin.transform
    across, down = place.transform[2] - c, place.transform[5] - f
    determinant = a * e - b * d
    return (a * down - d * across) / determinant, (e * across - b * down) / determinant


def _same_scale(place: Georeference, origin: Georeference, length_px: int) -> bool:
    """Whether pixels stay on the grid over the length of a tile."""
    assert place.transform is not None
    assert origin.transform is not None
    pixel = max(abs(value) for value in (*origin.transform[:2], *origin.transform[3:5]))
    pairs = zip(place.transform, origin.transform, strict=True)
    drift = [abs(own - other) * length_px for i, (own, other) in enumerate(pairs) if i not in (2, 5)]
    return max(drift) <= _OFF_GRID_PX * pixel
