"""What plain TIFF and OME-TIFF have in common as outputs: tiles with a pyramid, tags, and an exact record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pix2pix.formats.georeference import GDAL_NODATA, georeference_tags
from napari_pix2pix.formats.metadata import to_record, to_tiff_tags
from napari_pix2pix.formats.pyramid import halved
from napari_pix2pix.formats.tiff_metadata import ORIENTATION_TAG
from napari_pix2pix.formats.tile_grid import TileCollector, collect, in_squares
from napari_pix2pix.formats.tiled_tiff import TILE_PX, Piece, Square, TiledTiff, TileShape, write_structure
from napari_pix2pix.formats.units import convert_length
from napari_pix2pix.formats.writing import OutputSpec, Steps, Tile
from pix2pix_training.array_source import AnyArray, Closable
from pix2pix_training.regions import Region, Size

_BIGTIFF_FROM_BYTES = 4_000_000_000
_BYTES_PER_TILE_ENTRY = 16
_LARGEST_GROWTH = 1.01
"""Of bytes that cannot be compressed, with room to spare."""

Put = Callable[[int, int, int, int, AnyArray], None]
"""Takes level, plane, row and column of a square, and its pixels."""


def incompatibility(spec: OutputSpec) -> str | None:
    """Why no kind of TIFF can hold an image."""
    if spec.dtype.kind not in "buif":
        return f"TIFF cannot hold {spec.dtype}; use a real or integer type"
    if spec.palette is not None and (spec.dtype not in (np.uint8, np.uint16) or len(spec.palette) > 256):
        return "a palette needs 8- or 16-bit indices and at most 256 colours"
    return None


class TiffCanvas(Closable):
    """A tiled TIFF that `begin_tiff` has made, to be filled tile by tile or part by part; a context manager.

    Parameters
    ----------
    sizes : height and width of each level of the pyramid.
    part_px : side of the parts, a power of two times `TILE_PX`. They fill the levels that they can fill by themselves;
        `finish` makes the levels above.
    """

    def __init__(self, path: Path, spec: OutputSpec, sizes: Sequence[tuple[int, int]], *, part_px: int) -> None:
        self._spec = spec
        self._sizes = sizes
        self._part_levels = min(len(sizes), (part_px // TILE_PX).bit_length())
        self._tiles = TiledTiff(path, _tile_shape(spec, sizes))

    def frame(self, size: int | None = None) -> tuple[int, str]:
        """The directories; see `Canvas.frame`."""
        return self._tiles.frame(size)

    def write_tiles(self, tiles: Iterable[Tile]) -> Steps:
        """Write the whole image, with all levels, from tiles as `write_image` takes them."""
        yield from fill_levels(self._tiles.put, self._spec, self._sizes, tiles)
        self._tiles.finish()

    def write_part(self, plane: tuple[int, ...], region: Region, pixels: AnyArray) -> Piece:
        """Write a part, shape (C, region.height, region.width); returns when it is on the disk."""
        self._tiles.begin_piece()
        for level in range(self._part_levels):
            pixels = self._halved(pixels) if level else pixels
            for _, number, row, column in self._squares(plane, region, level):
                y, x = (row * TILE_PX - (region.y0 >> level), column * TILE_PX - (region.x0 >> level))
                self._tiles.put(level, number, row, column, pixels[:, y : y + TILE_PX, x : x + TILE_PX])
        return self._tiles.finish_piece()

    def restore(self, plane: tuple[int, ...], region: Region, note: Any) -> bool:
        """Take in a part that an earlier run has written; whether it is as it was then."""
        squares = [square for level in range(self._part_levels) for square in self._squares(plane, region, level)]
        with suppress(TypeError, ValueError):  # anything may stand in a damaged note
            start, lengths, digest = note
            return self._tiles.restore(Piece(int(start), [int(length) for length in lengths], str(digest)), squares)
        return False

    def _squares(self, plane: tuple[int, ...], region: Region, level: int) -> Iterator[Square]:
        """The tiles of a level that a part fills, in reading order."""
        number = _plane_number(self._spec, plane)
        return ((level, number, row, column) for row, column in region.in_cells(TILE_PX << level).places())

    def _halved(self, pixels: AnyArray) -> AnyArray:
        return halved(pixels, average=self._spec.averaged, nodata=self._spec.nodata)

    def finish(self, path: Path) -> None:
        """Make the levels that no part has filled, and complete the file; all parts must be there."""
        del path
        for level in range(self._part_levels, len(self._sizes)):
            rows, columns = (-(-length // TILE_PX) for length in self._sizes[level])
            for plane, row, column in np.ndindex(prod(self._spec.leading_shape), rows, columns):
                self._tiles.put(level, plane, row, column, self._reduced(level, plane, row, column))
        self._tiles.finish()

    def _reduced(self, level: int, plane: int, row: int, column: int) -> AnyArray:
        """A tile of a level, shape (C, TILE_PX, TILE_PX) or less, made of up to four of the level before."""
        height, width = self._sizes[level - 1]
        larger = np.zeros((self._spec.channels, 2 * TILE_PX, 2 * TILE_PX), self._spec.dtype)
        for dy, dx in np.ndindex(2, 2):
            y, x = (2 * row + dy) * TILE_PX, (2 * column + dx) * TILE_PX
            if y < height and x < width:
                part = self._tiles.read((level - 1, plane, 2 * row + dy, 2 * column + dx))
                larger[:, dy * TILE_PX : (dy + 1) * TILE_PX, dx * TILE_PX : (dx + 1) * TILE_PX] = part
        y, x = 2 * row * TILE_PX, 2 * column * TILE_PX
        return self._halved(larger[:, : height - y, : width - x])

    def close(self) -> None:
        """Close the file, whatever there is of it."""
        self._tiles.close()


def begin_tiff(
    path: Path,
    spec: OutputSpec,
    sizes: Sequence[tuple[int, int]],
    description: Mapping[str, Any],
    axes: str,
    *,
    ome: bool,
) -> None:
    """Write a TIFF without pixels, for `TiffCanvas`.

    Parameters
    ----------
    description : what tifffile writes into the first page, see `TiffWriter.write`; `ome` says in which form.
    axes : of the pages, without the leading ones: "YX", "CYX", or "YXS" for RGB.
    """
    shape = _tile_shape(spec, sizes)
    pages = [_page_options(spec, size, axes) for size in sizes]
    pages[0] |= {**_resolution(spec), "subifds": len(sizes) - 1, "metadata": description, "subfiletype": None}
    write_structure(path, shape, pages, bigtiff=_largest_bytes(shape) > _BIGTIFF_FROM_BYTES, ome=ome)


def _tile_shape(spec: OutputSpec, sizes: Sequence[tuple[int, int]]) -> TileShape:
    return TileShape(
        sizes=tuple(sizes),
        planes=prod(spec.leading_shape),
        pages_per_plane=1 if spec.rgb else spec.channels,
        channels=spec.channels,
        dtype=spec.dtype,
    )


def _largest_bytes(shape: TileShape) -> float:
    """Of the file, where its tiles cannot be compressed."""
    tiles = sum(prod(shape.grid(level)) for level in range(len(shape.sizes))) * shape.pages
    tile_bytes = TILE_PX**2 * shape.channels // shape.pages_per_plane * shape.dtype.itemsize
    return tiles * (tile_bytes * _LARGEST_GROWTH + _BYTES_PER_TILE_ENTRY)


def _plane_number(spec: OutputSpec, plane: tuple[int, ...]) -> int:
    return int(np.ravel_multi_index(plane, spec.leading_shape)) if plane else 0


def fill_levels(put: Put, spec: OutputSpec, sizes: Sequence[tuple[int, int]], tiles: Iterable[Tile]) -> Steps:
    """Cut tiles into squares of `TILE_PX`, for all levels of a pyramid."""
    return collect(tiles, lambda plane: _collector(put, spec, sizes, _plane_number(spec, plane)))


def _collector(put: Put, spec: OutputSpec, sizes: Sequence[Size], plane: int, level: int = 0) -> TileCollector:
    """The squares of one plane and level; what they hold is put, and halved to the next level."""
    smaller = _collector(put, spec, sizes, plane, level + 1) if level + 1 < len(sizes) else None

    def put_square(place: Region, square: AnyArray) -> None:
        put(level, plane, place.y0 // TILE_PX, place.x0 // TILE_PX, square)
        if smaller is not None:
            half = halved(square, average=spec.averaged, nodata=spec.nodata)
            smaller.add(Region.at(place.y0 // 2, place.x0 // 2, *half.shape[1:]), half)

    return in_squares(spec, TILE_PX, put_square, sizes[level])


def _page_options(spec: OutputSpec, size: tuple[int, int], axes: str) -> dict[str, Any]:
    """Arguments of `TiffWriter.write` for a smaller level."""
    lengths = {"C": spec.channels, "S": 3, "Y": size[0], "X": size[1]}
    return {
        "shape": (*spec.leading_shape, *(lengths[letter] for letter in axes)),
        "photometric": photometric(spec),
        # Else tifffile takes the columns of an image one pixel wide for samples.
        **({} if spec.rgb else {"planarconfig": "contig", "extrasamples": ()}),
        "colormap": None if spec.palette is None else colormap(spec),
        "extratags": _extra_tags(spec),
        "subfiletype": 1,
        "metadata": None,
    }


def photometric(spec: OutputSpec) -> str:
    """What the numbers mean, as tifffile calls it."""
    if spec.rgb:
        return "rgb"
    if spec.palette is not None:
        return "palette"
    return "miniswhite" if spec.metadata.white_is_zero else "minisblack"


def colormap(spec: OutputSpec) -> NDArray[np.uint16]:
    """Shape (3, 2**bits), 16 bits per colour, black beyond the palette."""
    palette = np.zeros((3, 2 ** (spec.dtype.itemsize * 8)), np.uint16)
    if spec.palette is not None:
        palette[:, : len(spec.palette)] = spec.palette.T.astype(np.uint16) * 257
    return palette


def _extra_tags(spec: OutputSpec) -> list[tuple[int, str, int, Any, bool]]:
    nodata = [] if spec.nodata is None else [(GDAL_NODATA, "s", 0, repr(float(spec.nodata)))]
    return [
        (*tag, False)
        for tag in (
            *nodata,
            *georeference_tags(spec.metadata.georeference),
            *to_tiff_tags(spec.metadata.acquisition),
            (ORIENTATION_TAG, "H", 1, spec.metadata.orientation),
        )
    ]


def _resolution(spec: OutputSpec) -> dict[str, Any]:
    metadata = spec.metadata
    if metadata.pixel_size is None or metadata.unit is None:
        if metadata.screen_dpi is None:
            return {}
        return {"resolution": metadata.screen_dpi[::-1], "resolutionunit": "INCH"}
    y, x = (convert_length(size, metadata.unit, "cm") for size in metadata.pixel_size)
    if not y or not x:
        return {}
    return {"resolution": (1 / x, 1 / y), "resolutionunit": "CENTIMETER"}


def exact_record(spec: OutputSpec) -> dict[str, Any]:
    """What this program wants back exactly, and the format has no field for."""
    entries = {} if spec.palette is None else {"palette_entries": len(spec.palette)}
    return to_record(spec.metadata) | entries
