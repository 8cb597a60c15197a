"""Which formats there are. What a format is called, reads, holds and writes stands in its own module.

A module of a format has, of these, what applies to it:

``NAME``
    What ``--format`` and `ImageMetadata.file_format` call it.
``SUFFIXES``
    Endings of its files in lower case, the usual one first; "" for a folder of files.
``READ_SUFFIXES``
    Further endings, of files that are read and not written.
``SIGNATURES``
    First bytes of its files. A format that is read and has none is known by its endings, or is a folder.
``WRITTEN_AS``
    Name of the format that takes its place in outputs, where it is not written, or only where an output is called so.
``recognises(path)``
    Whether a file with its first bytes is one of it, and not of the format of that signature that does not ask.
``open_source(path)``
    Opens a file of it.
``open_series(path, number)``
    Opens one of the images in a file, counted from 0, where files of it can hold several.
``members(path)``
    All files of the image that a file is one of, itself included, where an image can be several files.
``LOSES``
    What its files have no field for that other programs read: "place", "pixel size", "origin", "orientation",
    "axes", "steps" (between pixels, without a unit or along one axis alone), "white" (that 0 is white); see `lost`.
``incompatibility(spec)``
    Why it cannot hold an image without loss of shape or values, and what can; None where it can.
``holds_mask(spec)``
    Whether it says beside the channels of an image which pixels hold no data (by alpha, a mask).
``holds_nodata(spec)``
    Whether it says of an image which value stands for no data.
``write(partial, spec, tiles)``
    Writes a file that does not exist yet, of an image that it can hold; yields after each of `tiles` that it has taken.
    By default what `open_canvas` opens is filled.
``begin(partial, spec, part_px)`` and ``open_canvas(partial, spec, part_px)``
    Make a file of it without pixels, and open that to be written part by part, so that each byte is written once. The
    parts are squares of that side, a multiple of 256, or 0 where there will be none. Without them, parts wait elsewhere
    until all are there.
``substitutes(spec)``
    Names of formats that hold an image which this one cannot, the best first.
``may_replace(path, spec)``
    Whether a folder is an output of this format and nothing else, so that another may take its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_pix2pix.formats.source import ImageSource
    from napari_pix2pix.formats.writing import Canvas, OutputSpec, Steps, Tile

_MODULES = (
    "tiff",
    "ome_tiff",
    "ome_zarr",
    "imagej",
    "geotiff",
    "map_tiles",
    "png",
    "jpeg",
    "bmp",
    "gif",
    "slide",
    "bioio_source",
    "ome_companion",
)
"""Where several formats have an ending or a signature, the first is taken."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """What the module of a format says; see the top of this file."""

    name: str
    suffixes: tuple[str, ...]
    read_suffixes: tuple[str, ...]
    signatures: tuple[bytes, ...]
    written_as: str
    loses: tuple[str, ...]
    recognises: Callable[[Path], bool] | None
    open_source: Callable[[Path], ImageSource] | None
    open_series: Callable[[Path, int], ImageSource] | None
    members: Callable[[Path], tuple[Path, ...]]
    incompatibility: Callable[[OutputSpec], str | None]
    holds_mask: Callable[[OutputSpec], bool]
    holds_nodata: Callable[[OutputSpec], bool]
    write: Callable[[Path, OutputSpec, Iterator[Tile]], Steps] | None
    begin: Callable[[Path, OutputSpec, int], None] | None
    open_canvas: Callable[[Path, OutputSpec, int], Canvas] | None
    substitutes: Callable[[OutputSpec], tuple[str, ...]]
    may_replace: Callable[[Path, OutputSpec], bool]


@cache
def formats() -> tuple[Format, ...]:
    """All of them. The first call imports their modules."""
    return tuple(map(_format, _MODULES))


def _format(name: str) -> Format:
    module = import_module(f"napari_pix2pix.formats.{name}")
    return Format(
        name=module.NAME,
        suffixes=module.SUFFIXES,
        read_suffixes=getattr(module, "READ_SUFFIXES", ()),
        signatures=getattr(module, "SIGNATURES", ()),
        written_as=getattr(module, "WRITTEN_AS", module.NAME),
        loses=getattr(module, "LOSES", ()),
        recognises=getattr(module, "recognises", None),
        open_source=getattr(module, "open_source", None),
        open_series=getattr(module, "open_series", None),
        members=getattr(module, "members", lambda path: (path,)),
        incompatibility=getattr(module, "incompatibility", lambda _: None),
        holds_mask=getattr(module, "holds_mask", lambda _: False),
        holds_nodata=getattr(module, "holds_nodata", lambda _: False),
        write=getattr(module, "write", partial(_filled, module) if hasattr(module, "begin") else None),
        begin=getattr(module, "begin", None),
        open_canvas=getattr(module, "open_canvas", None),
        substitutes=getattr(module, "substitutes", lambda _: ()),
        may_replace=getattr(module, "may_replace", lambda _path, _spec: False),
    )


def _filled(module: ModuleType, path: Path, spec: OutputSpec, tiles: Iterator[Tile]) -> Steps:
    """What `write` does where a format has a canvas."""
    module.begin(path, spec, 0)
    with closing(module.open_canvas(path, spec, 0)) as canvas:
        yield from canvas.write_tiles(tiles)


def writable_formats() -> tuple[str, ...]:
    """Names of the formats that can be asked for; others may be written where an output has their ending."""
    return tuple(entry.name for entry in formats() if entry.write is not None and entry.written_as == entry.name)


def format_named(name: str) -> Format | None:
    """None where there is no such format."""
    return next((entry for entry in formats() if entry.name == name), None)


@cache
def readable_suffixes() -> frozenset[str]:
    """Lower-case endings, from the last dot, of the files (and of the OME-Zarr folders) that `open_image` reads."""
    suffixes = (s for entry in formats() if entry.open_source for s in (*entry.suffixes, *entry.read_suffixes))
    return frozenset(Path(f"name{suffix}").suffix for suffix in suffixes) - {""}
