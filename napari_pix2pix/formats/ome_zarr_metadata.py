"""What an OME-Zarr group (0.4, 0.5 and older) says about its images; what is malformed is left out.

What the standard has no field for stands beside it as a record of this program.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import isclose, isfinite
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_pix2pix.formats.metadata import (
    METADATA_KEY,
    AxisScale,
    Colour,
    ImageMetadata,
    distinct,
    from_record,
)
from napari_pix2pix.formats.units import convert_length, in_seconds, ome_zarr_name, standard_unit

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

_DEFAULT_AXES = "tczyx"
"""Before version 0.4."""

_AXIS_NAMES = {
    "T": ("frame",),
    "C": ("band", "bands"),
    "Z": ("depth", "plane", "slice"),
    "Y": ("row", "rows", "height", "lat", "latitude", "northing"),
    "X": ("col", "column", "columns", "width", "lon", "longitude", "easting"),
}
"""Of axes without a type; others go by their first letter."""

_LARGEST = 1e100
"""Steps and coordinates beyond are no numbers that anyone has measured."""

WHITE = (255, 255, 255)
_PRIMARY: tuple[Colour, ...] = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
_COMPOSITE: tuple[Colour, ...] = ((0, 255, 0), (255, 0, 255), (0, 255, 255), (255, 255, 0), (255, 0, 0), (0, 0, 255))


def ome_attributes(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a group's attributes that OME-Zarr defines; empty where there is none."""
    ome = attributes.get("ome", attributes)
    return ome if isinstance(ome, Mapping) else {}


def multiscales(attributes: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The images that a group holds itself."""
    found = ome_attributes(attributes).get("multiscales")
    return [image for image in found if isinstance(image, Mapping)] if isinstance(found, list) else []


def level_paths(image: Mapping[str, Any]) -> list[str]:
    """Arrays of an image relative to its group, the finest first."""
    return [str(dataset["path"]) for dataset in image["datasets"]]


def axis_letters(axes: Sequence[Any] | None, ndim: int) -> str:
    """One capital letter per axis: T, C, Z, Y and X by type and name, others by their names; see `AxisScale`."""
    axes = axes or _DEFAULT_AXES[-ndim:]
    types = [str(axis.get("type") or "") if isinstance(axis, Mapping) else "" for axis in axes]
    letters = [
        {"time": "T", "channel": "C"}.get(kind) or _initial(axis_name(axis))
        for axis, kind in zip(axes, types, strict=True)
    ]
    space = [position for position, kind in enumerate(types) if kind == "space"]
    if len(space) > 1 and not {letters[position] for position in space} <= set("ZYX"):
        for position, letter in zip(reversed(space), "XYZ", strict=False):
            letters[position] = letter
    return distinct("".join(letters))


def _initial(name: str) -> str:
    known = next((letter for letter, names in _AXIS_NAMES.items() if name.lower() in names), None)
    return known or (name[0].upper() if name[0].isascii() and name[0].isalpha() else "Q")


def axis_name(axis: Any) -> str:
    return str((axis.get("name") or axis.get("type")) if isinstance(axis, Mapping) else axis) or "?"


def read_metadata(
    path: Path, attributes: Mapping[str, Any], image: Mapping[str, Any], letters: str, channels: int
) -> ImageMetadata:
    """What a group says of one of its images; `path` is for messages."""
    record = attributes.get(METADATA_KEY)
    own = from_record(record.get("metadata")) if isinstance(record, dict) else None
    rgb = isinstance(record, dict) and bool(record.get("rgb"))
    described = _described_channels(ome_attributes(attributes).get("omero"), channels)
    if own is not None:
        described = _recorded_channels(own, described, channels, rgb=rgb)
    return replace(
        _placed(path, image, letters, own or ImageMetadata(name=_name(image))),
        file_format="ome-zarr",
        rgb=rgb,
        **described,
    )


def _name(image: Mapping[str, Any]) -> str | None:
    """None for the numbers that converters give."""
    name = str(image.get("name") or "").strip()
    return None if name in ("", "/") or name.isdecimal() else name


def _placed(path: Path, image: Mapping[str, Any], letters: str, metadata: ImageMetadata) -> ImageMetadata:
    """With sizes and units; what those fields cannot say stays in `scales`."""
    found = {scale.letter: scale for scale in _scales(path, image, letters)}
    units = {letter: standard_unit(scale.unit) for letter, scale in found.items()}
    unit = units.get("X") or units.get("Y") or units.get("Z")
    y, x, z = (
        convert_length(found[letter].step, own, unit) if (own := units.get(letter)) and unit else None
        for letter in "YXZ"
    )
    metadata = replace(
        metadata,
        pixel_size=None if y is None or x is None else (y, x),
        z_spacing=z if "Z" in letters else metadata.z_spacing,
        unit=unit if (y is not None and x is not None) or z is not None else None,
        time_step_s=_time_step(found.get("T")) if "T" in letters else metadata.time_step_s,
        scales=(),
    )
    return replace(
        metadata, scales=tuple(scale for scale in found.values() if scale != _usual_scale(metadata, scale.letter))
    )


def _time_step(scale: AxisScale | None) -> float | None:
    unit = None if scale is None else standard_unit(scale.unit)
    return None if scale is None or unit is None else in_seconds(scale.step, unit)


def _scales(path: Path, image: Mapping[str, Any], letters: str) -> Iterator[AxisScale]:
    axes: Sequence[Any] = image.get("axes") or [letter.lower() for letter in letters]
    steps, origins = [1.0] * len(letters), [0.0] * len(letters)
    for holder in (image["datasets"][0], image):
        for transformation in holder.get("coordinateTransformations") or ():
            factors = _numbers(transformation, "scale", len(letters))
            offsets = _numbers(transformation, "translation", len(letters))
            if factors is None and offsets is None:
                _say_unknown(path, transformation)
            factors = factors or [1.0] * len(letters)
            offsets = offsets or [0.0] * len(letters)
            steps = [step * factor for step, factor in zip(steps, factors, strict=True)]
            origins = [
                origin * factor + offset for origin, factor, offset in zip(origins, factors, offsets, strict=True)
            ]
    for letter, axis, step, origin in zip(letters, axes, steps, origins, strict=True):
        if letter == "C":
            yield AxisScale("C", axis_name(axis), None, 1.0, 0.0)
        elif letter in "TZYX":
            own = axis.get("unit") if isinstance(axis, Mapping) else None
            unit = own if isinstance(own, str) else None
            if not 0 < step < _LARGEST:
                logger.warning("%s gives pixels a size of %g along %s, which is left out", path, step, axis_name(axis))
                unit, step = None, 1.0
            yield AxisScale(letter, axis_name(axis), unit, step, origin if abs(origin) < _LARGEST else 0.0)


def _say_unknown(path: Path, transformation: Any) -> None:
    kind = transformation.get("type") if isinstance(transformation, Mapping) else transformation
    if kind != "identity":
        logger.warning("%s: a transformation of its coordinates (%.40s) is not understood and left out", path, kind)


def _numbers(transformation: Any, kind: str, count: int) -> list[float] | None:
    with suppress(KeyError, TypeError, ValueError):
        numbers = [float(number) for number in transformation[kind]]
        if len(numbers) == count:
            return numbers
    return None


def _described_channels(omero: Any, channels: int) -> dict[str, Any]:
    described: Any = omero.get("channels") if isinstance(omero, Mapping) else None
    fitting = isinstance(described, list) and len(described) == channels
    entries = [entry for entry in described if isinstance(entry, Mapping)] if fitting else []
    return {
        "channel_names": _all([str(entry["label"]) for entry in entries if entry.get("label") is not None], channels),
        "channel_colors": _all([color for entry in entries if (color := _colour(entry.get("color")))], channels),
        "display_ranges": _all([limits for entry in entries if (limits := _window(entry.get("window")))], channels),
    }


def _recorded_channels(own: ImageMetadata, described: Mapping[str, Any], channels: int, *, rgb: bool) -> dict[str, Any]:
    """What this program recorded, except where another has changed names or colours since."""
    written = {
        "channel_names": own.channel_names or usual_names(channels),
        "channel_colors": own.channel_colors or usual_colors(channels, rgb=rgb and channels == 3),
    }
    changed = {name: described[name] for name, value in written.items() if described[name] not in ((), value)}
    return {name: getattr(own, name) for name in ("channel_names", "channel_colors", "display_ranges")} | changed


def _all(found: list[_T], channels: int) -> tuple[_T, ...]:
    """One per channel, or none."""
    return tuple(found) if len(found) == channels else ()


def _colour(text: Any) -> Colour | None:
    """From six hexadecimal digits."""
    with suppress(ValueError, TypeError):
        red, green, blue = bytes.fromhex(str(text).removeprefix("#"))
        return red, green, blue
    return None


def _window(window: Any) -> tuple[float, float] | None:
    with suppress(KeyError, TypeError, ValueError):
        start, end = float(window["start"]), float(window["end"])
        return (start, end) if isfinite(start) and isfinite(end) else None
    return None


@dataclass(frozen=True)
class Record:
    """What `ome_zarr_attributes` says of values beyond the standard."""

    palette: NDArray[np.uint8] | None = None
    nodata: float | None = None


def read_record(attributes: Mapping[str, Any]) -> Record:
    """The record of a group that this program wrote; an empty one for others."""
    record = attributes.get(METADATA_KEY)
    if not isinstance(record, dict):
        return Record()
    palette, nodata = record.get("palette"), record.get("nodata")
    return Record(
        palette=None if palette is None else np.array(palette, np.uint8).reshape(-1, 3),
        nodata=None if nodata is None else float(nodata),
    )


def axis_scale(metadata: ImageMetadata, letter: str) -> AxisScale:
    """What to say of the axis T, Z, Y or X: as in `scales`, unless the sizes beside them have become others."""
    usual = _usual_scale(metadata, letter)
    own = next((scale for scale in metadata.scales if scale.letter == letter), usual)
    if usual.unit is None or _same_step(own, usual):
        return own
    return usual._replace(name=own.name)


def _usual_scale(metadata: ImageMetadata, letter: str) -> AxisScale:
    """From the sizes that every format knows; a step of 1 without a unit where they are not known."""
    y, x = metadata.pixel_size or (None, None)
    sizes = {"C": None, "T": metadata.time_step_s, "Z": metadata.z_spacing, "Y": y, "X": x}
    unit = "second" if letter == "T" else ome_zarr_name(metadata.unit) if metadata.unit else None
    step = sizes[letter] if unit else None
    return AxisScale(letter, letter.lower(), unit if step else None, step or 1.0, 0.0)


def _same_step(own: AxisScale, usual: AxisScale) -> bool:
    units = standard_unit(own.unit), standard_unit(usual.unit)
    if units[0] is None or units[1] is None:
        return False
    to_seconds = in_seconds(own.step, units[0])
    converted = to_seconds if own.letter == "T" else convert_length(own.step, units[0], units[1])
    return converted is not None and isclose(converted, usual.step)


def usual_names(channels: int) -> tuple[str, ...]:
    return tuple(f"channel {number}" for number in range(channels))


def usual_colors(channels: int, *, rgb: bool) -> tuple[Colour, ...]:
    if rgb:
        return _PRIMARY
    if channels == 1:
        return (WHITE,)
    return tuple(_COMPOSITE[number % len(_COMPOSITE)] for number in range(channels))
