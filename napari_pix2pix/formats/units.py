"""Units of length and time: one spelling of each, its name in OME-Zarr, conversion without needless rounding; and sizes
of pixels compared.
"""

from __future__ import annotations

from fractions import Fraction
from math import isfinite

_PREFIXES = {
    "Y": ("yotta", 24), "Z": ("zetta", 21), "E": ("exa", 18), "P": ("peta", 15), "T": ("tera", 12), "G": ("giga", 9),
    "M": ("mega", 6), "k": ("kilo", 3), "h": ("hecto", 2), "": ("", 0), "d": ("deci", -1), "c": ("centi", -2),
    "m": ("milli", -3), "µ": ("micro", -6), "n": ("nano", -9), "p": ("pico", -12), "f": ("femto", -15),
    "a": ("atto", -18), "z": ("zepto", -21), "y": ("yocto", -24),
}  # fmt: skip
_LENGTHS = {
    **{f"{symbol}m": (f"{name}meter", Fraction(10) ** power) for symbol, (name, power) in _PREFIXES.items()},
    "Å": ("angstrom", Fraction(1, 10**10)),
    "in": ("inch", Fraction(254, 10**4)),
    "ft": ("foot", Fraction(3048, 10**4)),
    "yd": ("yard", Fraction(9144, 10**4)),
    "mi": ("mile", Fraction(1609344, 10**3)),
    "pc": ("parsec", Fraction(30856775814913673)),
    "US survey ft": ("US survey foot", Fraction(1200, 3937)),
}
"""Symbol: name in OME-Zarr, and metres."""

_TIMES = {
    **{f"{symbol}s": (f"{name}second", Fraction(10) ** power) for symbol, (name, power) in _PREFIXES.items()},
    "min": ("minute", Fraction(60)),
    "h": ("hour", Fraction(3600)),
    "d": ("day", Fraction(86400)),
}
"""Symbol: name in OME-Zarr, and seconds."""

_SPELLINGS = {
    "micron": "µm",
    "um": "µm",
    "μm": "µm",  # Greek mu instead of the micro sign
    "\\u00b5m": "µm",  # as ImageJ writes it
    "feet": "ft",
    "inches": "in",
    "us": "µs",
    "μs": "µs",
    "sec": "s",
    "msec": "ms",
    "minutes": "min",
    "hr": "h",
}
_NO_UNITS = {"", "pixel", "pixels", "px", "none", "reference frame", "frame", "frames"}


def standard_unit(name: str | None) -> str | None:
    """One spelling per unit of length or time ("micron" and "um" are "µm"); None for pixels and the like.

    A unit that is not known stays as it is.
    """
    cleaned = (name or "").strip()
    lower = cleaned.lower()
    if lower in _NO_UNITS:
        return None
    if cleaned in _LENGTHS or cleaned in _TIMES:
        return cleaned
    spelled = lower.replace("metre", "meter")
    return _BY_NAME.get(spelled) or _BY_NAME.get(spelled.removesuffix("s")) or cleaned


_BY_NAME = {
    **{name: symbol for table in (_LENGTHS, _TIMES) for symbol, (name, _) in table.items()},
    **_SPELLINGS,
}


def convert_length(length: float, unit: str, target: str) -> float | None:
    """`length` in another unit; None where one of the units is unknown and they differ."""
    return length if unit == target else _converted(length, _LENGTHS.get(unit), _LENGTHS.get(target))


def in_seconds(time: float, unit: str) -> float | None:
    """`time`, given in a unit of time; None where that is unknown."""
    return _converted(time, _TIMES.get(unit), _TIMES["s"])


def _converted(value: float, own: tuple[str, Fraction] | None, target: tuple[str, Fraction] | None) -> float | None:
    """Computed exactly and rounded once."""
    if own is None or target is None or not isfinite(value):
        return None
    return float(Fraction(value) * own[1] / target[1])


def ome_zarr_name(unit: str) -> str:
    """How OME-Zarr calls a unit; one that it does not know keeps its spelling."""
    known = _LENGTHS.get(unit) or _TIMES.get(unit)
    return unit if known is None else known[0]


TOLERATED_RATIO = 1.1
"""A network is hardly disturbed by pixels larger or smaller by less than this factor."""

PixelSize = tuple[float, float]
"""Height and width."""


def size_ratio(
    own: PixelSize | None, unit: str | None, trained: PixelSize | None, trained_unit: str | None
) -> tuple[float, float] | None:
    """Pixel size of an image over that of training, (y, x); None where one of them is unknown."""
    if own is None or unit is None or trained is None or trained_unit is None:
        return None
    y, x = (convert_length(length, unit, trained_unit) for length in own)
    return None if y is None or x is None else (y / trained[0], x / trained[1])


def sizes_differ(ratio: tuple[float, float]) -> bool:
    return not all(1 / TOLERATED_RATIO < factor < TOLERATED_RATIO for factor in ratio)
