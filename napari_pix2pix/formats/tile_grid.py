"""The one collector of tiles: turns tiles of any size into those of a file, or the parts that are written at a time.

Nothing but unfinished parts is kept: a part leaves as soon as its last pixel has come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from napari_pix2pix.formats.writing import OutputSpec, Steps, Tile
from pix2pix_training.array_source import AnyArray
from pix2pix_training.regions import PlaneRegion, Region, Size

Put = Callable[[Region, AnyArray], None]
"""Takes a full part: its place, and its pixels, shape (samples, place.height, place.width)."""


@dataclass
class _Unfinished:
    pixels: AnyArray
    missing: int


class TileCollector:
    """Puts the tiles of one plane together.

    Parameters
    ----------
    touching : the places of the parts that a region touches.
    """

    def __init__(
        self, samples: int, dtype: np.dtype[np.generic], touching: Callable[[Region], Iterable[Region]], put: Put
    ) -> None:
        self._samples = samples
        self._dtype = dtype
        self._touching = touching
        self._put = put
        self._unfinished: dict[Region, _Unfinished] = {}

    def add(self, region: Region, pixels: AnyArray) -> None:
        """Take a tile, shape (samples, region.height, region.width); every pixel must come once."""
        for place in self._touching(region):
            common = region.common(place)
            part = self._unfinished.pop(place, None) or self._empty(place, pixels)
            part.pixels[:, *common.seen_from(place).slices] = pixels[:, *common.seen_from(region).slices]
            part.missing -= common.pixels
            if part.missing:
                self._unfinished[place] = part
            else:
                self._put(place, part.pixels)

    def _empty(self, place: Region, like: AnyArray) -> _Unfinished:
        """A part whose samples lie in memory in the order of those that come: one after the other, or side by side."""
        return _Unfinished(np.empty_like(like, self._dtype, shape=(self._samples, *place.size)), place.pixels)


def in_squares(spec: OutputSpec, side: int, put: Put, size: Size | None = None) -> TileCollector:
    """Collects squares of `side` pixels, less at the end of rows and columns; `size` is that of a level, if another."""
    plane = Region.whole(*(size or (spec.height, spec.width)))

    def touching(region: Region) -> Iterable[Region]:
        return (Region.at(y * side, x * side, side, side).common(plane) for y, x in region.in_cells(side).places())

    return TileCollector(spec.samples, spec.dtype, touching, put)


def collect(tiles: Iterable[Tile], collector: Callable[[tuple[int, ...]], TileCollector]) -> Steps:
    """Collect a whole image, from tiles as `write_image` takes them; `collector` makes the one of a plane."""
    current: tuple[int, ...] | None = None
    for plane, region, pixels in tiles:
        if plane != current:
            current, of_plane = plane, collector(plane)
        of_plane.add(region, pixels)
        yield


@dataclass(frozen=True, kw_only=True)
class Cutting:
    """How an output is cut up: into regions, the units of work in the order of their numbers, of whole parts.

    Parts are squares of `part_px` that are written at a time.
    """

    spec: OutputSpec
    regions: list[PlaneRegion]
    part_px: int

    def parts_of(self, number: int) -> list[Region]:
        """Those of a region, in reading order."""
        return list(self.regions[number].region.tiles(self.part_px))
