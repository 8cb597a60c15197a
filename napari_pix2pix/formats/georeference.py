"""Where an image lies on the Earth: the tags of a GeoTIFF, kept as they are, and what they mean.

The coordinate reference system (CRS) is never interpreted and written anew, so nothing of it can be lost: an output has
the very keys of its input. Tag numbers and meanings: OGC GeoTIFF 1.1 (OGC 19-008r4).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import hypot, isfinite
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tifffile

PIXEL_SCALE, TIEPOINTS, MATRIX, KEY_DIRECTORY, DOUBLE_PARAMETERS, TEXT_PARAMETERS = (
    33550,
    33922,
    34264,
    34735,
    34736,
    34737,
)
GDAL_METADATA, GDAL_NODATA = 42112, 42113

_MODEL_TYPE, _RASTER_TYPE = 1024, 1025
_GEOGRAPHIC_CRS, _PROJECTED_CRS, _PROJECTED_UNIT = 2048, 3072, 3076
_CITATIONS = (3073, 1026, 2049)
_PROJECTED, _PIXEL_IS_POINT, _USER_DEFINED = 1, 2, 32767
_LENGTH_UNITS = {9001: "m", 9002: "ft", 9003: "US survey ft"}
_WEB_MERCATOR_KEYS = (1, 1, 0, 4, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 3857, 3076, 0, 1, 9001)

Affine = tuple[float, float, float, float, float, float]
"""(a, b, c, d, e, f): a pixel corner (row, column) lies at x = a column + b row + c, y = d column + e row + f."""


@dataclass(frozen=True, kw_only=True)
class Georeference:
    """The georeferencing tags of a TIFF, verbatim; empty where the file lacks one.

    Attributes
    ----------
    keys : GeoKeyDirectory, groups of four numbers.
    doubles, text : the parameters that the keys refer to.
    pixel_scale : (x, y, z).
    tiepoints : (column, row, 0, x, y, z) for each point.
    matrix : 4 x 4, row by row.
    """

    keys: tuple[int, ...]
    doubles: tuple[float, ...] = ()
    text: str = ""
    pixel_scale: tuple[float, ...] = ()
    tiepoints: tuple[float, ...] = ()
    matrix: tuple[float, ...] = ()

    @property
    def transform(self) -> Affine | None:
        """From pixel corners to coordinates; None where the file gives ground control points only, or nothing."""
        affine = self._tagged_transform()
        if affine is None or self._key(_RASTER_TYPE) != _PIXEL_IS_POINT:
            return affine
        a, b, c, d, e, f = affine  # the tags speak of pixel centres
        return a, b, c - (a + b) / 2, d, e, f - (d + e) / 2

    def _tagged_transform(self) -> Affine | None:
        if len(self.pixel_scale) >= 2 and len(self.tiepoints) >= 6:
            (x_scale, y_scale), (column, row, _, x, y, _) = self.pixel_scale[:2], self.tiepoints[:6]
            return x_scale, 0.0, x - column * x_scale, 0.0, -y_scale, y + row * y_scale
        if len(self.matrix) == 16:
            a, b, _, c, d, e, _, f = self.matrix[:8]
            return a, b, c, d, e, f
        return None

    @property
    def crs_name(self) -> str | None:
        """ "EPSG:32617", or how the file calls a system of its own; None where it names none."""
        for key in (_PROJECTED_CRS, _GEOGRAPHIC_CRS):
            code = self._key(key)
            if code is not None and code != _USER_DEFINED:
                return f"EPSG:{code}"
        return next((text for key in _CITATIONS if (text := self._text(key))), None)

    @property
    def unit(self) -> str | None:
        """Unit of length of a projected system; None for degrees, and where the file does not say."""
        return _LENGTH_UNITS.get(self._key(_PROJECTED_UNIT) or 0) if self._key(_MODEL_TYPE) == _PROJECTED else None

    @property
    def pixel_size(self) -> tuple[float, float] | None:
        """Height and width of a pixel in `unit`, None without a unit."""
        affine = self.transform
        if affine is None or self.unit is None:
            return None
        a, b, _, d, e, _ = affine
        size = hypot(b, e), hypot(a, d)
        return size if all(isfinite(length) and length > 0 for length in size) else None

    def moved(self, row: int, column: int) -> Georeference:
        """Of the image whose first pixel is at (row, column) of this one, which may be negative."""
        if len(self.pixel_scale) >= 2:
            points = [self.tiepoints[i : i + 6] for i in range(0, len(self.tiepoints), 6)]
            shifted = (value for p in points for value in (p[0] - column, p[1] - row, *p[2:]))
            return replace(self, tiepoints=tuple(shifted))
        a, b, z, c, d, e, z_again, f = self.matrix[:8]
        c, f = a * column + b * row + c, d * column + e * row + f
        return replace(self, matrix=(a, b, z, c, d, e, z_again, f, *self.matrix[8:]))

    def _entry(self, key: int) -> tuple[int, int, int] | None:
        """Tag, count and value or index of a key."""
        for i in range(4, len(self.keys) - 3, 4):
            if self.keys[i] == key:
                return self.keys[i + 1], self.keys[i + 2], self.keys[i + 3]
        return None

    def _key(self, key: int) -> int | None:
        entry = self._entry(key)
        return entry[2] if entry is not None and entry[0] == 0 else None

    def _text(self, key: int) -> str:
        entry = self._entry(key)
        if entry is None or entry[0] != TEXT_PARAMETERS:
            return ""
        return self.text[entry[2] : entry[2] + entry[1]].strip("| \0")


def web_mercator(*, pixel_size_m: float, left_m: float, top_m: float) -> Georeference:
    """The system of map tiles on the web (EPSG:3857), with the corner of the first pixel."""
    return Georeference(
        keys=_WEB_MERCATOR_KEYS,
        pixel_scale=(pixel_size_m, pixel_size_m, 0.0),
        tiepoints=(0.0, 0.0, 0.0, left_m, top_m, 0.0),
    )


def read_georeference(page: tifffile.TiffPage) -> Georeference | None:
    """What a page says about its place, or None where it has no key directory and no transform."""
    keys = _numbers(page, KEY_DIRECTORY)
    found = Georeference(
        keys=tuple(int(key) for key in keys),
        doubles=_numbers(page, DOUBLE_PARAMETERS),
        text=str(page.tags.valueof(TEXT_PARAMETERS, "")),
        pixel_scale=_numbers(page, PIXEL_SCALE),
        tiepoints=_numbers(page, TIEPOINTS),
        matrix=_numbers(page, MATRIX),
    )
    return found if keys or found.transform is not None else None


def _numbers(page: tifffile.TiffPage, code: int) -> tuple[Any, ...]:
    value = page.tags.valueof(code, ())
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def georeference_tags(georeference: Georeference | None) -> list[tuple[int, str, int, Any]]:
    """Number, type ("H" short, "d" double, "s" text), count and value of each tag that is not empty."""
    if georeference is None:
        return []
    own = georeference
    numbers: list[tuple[int, str, tuple[Any, ...]]] = [
        (PIXEL_SCALE, "d", own.pixel_scale),
        (TIEPOINTS, "d", own.tiepoints),
        (MATRIX, "d", own.matrix),
        (KEY_DIRECTORY, "H", own.keys),
        (DOUBLE_PARAMETERS, "d", own.doubles),
    ]
    tags: list[tuple[int, str, int, Any]] = [
        (code, kind, len(values), values) for code, kind, values in numbers if values
    ]
    return [*tags, (TEXT_PARAMETERS, "s", 0, own.text)] if own.text else tags
