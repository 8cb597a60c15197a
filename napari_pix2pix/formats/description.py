"""What was understood of an image file, for people and for programs."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from napari_pix2pix.formats.georeference import Georeference
from napari_pix2pix.formats.source import ImageSource


def describe_image(image: ImageSource) -> dict[str, Any]:
    """Everything that is known of an open image besides its pixels, ready for JSON; what is unknown is left out.

    `shape` belongs to `axes`; `pixel_size` is (y, x) in `unit`; `transform` and `bounds` (left, bottom, right, top) are
    in the coordinates of `crs`. `scales` says of axes what those fields cannot, see `ImageMetadata.scales`.
    """
    metadata = image.metadata
    own = {
        field.name: getattr(metadata, field.name)
        for field in fields(metadata)
        if field.name not in ("alpha", "georeference", "scales", "tiles", "white_is_zero")
    }
    facts = {
        "path": str(image.path),
        "format": own.pop("file_format"),
        "axes": image.axes,
        "shape": list(image.shape),
        "dtype": image.dtype.name,
        **own,
        "scales": {s.letter: {"step": s.step, "unit": s.unit, "origin": s.origin} for s in metadata.scales},
        "nodata": image.nodata,
        "masked": ("by alpha" if metadata.alpha else "by a mask") if image.masked else None,
        "white_is_zero": metadata.white_is_zero or None,
        **_series(image),
        "tiles": None if metadata.tiles is None else len(metadata.tiles.tiles),
        "palette_colours": None if image.palette is None else len(image.palette),
        **_place(metadata.georeference, *image.shape[-2:]),
    }
    return {name: value for name, value in facts.items() if value not in (None, (), {})}


def _series(image: ImageSource) -> dict[str, Any]:
    """Of files that hold several images."""
    if len(image.series_names) == 1:
        return {}
    return {"series": image.series, "images_in_file": [name or str(i) for i, name in enumerate(image.series_names)]}


def _place(georeference: Georeference | None, height: int, width: int) -> dict[str, Any]:
    if georeference is None:
        return {}
    transform = georeference.transform
    bounds = None if transform is None else _bounds(transform, height, width)
    return {"crs": georeference.crs_name or "unknown", "transform": transform, "bounds": bounds}


def _bounds(transform: tuple[float, ...], height: int, width: int) -> tuple[float, float, float, float]:
    a, b, c, d, e, f = transform
    corners = [(row, column) for row in (0, height) for column in (0, width)]
    xs = [a * column + b * row + c for row, column in corners]
    ys = [d * column + e * row + f for row, column in corners]
    return min(xs), min(ys), max(xs), max(ys)
