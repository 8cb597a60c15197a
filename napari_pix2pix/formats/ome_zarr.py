"""OME-Zarr 0.4 and 0.5 (and what is written like them), and plain Zarr arrays, read by region through zarr.

A chunk without a file holds the fill value, as the format says; it is not a sign of damage. zarr is imported where it
is used, since this module is loaded for files of other formats too.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from math import prod
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_pix2pix.formats.metadata import ImageMetadata, sorted_leading
from napari_pix2pix.formats.ome_zarr_metadata import (
    Record,
    axis_letters,
    level_paths,
    multiscales,
    ome_attributes,
    read_metadata,
    read_record,
)
from napari_pix2pix.formats.ome_zarr_store import begin, open_canvas
from napari_pix2pix.formats.remote import zarr_place
from napari_pix2pix.formats.source import MAX_PLANES, ImageSource, check_decode_budget, check_series, is_zarr, shown
from napari_pix2pix.formats.writing import OutputSpec
from pix2pix_training.array_source import AnyArray
from pix2pix_training.errors import ImageError, OutputError
from pix2pix_training.regions import Region

if TYPE_CHECKING:
    import zarr

__all__ = [
    "NAME",
    "SUFFIXES",
    "OmeZarrSource",
    "begin",
    "incompatibility",
    "may_replace",
    "open_canvas",
    "open_series",
    "open_source",
]

NAME = "ome-zarr"
SUFFIXES = (".ome.zarr", ".zarr")
LOSES = ("place", "nodata", "orientation", "axes", "white")

logger = logging.getLogger(__name__)

_PLAIN_AXES = {2: "YX", 3: "ZYX", 4: "CZYX", 5: "TCZYX"}
_MOST_CHANNELS = 4
"""A first or last axis of an array without axes is taken for channels where it is not longer."""

_DAMAGE = (OSError, ValueError, KeyError, TypeError)
"""What zarr raises where metadata are missing or damaged."""

_NAMES_SHOWN = 6
_DEEPEST = 3


class OmeZarrSource(ImageSource):
    """An image of an OME-Zarr group at full resolution, or a plain array."""

    def __init__(
        self, path: Path, array: zarr.Array[Any], letters: str, metadata: ImageMetadata, record: Record
    ) -> None:
        from napari_pix2pix.formats.zarr_chunks import with_checked_chunks

        self._array = with_checked_chunks(array)
        self._letters = letters
        self._leading = sorted_leading(letters, array.shape)
        lengths = dict(zip(letters, array.shape, strict=True))
        super().__init__(
            path,
            axes="".join(letters[i] for i in self._leading) + "CYX",
            shape=(*(array.shape[i] for i in self._leading), lengths.get("C", 1), lengths["Y"], lengths["X"]),
            dtype=np.dtype(array.dtype).newbyteorder("="),
            metadata=metadata,
            nodata=record.nodata,
            palette=record.palette,
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


class _Member(NamedTuple):
    """One of the images that a store holds: the `number`-th of the group `path`."""

    path: Path
    number: int
    name: str


def open_source(path: Path) -> OmeZarrSource:
    """Open an OME-Zarr group, or a Zarr array; see `open_series`."""
    return open_series(path, 0)


def open_series(path: Path, number: int) -> OmeZarrSource:
    """Open one of the images of an OME-Zarr group (several as bioformats2raw writes them), or a Zarr array.

    Axes of an array that names none are guessed, with a warning.

    Raises
    ------
    ImageError
        It holds no image, or is not as the format says, or stores what cannot be translated.
    """
    import zarr

    node = zarr.open(zarr_place(path), mode="r")
    if isinstance(node, zarr.Array):
        check_series(path, number, 1)
        return _open_array(path, node)
    members = _members(path, node)
    check_series(path, number, len(members))
    member = members[number]
    source = _open_image(path, member)
    source.series = number
    source.series_names = tuple(member.name for member in members)
    return source


def _members(path: Path, group: zarr.Group) -> list[_Member]:
    attributes: Mapping[str, Any] = group.attrs.asdict()
    own = multiscales(attributes)
    if own:
        return [_Member(path, number, str(image.get("name") or "")) for number, image in enumerate(own)]
    ome = ome_attributes(attributes)
    if "bioformats2raw.layout" in ome:
        images = [path / name for name in _series_names(path)]
        found = [_Member(image, 0, image.name) for image in images if multiscales(_attributes(image))]
        if 0 < len(found) < len(images):
            logger.warning("%s: %d of its %d images are missing", path, len(images) - len(found), len(images))
        if found:
            return found
    raise ImageError(f"{path} {_without_image(path, ome)}")


def _series_names(path: Path) -> list[str]:
    """Paths of the images that bioformats2raw wrote: listed in the group OME, else numbered."""
    listed = ome_attributes(_attributes(path / "OME")).get("series")
    if isinstance(listed, list) and listed:
        return [_relative(path, name).as_posix() for name in listed]
    return sorted((entry.name for entry in path.iterdir() if entry.name.isdecimal() and entry.is_dir()), key=int)


def _attributes(path: Path) -> Mapping[str, Any]:
    """Of a group; empty where there is none, or a damaged one."""
    import zarr

    with suppress(*_DAMAGE):
        found: Mapping[str, Any] = zarr.open_group(zarr_place(path), mode="r").attrs.asdict()
        return found
    return {}


def _without_image(path: Path, ome: Mapping[str, Any]) -> str:
    """What a group is that is no image, and what to give instead."""
    for kind, entries in (("plate", "wells"), ("well", "images")):
        held = ome.get(kind)
        if isinstance(held, Mapping):
            listed = held.get(entries)
            names = [str(e["path"]) for e in listed if isinstance(e, Mapping) and "path" in e] if listed else []
            what = f"is a {kind} of {len(names)} {entries} ({_shown(names)}) and no single image"
            return f"{what}{_instead(path)}"
    labels = ome.get("labels")
    if isinstance(labels, list) and labels:
        names = list(map(str, labels))
        return f"is a group of labels ({_shown(names)}); give one of them, such as {path / names[0]}"
    encoding = str(_attributes(path).get("encoding-type") or "")
    what = f"is a Zarr store of {encoding}" if encoding else "is a Zarr store"
    return f"{what} without an OME image of its own{_instead(path)}"


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")


def _instead(path: Path) -> str:
    """What of a store can be opened, for messages."""
    found = [inner for inner in _nested(path) if multiscales(_attributes(inner))] or [*_nested(path, arrays=True)]
    names = [inner.relative_to(path).as_posix() for inner in found]
    if not names:
        return ", and no image within"
    return f"; give one of the images within ({_shown(names)}), such as {found[0]}"


def _nested(path: Path, *, arrays: bool = False, depth: int = 1) -> Iterator[Path]:
    """Groups within a group, or arrays."""
    for entry in sorted(path.iterdir()):
        if entry.is_dir() and is_zarr(entry):
            is_array = _is_array(entry)
            if is_array == arrays:
                yield entry
            if not is_array and depth < _DEEPEST:
                yield from _nested(entry, arrays=arrays, depth=depth + 1)


def _is_array(path: Path) -> bool:
    import zarr

    with suppress(*_DAMAGE):
        return isinstance(zarr.open(zarr_place(path), mode="r"), zarr.Array)
    return False


def _open_image(path: Path, member: _Member) -> OmeZarrSource:
    attributes = _attributes(member.path)
    image = multiscales(attributes)[member.number]
    array, level = _finest(member.path, image)
    if level:
        logger.warning("%s lists its levels in another order; the finest, %s, is read", path, level_paths(image)[level])
        image = {**image, "datasets": image["datasets"][level:]}
    labels = ome_attributes(_attributes(member.path / "labels")).get("labels")
    if isinstance(labels, list) and labels:
        logger.warning(
            "%s has labels beside its image (%s), which are neither read nor carried over; to read them give %s",
            path,
            _shown(list(map(str, labels))),
            member.path / "labels" / str(labels[0]),
        )
    return _described(path, array, attributes, image)


def _described(
    path: Path, array: zarr.Array[Any], attributes: Mapping[str, Any], image: Mapping[str, Any]
) -> OmeZarrSource:
    letters = axis_letters(image.get("axes"), array.ndim)
    _check_axes(path, letters, array)
    channels = array.shape[letters.index("C")] if "C" in letters else 1
    metadata = read_metadata(path, attributes, image, letters, channels)
    return OmeZarrSource(path, array, letters, metadata, read_record(attributes))


def _finest(path: Path, image: Mapping[str, Any]) -> tuple[zarr.Array[Any], int]:
    """The array with the most pixels, by the standard the first, and its place in the list."""
    names = level_paths(image)
    first = _checked_array(path, names[0])
    best, level = first, 0
    for number, name in enumerate(names[1:], start=1):
        with suppress(*_DAMAGE):  # a level that is missing is not needed
            array = _array(path, name)
            if array.ndim == first.ndim and prod(array.shape) > prod(best.shape):
                best, level = array, number
    return (best, 0) if level == 0 else (_checked_array(path, names[level]), level)


def _checked_array(path: Path, name: str) -> zarr.Array[Any]:
    array = _array(path, name)
    _check_array(path, array)
    return array


def _array(path: Path, name: str) -> zarr.Array[Any]:
    import zarr

    return zarr.open_array(zarr_place(path / _relative(path, name)), mode="r")


def _relative(path: Path, name: object) -> PurePosixPath:
    relative = PurePosixPath(str(name))
    if relative.is_absolute() or ".." in relative.parts or not relative.parts:
        raise ImageError(f"{path} refers to {relative}, outside its own folder")
    return relative


def _check_array(path: Path, array: zarr.Array[Any]) -> None:
    if np.dtype(array.dtype).kind not in "buif":
        raise ImageError(f"{path} stores {array.dtype} numbers; only integers and reals are read")
    check_decode_budget(path, array.chunks, np.dtype(array.dtype), "a chunk")


def _check_axes(path: Path, letters: str, array: zarr.Array[Any]) -> None:
    shape = shown(*array.shape)
    if len(letters) != array.ndim or any(letters.count(letter) != 1 for letter in "YX") or letters.count("C") > 1:
        raise ImageError(f"{path} stores its axes as {letters} for an array of {shape}; Y and X are needed")
    if min(array.shape) < 1 or prod(array.shape[:-2]) > MAX_PLANES:
        raise ImageError(f"{path} declares an image of {shape}; at most {MAX_PLANES} planes are allowed")


def _open_array(path: Path, array: zarr.Array[Any]) -> OmeZarrSource:
    """A level of an OME-Zarr, with the axes and sizes that its group says, or an array of its own."""
    _check_array(path, array)
    for depth, parent in enumerate(list(path.absolute().parents)[:_DEEPEST]):
        attributes = _attributes(parent) if is_zarr(parent) else {}
        name = "/".join(path.absolute().parts[-depth - 1 :])
        for image in multiscales(attributes):
            levels = [dataset for dataset in image["datasets"] if dataset["path"] == name]
            if levels:
                return _described(path, array, attributes, {**image, "datasets": levels})
    return _open_plain(path, array)


def _open_plain(path: Path, array: zarr.Array[Any]) -> OmeZarrSource:
    named = getattr(array.metadata, "dimension_names", None) or array.attrs.asdict().get("_ARRAY_DIMENSIONS")
    if isinstance(named, list | tuple) and len(named) == array.ndim and all(named):
        letters = axis_letters([{"name": str(name)} for name in named], array.ndim)
        _check_axes(path, letters, array)
    else:
        letters = _guessed_axes(path, array.shape)
        _check_axes(path, letters, array)
        logger.warning(
            "%s is a Zarr array of shape %s that does not name its axes; they are read as %s (name them in its "
            "dimension_names, or store it as OME-Zarr)",
            path,
            " x ".join(map(str, array.shape)),
            letters,
        )
    rgb = letters.endswith("YXC") and array.shape[-1] == 3 and array.dtype == np.uint8
    return OmeZarrSource(path, array, letters, ImageMetadata(file_format=NAME, rgb=rgb), Record())


def _guessed_axes(path: Path, shape: tuple[int, ...]) -> str:
    if len(shape) not in _PLAIN_AXES:
        raise ImageError(f"{path} is a Zarr array of {len(shape)} axes; images have 2 to {max(_PLAIN_AXES)}")
    if len(shape) in (3, 4) and 3 <= shape[-1] <= _MOST_CHANNELS < min(shape[-3:-1]):
        return "ZYXC"[-len(shape) :]
    return "CYX" if len(shape) == 3 and shape[0] <= _MOST_CHANNELS else _PLAIN_AXES[len(shape)]


def incompatibility(spec: OutputSpec) -> str | None:
    """Why OME-Zarr cannot hold an image."""
    if spec.dtype.kind not in "buif":
        return f"OME-Zarr cannot hold {spec.dtype}; use a real or integer type"
    if len(spec.leading_axes) > 2:
        return f"OME-Zarr cannot hold the axes {spec.axes}; use the format tiff"
    return None


def _level_folders(path: Path) -> set[str]:
    """Entries of a group that its own images are made of; fewer where its metadata are damaged."""
    with suppress(*_DAMAGE, IndexError):
        return {PurePosixPath(name).parts[0] for image in multiscales(_attributes(path)) for name in level_paths(image)}
    return set()


def may_replace(path: Path, spec: OutputSpec) -> bool:
    """Whether a folder is a Zarr group or array.

    Raises
    ------
    OutputError
        It is one, and holds more than an image, such as labels or tables.
    """
    del spec
    if not is_zarr(path):
        return False
    if not _is_array(path):
        own = _level_folders(path)
        others = [e.name for e in path.iterdir() if e.name not in own and e.name != "zarr.json" and e.name[0] != "."]
        if others:
            raise OutputError(
                f"{path} exists already and holds more than an image ({_shown(sorted(others))}), which would be lost; "
                "choose another name"
            )
    return True
