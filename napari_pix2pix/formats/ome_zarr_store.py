"""Writes OME-Zarr 0.5: Zarr version 3, sharded, compressed by zstd with checksums, with a pyramid.

Units come in any order, from any number of processes, then the levels above are made.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterable, Sequence
from functools import partial
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any

import numpy as np

from napari_pix2pix.formats.image_files import image_stem
from napari_pix2pix.formats.ome_zarr_layout import Layout, Unit, layout_of
from napari_pix2pix.formats.pyramid import halved
from napari_pix2pix.formats.remote import RemotePath, zarr_place
from napari_pix2pix.formats.tile_grid import collect, in_squares
from napari_pix2pix.formats.writing import OutputSpec, Steps, Tile
from pix2pix_training.array_source import AnyArray
from pix2pix_training.atomic import atomic_write, sync_to_disk
from pix2pix_training.regions import Region

_ZSTD_LEVEL = 2  # level 3 takes up to 1.7 times as long, for files that are up to 4 % smaller
_DIGEST_BYTES = 16
_UNFINISHED = re.compile(r"(\d+|zarr)\.[0-9a-f]{32}\.partial")
"""What zarr writes a shard or metadata to before it renames."""


class OmeZarrStore:
    """The arrays of an OME-Zarr, open for writing.

    Parameters
    ----------
    path : the group, which exists; see `create_store`.
    layout : the one that it was created with.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        import zarr

        self.path = path
        self.layout = layout
        places = [zarr_place(path / str(level), writable=True) for level in range(len(layout.sizes))]
        every_chunk = {"write_empty_chunks": True}  # zarr takes longer to look for zeros than to compress them
        self._arrays = [zarr.open_array(place, mode="r+", config=every_chunk) for place in places]

    def write_unit(self, unit: Unit, pixels: AnyArray) -> list[Path]:
        """Write a unit, shape (C, height, width), to all levels that it owns.

        Returns
        -------
        list of Path
            Its shards, which lie on the disk now. A shard of nothing but zeros has no file.
        """
        files = []
        for level in range(self.layout.unit_levels):
            if level:
                pixels = self._halved(pixels)
            region = self.layout.shard_region(level, unit.row, unit.column)
            files.append(self._write_shard(level, unit, region, pixels))
        return files

    def _write_shard(self, level: int, unit: Unit, region: Region, pixels: AnyArray) -> Path:
        file = self.path / self.layout.shard_key(level, unit)
        file.unlink(missing_ok=True)  # a damaged one could not be overwritten: it is read first
        if not pixels.any():
            return file
        stored = pixels if "C" in self.layout.letters else pixels[0]
        self._arrays[level][self.layout.selection(unit.plane, region)] = stored
        if not isinstance(file, RemotePath) and file.exists():
            sync_to_disk(file)
        return file

    def finish(self, name: str) -> None:
        """Make the levels that no unit owns, and complete the metadata; every unit must have been written.

        What killed writers have left of shards goes.

        Raises
        ------
        FileNotFoundError
            The store was removed since it was created; zarr would begin another one in its place.
        """
        require_store(self.path)
        for level in range(self.layout.unit_levels, len(self.layout.sizes)):
            self._reduce(level)
        require_store(self.path)
        _write_attributes(self.path, self.layout, name, self._limits())
        if isinstance(self.path, RemotePath):
            return
        for path in list(self.path.rglob("*")):
            if path.is_dir():
                sync_to_disk(path)
            elif _UNFINISHED.fullmatch(path.name):
                path.unlink()

    def _reduce(self, level: int) -> None:
        """Make a level from the one before, shard by shard."""
        layout, side = self.layout, self.layout.shard_px(level)
        finer = Region.whole(*layout.sizes[level - 1])
        for plane in np.ndindex(layout.spec.leading_shape):
            for row in range(-(-layout.sizes[level][0] // side)):
                for column in range(-(-layout.sizes[level][1] // side)):
                    region = layout.shard_region(level, row, column)
                    pixels = self._halved(self.read(level - 1, plane, region.of_cells(2).common(finer)))
                    self._write_shard(level, Unit(plane, row, column), region, pixels)

    def _limits(self) -> list[tuple[float, float]]:
        """Darkest and brightest pixel of each channel on the smallest level; those of the type for bytes."""
        spec = self.layout.spec
        if spec.dtype == np.uint8 or spec.dtype.kind == "b" or self.layout.labels:
            return full_range(spec.dtype, spec.channels)
        level = len(self.layout.sizes) - 1
        lows, highs = np.full(spec.channels, np.inf), np.full(spec.channels, -np.inf)
        for plane in np.ndindex(spec.leading_shape):
            pixels = self.read(level, plane, Region.whole(*self.layout.sizes[level]))
            valid = np.isfinite(pixels)
            if spec.nodata is not None:
                valid &= pixels != spec.nodata
            lows = np.minimum(lows, np.where(valid, pixels, np.inf).min((1, 2)))
            highs = np.maximum(highs, np.where(valid, pixels, -np.inf).max((1, 2)))
        return [(float(low), float(high)) if low < high else (0.0, 1.0) for low, high in zip(lows, highs, strict=True)]

    def _halved(self, pixels: AnyArray) -> AnyArray:
        return halved(pixels, average=self.layout.spec.averaged, nodata=self.layout.spec.nodata)

    def read(self, level: int, plane: tuple[int, ...], region: Region) -> AnyArray:
        """Pixels of a level, shape (C, region.height, region.width)."""
        pixels = np.asarray(self._arrays[level][self.layout.selection(plane, region)])
        return pixels if "C" in self.layout.letters else pixels[None]


class OmeZarrCanvas:
    """An OME-Zarr that fills unit by unit, also from several processes; what is noted are its shards and checksums."""

    def __init__(self, path: Path, layout: Layout) -> None:
        self._store = OmeZarrStore(path, layout)
        self._versions: dict[str, str] | None = None

    def frame(self, size: int | None = None) -> tuple[int, str]:
        """Metadata are checked by whoever opens them."""
        del size
        return 0, ""

    def write_tiles(self, tiles: Iterable[Tile]) -> Steps:
        """Write the whole image; several units lie in memory until they are full."""
        layout, store = self._store.layout, self._store

        def put(plane: tuple[int, ...], part: Region, pixels: AnyArray) -> None:
            store.write_unit(layout.unit_at(plane, part), pixels)

        yield from collect(tiles, lambda plane: in_squares(layout.spec, layout.unit_px, partial(put, plane)))
        store.finish(image_stem(store.path))

    def write_part(self, plane: tuple[int, ...], region: Region, pixels: AnyArray) -> list[list[str | None]]:
        """Write a unit, shape (C, region.height, region.width); returns when it is on the disk."""
        self._versions = None
        return [self._note(file) for file in self._store.write_unit(self._unit(plane, region), pixels)]

    def restore(self, plane: tuple[int, ...], region: Region, note: Any) -> bool:
        """Whether the shards of a unit are as noted."""
        layout, unit = self._store.layout, self._unit(plane, region)
        if isinstance(self._store.path, RemotePath) and self._versions is None:  # not a request for each shard
            self._versions = self._store.path.versions_below()
        files = (self._store.path / layout.shard_key(level, unit) for level in range(layout.unit_levels))
        return bool([self._note(file) for file in files] == note)

    def _unit(self, plane: tuple[int, ...], region: Region) -> Unit:
        return self._store.layout.unit_at(plane, region)

    def _note(self, file: Path) -> list[str | None]:
        """A shard of nothing but zeros has no file, and no checksum."""
        name = file.relative_to(self._store.path).as_posix()
        if self._versions is not None:
            return [name, self._versions.get(name)]
        return [name, _digest(file) if file.exists() else None]

    def read(self, plane: tuple[int, ...], region: Region) -> AnyArray:
        """Pixels at full resolution, shape (C, region.height, region.width)."""
        return self._store.read(0, plane, region)

    def finish(self, path: Path) -> None:
        """Make the levels above those of units, and complete the metadata."""
        self._store.finish(image_stem(path))

    def close(self) -> None:
        """Nothing stays open between parts."""


def _digest(file: Path) -> str:
    """Tells its content from another one."""
    if isinstance(file, RemotePath):
        return file.version()
    with file.open("rb") as opened:
        return file_digest(opened, partial(blake2b, digest_size=_DIGEST_BYTES)).hexdigest()


def begin(path: Path, spec: OutputSpec, part_px: int) -> None:
    """Make a group without pixels; `spec` has been checked to fit the format."""
    create_store(path, layout_of(spec, part_px), image_stem(path))


def open_canvas(path: Path, spec: OutputSpec, part_px: int) -> OmeZarrCanvas:
    """Open what `begin` has made, to be filled by units."""
    return OmeZarrCanvas(path, layout_of(spec, part_px))


def require_store(path: Path) -> None:
    """Raise `FileNotFoundError` where a store lacks what `create_store` has made."""
    for file in (path / "zarr.json", path / "0" / "zarr.json"):
        if not file.is_file() and not (isinstance(path, RemotePath) and file.parent == path):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(file))


def full_range(dtype: np.dtype[Any], channels: int) -> list[tuple[float, float]]:
    """Smallest and largest value of an integer type, 0 and 1 for others, for each channel."""
    limits = (float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)) if dtype.kind in "ui" else (0.0, 1.0)
    return [limits] * channels


def create_store(path: Path, layout: Layout, name: str) -> None:
    """Make the empty arrays of an OME-Zarr and its metadata, so that viewers can open it while it fills.

    The documents of the arrays are made in memory, and written here one after the other: zarr writes several at a time,
    and goes on in the background where one fails, below a folder that is removed meanwhile.
    In a bucket the group gets its own when it is complete, see `remote_output`.
    """
    import zarr
    from zarr.codecs import ZstdCodec
    from zarr.storage import MemoryStore

    for level in range(len(layout.sizes)):
        made: dict[str, Any] = {}
        zarr.create_array(
            MemoryStore(made),
            shape=layout.shape(level),
            chunks=layout.chunks(level),
            shards=layout.shards(level),
            dtype=layout.spec.dtype,
            compressors=ZstdCodec(level=_ZSTD_LEVEL, checksum=True),
            fill_value=0,
            dimension_names=layout.axis_names,
            zarr_format=3,
        )
        _write(path / str(level) / "zarr.json", made["zarr.json"].to_bytes())
    if isinstance(path, RemotePath):
        return
    limits = full_range(layout.spec.dtype, layout.spec.samples)
    _write_attributes(path, layout, name, limits)


def _write_attributes(path: Path, layout: Layout, name: str, limits: Sequence[tuple[float, float]]) -> None:
    from napari_pix2pix.formats.ome_zarr_attributes import group_attributes

    document = {"zarr_format": 3, "node_type": "group", "attributes": group_attributes(layout, name, limits)}
    text, file = json.dumps(document, indent=2, ensure_ascii=False), path / "zarr.json"
    if isinstance(file, RemotePath):
        file.write(text.encode())
        return
    with atomic_write(file) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def _write(file: Path, document: bytes) -> None:
    if isinstance(file, RemotePath):
        file.write(document)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(document)
