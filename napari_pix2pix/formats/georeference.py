"""Where an image lies on the Earth, as rasterio reads it and writes it: in GeoTIFF tags, or in files beside an image.

rasterio is imported when it is first needed, so that images without a place cost nothing.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from math import dist, hypot, isfinite
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from napari_pix2pix.formats.remote import gdal_name
from pix2pix_training.errors import ImageError

if TYPE_CHECKING:
    import rasterio
    import tifffile
    from rasterio.crs import CRS

logger = logging.getLogger(__name__)

GDAL_METADATA, GDAL_NODATA = 42112, 42113
_PLACE_TAGS = (33550, 33922, 34264, 34735, 34736, 34737, 50844)
"""Pixel scale, tie points, matrix, three with the keys of the CRS, and the rational polynomials of satellite images."""
_TYPE_LETTERS = {3: "H", 12: "d"}

_LENGTH_UNITS = {"metre": "m", "meter": "m", "foot": "ft", "US survey foot": "US survey ft"}
_POINT = "Point"
_TOLERATED_PX = 0.5
_DRIVERS = {"png": "PNG", "jpeg": "JPEG", "bmp": "BMP", "gif": "GIF"}
"""GDAL's name of a format, where it is none of TIFF. Drivers that it finds by itself may follow what a file names."""

Affine = tuple[float, float, float, float, float, float]
"""(a, b, c, d, e, f): a pixel corner (row, column) lies at x = a column + b row + c, y = d column + e row + f."""
GroundControlPoint = tuple[float, float, float, float, float]
"""(row, column) of an image lies at (x, y, z)."""


@dataclass(frozen=True, kw_only=True)
class Georeference:
    """The place of an image on the Earth.

    Attributes
    ----------
    crs : coordinate reference system: "EPSG:32617" where it has such a number, else as WKT 2; "" where unknown.
    transform : from pixel corners to coordinates; None where there are only points or polynomials, or nothing.
    points : ground control points.
    polynomials : rational polynomial coefficients, as GDAL names them.
    pixel_is_point : coordinates were given for centres of pixels; `transform` speaks of corners all the same.
    """

    crs: str = ""
    transform: Affine | None = None
    points: tuple[GroundControlPoint, ...] = ()
    polynomials: tuple[tuple[str, str], ...] = ()
    pixel_is_point: bool = False

    @cached_property
    def _parsed_crs(self) -> CRS | None:
        from rasterio.crs import CRS

        return CRS.from_user_input(self.crs) if self.crs else None

    @property
    def crs_name(self) -> str | None:
        """ "EPSG:32617", or how the file calls a system of its own; None where it names none."""
        if self._parsed_crs is None or self.crs.startswith("EPSG:"):
            return self.crs or None
        return str(self._parsed_crs.to_dict(projjson=True).get("name", "unknown"))

    @property
    def unit(self) -> str | None:
        """Unit of length of a projected system; None for degrees, and where the file does not say."""
        crs = self._parsed_crs
        return None if crs is None or not crs.is_projected else _LENGTH_UNITS.get(crs.linear_units)

    @property
    def pixel_size(self) -> tuple[float, float] | None:
        """Height and width of a pixel in `unit`, None without a unit."""
        if self.transform is None or self.unit is None:
            return None
        a, b, _, d, e, _ = self.transform
        size = hypot(b, e), hypot(a, d)
        return size if all(isfinite(length) and length > 0 for length in size) else None

    def lies_on(self, other: Georeference, size: tuple[int, int]) -> bool:
        """Whether corners of an image of `size` (height, width) lie where `other` has them; True where nobody knows."""
        if self._parsed_crs is not None and other._parsed_crs is not None and self._parsed_crs != other._parsed_crs:
            return False
        if self.transform is None or other.transform is None:
            return True
        (a, b, _, d, e, _), (height, width) = self.transform, size
        tolerated = _TOLERATED_PX * min(hypot(a, d), hypot(b, e))
        corners = ((0, 0), (0, width), (height, 0))
        return all(dist(_placed(self.transform, *at), _placed(other.transform, *at)) <= tolerated for at in corners)

    def moved(self, row: int, column: int) -> Georeference:
        """Of the image whose first pixel is at (row, column) of this one, which may be negative."""
        transform = None
        if self.transform is not None:
            a, b, c, d, e, f = self.transform
            transform = (a, b, c + a * column + b * row, d, e, f + d * column + e * row)
        offsets = {"LINE_OFF": row, "SAMP_OFF": column}
        return replace(
            self,
            transform=transform,
            points=tuple((p[0] - row, p[1] - column, *p[2:]) for p in self.points),
            polynomials=tuple(
                (name, repr(float(text) - offsets[name]) if name in offsets else text)
                for name, text in self.polynomials
            ),
        )


def _placed(transform: Affine, row: int, column: int) -> tuple[float, float]:
    a, b, c, d, e, f = transform
    return a * column + b * row + c, d * column + e * row + f


def web_mercator(*, pixel_size_m: float, left_m: float, top_m: float) -> Georeference:
    """The system of map tiles on the web (EPSG:3857), with the corner of the first pixel."""
    return Georeference(crs="EPSG:3857", transform=(pixel_size_m, 0.0, left_m, 0.0, -pixel_size_m, top_m))


def crs_text(crs: CRS | None) -> str:
    """A system as `Georeference.crs` has it."""
    if crs is None:
        return ""
    own = crs.to_dict(projjson=True).get("id", {})
    is_epsg = own.get("authority") == "EPSG"
    return f"EPSG:{own['code']}" if is_epsg else str(crs.to_wkt(version="WKT2_2019"))


def georeference_of(dataset: rasterio.DatasetReader, path: Path) -> Georeference | None:
    """What an open dataset says about its place, or a .prj file beside it; None where there is nothing."""
    points, points_crs = dataset.gcps
    rpcs = dataset.rpcs
    placed = not dataset.transform.is_identity
    found = Georeference(
        crs=crs_text(dataset.crs or points_crs) or _crs_beside(path),
        transform=tuple(float(value) for value in dataset.transform[:6]) if placed else None,  # type: ignore[arg-type]
        points=tuple((p.row, p.col, p.x, p.y, p.z or 0.0) for p in points),
        polynomials=() if rpcs is None else tuple(sorted(rpcs.to_gdal().items())),
        pixel_is_point=dataset.tags().get("AREA_OR_POINT") == _POINT,
    )
    return found if found.crs or placed or points or rpcs else None


def _crs_beside(path: Path) -> str:
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    file = path.with_suffix(".prj")
    if not file.is_file():
        return ""
    try:
        return crs_text(CRS.from_wkt(file.read_text(encoding="utf-8", errors="replace"), morph_from_esri_dialect=True))
    except CRSError:
        logger.warning("%s: its coordinate system is not understood and left out; check %s", path, file)
        return ""


def files_of_place(path: Path) -> list[Path]:
    """Files beside an image that say where it lies: a world file, GDAL's .aux.xml, a .prj."""
    ending = path.suffix.lstrip(".")
    world = {f"{ending[:1]}{ending[-1:]}w", f"{ending}w", "wld"}
    names = [path.with_suffix(f".{suffix}") for suffix in sorted({*world, *(s.upper() for s in world)}) if ending]
    names += [path.with_name(path.name + ".aux.xml"), path.with_suffix(".prj")]
    return [file for file in names if file.is_file()]


def read_place(path: Path, file_format: str) -> Georeference | None:
    """The place of an image file, from its tags and from files beside it; None where rasterio finds none."""
    use_rasterio()
    from rasterio.errors import RasterioError

    try:
        with open_dataset(path, driver=_DRIVERS.get(file_format, "GTiff")) as dataset:
            return georeference_of(dataset, path)
    except RasterioError:
        return None


def placing(georeference: Georeference | None) -> dict[str, Any]:
    """Arguments with which rasterio creates a dataset in its place; `finish_placing` adds the rest."""
    if georeference is None:
        return {}
    from rasterio import Affine

    options: dict[str, Any] = {}
    if georeference.transform is not None:
        options["transform"] = Affine(*georeference.transform)
    if georeference.crs and not georeference.points:
        options["crs"] = georeference._parsed_crs
    return options


def finish_placing(dataset: rasterio.io.DatasetWriter, georeference: Georeference | None) -> None:
    """What can only be said of an open dataset."""
    if georeference is None:
        return
    from rasterio.control import GroundControlPoint as Point
    from rasterio.rpc import RPC

    if georeference.points:
        points = [Point(row=row, col=column, x=x, y=y, z=z) for row, column, x, y, z in georeference.points]
        dataset.gcps = (points, georeference._parsed_crs)
    if georeference.polynomials:
        dataset.rpcs = RPC.from_gdal(dict(georeference.polynomials))
    if georeference.pixel_is_point:
        dataset.update_tags(AREA_OR_POINT=_POINT)


def has_place_tags(page: tifffile.TiffPage) -> bool:
    """Whether a page of a TIFF says where it lies."""
    return any(code in page.tags for code in _PLACE_TAGS)


def georeference_tags(georeference: Georeference | None) -> list[tuple[int, str, int, Any]]:
    """The tags of a GeoTIFF: number, type ("H" short, "d" double, "s" text), count and value of each."""
    if georeference is None:
        return []
    use_rasterio()
    import tifffile
    from rasterio.io import MemoryFile

    with MemoryFile() as memory:
        with memory.open(driver="GTiff", width=1, height=1, count=1, dtype="uint8", **placing(georeference)) as dataset:
            finish_placing(dataset, georeference)
        with tifffile.TiffFile(BytesIO(memory.read())) as tif:
            tags = [tif.pages.first.tags[code] for code in _PLACE_TAGS if code in tif.pages.first.tags]
            return [tag_of(tag) for tag in tags]


def tag_of(tag: tifffile.TiffTag) -> tuple[int, str, int, Any]:
    """Number, type, count and value of a tag, as tifffile writes it."""
    if isinstance(tag.value, str):
        return tag.code, "s", 0, tag.value.encode()
    values = tag.value if isinstance(tag.value, tuple) else (tag.value,)
    return tag.code, _TYPE_LETTERS[int(tag.dtype)], len(values), values


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
    """Open a file by ``rasterio.open``.

    Raises
    ------
    ImageError
        See `check_name`.
    """
    check_name(path)
    use_rasterio()
    import rasterio

    with gdal_name(path) as name:
        return rasterio.open(name, *options, **named_options)


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
