"""Where map tiles lie in their common raster, and which tiles of lower zooms are made of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pix2pix_training.regions import Region

TMS_FILE = "tilemapresource.xml"
"""Beside tiles whose rows count from the south."""


@dataclass(frozen=True, slots=True)
class MapTile:
    """A file, by its path within the folder of tiles, and its place in the raster."""

    name: str
    region: Region


@dataclass(frozen=True)
class TileLayout:
    """The tiles of the deepest zoom, and those of the others in the order in which they can be made.

    `parents` holds the name of a tile with the names of the four it is made of (NW, NE, SW, SE), None where one is
    missing. `tms_xml` is the text of a file that says that rows count from the south.
    """

    tiles: tuple[MapTile, ...]
    parents: tuple[tuple[str, tuple[str | None, ...]], ...] = ()
    tms_xml: str | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the raster."""
        return max(tile.region.y1 for tile in self.tiles), max(tile.region.x1 for tile in self.tiles)

    def covers_all(self) -> bool:
        """Whether every pixel of the raster is one of exactly one tile; False where tiles overlap."""
        height, width = self.size
        if sum(tile.region.height * tile.region.width for tile in self.tiles) != height * width:
            return False
        index = TileIndex(self.tiles)
        return all(len(index.touching(tile.region)) == 1 for tile in self.tiles)

    def names_all_of(self, folder: Path) -> bool:
        """Whether a folder holds no other files than such tiles, so that others may take their place."""
        names = {TMS_FILE, *(tile.name for tile in self.tiles), *(name for name, _ in self.parents)}
        return folder.is_dir() and all(
            entry.is_dir() or entry.relative_to(folder).as_posix() in names for entry in folder.rglob("*")
        )


class TileIndex:
    """Finds the tiles that touch a region without looking at all."""

    def __init__(self, tiles: Sequence[MapTile]) -> None:
        self._size = max(max(tile.region.height, tile.region.width) for tile in tiles)
        self._buckets: defaultdict[tuple[int, int], list[MapTile]] = defaultdict(list)
        for tile in tiles:
            for bucket in tile.region.in_cells(self._size).places():
                self._buckets[bucket].append(tile)

    def touching(self, region: Region) -> list[MapTile]:
        """In order of their names."""
        found = {
            tile.name: tile for bucket in region.in_cells(self._size).places() for tile in self._buckets.get(bucket, ())
        }
        touching = (tile for tile in found.values() if not tile.region.common(region).is_empty)
        return sorted(touching, key=lambda tile: tile.name)
