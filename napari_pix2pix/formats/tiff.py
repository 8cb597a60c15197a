"""TIFF in all its kinds, read lazily: only the strips and tiles that a region touches are decoded.

tifffile parses the structure (OME, ImageJ, BigTIFF, pyramids, multi-file series) and makes the decoder of a strip or
tile; `tiff_pages` reads, checks and keeps the pieces. Whatever would make tifffile take much memory, open files
elsewhere or read a file cut short as if it were whole is refused before tifffile acts on it.
"""

from __future__ import annotations

import logging
import struct
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree.ElementTree import Element

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_pix2pix.formats import cog, ome_xml, tiff_writing
from napari_pix2pix.formats.cog import CogCanvas
from napari_pix2pix.formats.georeference import GDAL_NODATA, has_place_tags, read_place
from napari_pix2pix.formats.metadata import METADATA_KEY, is_grey_ramp, placed
from napari_pix2pix.formats.ome_xml import OmeXml, parsed_ome
from napari_pix2pix.formats.opacity import usable_nodata
from napari_pix2pix.formats.remote import as_path, opened_tiff
from napari_pix2pix.formats.source import MAX_PLANES, Alpha, ImageSource, check_series, shown
from napari_pix2pix.formats.tiff_metadata import (
    check_micromanager,
    image_name,
    micromanager_files,
    palette_entries,
    read_metadata,
)
from napari_pix2pix.formats.tiff_pages import PagePixels, plane_layout
from napari_pix2pix.formats.tiff_writing import TiffCanvas, begin_tiff, exact_record
from napari_pix2pix.formats.writing import OutputSpec
from pix2pix_training.array_source import AnyArray
from pix2pix_training.errors import ImageError
from pix2pix_training.regions import Region

logger = logging.getLogger(__name__)
logging.getLogger("tifffile").addHandler(logging.NullHandler())  # it logs each odd tag; what matters is checked here

NAME = "tiff"
SUFFIXES = (".tif", ".tiff", ".btf", ".tf8", ".tf2")
LOSES = (
    "origin",
    "steps",
)
READ_SUFFIXES = (".lsm", ".stk", ".qptiff", ".qpi", ".pcoraw", ".ptif", ".ptiff", ".gel", ".zif", ".eer", ".flex")
SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_REFUSED_COLOURS = ("CIELAB", "ICCLAB", "ITULAB", "LOGL", "LOGLUV", "CFA")
_JPEG_COMPRESSIONS = (6, 7, 34892, 33007)
_ALPHA_SAMPLES = (1, 2)
_SCANNER_KINDS = ("lsm", "svs", "scn", "qpi", "ndpi", "bif", "avs", "philips", "indica", "eer", "mdgel")
"""Files of these hold one image; what else is in them are its thumbnail, its label and the like."""


class TiffSource(ImageSource):
    """One image of a TIFF file at full resolution; `ome` is the file's OME-XML, where it has one."""

    def __init__(self, path: Path, tif: tifffile.TiffFile, ome: OmeXml | None, number: int) -> None:
        root = None if ome is None else ome.root
        images = images_in(path, tif)
        series = images[number]
        page = series.keyframe
        check_supported(path, page)
        layout = plane_layout(path, tif, series)
        if root is not None and any(ome_xml.pixels_of(root)) and series.kind in ("generic", "uniform"):
            logger.warning(
                "%s: its OME metadata does not say which planes the file holds, and is ignored: they keep their order",
                path,
            )
        alpha = alpha_sample(page) if page.samplesperpixel == layout.channels > 1 else None
        metadata = read_metadata(path, tif, series, root, layout.channels - (alpha is not None))
        if has_place_tags(page):
            metadata = placed(metadata, read_place(path, NAME))
        super().__init__(
            path,
            axes=layout.axes,
            shape=(*layout.leading_shape, layout.channels, page.imagelength, page.imagewidth),
            dtype=np.dtype(page.dtype).newbyteorder("="),
            metadata=metadata,
            nodata=declared_nodata(path, page),
            palette=palette_of(path, tif, page, root),
        )
        self.alpha: Alpha = "none" if alpha is None else "declared"
        self._samples = sorted(range(layout.channels), key=lambda sample: sample == alpha)
        say_alpha_moved(path, alpha, layout.channels)
        self._be_one_of([image_name(image) for image in images], number)
        self._tif = tif
        self._layout = layout
        self._pixels = PagePixels(path, tif, series)
        self._files = (path, *files_of_set(path, tif, ome))

    @property
    def files(self) -> tuple[Path, ...]:
        return self._files

    def _read(self, region: Region, plane: tuple[int, ...]) -> AnyArray:
        """In the file's order in memory where samples lie side by side."""
        stored = self._layout.order[plane]
        if len(stored) == 1:
            result = np.moveaxis(self._pixels.read(int(stored[0]), region), -1, 0)
        else:
            result = np.empty((self.shape[-3], region.height, region.width), self.dtype)
            for position, index in enumerate(stored):
                first = position * self._layout.samples
                result[first : first + self._layout.samples] = np.moveaxis(self._pixels.read(int(index), region), -1, 0)
        return result if self._samples == sorted(self._samples) else result[self._samples]

    def close(self) -> None:
        self._pixels.close()
        self._tif.close()


def open_source(path: Path) -> TiffSource:
    """Open the first image of a TIFF file.

    Values are those stored, also where 0 means white (MINISWHITE). Alpha is the last channel. A palette gives indices
    with `palette` set, except where it is a grey ramp or the look-up table of an ImageJ image: those are intensities.

    Raises
    ------
    ImageError
        The file is damaged, incomplete, declares more than is allowed, or stores what cannot be translated.
    """
    return open_series(path, 0)


def members(path: Path) -> tuple[Path, ...]:
    """All files of the image that a file is one of, itself included; see `files_of_set`."""
    with opened_tiff(path) as tif:
        return (path, *files_of_set(path, tif, parsed_ome(path, tif.ome_metadata)))


def open_series(path: Path, number: int) -> TiffSource:
    """Open one of the images in a TIFF file, counted from 0; see `open_source`."""
    return open_tiff(path, path, None, number)


def open_tiff(path: Path, first: Path, xml: str | None, number: int) -> TiffSource:
    """Open the TIFF file `first` as the image `path`, described by OME-XML if that is given; see `open_source`."""
    tif = opened_tiff(first, omexml=xml)
    try:
        ome = check_structure(path, tif)
        check_series(path, number, len(images_in(path, tif)))
        return TiffSource(path, tif, ome, number)
    except BaseException:
        tif.close()
        raise


def check_supported(path: Path, page: tifffile.TiffPage) -> None:
    """Raise `ImageError` where a page stores what is not read."""
    dtype = page.dtype
    if dtype is None or np.dtype(dtype).kind not in "buif":
        raise ImageError(f"{path} stores {dtype or 'an unknown kind of'} numbers; only integers and reals are read")
    if page.imagelength < 1 or page.imagewidth < 1:
        raise ImageError(f"{path} holds an empty image of {page.imagelength} x {page.imagewidth} pixels")
    if page.shaped[1] != 1:
        raise ImageError(f"{path} stores depth inside one page (volumetric TIFF); save its planes as pages")
    colours = getattr(page.photometric, "name", "unknown")
    raw_ycbcr = colours == "YCBCR" and page.compression not in _JPEG_COMPRESSIONS
    if raw_ycbcr or colours in _REFUSED_COLOURS:
        raise ImageError(f"{path} stores its colours as {colours}; convert it to RGB or grey")
    if colours == "SEPARATED":
        logger.warning(
            "%s stores its colours as inks (CMYK), which become its channels; convert it to RGB or grey", path
        )


def alpha_sample(page: tifffile.TiffPage) -> int | None:
    """Which sample is declared as alpha; of several the last, None where there is none."""
    first = page.samplesperpixel - len(page.extrasamples)
    found = [first + number for number, kind in enumerate(page.extrasamples) if kind in _ALPHA_SAMPLES]
    return found[-1] if found else None


def say_alpha_moved(path: Path, sample: int | None, count: int) -> None:
    """A word where alpha is not the last of the samples, as which it is read."""
    if sample is not None and sample != count - 1:
        logger.warning("%s: sample %d of %d is declared as alpha and becomes the last channel", path, sample + 1, count)


def declared_nodata(path: Path, page: tifffile.TiffPage) -> float | None:
    """What GDAL's tag says, where pixels can have that value."""
    text = str(page.tags.valueof(GDAL_NODATA, "")).strip(" \0")
    return usable_nodata(path, text, np.dtype(page.dtype))


def palette_of(
    path: Path, tif: tifffile.TiffFile, page: tifffile.TiffPage, root: Element | None
) -> NDArray[np.uint8] | None:
    """Colours (entries, 3) of indexed pixels; None where a page has none, or they are a grey ramp."""
    colormap = page.colormap
    if page.photometric != tifffile.PHOTOMETRIC.PALETTE or colormap is None or tif.is_imagej:
        return None
    colours = (colormap.T if colormap.max() < 256 else colormap.T >> 8).astype(np.uint8)
    colours = colours[: palette_entries(path, page, root)]
    return None if is_grey_ramp(colours) else colours


def incompatibility(spec: OutputSpec) -> str | None:
    """Why plain TIFF cannot hold an image."""
    return tiff_writing.incompatibility(spec)


def holds_nodata(spec: OutputSpec) -> bool:
    """GDAL's tag says it, of any number."""
    del spec
    return True


def holds_mask(spec: OutputSpec) -> bool:
    """Of a single plane, as GDAL writes it: alpha where the input had that, else a mask within the file."""
    from napari_pix2pix.formats import geotiff

    return geotiff.unplaced_incompatibility(spec) is None


def begin(path: Path, spec: OutputSpec, part_px: int = 0) -> None:
    """Write a file without pixels; `spec` has been checked to fit the format."""
    del part_px
    if spec.masked:
        cog.begin(path, spec)
        return
    axes = "YXS" if spec.rgb else "YX" if spec.channels == 1 else "CYX"  # so that others read a 2-D image as one
    description = {"axes": spec.leading_axes + axes, METADATA_KEY: exact_record(spec)}
    begin_tiff(path, spec, level_sizes(spec), description, axes, ome=False)


def open_canvas(path: Path, spec: OutputSpec, part_px: int) -> TiffCanvas | CogCanvas:
    """Open what `begin` has made, to be filled part by part."""
    if spec.masked:
        return CogCanvas(path, spec, part_px)
    return TiffCanvas(path, spec, level_sizes(spec), part_px=part_px)


def level_sizes(spec: OutputSpec) -> list[tuple[int, int]]:
    """A plain TIFF has no pyramid."""
    return [(spec.height, spec.width)]


def check_structure(path: Path, tif: tifffile.TiffFile) -> OmeXml | None:
    """Everything that can be checked before `TiffFile.series` is asked for; the OME-XML, where it is one.

    OME-XML that does not fit the pages is left out with a warning: some programs copy it to what they cut out.

    Raises
    ------
    ImageError
        Pages or files are missing, or more is declared than is allowed.
    """
    if not tif.pages:
        raise ImageError(f"{path} holds no image")
    check_page_chain(as_path(tif.filehandle.path), tif)
    check_micromanager(path, tif)
    document = ome_xml.parsed_ome(path, tif.ome_metadata)
    if document is None:
        return None
    if (whole := ome_xml.whole_image(document.root)) is not None:
        logger.warning("%s is one of several files of an image; open %s for all of it", path, whole)
    ome_xml.check_sizes(path, document.root)
    ome_xml.check_files(path, document)
    if (misfit := _misfit(path, tif, document.root)) is None:
        return document
    logger.warning(
        "%s: its OME metadata is of another image (%s) and is ignored: planes keep the order of the file", path, misfit
    )
    tif.is_ome = False
    return None


def _misfit(path: Path, tif: tifffile.TiffFile, root: Element) -> str | None:
    """How the size of an image differs from that of its first page, None where all are equal."""
    for _, pixels in ome_xml.pixels_of(root):
        data = next(ome_xml.children(pixels, "TiffData"), None)
        if data is None:
            continue
        name, page = ome_xml.file_of(path, root, data), ome_xml.number_of(data, "IFD", 0)
        if name is None:
            found = _page_size(tif, page)
        else:
            with opened_tiff(path.with_name(name)) as other:
                found = _page_size(other, page)
        declared = ome_xml.number_of(pixels, "SizeY"), ome_xml.number_of(pixels, "SizeX")
        if found is not None and found != declared:
            return f"{shown(*declared)} pixels, its page has {shown(*found)}"
    return None


def _page_size(tif: tifffile.TiffFile, index: int) -> tuple[int, int] | None:
    """Height and width, None where there is no such page."""
    try:
        page: Any = tif.pages.get(index)
    except IndexError:
        return None
    return int(page.imagelength), int(page.imagewidth)


def images_in(path: Path, tif: tifffile.TiffFile) -> list[tifffile.TiffPageSeries]:
    """The series that are images, and no smaller copies, masks, thumbnails or labels of others.

    Pages that are half as large as others but are not declared as copies are told of.
    """
    series = tif.series
    if series[0].kind in _SCANNER_KINDS:
        return series[:1]
    images = [one for one in series if not (one.keyframe.is_reduced or one.keyframe.is_mask)] or series[:1]
    for image in images:
        undeclared = [level for level in image.levels[1:] if image.kind == "generic" and not _is_copy(level.keyframe)]
        if undeclared:
            sizes = ", ".join(f"{level.keyframe.imagelength} x {level.keyframe.imagewidth}" for level in undeclared)
            logger.warning("%s: its pages of %s pixels are taken as smaller copies, and are not read", path, sizes)
    return images


def _is_copy(page: tifffile.TiffPage) -> bool:
    return bool(page.is_reduced or page.is_subifd)


def files_of_set(path: Path, tif: tifffile.TiffFile, document: OmeXml | None) -> tuple[Path, ...]:
    """The files of an image besides `path`."""
    own = micromanager_files(path, tif)
    if own or document is None:
        return tuple(file for file in own if file != path)
    return tuple(path.with_name(name) for name in document.files)


def check_page_chain(path: Path, tif: tifffile.TiffFile) -> None:
    """Refuse a file whose pages lead beyond its end or in a circle.

    Raises
    ------
    ImageError
        Pages are missing, or there are more than `MAX_PLANES`.
    """
    if tif.is_ndpi:  # 64-bit offsets in a 32-bit structure, which tifffile knows about
        return
    size = path.stat().st_size
    seen: set[int] = set()
    with path.open("rb") as file:
        offset = _first_page(file, tif)
        while offset:
            if offset in seen or len(seen) > MAX_PLANES:
                raise ImageError(f"{path} is damaged: its pages lead in a circle, or are more than {MAX_PLANES}")
            seen.add(offset)
            offset = _next_page(path, file, tif, offset, size)


def _first_page(file: BinaryIO, tif: tifffile.TiffFile) -> int:
    file.seek(8 if tif.is_bigtiff else 4)
    return _number(file, tif, "Q" if tif.is_bigtiff else "I")


def _next_page(path: Path, file: BinaryIO, tif: tifffile.TiffFile, offset: int, size: int) -> int:
    """Offset of the page after the one at `offset`, 0 for the last."""
    count_format, entry_bytes, link_format = ("Q", 20, "Q") if tif.is_bigtiff else ("H", 12, "I")
    try:
        file.seek(offset)
        entries = _number(file, tif, count_format)
        link = file.tell() + entries * entry_bytes
        if link >= size:
            raise struct.error
        file.seek(link)
        return _number(file, tif, link_format)
    except struct.error as error:
        raise ImageError(f"{path} is cut short: pages are missing at its end; copy it again") from error


def _number(file: BinaryIO, tif: tifffile.TiffFile, code: str) -> int:
    packed = struct.Struct(tif.byteorder + code)
    number: int = packed.unpack(file.read(packed.size))[0]
    return number
