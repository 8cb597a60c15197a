"""What an OME-Zarr 0.5 group says about its image: axes, levels, pixel sizes, channels; and the exact record beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pix2pix.formats.metadata import METADATA_KEY, Colour, ImageMetadata, from_record, to_record
from napari_pix2pix.formats.ome_zarr_layout import Layout
from napari_pix2pix.formats.writing import OutputSpec

_TYPES = {"T": "time", "C": "channel"}
_UNITS = {
    "µm": "micrometer",
    "nm": "nanometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
    "Å": "angstrom",
    "pm": "picometer",
}
_WHITE = (255, 255, 255)
_PRIMARY: tuple[Colour, ...] = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
_COMPOSITE: tuple[Colour, ...] = ((0, 255, 0), (255, 0, 255), (0, 255, 255), (255, 255, 0), (255, 0, 0), (0, 0, 255))

Limits = Sequence[tuple[float, float]]


def group_attributes(layout: Layout, name: str, limits: Limits) -> dict[str, Any]:
    """Attributes of the group.

    Parameters
    ----------
    limits : darkest and brightest pixel, for each channel.
    """
    ome: dict[str, Any] = {"version": "0.5", "multiscales": [_multiscale(layout, name)]}
    if layout.labels:
        ome["image-label"] = _image_label(layout.spec)
    else:
        ome["omero"] = {"channels": _channels(layout.spec, limits)}
    return {"ome": ome, METADATA_KEY: _record(layout.spec)}


def _multiscale(layout: Layout, name: str) -> dict[str, Any]:
    metadata = layout.spec.metadata
    units = dict.fromkeys("ZYX", _UNITS.get(metadata.unit or "")) | {"T": metadata.time_step_s and "second"}
    axes = [
        {"name": letter.lower(), "type": _TYPES.get(letter, "space")}
        | ({"unit": units[letter]} if units.get(letter) else {})
        for letter in layout.letters
    ]
    return {
        "name": name,
        "axes": axes,
        "datasets": [
            {"path": str(level), "coordinateTransformations": _transformations(layout, level)}
            for level in range(len(layout.sizes))
        ],
        "type": "local mean" if layout.spec.averaged else "nearest",
        "metadata": {"description": "each level holds a value for 2 x 2 pixels of the one before"},
    }


def _transformations(layout: Layout, level: int) -> list[dict[str, Any]]:
    """Scale of a level. A mean of 2**level pixels lies in their middle; "nearest" takes the first of them."""
    metadata = layout.spec.metadata
    y, x = metadata.pixel_size or (1.0, 1.0)
    factor = 2**level
    sizes = {"T": metadata.time_step_s or 1.0, "Z": metadata.z_spacing or 1.0, "Y": y, "X": x}
    factors = {"Y": factor, "X": factor}
    scale = [sizes.get(letter, 1.0) * factors.get(letter, 1) for letter in layout.letters]
    shift = (factor - 1) / 2 if layout.spec.averaged else 0.0
    steps: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
    if shift:
        offsets = [sizes[letter] * shift if letter in factors else 0.0 for letter in layout.letters]
        steps.append({"type": "translation", "translation": offsets})
    return steps


def _channels(spec: OutputSpec, limits: Limits) -> list[dict[str, Any]]:
    metadata = spec.metadata
    names = metadata.channel_names or tuple(f"channel {number}" for number in range(spec.channels))
    colors = metadata.channel_colors or _usual_colors(spec)
    shown = metadata.display_ranges or tuple(limits)
    return [
        {
            "label": name,
            "color": bytes(color).hex().upper(),
            "active": True,
            "window": {"min": low, "max": high, "start": start, "end": end},
        }
        for name, color, (start, end), (low, high) in zip(
            names, colors, shown, (_possible(spec.dtype, own) for own in limits), strict=True
        )
    ]


def _usual_colors(spec: OutputSpec) -> tuple[Colour, ...]:
    if spec.rgb:
        return _PRIMARY
    if spec.channels == 1:
        return (_WHITE,)
    return tuple(_COMPOSITE[number % len(_COMPOSITE)] for number in range(spec.channels))


def _possible(dtype: np.dtype[Any], limits: tuple[float, float]) -> tuple[float, float]:
    """Values that a display may be set to: those of the type, for reals those that occur."""
    if dtype.kind in "ui":
        return float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
    return (0.0, 1.0) if dtype.kind == "b" else limits


def _image_label(spec: OutputSpec) -> dict[str, Any]:
    if spec.palette is None:
        return {"version": "0.5"}
    colors = [{"label-value": value, "rgba": [*map(int, color), 255]} for value, color in enumerate(spec.palette)]
    return {"version": "0.5", "colors": colors}


def _record(spec: OutputSpec) -> dict[str, Any]:
    """What this program wants back exactly, and the standard has no field for."""
    record: dict[str, Any] = {"metadata": to_record(spec.metadata), "rgb": spec.metadata.rgb}
    if spec.palette is not None:
        record["palette"] = spec.palette.tolist()
    if spec.nodata is not None:
        record["nodata"] = repr(float(spec.nodata))
    return record


@dataclass(frozen=True)
class Record:
    """What `group_attributes` says beyond the standard."""

    metadata: ImageMetadata
    palette: NDArray[np.uint8] | None
    nodata: float | None


def read_record(attributes: Mapping[str, Any]) -> Record | None:
    """The record of a group that this program wrote; None for others."""
    record = attributes.get(METADATA_KEY)
    if not isinstance(record, dict):
        return None
    palette, nodata = record.get("palette"), record.get("nodata")
    return Record(
        metadata=replace(from_record(record.get("metadata")), rgb=bool(record.get("rgb"))),
        palette=None if palette is None else np.array(palette, np.uint8).reshape(-1, 3),
        nodata=None if nodata is None else float(nodata),
    )
