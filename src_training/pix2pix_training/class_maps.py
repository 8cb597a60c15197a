"""Whether images of few values are maps of classes, of numbered objects, or dim pictures; told from a few tiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pix2pix_training.array_source import AnyArray, ArraySource, plane_indices, plane_size
from pix2pix_training.regions import Region

_TILE_PX = 512
_MOST_TILES = 8
_ALWAYS_CLASSES = 3
_LEAST_EQUAL = 0.25
_LEAST_OWN = 0.5
_LEAST_HEIGHT = 0.1
_FEW_CLASSES = 8
_MOST_STEPS = 0.9
_MOST_STEPS_OF_SPECKS = 0.5
_LEAST_OBJECTS = 8
_LEAST_WHOLE = 0.9
_LEAST_EQUAL_IN_OBJECTS = 0.5

_Ranks = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Look:
    """How the values of images lie beside each other, over a few tiles.

    Attributes
    ----------
    equal : share of equal pixels among neighbours that are not both of the most frequent value.
    steps : share of neighbouring values, in their order, among neighbours that differ.
    own : share of the different values that fill a square of 2 x 2 pixels somewhere, or lines, see `_in_lines`.
    objects : different values but the background's.
    whole : share of these that are one connected object where they occur.
    """

    equal: float
    steps: float
    own: float
    objects: int
    whole: float

    def is_of_classes(self, count: int) -> bool:
        """Whether images of `count` different values are maps of classes rather than of intensities.

        Classes lie in patches of one value. Intensities differ from pixel to pixel by noise, or, without noise, rise
        and fall in single steps; where patches are small, most of little noise is such steps too. Most values of a mask
        with soft edges, or of one kept as JPEG, lie at its edges alone.
        """
        if count <= _ALWAYS_CLASSES:
            return True
        in_patches = self.equal >= _LEAST_EQUAL and self.own > _LEAST_OWN
        most = _MOST_STEPS if self.equal >= _LEAST_EQUAL_IN_OBJECTS else _MOST_STEPS_OF_SPECKS
        return in_patches and (count <= _FEW_CLASSES or self.steps <= most)

    @property
    def is_of_instances(self) -> bool:
        """Whether each object has a number of its own."""
        return self.objects >= _LEAST_OBJECTS and self.whole >= _LEAST_WHOLE and self.equal >= _LEAST_EQUAL_IN_OBJECTS


def look_at(images: Sequence[ArraySource]) -> Look:
    """The look of at most eight tiles of 512 pixels, evenly taken from all `images`."""
    equal = steps = pairs = 0
    objects: dict[bytes, list[bool]] = {}
    found: set[bytes] = set()
    own: set[bytes] = set()
    for stored in _tiles(images):
        values, ranks, common = _ranked(stored)
        names = [value.tobytes() for value in values.T]
        found.update(names)
        own.update(names[rank] for rank in (*_filling_squares(ranks), *_in_lines(values, ranks)))
        alike, stepping, telling = _neighbours(ranks, common)
        equal, steps, pairs = equal + alike, steps + stepping, pairs + telling
        if alike >= _LEAST_EQUAL_IN_OBJECTS * telling:  # else there are no objects, but many values
            zero = np.flatnonzero((values == 0).all(0))
            background = int(zero[0]) if zero.size else common
            for rank, is_whole in _objects(ranks, background):
                objects.setdefault(names[rank], []).append(is_whole)
    whole = [each for places in objects.values() for each in places]
    return Look(
        equal=equal / max(pairs, 1),
        steps=steps / max(pairs - equal, 1),
        own=len(own) / max(len(found), 1),
        objects=len(objects),
        whole=sum(whole) / max(len(whole), 1),
    )


def _ranked(stored: AnyArray) -> tuple[AnyArray, _Ranks, int]:
    """The different pixels (C, n), the number of each pixel among them (h, w), and that of the most frequent."""
    flat = stored.reshape(len(stored), -1)
    if len(flat) == 1 and stored.dtype in (np.uint8, np.uint16):  # counting is faster than sorting
        counts = np.bincount(flat[0])
        values, ranks = np.flatnonzero(counts).astype(stored.dtype)[None], (np.cumsum(counts > 0) - 1)[flat[0]]
    elif len(flat) == 1:
        values, ranks = np.unique(flat[0], return_inverse=True)
        values = values[None]
    else:
        values, ranks = np.unique(flat, axis=1, return_inverse=True)
    return values, ranks.reshape(stored.shape[1:]).astype(np.int32), int(np.bincount(ranks.ravel()).argmax())


def _neighbours(ranks: _Ranks, common: int) -> tuple[int, int, int]:
    """Pairs of neighbours that are not both of the most frequent value: equal ones, those one value apart, and all."""
    equal = steps = pairs = 0
    for first, second in ((ranks[:, :-1], ranks[:, 1:]), (ranks[:-1], ranks[1:])):
        apart = np.abs(first - second)
        both = int(((first == common) & (second == common)).sum())
        equal += int((apart == 0).sum()) - both
        steps += int((apart == 1).sum())
        pairs += apart.size - both
    return equal, steps, pairs


def _filling_squares(ranks: _Ranks) -> list[int]:
    """The values of which there is a square of 2 x 2 pixels."""
    corner = ranks[:-1, :-1]
    same = (corner == ranks[1:, :-1]) & (corner == ranks[:-1, 1:]) & (corner == ranks[1:, 1:])
    found: list[int] = np.flatnonzero(np.bincount(corner[same])).tolist()
    return found


def _in_lines(values: AnyArray, ranks: _Ranks) -> list[int]:
    """The values of which most pixels continue a line that stands out from equal values on both of its sides."""
    inner = ranks[1:-1, 1:-1]
    above, below, left, right = ranks[:-2, 1:-1], ranks[2:, 1:-1], ranks[1:-1, :-2], ranks[1:-1, 2:]
    scaled = values.astype(np.float64)
    scaled /= max(np.ptp(scaled), 1e-300)
    is_line = np.zeros(inner.shape, bool)
    for before, after, first, second in ((above, below, left, right), (left, right, above, below)):
        at = np.nonzero(((before == inner) | (after == inner)) & (first == second) & (first != inner))
        is_line[at] |= np.abs(scaled[:, inner[at]] - scaled[:, first[at]]).max(0) > _LEAST_HEIGHT
    count = values.shape[1]
    lines, pixels = (np.bincount(each, minlength=count) for each in (inner[is_line], ranks.ravel()))
    found: list[int] = np.flatnonzero(2 * lines > pixels).tolist()
    return found


def _objects(ranks: _Ranks, background: int) -> Iterator[tuple[int, bool]]:
    """Each value but the background's, and whether its pixels hang together."""
    for rank, box in enumerate(ndimage.find_objects(ranks + 1)):
        if rank != background and box is not None:
            own = ranks[box] == rank
            spans = bool(own.any(0).all() and own.any(1).all())  # what hangs together does; labels take much longer
            yield rank, spans and ndimage.label(own, np.ones((3, 3)))[1] == 1


def _tiles(images: Sequence[ArraySource]) -> Iterator[AnyArray]:
    places: list[tuple[ArraySource, tuple[int, ...], Region]] = [
        (image, plane, region)
        for image in images
        for plane in plane_indices(image)
        for region in Region.whole(*plane_size(image)).tiles(_TILE_PX)
    ]
    for number in np.linspace(0, len(places) - 1, min(len(places), _MOST_TILES)).round().astype(int):
        image, plane, region = places[number]
        yield image.read(region, plane)
