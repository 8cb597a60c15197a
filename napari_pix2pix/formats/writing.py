"""Writes images from a stream of tiles, in memory that does not grow with the image (PNG and JPEG excepted).

The output appears under its final name only when it is complete; see `pix2pix_training.atomic`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_pix2pix.formats.metadata import ImageMetadata
from napari_pix2pix.formats.registry import Format, format_named, formats, writable_formats
from napari_pix2pix.formats.remote import RemotePath
from napari_pix2pix.formats.remote_output import check_remote_target
from napari_pix2pix.formats.source import ImageSource
from pix2pix_training.array_source import AnyArray
from pix2pix_training.atomic import atomic_write, check_nameable, check_writable_target
from pix2pix_training.errors import ImageError, OutputError, Pix2PixError
from pix2pix_training.regions import Region

logger = logging.getLogger(__name__)

Tile = tuple[tuple[int, ...], Region, AnyArray]
"""Plane (index of the leading axes), region, and pixels of shape (C, region.height, region.width)."""
Steps = Generator[None, None, None]
"""Work that stops for a moment after each tile, and can be ended there by closing it."""


@dataclass(frozen=True, kw_only=True)
class OutputSpec:
    """What is written: `shape` of `dtype` with `axes` ending in CYX, and what the file says about it.

    `palette` has shape (entries, 3) and belongs to one channel of indices; `categories` says that values are classes,
    with or without a palette, so that no pyramid averages them. Of a `masked` image each tile has one sample more than
    channels, the last: how opaque pixels are, from 0 (no data) to the greatest value of an integer type, or 1.
    """

    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    metadata: ImageMetadata
    palette: NDArray[np.uint8] | None = None
    nodata: float | None = None
    categories: bool = False
    masked: bool = False

    def __post_init__(self) -> None:
        if not self.axes.endswith("CYX") or len(self.axes) != len(self.shape) or min(self.shape) < 1:
            raise ImageError(f"an output of shape {self.shape} cannot have the axes {self.axes!r}, ending in CYX")

    @property
    def leading_axes(self) -> str:
        return self.axes[:-3]

    @property
    def leading_shape(self) -> tuple[int, ...]:
        return self.shape[:-3]

    @property
    def channels(self) -> int:
        return self.shape[-3]

    @property
    def samples(self) -> int:
        """Channels of a tile: those of the image, and the opacity of a masked one."""
        return self.channels + self.masked

    @property
    def height(self) -> int:
        return self.shape[-2]

    @property
    def width(self) -> int:
        return self.shape[-1]

    @property
    def rgb(self) -> bool:
        """Written as red, green and blue samples."""
        return self.metadata.rgb and self.channels == 3 and self.dtype != np.bool_

    @property
    def averaged(self) -> bool:
        """Levels of a pyramid are means of pixels."""
        return self.palette is None and not self.categories

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


def output_suffix(file_format: str, source_path: Path | None = None) -> str:
    """The ending for an output: that of its input where it fits the format, else the usual one."""
    suffixes = _writable(file_format).suffixes
    own = known_suffix(source_path) if source_path is not None else ""
    return own if own in suffixes else suffixes[0]


def _writable(file_format: str) -> Format:
    found = format_named(file_format)
    if found is None or found.write is None:
        raise OutputError(_no_format(file_format))
    return found


def _no_format(name: str) -> str:
    return f"there is no format {name!r} to write; choose one of same, {', '.join(writable_formats())}"


def known_suffix(path: Path) -> str:
    """The image ending of a name in lower case, with ".ome" where it has that; "" for no known ending."""
    suffixes = (suffix for entry in formats() if entry.write for suffix in entry.suffixes)
    fitting = [suffix for suffix in suffixes if path.name.lower().endswith(suffix)]
    return max(fitting, key=len)


def map_path(output: Path, kind: str) -> Path:
    """The file of a map that belongs to an output: beside it, with the same ending, called NAME-`kind`."""
    stem = output.name[: len(output.name) - len(known_suffix(output))]
    return output.with_name(f"{stem}-{kind}{output.name[len(stem) :]}")


def resolve_format(path: Path, requested: str, source: ImageSource | None) -> str:
    """The format in which an output is written.

    Parameters
    ----------
    path : the output; its ending decides where `requested` is "same", and must fit `requested` otherwise.
    requested : one of `writable_formats`, or "same" for the format of the input.
    source : the input, or None where there is no file.

    Raises
    ------
    OutputError
        The format is unknown, or contradicts the ending of `path`.
    """
    if requested not in ("same", *writable_formats()):
        raise OutputError(_no_format(requested))
    suffix = known_suffix(path)
    own = _format_of_source(source)
    wanted = own if requested == "same" and not suffix else requested
    if wanted == "same":
        return format_of_suffix(suffix, source)
    suffixes = _writable(wanted).suffixes
    if suffix and suffix not in suffixes and f".ome{suffix}" not in suffixes:
        usual = suffixes[0] or "a name without an ending"
        raise OutputError(f"{path}: the ending {suffix} does not fit the format {requested}; use {usual}")
    if not suffix and path.suffix and "" not in suffixes:
        raise OutputError(
            f"{path}: no format that is written has the ending {path.suffix}; use {usual_suffixes()}, or a name "
            "without an ending for a folder"
        )
    return wanted


def usual_suffixes() -> str:
    """The usual ending of each format, for messages."""
    usual = dict.fromkeys(entry.suffixes[0] for entry in formats() if entry.write and entry.suffixes[0])
    return f"{', '.join(list(usual)[:-1])} or {list(usual)[-1]}"


def format_of_suffix(suffix: str, source: ImageSource | None) -> str:
    """The format of `source` where it has that ending, else the first that has it."""
    own = _format_of_source(source) if source is not None else "tiff"
    fitting = [entry.name for entry in formats() if entry.write and suffix in entry.suffixes]
    return own if own in fitting else fitting[0]


def _format_of_source(source: ImageSource | None) -> str:
    own = None if source is None else format_named(source.metadata.file_format)
    return "ome-tiff" if own is None else own.written_as


def incompatibility(spec: OutputSpec, file_format: str) -> str | None:
    """Why a format cannot hold an image without loss of its shape or values, and what can; None where it can."""
    found = format_named(file_format)
    if found is None or found.write is None:
        return f"there is no format {file_format!r} to write; choose one of {', '.join(writable_formats())}"
    if spec.masked and not found.holds_mask(spec):
        return f"{file_format} cannot say which pixels hold no data; use the format geotiff or png"
    if spec.palette is not None and spec.channels != 1:
        return "an image with a palette has one channel of indices"
    return found.incompatibility(spec)


def holds_mask(spec: OutputSpec, file_format: str) -> bool:
    """Whether a format says beside the channels of an image which pixels hold no data."""
    return _writable(file_format).holds_mask(spec)


def holds_nodata(spec: OutputSpec, file_format: str) -> bool:
    """Whether a format says of an image which value stands for no data."""
    return _writable(file_format).holds_nodata(spec)


def check_output(path: Path, spec: OutputSpec, *, file_format: str, overwrite: bool) -> str:
    """Everything that can be refused before work starts; the format that will be written.

    An image that the ImageJ format cannot hold becomes an OME-TIFF (or a plain one), which ImageJ opens too; one that
    GeoTIFF cannot hold becomes a plain TIFF, which keeps the georeference.

    Raises
    ------
    OutputError
        The format cannot hold the image, or the file exists or cannot be written.
    """
    file_format = _checked_format(path, spec, file_format, overwrite)
    words = lost(spec, file_format)
    if words:
        logger.warning("%s: a file of the format %s does not say %s", path, file_format, ", ".join(words))
    return file_format


def lost(spec: OutputSpec, file_format: str) -> list[str]:
    """What is known of an image and other programs will not find in a file of a format, in words."""
    metadata = spec.metadata
    others = [letter for letter in spec.leading_axes if letter not in "TZ"]
    known = {
        "place": "where on the Earth the image lies" if metadata.georeference is not None else "",
        "pixel size": "how large its pixels are" if metadata.pixel_size is not None else "",
        "nodata": f"that {spec.nodata:g} stands for no data"
        if spec.nodata is not None and not np.isnan(spec.nodata)
        else "",
        "origin": "where the first pixel lies" if any(scale.origin for scale in metadata.scales) else "",
        "steps": _untold_steps(metadata),
        "orientation": f"how rows and columns lie (orientation {metadata.orientation})"
        if metadata.orientation != 1
        else "",
        "white": "that 0 is white (values stay as they are stored, so that it looks inverted)"
        if metadata.white_is_zero
        else "",
        "axes": f"what the axis {' and '.join(others)} is (it becomes T or Z)" if others else "",
    }
    found = format_named(file_format)
    loses = () if found is None else (*found.loses, *(["white"] if spec.masked else []))
    return [known[aspect] for aspect in dict.fromkeys(loses) if known[aspect]]


def _untold_steps(metadata: ImageMetadata) -> str:
    """Steps along axes that the sizes which every format knows leave out; "" where there are none."""
    sizes = {"T": metadata.time_step_s, "Z": metadata.z_spacing, "Y": metadata.pixel_size, "X": metadata.pixel_size}
    untold = [
        f"{scale.step:g} {scale.unit or 'without a unit'} along {scale.name}"
        for scale in metadata.scales
        if scale.letter in sizes and sizes[scale.letter] is None and (scale.step != 1 or scale.unit is not None)
    ]
    return f"how far apart its pixels are ({', '.join(untold)})" if untold else ""


def _checked_format(path: Path, spec: OutputSpec, file_format: str, overwrite: bool) -> str:
    reason = incompatibility(spec, file_format)
    if reason is not None and (candidates := _substitutes(spec, file_format)):
        substitute = next((name for name in candidates if incompatibility(spec, name) is None), file_format)
        logger.warning("%s is written as %s: %s", path, substitute, reason)
        file_format = substitute
        reason = incompatibility(spec, file_format)
    if reason is not None:
        raise OutputError(f"{path}: {reason}")
    if isinstance(path, RemotePath):
        check_remote_target(path, file_format, overwrite)
        _writable(file_format).may_replace(path, spec)
        return file_format
    check_nameable(path)
    replaceable = path.is_dir() and any(entry.may_replace(path, spec) for entry in formats())
    check_writable_target(path, overwrite, replaceable_folder=replaceable)
    return file_format


def _substitutes(spec: OutputSpec, file_format: str) -> tuple[str, ...]:
    found = format_named(file_format)
    return () if found is None else found.substitutes(spec)


def write_image(
    path: Path,
    spec: OutputSpec,
    tiles: Iterator[Tile],
    *,
    file_format: str,
    overwrite: bool = False,
) -> Path:
    """Write an image from tiles, and give back its path; see `written`."""
    for _ in written(path, spec, tiles, file_format=file_format, overwrite=overwrite):
        pass
    return path


def written(
    path: Path,
    spec: OutputSpec,
    tiles: Iterator[Tile],
    *,
    file_format: str,
    overwrite: bool = False,
    before_publishing: Callable[[Path], None] | None = None,
) -> Steps:
    """Write an image from tiles; closed before its end, it leaves everything as it was.

    Parameters
    ----------
    tiles : plane by plane in storage order; within a plane in any order, most cheaply row by row. They are pulled one
        at a time and must cover every plane exactly once.
    file_format : one of `writable_formats`; see `resolve_format`.
    overwrite : replace an existing file, once the new one is complete.
    before_publishing : is given the complete output before it gets its name.

    Yields
    ------
    None
        After each tile.

    Raises
    ------
    OutputError
        The output is refused, before the first tile is asked for; see `check_output`.
    Pix2PixError
        Writing failed midway (a full disk). What stood at `path` before is still there; nothing half-written is.
    """
    file_format = _checked_format(path, spec, file_format, overwrite)
    write = _writable(file_format).write
    assert write is not None
    with atomic_write(path, overwrite=overwrite) as partial:
        yield from write(partial, spec, _checked(path, spec, tiles))
        if before_publishing is not None:
            before_publishing(partial)


def _checked(path: Path, spec: OutputSpec, tiles: Iterator[Tile]) -> Iterator[Tile]:
    """The same tiles; an error where one does not fit, or where they do not add up to the image."""
    pixels = 0
    for plane, region, array in tiles:
        expected = (spec.samples, region.height, region.width)
        if array.shape != expected or array.dtype != spec.dtype or len(plane) != len(spec.leading_shape):
            raise Pix2PixError(
                f"{path}: a tile of {array.shape} {array.dtype} in plane {plane} does not fit, "
                f"{expected} of {spec.dtype} was expected"
            )
        pixels += region.height * region.width
        yield plane, region, array
    expected_pixels = prod(spec.shape) // spec.channels
    if pixels != expected_pixels:
        raise Pix2PixError(f"{path} is incomplete: {pixels} of {expected_pixels} pixels were given")


class Canvas(Protocol):
    """A file, or folder, that fills; what is noted of each part is ready for JSON."""

    def frame(self, size: int | None = None) -> tuple[int, str]:
        """What there is besides pixels, which no part changes: how much stands before them, and a checksum of all.

        `size` is given where parts may have been written; without it there are none yet.
        """
        ...

    def write_tiles(self, tiles: Iterable[Tile]) -> Steps:
        """Write and complete the whole image, from tiles as `write_image` takes them."""
        ...

    def write_part(self, plane: tuple[int, ...], region: Region, pixels: AnyArray) -> Any:
        """Write a part, shape (C, region.height, region.width); a note of it, when it is on the disk."""
        ...

    def restore(self, plane: tuple[int, ...], region: Region, note: Any) -> bool:
        """Take in a part that an earlier run has noted; whether it is as it was then."""
        ...

    def finish(self, path: Path) -> None:
        """Complete the image, which will be called `path`; all parts must be there."""
        ...

    def close(self) -> None:
        """Close it, whatever there is of it."""
        ...
