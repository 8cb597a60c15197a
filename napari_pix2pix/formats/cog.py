"""A cloud-optimised GeoTIFF while it is made: tiles wait in a plain TIFF, from which GDAL copies them in the end.

All structure of such a file stands at its beginning, and its pixels go from coarse to fine, so that it cannot be
written as tiles come. The waiting file is one that GDAL reads and that a later run can go on with.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from io import BytesIO, FileIO
from pathlib import Path
from threading import Event, Thread
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from napari_pix2pix.formats.georeference import check_name, finish_placing, open_dataset, placing, tag_of, use_rasterio
from napari_pix2pix.formats.metadata import METADATA_KEY, to_tiff_tags
from napari_pix2pix.formats.tiff_writing import colormap, exact_record
from napari_pix2pix.formats.tile_grid import collect, in_squares
from napari_pix2pix.formats.tiled_tiff import TILE_PX, Piece, Square, TiledTiff, TileShape, write_structure
from napari_pix2pix.formats.writing import OutputSpec, Steps, Tile
from pix2pix_training.array_source import AnyArray, Closable
from pix2pix_training.errors import Pix2PixError
from pix2pix_training.regions import Region
from pix2pix_training.remarks import heard_alike

_BLOCK_PX = 512
_BIGTIFF = "IF_SAFER"
_BIGTIFF_FROM_BYTES = 3_500_000_000
_STATE_SUFFIX = ".state"
_STILL_COPYING_S = 0.1
_TRAILER_BYTES = 4
"""Behind each tile of a cloud-optimised GeoTIFF its last bytes stand again."""
_TAG_NAMES = {271: "Make", 272: "Model", 305: "TIFFTAG_SOFTWARE", 306: "TIFFTAG_DATETIME", 315: "TIFFTAG_ARTIST"}
_COPIED_TAGS = (305, 306, 315, 33550, 33922, 34264, 34735, 34736, 34737, 42112, 42113, 50844)


def begin(path: Path, spec: OutputSpec) -> None:
    """Write the waiting file without pixels; `spec` has been checked to fit the format."""
    check_name(path)
    shape = _tile_shape(spec)
    size = spec.height, spec.width
    samples = {} if shape.channels > 1 else {"extrasamples": ()}
    extra = [0] * (shape.channels - (3 if spec.rgb else 1))
    if extra and has_alpha(spec):
        extra[-1] = 2
    options: dict[str, Any] = {
        "shape": (*size, shape.channels) if shape.channels > 1 else size,
        "photometric": "rgb" if spec.rgb else "minisblack" if spec.palette is None else "palette",
        "planarconfig": "contig",
        "colormap": None if spec.palette is None else colormap(spec),
        "extratags": [(*tag, False) for tag in _tags(spec)],
        "metadata": None,
        "software": "",
        **(samples or ({"extrasamples": extra} if extra else {})),
    }
    largest = spec.height * spec.width * shape.channels * shape.dtype.itemsize
    write_structure(path, shape, [options], bigtiff=largest > _BIGTIFF_FROM_BYTES, ome=False)


def has_alpha(spec: OutputSpec) -> bool:
    """Alpha where the input had it, and where others know it as that; a mask suits all images."""
    suits = spec.channels in (1, 3) and spec.dtype in (np.uint8, np.uint16) and spec.palette is None
    return spec.masked and spec.metadata.alpha and suits


def _tile_shape(spec: OutputSpec) -> TileShape:
    """Samples beside each other; opacity is the last, and bits are bytes."""
    dtype = np.dtype(np.uint8) if spec.dtype == np.bool_ else spec.dtype
    size = spec.height, spec.width
    return TileShape(sizes=(size,), planes=1, pages_per_plane=1, channels=spec.samples, dtype=dtype)


def _tags(spec: OutputSpec) -> list[tuple[int, str, int, Any]]:
    """What GDAL writes about place, nodata, names of channels and the rest, for a file of one pixel."""
    use_rasterio()
    from rasterio.io import MemoryFile

    metadata = spec.metadata
    texts = {_TAG_NAMES[code]: text for code, _, _, text in to_tiff_tags(metadata.acquisition) if code in _TAG_NAMES}
    profile = {"width": 1, "height": 1, "count": spec.channels, "dtype": _tile_shape(spec).dtype.name}
    with MemoryFile() as memory:
        place = placing(metadata.georeference)
        with memory.open(driver="GTiff", photometric="MINISBLACK", nodata=spec.nodata, **profile, **place) as dataset:
            dataset.update_tags(**{METADATA_KEY: json.dumps(exact_record(spec))}, **texts)
            if len(metadata.channel_names) == spec.channels:
                dataset.descriptions = metadata.channel_names
            finish_placing(dataset, metadata.georeference)
        with tifffile.TiffFile(BytesIO(memory.read())) as tif:
            return [tag_of(tag) for tag in tif.pages.first.tags if tag.code in _COPIED_TAGS]


class CogCanvas(Closable):
    """The waiting file that `begin` has made, to be filled tile by tile or part by part; a context manager.

    Parameters
    ----------
    part_px : side of the parts, a multiple of `TILE_PX`.
    """

    def __init__(self, path: Path, spec: OutputSpec, part_px: int) -> None:
        del part_px
        self._path = path
        self._spec = spec
        self._tiles = TiledTiff(path, _tile_shape(spec))
        self._hides = self._has_nan = False

    def frame(self, size: int | None = None) -> tuple[int, str]:
        """The directory; see `Canvas.frame`."""
        return self._tiles.frame(size)

    def write_tiles(self, tiles: Iterable[Tile]) -> Steps:
        """Write the whole image, from tiles as `write_image` takes them."""
        yield from collect(tiles, lambda plane: in_squares(self._spec, TILE_PX, partial(self._put_part, plane)))
        self.finish(self._path)

    def write_part(self, plane: tuple[int, ...], region: Region, pixels: AnyArray) -> Any:
        """Write a part, shape (samples, region.height, region.width); returns when it is on the disk."""
        before = self._hides, self._has_nan
        self._hides = self._has_nan = False
        self._tiles.begin_piece()
        self._put_part(plane, region, pixels)
        note = [*self._tiles.finish_piece(), self._hides, self._has_nan]
        self._hides, self._has_nan = self._hides or before[0], self._has_nan or before[1]
        return note

    def _put_part(self, plane: tuple[int, ...], region: Region, pixels: AnyArray) -> None:
        del plane
        self._hides = self._hides or (self._spec.masked and not bool(pixels[-1].all()))
        self._has_nan = self._has_nan or (pixels.dtype.kind == "f" and bool(np.isnan(pixels).any()))
        stored = pixels.view(np.uint8) if pixels.dtype == np.bool_ else pixels
        for level, number, row, column in _squares(region):
            y, x = row * TILE_PX - region.y0, column * TILE_PX - region.x0
            self._tiles.put(level, number, row, column, stored[:, y : y + TILE_PX, x : x + TILE_PX])

    def restore(self, plane: tuple[int, ...], region: Region, note: Any) -> bool:
        """Take in a part that an earlier run has written; whether it is as it was then."""
        del plane
        *piece, hides, has_nan = note
        if not self._tiles.restore(Piece(*piece), list(_squares(region))):
            return False
        self._hides, self._has_nan = self._hides or hides, self._has_nan or has_nan
        return True

    def finish(self, path: Path) -> None:
        """Make the file of it, in its place; all pixels must be there."""
        self._tiles.finish()
        state = self._path.with_name(self._path.name + _STATE_SUFFIX)
        folder = state if state.is_dir() else self._path.parent
        made = folder / f"{path.name}.cog.tif"
        try:
            _copied(self._path, made, self._spec, hides=self._hides, has_nan=self._has_nan)
            self._tiles.close()
            made.replace(self._path)
        finally:
            made.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file, whatever there is of it."""
        self._tiles.close()


def _squares(region: Region) -> Iterator[Square]:
    return ((0, 0, row, column) for row, column in region.in_cells(TILE_PX).places())


def _copied(waiting: Path, made: Path, spec: OutputSpec, *, hides: bool, has_nan: bool) -> None:
    """Let GDAL make the file; whoever is interrupted meanwhile gets on at once, because it finds no more to read.

    Raises
    ------
    Pix2PixError
        GDAL cannot write it.
    OSError
        The disk is full.
    """
    stopped = Event()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            _copy(waiting, made, spec, stopped, hides=hides, has_nan=has_nan)
        except BaseException as error:  # of another thread; raised in this one
            failures.append(error)

    use_rasterio()
    thread = Thread(target=heard_alike(work), name="copying")
    thread.start()
    try:
        while thread.is_alive():
            thread.join(_STILL_COPYING_S)
    except BaseException:
        stopped.set()
        thread.join()
        raise
    if failures:
        raise failures[0]
    _check_whole(made)


def _copy(waiting: Path, made: Path, spec: OutputSpec, stopped: Event, *, hides: bool, has_nan: bool) -> None:
    import rasterio
    from rasterio.errors import RasterioError
    from rasterio.shutil import copy

    is_bits = spec.dtype == np.bool_
    options: dict[str, Any] = {
        "COMPRESS": "DEFLATE",
        "PREDICTOR": "NO" if is_bits else "YES",
        "BLOCKSIZE": _BLOCK_PX,
        "OVERVIEW_RESAMPLING": "AVERAGE" if spec.averaged and not is_bits else "NEAREST",
        "BIGTIFF": _BIGTIFF,
        "NUM_THREADS": "ALL_CPUS",
        "STATISTICS": "NO",
        **({"NBITS": 1} if is_bits else {}),
    }
    view = made.with_name(f"{made.name}.vrt")

    def open_file(name: str, mode: str = "rb") -> _File:
        del mode
        return _File(name, stopped)

    try:
        with ExitStack() as stack:
            stack.enter_context(rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True))
            source = stack.enter_context(open_dataset(waiting, opener=open_file))
            is_mask = spec.masked and not has_alpha(spec)
            if is_mask or (has_nan and spec.nodata is None):
                copy(source, view.absolute(), driver="VRT")
                _change_view(view, is_mask=is_mask, hides=hides, has_nan=has_nan)
                source = stack.enter_context(open_dataset(view))
            copy(source, made.absolute(), driver="COG", **options)
    except (RasterioError, rasterio.RasterioIOError) as error:
        raise Pix2PixError(f"{made} cannot be written: {' '.join(str(error.__cause__ or error).split())}") from error
    finally:
        view.unlink(missing_ok=True)


class _File(FileIO):
    """A file that ends where one is told to stop."""

    def __init__(self, name: str, stopped: Event) -> None:
        super().__init__(name)
        self._stopped = stopped

    def read(self, size: int | None = -1, /) -> bytes:
        return b"" if self._stopped.is_set() else super().read(size)


def _change_view(view: Path, *, is_mask: bool, hides: bool, has_nan: bool) -> None:
    """The last band becomes a mask, or goes where it hides nothing; NaN is no data where there is some."""
    tree = ElementTree.parse(view)
    root = tree.getroot()
    bands = root.findall("VRTRasterBand")
    if is_mask:
        opacity = bands.pop()
        root.remove(opacity)
        if hides:
            for part in opacity.findall("ColorInterp"):
                opacity.remove(part)
            opacity.attrib.clear()
            opacity.set("dataType", "Byte")
            ElementTree.SubElement(root, "MaskBand").append(opacity)
    if has_nan:
        for band in bands:
            nodata = ElementTree.Element("NoDataValue")
            nodata.text = "nan"
            band.insert(0, nodata)
    tree.write(view)


def _check_whole(path: Path) -> None:
    """GDAL says nothing where the last bytes do not fit on the disk, among them those that say where the image is."""
    size, ends = path.stat().st_size, [0]
    with suppress(tifffile.TiffFileError), tifffile.TiffFile(path) as tif:
        for page in tif.pages:
            ends += [int(end) + _TRAILER_BYTES for end in np.add(page.dataoffsets, page.databytecounts)]
    if not 0 < max(ends) <= size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
