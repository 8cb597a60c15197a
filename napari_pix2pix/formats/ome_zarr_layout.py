"""How an OME-Zarr is cut into levels, shards and units. Knows only numbers.

A unit is a square of a plane with all its channels. It owns whole shards of the levels that it can fill without its
neighbours, so that no two units ever write to the same file; the levels above are made when all units are there.
Regions of a translation consist of whole units.
"""

from __future__ import annotations

from dataclasses import dataclass

from napari_pix2pix.formats.metadata import time_and_depth
from napari_pix2pix.formats.pyramid import pyramid_sizes
from napari_pix2pix.formats.writing import OutputSpec
from pix2pix_training.regions import Region

CHUNK_PX = 512
"""zarr takes longer for each chunk than for compressing it: with 256 encoding took half as long again."""
_SMALLEST_LEVEL_PX = 512
_UNITS_PX = (1024, 512, 256)
_ROW_BUDGET_BYTES = 256 << 20
"""Most memory that a row of units, which fill side by side, should take."""


@dataclass(frozen=True, order=True)
class Unit:
    """A square of the plane with this index: its row and column among the units."""

    plane: tuple[int, ...]
    row: int
    column: int


@dataclass(frozen=True)
class Layout:
    """Levels and units of the image that `spec` describes.

    Attributes
    ----------
    unit_px : side of a unit, and of its shard at full resolution.
    sizes : height and width of each level.
    """

    spec: OutputSpec
    unit_px: int
    sizes: tuple[tuple[int, int], ...]

    @property
    def unit_levels(self) -> int:
        """Number of levels that the units write themselves."""
        return min(len(self.sizes), (self.unit_px // self.chunk_px).bit_length())

    @property
    def chunk_px(self) -> int:
        """Side of a chunk."""
        return min(CHUNK_PX, self.unit_px)

    @property
    def letters(self) -> str:
        """Axes in the order that OME-Zarr asks for: time, channel, space. Classes are labels and have no channels."""
        leading = time_and_depth(self.spec.leading_axes)
        return "".join(letter for letter in "TCZYX" if letter in leading + ("YX" if self.labels else "CYX"))

    @property
    def axis_names(self) -> list[str]:
        """Of the axes of the arrays: as the input calls them, where that is known and distinct."""
        known = {scale.letter: scale.name for scale in self.spec.metadata.scales}
        names = [known.get(letter, letter.lower()) for letter in self.letters]
        return names if len(set(names)) == len(names) else [letter.lower() for letter in self.letters]

    @property
    def labels(self) -> bool:
        """Written as an image of labels."""
        return not self.spec.averaged and self.spec.samples == 1 and self.spec.dtype.kind in "ui"

    def _lengths(self, *, channels: int, leading: tuple[int, ...], size: tuple[int, int]) -> tuple[int, ...]:
        """Lengths in the order of `letters`."""
        named = dict(zip(time_and_depth(self.spec.leading_axes), leading, strict=True))
        named |= {"C": channels, "Y": size[0], "X": size[1]}
        return tuple(named[letter] for letter in self.letters)

    def shape(self, level: int) -> tuple[int, ...]:
        spec = self.spec
        return self._lengths(channels=spec.samples, leading=spec.leading_shape, size=self.sizes[level])

    def chunks(self, level: int) -> tuple[int, ...]:
        return self._lengths(channels=1, leading=self._single, size=(self.chunk_px, self.chunk_px))

    def shards(self, level: int) -> tuple[int, ...]:
        side = self.shard_px(level)
        return self._lengths(channels=self.spec.samples, leading=self._single, size=(side, side))

    @property
    def _single(self) -> tuple[int, ...]:
        return (1,) * len(self.spec.leading_shape)

    def shard_px(self, level: int) -> int:
        return self.unit_px >> level if level < self.unit_levels else self.unit_px

    def selection(self, plane: tuple[int, ...], region: Region) -> tuple[int | slice, ...]:
        """Index of a region of a plane, all channels, in the array of a level."""
        named: dict[str, int | slice] = dict(zip(time_and_depth(self.spec.leading_axes), plane, strict=True))
        named |= {"C": slice(None), "Y": region.slices[0], "X": region.slices[1]}
        return tuple(named[letter] for letter in self.letters)

    def shard_key(self, level: int, unit: Unit) -> str:
        """File of a unit's shard, relative to the group."""
        named = dict(zip(time_and_depth(self.spec.leading_axes), unit.plane, strict=True))
        named |= {"C": 0, "Y": unit.row, "X": unit.column}
        return "/".join([str(level), "c", *(str(named[letter]) for letter in self.letters)])

    def unit_at(self, plane: tuple[int, ...], region: Region) -> Unit:
        """The unit that is a region."""
        return Unit(plane, region.y0 // self.unit_px, region.x0 // self.unit_px)

    def shard_region(self, level: int, row: int, column: int) -> Region:
        """The part of the image that a shard of a level holds, in pixels of the level."""
        side = self.shard_px(level)
        return Region.at(row * side, column * side, side, side).common(Region.whole(*self.sizes[level]))


def unit_side(spec: OutputSpec, region: tuple[int, int]) -> int:
    """Side of units in pixels: 1024, or less where a row of them in a region would take much memory.

    Parameters
    ----------
    region : its rows and columns, multiples of the smallest unit (and then of the one given) or those of the image.
    """
    size = spec.height, spec.width
    row_bytes = region[1] * spec.samples * spec.dtype.itemsize
    cut = [side for side, length in zip(region, size, strict=True) if side < length]
    fitting = (px for px in _UNITS_PX if px * row_bytes <= _ROW_BUDGET_BYTES and not any(side % px for side in cut))
    return next(fitting, _UNITS_PX[-1])


def layout_of(spec: OutputSpec, unit_px: int | None = None) -> Layout:
    """The layout of an image; by default its units are such that it can be written row by row."""
    sizes = pyramid_sizes(spec.height, spec.width, largest_px=_SMALLEST_LEVEL_PX)
    return Layout(spec, unit_px or unit_side(spec, (spec.height, spec.width)), tuple(sizes))
