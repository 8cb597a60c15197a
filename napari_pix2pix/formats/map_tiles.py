"""Map tiles as one raster, and a raster as map tiles: a pyramid for the web (z/x/y.png), or a folder of GeoTIFFs.

A pyramid is read at its deepest zoom. An output has the same tiles as its input, by name, format and place; those of
lower zooms are made anew.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_pix2pix.formats import jpeg, writing
from napari_pix2pix.formats.georeference import Affine, Georeference
from napari_pix2pix.formats.image_files import is_image_path
from napari_pix2pix.formats.mosaic import MosaicSource, check_alike
from napari_pix2pix.formats.ome_xml import parsed_xml
from napari_pix2pix.formats.opacity import with_opacity
from napari_pix2pix.formats.pyramid import halved, halved_by_opacity
from napari_pix2pix.formats.source import ImageSource, open_image
from napari_pix2pix.formats.tiff import SUFFIXES as TIFF_SUFFIXES
from napari_pix2pix.formats.tile_grid import TileCollector, collect
from napari_pix2pix.formats.tile_layout import TMS_FILE, MapTile, TileIndex, TileLayout
from napari_pix2pix.formats.writing import OutputSpec, Steps, Tile, format_of_suffix, known_suffix, write_image
from pix2pix_training.array_source import AnyArray, plane_size, whole_plane
from pix2pix_training.atomic import sync_to_disk
from pix2pix_training.choices import AlphaChoice
from pix2pix_training.errors import ImageError
from pix2pix_training.regions import Region

if TYPE_CHECKING:
    from morecantile import TileMatrixSet

logger = logging.getLogger(__name__)

NAME = "tiles"
SUFFIXES = ("",)

_OFF_GRID_PX = 0.01
_DEEPEST_ZOOM = 30
_GEODETIC = ("4326", "geodetic")

_Pyramid = dict[int, dict[tuple[int, int], str]]
"""For each zoom, the path of each tile by its row from the north and its column."""
Children = tuple[str | None, ...]
"""Names of the NW, NE, SW and SE tiles, None where one is missing."""


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
    return _opened(path, "auto")


def _opened(path: Path, alpha: AlphaChoice) -> MosaicSource:
    return _open_pyramid(path, alpha) if is_tile_pyramid(path) else _open_georeferenced(path, alpha)


def _of_others(first: ImageSource, alpha: AlphaChoice) -> AlphaChoice:
    """What alpha is in all tiles, when it is known of one."""
    return alpha if alpha != "auto" else "keep" if first.alpha != "none" else "mask"


def _open_pyramid(path: Path, alpha: AlphaChoice) -> MosaicSource:
    tms_xml = _tms_xml(path)
    matrices = _matrices(tms_xml)
    pyramid = _pyramid(path, matrices, from_south=tms_xml is not None)
    zoom = max(pyramid)
    deepest = pyramid[zoom]
    top, left = min(row for row, _ in deepest), min(column for _, column in deepest)
    with open_image(path / min(deepest.values()), alpha=alpha) as first:
        size = first.shape[-1]
        if first.axes != "CYX" or first.shape[-2] != size:
            raise ImageError(f"{first.path} is no map tile: its shape is {first.shape}, a square image is needed")
        tiles = [
            MapTile(name, Region.at((row - top) * size, (column - left) * size, size, size))
            for (row, column), name in deepest.items()
        ]
        others = _of_others(first, alpha)
        nodata, masked = _in_common([_marks(path / tile.name, others) for tile in tiles])
        return MosaicSource(
            path,
            first,
            TileLayout(_by_name(tiles), _parents(path, pyramid), tms_xml),
            _place_of(matrices, zoom, top, left, size),
            nodata=nodata,
            masked=masked,
            alpha=others,
            reopen=partial(_opened, path),
        )


def _matrices(tms_xml: str | None) -> TileMatrixSet:
    """How the world is cut: as the web does it, or in degrees where the description of the tiles says so."""
    from morecantile import tms

    root = parsed_xml(Path(TMS_FILE), tms_xml)
    srs, sets = ("", None) if root is None else (root.findtext("SRS") or "", root.find("TileSets"))
    profile = "" if sets is None else sets.get("profile", "")
    degrees = any(word in srs.lower() or word in profile.lower() for word in _GEODETIC)
    return tms.get("WorldCRS84Quad" if degrees else "WebMercatorQuad")


def _place_of(matrices: TileMatrixSet, zoom: int, row: int, column: int, size: int) -> Georeference:
    from morecantile import Tile as Place

    bounds = matrices.xy_bounds(Place(column, row, zoom))
    pixel = (bounds.right - bounds.left) / size
    crs = "EPSG:3857" if matrices.id == "WebMercatorQuad" else "EPSG:4326"
    return Georeference(crs=crs, transform=(pixel, 0.0, bounds.left, 0.0, -pixel, bounds.top))


class _Marks(NamedTuple):
    """How an image marks what holds no data."""

    nodata: float | None
    masked: bool


def _marks(file: Path, alpha: AlphaChoice) -> _Marks:
    if file.suffix.lower() in jpeg.SUFFIXES:
        return _Marks(None, False)
    with open_image(file, alpha=alpha) as image:
        return _Marks(image.nodata, image.masked)


def _in_common(tiles: Sequence[_Marks]) -> _Marks:
    """Of all tiles; where they differ in the nodata value, which is data in others, a mask stands for it."""
    differ = len({str(tile.nodata) for tile in tiles}) > 1
    return _Marks(None if differ else tiles[0].nodata, differ or any(tile.masked for tile in tiles))


def _tms_xml(path: Path) -> str | None:
    return (path / TMS_FILE).read_text(encoding="utf-8") if (path / TMS_FILE).is_file() else None


def _by_name(tiles: Sequence[MapTile]) -> tuple[MapTile, ...]:
    return tuple(sorted(tiles, key=lambda tile: tile.name))


def _pyramid(path: Path, matrices: TileMatrixSet, *, from_south: bool) -> _Pyramid:
    pyramid: _Pyramid = {}
    for zoom in _numbered(path):
        level = int(zoom.name)
        if level > _DEEPEST_ZOOM:
            raise ImageError(f"{zoom} is no zoom of map tiles; they end at {_DEEPEST_ZOOM}")
        matrix = matrices.matrix(level)
        for column in _numbered(zoom):
            for file in filter(_is_tile, column.iterdir()):
                row = matrix.matrixHeight - 1 - int(file.stem) if from_south else int(file.stem)
                place = (row, int(column.name))
                if not (0 <= row < matrix.matrixHeight and place[1] < matrix.matrixWidth):
                    raise ImageError(f"{file} is no map tile: zoom {level} has no such row and column")
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


class _Corner(NamedTuple):
    """Row and column of a tile's first pixel, counted from that of another tile; its size; how it marks no data."""

    row: int
    column: int
    size: tuple[int, int]
    marks: _Marks


def _open_georeferenced(path: Path, alpha: AlphaChoice) -> MosaicSource:
    files = sorted(filter(is_image_path, path.iterdir()))
    if not files:
        raise ImageError(f"{path} is a folder, not an image file, and holds no map tiles")
    with open_image(files[0], alpha=alpha) as first:
        place = _place(first)
        others = _of_others(first, alpha)
        corners = [_corner(file, first, place, others) for file in files]
        top, left = min(corner.row for corner in corners), min(corner.column for corner in corners)
        tiles = [
            MapTile(file.name, Region.at(corner.row - top, corner.column - left, *corner.size))
            for file, corner in zip(files, corners, strict=True)
        ]
        nodata, masked = _in_common([corner.marks for corner in corners])
        return MosaicSource(
            path,
            first,
            TileLayout(_by_name(tiles), ()),
            place.moved(top, left),
            nodata=nodata,
            masked=masked,
            alpha=others,
            reopen=partial(_opened, path),
        )


def _place(image: ImageSource) -> Georeference:
    place = image.metadata.georeference
    if place is None or place.transform is None:
        raise ImageError(
            f"{image.path} is no georeferenced tile, and a folder given as one image holds such tiles: "
            "GeoTIFFs, or web tiles z/x/y.png; give images that are not tiles of one map file by file"
        )
    if image.axes != "CYX":
        raise ImageError(f"{image.path} is no map tile: its axes are {image.axes}")
    return place


def _corner(file: Path, first: ImageSource, origin: Georeference, alpha: AlphaChoice) -> _Corner:
    with open_image(file, alpha=alpha) as image:
        place = _place(image)
        if place.crs != origin.crs:
            systems = " and ".join(one.crs_name or "none" for one in (place, origin))
            raise ImageError(f"{file} and {first.path} differ in coordinate system ({systems}); bring them to one")
        check_alike(image, first.shape[-3], plane_size(image), first)
        assert place.transform is not None
        assert origin.transform is not None
        y, x = _steps(place.transform, origin.transform)
        why = f"{y - round(y):+.3g} rows and {x - round(x):+.3g} columns beside it"
        on_grid = abs(y - round(y)) <= _OFF_GRID_PX and abs(x - round(x)) <= _OFF_GRID_PX
        if not _same_scale(place.transform, origin.transform, max(image.shape[-2:])):
            on_grid, why = False, "its pixels are of another size or turned otherwise"
        if not on_grid:
            raise ImageError(
                f"{file} does not lie on the pixel grid of {first.path} ({why}); resample the tiles to one grid"
            )
        return _Corner(round(y), round(x), plane_size(image), _Marks(image.nodata, image.masked))


def _steps(place: Affine, origin: Affine) -> tuple[float, float]:
    """Rows and columns from the first pixel of `origin` to that of `place`."""
    a, b, c, d, e, f = origin
    across, down = place[2] - c, place[5] - f
    determinant = a * e - b * d
    return (a * down - d * across) / determinant, (e * across - b * down) / determinant


def _same_scale(place: Affine, origin: Affine, length_px: int) -> bool:
    """Whether pixels stay on the grid over the length of a tile."""
    pixel = max(abs(value) for value in (*origin[:2], *origin[3:5]))
    drift = [abs(own - other) * length_px for own, other in zip(place, origin, strict=True)]
    return max(drift[0], drift[1], drift[3], drift[4]) <= _OFF_GRID_PX * pixel


def incompatibility(spec: OutputSpec) -> str | None:
    """Why map tiles like those of the input cannot hold an image."""
    if spec.metadata.tiles is None:
        return "only what was read from map tiles can be written as map tiles; choose another format, or leave it out"
    if prod(spec.leading_shape) > 1:
        return f"map tiles hold a single plane, the image has planes {spec.leading_shape}"
    tile = spec.metadata.tiles.tiles[0]
    size = (spec.channels, tile.region.height, tile.region.width)
    reason = writing.incompatibility(replace(spec, shape=size, axes="CYX"), _own_format(spec))
    return None if reason is None else f"{reason} (the input's tiles are like {tile.name})"


def holds_mask(spec: OutputSpec) -> bool:
    """Whether tiles like those of the input say beside their channels which pixels hold no data."""
    return writing.holds_mask(spec, _own_format(spec))


def holds_nodata(spec: OutputSpec) -> bool:
    """Whether tiles like those of the input say which value stands for no data."""
    return writing.holds_nodata(spec, _own_format(spec))


def _own_format(spec: OutputSpec) -> str:
    """The format of the input's first tile."""
    assert spec.metadata.tiles is not None
    return _tile_format(spec.metadata.tiles.tiles[0].name, placed=spec.metadata.georeference is not None)


def _tile_format(name: str, *, placed: bool) -> str:
    """The format of a map tile by its ending; `placed` where it is known where it lies."""
    suffix = known_suffix(Path(name))
    return "geotiff" if placed and suffix in TIFF_SUFFIXES else format_of_suffix(suffix, None)


def may_replace(path: Path, spec: OutputSpec) -> bool:
    """Whether a folder holds no other files than tiles of the same names."""
    return spec.metadata.tiles is not None and spec.metadata.tiles.names_all_of(path)


def write(path: Path, spec: OutputSpec, tiles: Iterable[Tile]) -> Steps:
    """Fill a folder that does not exist yet; `spec` has been checked to have a layout that the tiles' formats fit."""
    layout = spec.metadata.tiles
    assert layout is not None
    path.mkdir()
    if layout.tms_xml is not None:
        (path / TMS_FILE).write_text(layout.tms_xml, encoding="utf-8")
        sync_to_disk(path / TMS_FILE)
    index = TileIndex(layout.tiles)

    def put(place: Region, pixels: AnyArray) -> None:
        for tile in index.touching(place):
            if tile.region == place:
                _write_tile(path / tile.name, spec, pixels, region=place)

    def touching(region: Region) -> Iterable[Region]:
        return dict.fromkeys(tile.region for tile in index.touching(region))

    yield from collect(tiles, lambda _: TileCollector(spec.samples, spec.dtype, touching, put))
    for name, children in layout.parents:
        _write_tile(path / name, spec, _parent(path, spec, children))


def _parent(folder: Path, spec: OutputSpec, children: Children) -> AnyArray:
    """Four tiles side by side at half their size; nodata, or 0 and transparent, where one is missing."""
    known = {i: _samples(folder / name, spec) for i, name in enumerate(children) if name is not None}
    joined = _joined(known, spec.nodata or 0)
    if not spec.masked:
        return halved(joined, average=spec.averaged, nodata=spec.nodata)
    pixels, alpha = halved_by_opacity(joined[:-1], joined[-1], average=spec.averaged)
    return np.concatenate([pixels, alpha[None]])


def _joined(quarters: Mapping[int, AnyArray], missing: float) -> AnyArray:
    """NW, NE, SW and SE, where they are known, each of shape (..., size, size), to (..., 2 size, 2 size)."""
    first = next(iter(quarters.values()))
    size = first.shape[-1]
    joined = np.full((*first.shape[:-2], 2 * size, 2 * size), missing, first.dtype)
    for i, pixels in quarters.items():
        y, x = (i // 2) * size, (i % 2) * size
        joined[..., y : y + size, x : x + size] = pixels
    return joined


def _samples(path: Path, spec: OutputSpec) -> AnyArray:
    """Of a written tile, as it was given."""
    with open_image(path) as image:
        pixels, opacity = image.read_with_opacity(whole_plane(image))
    return with_opacity(pixels, opacity) if spec.masked else pixels


def _write_tile(path: Path, spec: OutputSpec, pixels: AnyArray, *, region: Region | None = None) -> None:
    """`region` is the place in the raster, None for a tile of another zoom."""
    metadata = replace(spec.metadata, tiles=None, georeference=None, pixel_size=None, unit=None)
    if region is not None and spec.metadata.georeference is not None:
        metadata = replace(metadata, georeference=spec.metadata.georeference.moved(region.y0, region.x0))
    own = replace(spec, shape=(spec.channels, *pixels.shape[1:]), metadata=metadata)
    file_format = _tile_format(path.name, placed=metadata.georeference is not None)
    whole = Region.whole(own.height, own.width)
    write_image(path, own, iter([((), whole, pixels)]), file_format=file_format)
