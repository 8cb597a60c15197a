"""OME-Zarr 0.4 and 0.5 (and what is written like them), read by region through zarr.

A chunk without a file holds the fill value, as the format says; it is not a sign of damage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
import zarr

from napari_pix2pix.formats.axes import distinct, sorted_leading
from napari_pix2pix.formats.metadata import Colour, ImageMetadata, convert_length, standard_unit
from napari_pix2pix.formats.ome_zarr_metadata import read_record
from napari_pix2pix.formats.ome_zarr_writing import write
from napari_pix2pix.formats.source import MAX_PLANES, ImageSource, check_decode_budget, is_zarr
from napari_pix2pix.formats.writing import OutputSpec
from pix2pix_training.array_source import AnyArray, Region
from pix2pix_training.errors import ImageError

NAME = "ome-zarr"
SUFFIXES = (".ome.zarr", ".zarr")

_T = TypeVar("_T")

__all__ = ["NAME", "SUFFIXES", "OmeZarrSource", "incompatibility", "may_replace", "open_source", "write"]

_DEFAULT_AXES = "tczyx"  # before version 0.4


class OmeZarrSource(ImageSource):
    """The first image of an OME-Zarr group at full resolution."""

    def __init__(
        self, path: Path, array: zarr.Array[Any], letters: str, metadata: ImageMetadata, **extras: Any
    ) -> None:
        self._array = array
        self._letters = letters
        self._leading = sorted_leading(letters, array.shape)
        lengths = dict(zip(letters, array.shape, strict=True))
        super().__init__(
            path,
            axes=distinct("".join(letters[i] for i in self._leading)) + "CYX",
            shape=(*(array.shape[i] for i in self._leading), lengths.get("C", 1), lengths["Y"], lengths["X"]),
            dtype=np.dtype(array.dtype).newbyteorder("="),
            metadata=metadata,
            **extras,
        )

    def _read(self, region: Region, plane: tuple[int, ...]) -> AnyArray:
        selection: list[int | slice] = [slice(None) if letter == "C" else 0 for letter in self._letters]
        for position, index in zip(self._leading, plane, strict=True):
            selection[position] = index
        selection[self._letters.index("Y")], selection[self._letters.index("X")] = region.slices
        pixels = np.asarray(self._array[tuple(selection)], self.dtype)
        kept = [letter for letter in self._letters if letter in "CYX"]
        if "C" not in kept:
            kept, pixels = ["C", *kept], pixels[None]
        return np.ascontiguousarray(pixels.transpose([kept.index(letter) for letter in "CYX"]))

    def close(self) -> None:
        """Nothing stays open between reads."""


def open_source(path: Path) -> OmeZarrSource:
    """Open an OME-Zarr group.

    Raises
    ------
    ImageError
        It holds no image, or is not as the format says, or stores what cannot be translated.
    """
    attributes: Mapping[str, Any] = zarr.open_group(path, mode="r").attrs.asdict()
    ome = attributes.get("ome", attributes)
    multiscales = ome.get("multiscales") if isinstance(ome, Mapping) else None
    if not isinstance(ome, Mapping) or not multiscales:
        raise ImageError(f"{path} is a Zarr store without an OME image; give the folder of one image of it")
    image = multiscales[0]
    array = _full_resolution(path, image)
    letters = _letters(path, image, array)
    record = read_record(attributes)
    if record is not None:
        return OmeZarrSource(
            path,
            array,
            letters,
            replace(record.metadata, file_format="ome-zarr"),
            nodata=record.nodata,
            palette=record.palette,
        )
    return OmeZarrSource(path, array, letters, _metadata(image, ome.get("omero"), letters, array))


def _full_resolution(path: Path, image: Mapping[str, Any]) -> zarr.Array[Any]:
    name = PurePosixPath(str(image["datasets"][0]["path"]))
    if name.is_absolute() or ".." in name.parts or not name.parts:
        raise ImageError(f"{path} refers to {name}, outside its own folder")
    array = zarr.open_array(path.joinpath(*name.parts), mode="r")
    if np.dtype(array.dtype).kind not in "buif":
        raise ImageError(f"{path} stores {array.dtype} numbers; only integers and reals are read")
    check_decode_budget(path, array.chunks, np.dtype(array.dtype), "a chunk")
    return array


def _letters(path: Path, image: Mapping[str, Any], array: zarr.Array[Any]) -> str:
    """One capital letter per axis of the array, C for the channels."""
    axes: Sequence[Any] = image.get("axes") or _DEFAULT_AXES[-array.ndim :]
    letters = "".join(_letter(axis) for axis in axes)
    if len(letters) != array.ndim or any(letters.count(letter) != 1 for letter in "YX") or letters.count("C") > 1:
        raise ImageError(f"{path} stores its axes as {letters} for an array of shape {array.shape}; Y and X are needed")
    if min(array.shape) < 1 or prod(array.shape[:-2]) > MAX_PLANES:
        raise ImageError(f"{path} declares an image of shape {array.shape}; at most {MAX_PLANES} planes are allowed")
    return letters


def _letter(axis: Any) -> str:
    if not isinstance(axis, Mapping):
        return str(axis)[:1].upper()
    return "C" if axis.get("type") == "channel" else str(axis["name"])[:1].upper()


def _metadata(image: Mapping[str, Any], omero: Any, letters: str, array: zarr.Array[Any]) -> ImageMetadata:
    channels = array.shape[letters.index("C")] if "C" in letters else 1
    described: Any = omero.get("channels") if isinstance(omero, Mapping) else None
    fitting = isinstance(described, list) and len(described) == channels
    entries = [entry for entry in described if isinstance(entry, Mapping)] if fitting else []
    sizes, unit = _sizes(image, letters)
    return ImageMetadata(
        pixel_size=(sizes["Y"], sizes["X"]) if unit else None,
        z_spacing=sizes.get("Z") if unit else None,
        unit=unit,
        channel_names=_all([str(entry["label"]) for entry in entries if entry.get("label") is not None], channels),
        channel_colors=_all([colour for entry in entries if (colour := _colour(entry.get("color")))], channels),
        display_ranges=_all([limits for entry in entries if (limits := _window(entry.get("window")))], channels),
        file_format="ome-zarr",
    )


def _all(found: list[_T], channels: int) -> tuple[_T, ...]:
    """One per channel, or none."""
    return tuple(found) if len(found) == channels else ()


def _sizes(image: Mapping[str, Any], letters: str) -> tuple[dict[str, float], str | None]:
    """Size of a pixel along each spatial axis, in the unit of X; no unit where the file gives none."""
    axes: Sequence[Any] = image.get("axes") or ()
    units = {_letter(axis): standard_unit(axis.get("unit")) for axis in axes if isinstance(axis, Mapping)}
    unit = units.get("X")
    scales = [1.0] * len(letters)
    for holder in (image["datasets"][0], image):
        scales = [scale * factor for scale, factor in zip(scales, _scale(holder, len(letters)), strict=True)]
    sizes = dict(zip(letters, scales, strict=True))
    converted = {axis: _in_unit(sizes[axis], units.get(axis), unit) for axis in "ZYX" if axis in sizes}
    return {axis: size for axis, size in converted.items() if size is not None}, unit if converted["Y"] else None


def _in_unit(size: float, unit: str | None, target: str | None) -> float | None:
    return None if target is None or size <= 0 else convert_length(size, unit or target, target)


def _scale(holder: Mapping[str, Any], count: int) -> list[float]:
    for transformation in holder.get("coordinateTransformations") or ():
        with suppress(KeyError, TypeError, ValueError):
            scale = [float(factor) for factor in transformation["scale"]]
            if len(scale) == count:
                return scale
    return [1.0] * count


def _colour(text: Any) -> Colour | None:
    """From six hexadecimal digits."""
    with suppress(ValueError, TypeError):
        red, green, blue = bytes.fromhex(str(text).removeprefix("#"))
        return red, green, blue
    return None


def _window(window: Any) -> tuple[float, float] | None:
    with suppress(KeyError, TypeError, ValueError):
        return float(window["start"]), float(window["end"])
    return None


def incompatibility(spec: OutputSpec) -> str | None:
    """Why OME-Zarr cannot hold an image."""
    if spec.dtype.kind not in "buif":
        return f"OME-Zarr cannot hold {spec.dtype}; use a real or integer type"
    if len(spec.leading_axes) > 2:
        return f"OME-Zarr cannot hold the axes {spec.axes}; use the format tiff"
    return None


def may_replace(path: Path, spec: OutputSpec) -> bool:
    """Whether a folder is a Zarr group or array."""
    del spec
    return is_zarr(path)
