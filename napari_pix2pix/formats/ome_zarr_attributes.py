"""What a group that is written says of its image, in OME-Zarr 0.5, through the models of yaozarrs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from yaozarrs import v05

from napari_pix2pix.formats.metadata import METADATA_KEY, to_record
from napari_pix2pix.formats.ome_zarr_layout import Layout
from napari_pix2pix.formats.ome_zarr_metadata import WHITE, axis_scale, usual_colors, usual_names
from napari_pix2pix.formats.writing import OutputSpec

Limits = Sequence[tuple[float, float]]


def group_attributes(layout: Layout, name: str, limits: Limits) -> dict[str, Any]:
    """Attributes of the group.

    Parameters
    ----------
    name : of the image, where the metadata have none.
    limits : darkest and brightest pixel, for each sample of a pixel.
    """
    spec = layout.spec
    readable = name.encode(errors="replace").decode()  # names of files need not be text
    images = [_multiscale(layout, spec.metadata.name or readable)]
    ome: v05.Image
    if layout.labels:
        ome = v05.LabelImage.model_validate({"multiscales": images, "image-label": _image_label(spec)})
    else:
        ome = v05.Image(multiscales=images, omero=v05.Omero(channels=_channels(spec, limits)))
    return {"ome": ome.model_dump(mode="json", by_alias=True, exclude_none=True), METADATA_KEY: _record(spec)}


def _multiscale(layout: Layout, name: str) -> v05.Multiscale:
    return v05.Multiscale(
        name=name,
        axes=[_axis(layout, letter, own) for letter, own in zip(layout.letters, layout.axis_names, strict=True)],
        datasets=[
            v05.Dataset(path=str(level), coordinateTransformations=_transformations(layout, level))
            for level in range(len(layout.sizes))
        ],
        type="local mean" if layout.spec.averaged else "nearest",
        metadata={"description": "each level holds a value for 2 x 2 pixels of the one before"},
    )


def _axis(layout: Layout, letter: str, name: str) -> v05.Axis:
    if letter == "C":
        return v05.ChannelAxis(name=name)
    unit = axis_scale(layout.spec.metadata, letter).unit
    # Not validated: units that the standard does not list are allowed, and would be warned of.
    if letter == "T":
        return v05.TimeAxis.model_construct(name=name, type="time", unit=unit)
    return v05.SpaceAxis.model_construct(name=name, type="space", unit=unit)


def _transformations(layout: Layout, level: int) -> list[v05.ScaleTransformation | v05.TranslationTransformation]:
    """Of a level. A mean of 2**level pixels lies in their middle; "nearest" takes the first of them."""
    factor = 2**level
    shift = (factor - 1) / 2 if layout.spec.averaged else 0.0
    steps, origins = [], []
    for letter in layout.letters:
        known = axis_scale(layout.spec.metadata, letter)
        reduced = letter in "YX"
        steps.append(known.step * factor if reduced else known.step)
        origins.append(known.origin + known.step * shift if reduced else known.origin)
    scale = v05.ScaleTransformation(scale=steps)
    return [scale, v05.TranslationTransformation(translation=origins)] if any(origins) else [scale]


def _channels(spec: OutputSpec, limits: Limits) -> list[v05.OmeroChannel]:
    metadata = spec.metadata
    names = (*(metadata.channel_names or usual_names(spec.channels)), *["opacity"] * spec.masked)
    colors = (*(metadata.channel_colors or usual_colors(spec.channels, rgb=spec.rgb)), *[WHITE] * spec.masked)
    shown = (*(metadata.display_ranges or tuple(limits[: spec.channels])), *limits[spec.channels :])
    return [
        v05.OmeroChannel(
            label=name,
            color=bytes(color).hex().upper(),
            active=True,
            window=v05.OmeroWindow(min=low, max=high, start=start, end=end),
        )
        for name, color, (start, end), (low, high) in zip(
            names, colors, shown, (_possible(spec.dtype, own) for own in limits), strict=True
        )
    ]


def _possible(dtype: np.dtype[Any], limits: tuple[float, float]) -> tuple[float, float]:
    """Values that a display may be set to: those of the type, for reals those that occur."""
    if dtype.kind in "ui":
        return float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
    return (0.0, 1.0) if dtype.kind == "b" else limits


def _image_label(spec: OutputSpec) -> v05.ImageLabel:
    if spec.palette is None:
        return v05.ImageLabel(version="0.5")
    colors = [
        v05.LabelColor(**{"label-value": value}, rgba=[*map(int, color), 255])
        for value, color in enumerate(spec.palette)
    ]
    return v05.ImageLabel(version="0.5", colors=colors)


def _record(spec: OutputSpec) -> dict[str, Any]:
    """What this program wants back exactly, and the standard has no field for."""
    record: dict[str, Any] = {"metadata": to_record(replace(spec.metadata, scales=())), "rgb": spec.metadata.rgb}
    if spec.palette is not None:
        record["palette"] = spec.palette.tolist()
    if spec.nodata is not None:
        record["nodata"] = repr(float(spec.nodata))
    return record
