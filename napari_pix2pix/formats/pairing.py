"""Finds which image is the target of which: by name in folders, side by side in one image, or as a table says."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from napari_pix2pix.formats.caching import CachedSource, PixelCache, check_alike
from napari_pix2pix.formats.image_files import (
    ImageFile,
    apart,
    as_spelled,
    composed,
    files_in,
    images_within,
    is_image_path,
)
from napari_pix2pix.formats.source import is_zarr
from pix2pix_training.array_source import ArraySource, CroppedSource, StackedChannels, plane_size
from pix2pix_training.channel_names import in_common_order
from pix2pix_training.errors import ImageError, SettingsError
from pix2pix_training.pairs import Pair, check_consistent, natural_key
from pix2pix_training.regions import Region
from pix2pix_training.spreadsheet import Row, read_rows

logger = logging.getLogger(__name__)

Direction = Literal["AtoB", "BtoA"]

_NAMES_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """Images of one pair, one or more for each side; `origin` says where they are named, for messages."""

    name: str
    sources: tuple[ImageFile, ...]
    targets: tuple[ImageFile, ...]
    origin: str = ""


def pairs_from_paths(
    sources: Sequence[Path],
    targets: Sequence[Path],
    *,
    source_channels: Sequence[int] | None = None,
    target_channels: Sequence[int] | None = None,
    series: int | None = None,
    cache: PixelCache | None = None,
    targets_to_come: bool = False,
) -> list[Pair]:
    """Pair files with files, or the images of folders by their names without ending.

    Parameters
    ----------
    sources, targets : files (one pair), or folders (a pair for each name). Several of a side are the channels of one
        image, in the order given.
    source_channels, target_channels : indices of the channels to keep, counted over all files of the side.
    series : of files that hold several images the one of this number, from 0; by default all, each in a pair.
    cache : keeps decoded pixels; by default one of the usual size for these pairs.
    targets_to_come : the targets are the sources until others are made of these, so nothing is said of that.

    Returns
    -------
    list of Pair, sorted by name, numbers by value.

    Raises
    ------
    ImageError
        A path does not exist, a partner is missing, a name is not unique, or the images do not fit together.
    """
    paths = [*sources, *targets]
    if not sources or not targets:
        raise ImageError("a source and a target are needed: give at least one file or folder for each")
    _check_existing(paths)
    folders = [_is_folder(path) for path in paths]
    if all(folders):
        entries = _matched(sources, targets, series)
    elif not any(folders):
        entries = _entries_of(sources, targets, series)
    else:
        folder, file = paths[folders.index(True)], paths[folders.index(False)]
        raise ImageError(f"{folder} is a folder and {file} is a file; give folders only, or files only")
    pairs = _open_pairs(entries, source_channels, target_channels, cache)
    if not targets_to_come:
        _say_equal_sides(entries, source_channels, target_channels)
    return pairs


def pairs_from_composites(
    folder: Path,
    direction: Direction = "AtoB",
    *,
    source_channels: Sequence[int] | None = None,
    target_channels: Sequence[int] | None = None,
    series: int | None = None,
    cache: PixelCache | None = None,
) -> list[Pair]:
    """Pairs from images that hold A in their left half and B in their right half.

    Parameters
    ----------
    folder : of such images, or a single one.
    series : see `pairs_from_paths`.
    direction : "AtoB" translates the left half into the right one, "BtoA" the other way round.

    Raises
    ------
    ImageError
        There is no image, an image has an odd width, or the images do not fit together.
    SettingsError
        The direction is another word.
    """
    if direction not in get_args(Direction):
        raise SettingsError(f"direction is {direction!r}; it must be AtoB or BtoA")
    _check_existing([folder])
    files = _images_by_name(folder if _is_folder(folder) else [folder], series)
    cache = cache or PixelCache()
    images = {name: cache.open(file.path, file.series) for name, file in files.items()}
    check_alike(list(images.values()))
    halves = {stem: _halves(image, direction) for stem, image in images.items()}
    sources = in_common_order([source for source, _ in halves.values()], source_channels)
    targets = in_common_order([target for _, target in halves.values()], target_channels)
    pairs = [Pair(*images) for images in zip(sources, targets, halves, strict=True)]
    check_consistent(pairs)
    return pairs


def pairs_from_csv(
    table: Path,
    *,
    source_channels: Sequence[int] | None = None,
    target_channels: Sequence[int] | None = None,
    series: int | None = None,
    cache: PixelCache | None = None,
) -> list[Pair]:
    """Pairs named by a table with a header row and the columns ``source`` and ``target``.

    Further channels stand in ``source_2``, ``source_3`` (any column that begins with source or target); other columns
    are ignored. Paths are relative to the table; those of a table made on Windows are understood. Commas, semicolons or
    tabs separate the columns.

    Raises
    ------
    ImageError
        The table is not as described, or the images do not fit together; says the line.
    """
    _check_existing([table])
    entries = [
        replace(entry, origin=origin)
        for sources, targets, origin in _rows_of_table(table)
        for entry in _entries_of(sources, targets, series, origin)
    ]
    pairs = _open_pairs(entries, source_channels, target_channels, cache)
    _say_equal_sides(entries, source_channels, target_channels)
    return pairs


def files_of_table(table: Path) -> list[tuple[tuple[Path, ...], tuple[Path, ...]]]:
    """Files of source and target of each row of a table; see `pairs_from_csv`. They need not exist."""
    return [(sources, targets) for sources, targets, _ in _rows_of_table(table)]


def _check_existing(paths: Iterable[Path]) -> None:
    for path in paths:
        try:
            if not path.exists():
                raise ImageError(f"{path} does not exist")
        except OSError as error:
            raise ImageError(f"{path} cannot be read: {error.strerror or error}") from error


def _is_folder(path: Path) -> bool:
    """An OME-Zarr is a folder on the disk, but an image to us."""
    return path.is_dir() and not is_image_path(path) and not is_zarr(path)


def _images_by_name(place: Path | Sequence[Path], series: int | None) -> dict[str, ImageFile]:
    """The images of a folder, or of files, by their names in natural order; an error where two have one name."""
    result: dict[str, ImageFile] = {}
    for path in files_in(place) if isinstance(place, Path) else place:
        for image in images_within(path, series):
            name = composed(image.name)
            if name in result:
                other = result[name].path
                raise ImageError(f"{other} and {path} have the same name; leave one of them in the folder")
            result[name] = image
    return dict(sorted(result.items(), key=lambda item: natural_key(item[0])))


def _matched(sources: Sequence[Path], targets: Sequence[Path], series: int | None) -> list[_Entry]:
    listings = {folder: _images_by_name(folder, series) for folder in (*sources, *targets)}
    first = sources[0]
    for folder in (*sources[1:], *targets):
        _check_partners(first, listings[first], folder, listings[folder])
    return [
        _Entry(
            name=name,
            sources=tuple(listings[folder][name] for folder in sources),
            targets=tuple(listings[folder][name] for folder in targets),
        )
        for name in listings[first]
    ]


def _entries_of(sources: Sequence[Path], targets: Sequence[Path], series: int | None, origin: str = "") -> list[_Entry]:
    """Pairs of the images in files: of as many as each file holds, by their numbers."""
    held = {path: _within(path, series, origin) for path in (*sources, *targets)}
    first = held[sources[0]]
    for path, images in held.items():
        if len(images) != len(first):
            raise ImageError(
                f"{origin}{': ' if origin else ''}{sources[0]} holds {_count(first)} and {path} {_count(images)}; "
                "choose one by its number (series), or give files of as many images"
            )
    return [
        _Entry(
            name=image.name,
            sources=tuple(held[path][number] for path in sources),
            targets=tuple(held[path][number] for path in targets),
        )
        for number, image in enumerate(first)
    ]


def _within(path: Path, series: int | None, origin: str) -> list[ImageFile]:
    try:
        return images_within(path, series)
    except ImageError as error:
        raise _with_origin(origin, error) from error


def _count(images: Sequence[ImageFile]) -> str:
    return "one image" if len(images) == 1 else f"{len(images)} images"


def _check_partners(first: Path, stems: Mapping[str, Any], second: Path, others: Mapping[str, Any]) -> None:
    lonely = [_lonely(first, stems, second, others), _lonely(second, others, first, stems)]
    if any(lonely):
        raise ImageError(f"{', and '.join(filter(None, lonely))}; give partners the same name, or remove the others")


def _lonely(folder: Path, stems: Mapping[str, Any], other: Path, partners: Mapping[str, Any]) -> str:
    missing = [stem for stem in stems if stem not in partners]
    if not missing:
        return ""
    shown = ", ".join(missing[:_NAMES_SHOWN]) + (", ..." if len(missing) > _NAMES_SHOWN else "")
    return f"{len(missing)} of {len(stems)} images in {folder} have no partner in {other} ({shown})"


def _open_pairs(
    entries: Sequence[_Entry],
    source_channels: Sequence[int] | None,
    target_channels: Sequence[int] | None,
    cache: PixelCache | None,
) -> list[Pair]:
    cache = cache or PixelCache()
    opened = [(_opened(entry, entry.sources, cache), _opened(entry, entry.targets, cache)) for entry in entries]
    for position in range(len(entries[0].sources)):
        check_alike([images[position] for images, _ in opened])
    for position in range(len(entries[0].targets)):
        check_alike([images[position] for _, images in opened])
    _say_apart([[*sources, *targets] for sources, targets in opened])
    stacked = [
        (_stacked(entry, sources), _stacked(entry, targets))
        for entry, (sources, targets) in zip(entries, opened, strict=True)
    ]
    sources = in_common_order([source for source, _ in stacked], source_channels)
    targets = in_common_order([target for _, target in stacked], target_channels)
    pairs = [_pair(*images) for images in zip(entries, sources, targets, strict=True)]
    check_consistent(pairs)
    return pairs


def _say_apart(opened: Sequence[Sequence[CachedSource]]) -> None:
    """A word where images of a pair do not lie on each other."""
    found = [words for first, *others in opened if (words := apart(first, others))]
    if found:
        logger.warning("%s%s", found[0], f" (and so in {len(found) - 1} more pairs)" if len(found) > 1 else "")


def _say_equal_sides(
    entries: Sequence[_Entry], source_channels: Sequence[int] | None, target_channels: Sequence[int] | None
) -> None:
    """A word where images are their own targets, from which nothing can be learned."""
    if list(source_channels or ()) != list(target_channels or ()):
        return
    equal = [entry for entry in entries if _places(entry.sources) == _places(entry.targets)]
    if equal:
        logger.warning(
            "%d of %d images are source and target at once (%s): a model would learn to copy them; give other targets, "
            "or other channels of each side",
            len(equal),
            len(entries),
            equal[0].sources[0].path,
        )


def _places(images: Sequence[ImageFile]) -> list[tuple[str, int]]:
    return [(os.path.realpath(image.path), image.series) for image in images]


def _opened(entry: _Entry, files: Sequence[ImageFile], cache: PixelCache) -> list[CachedSource]:
    try:
        return [cache.open(file.path, file.series) for file in files]
    except ImageError as error:
        raise _with_origin(entry.origin, error) from error


def _pair(entry: _Entry, source: ArraySource, target: ArraySource) -> Pair:
    try:
        return Pair(source, target, entry.name)
    except ImageError as error:
        raise _with_origin(entry.origin, error) from error


def _with_origin(origin: str, error: ImageError) -> ImageError:
    return ImageError(f"{origin}: {error}") if origin else error


def _stacked(entry: _Entry, images: Sequence[CachedSource]) -> ArraySource:
    try:
        return images[0] if len(images) == 1 else StackedChannels(images)
    except ImageError as error:
        raise _with_origin(entry.origin, error) from error


def _halves(image: CachedSource, direction: Direction) -> tuple[ArraySource, ArraySource]:
    """Source and target."""
    height, width = plane_size(image)
    if width % 2:
        raise ImageError(f"{image.path} is {width} pixels wide; an image of two halves must have an even width")
    left = CroppedSource(image, Region.whole(height, width // 2))
    right = CroppedSource(image, Region.at(0, width // 2, height, width // 2))
    return (left, right) if direction == "AtoB" else (right, left)


_Files = tuple[tuple[Path, ...], tuple[Path, ...], str]
"""Files of source and target, and where they are named."""


def _rows_of_table(table: Path) -> list[_Files]:
    try:
        header, *rows = read_rows(table.read_bytes()) or [Row(1, ())]
    except (OSError, ValueError) as error:
        raise ImageError(f"{table} cannot be read as a table: {error}; save it as CSV in UTF-8") from error
    sources, targets = _columns(table, header, "source"), _columns(table, header, "target")
    if not rows:
        raise ImageError(f"{table} has no rows below its header; give one pair per row")
    found: dict[tuple[tuple[Path, ...], tuple[Path, ...]], Row] = {}
    for row in rows:
        files = tuple(tuple(_cell(table, row, column) for column in columns) for columns in (sources, targets))
        first = found.setdefault((files[0], files[1]), row)
        if first is not row:
            raise ImageError(
                f"{_origin(table, row)}: names the pair of line {first.line} again, so it could be trained on and held "
                "out at once; remove one of the lines"
            )
    return [(*files, _origin(table, row)) for files, row in found.items()]


_Column = tuple[str, int]
"""Name and position."""


def _columns(table: Path, header: Row, side: str) -> list[_Column]:
    """Columns of a side: source, source_2, source_3, ..."""
    names = [(name.strip(), position) for position, name in enumerate(header.cells)]
    found = [(name, position) for name, position in names if name.lower().startswith(side)]
    if not found:
        raise ImageError(f"{table} has no column {side!r}; its first line must name the columns source and target")
    return sorted(found, key=lambda column: natural_key(column[0]))


def _cell(table: Path, row: Row, column: _Column) -> Path:
    name, position = column
    text = row.cells[position].strip() if position < len(row.cells) else ""
    if not text:
        raise ImageError(f"{_origin(table, row)}: there is no path in the column {name!r}")
    path = table.parent / text
    with suppress(OSError):  # what no file can be called; said where it is opened
        if not path.exists():
            path = table.parent / text.replace("\\", "/")
    return as_spelled(path)


def _origin(table: Path, row: Row) -> str:
    return f"{table}, line {row.line}"
