"""What the pixels of training images are, found in one reading: their values, where they are valid, and a checksum."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from pix2pix_training.array_source import AnyArray, ArraySource, Opacity, channel_count, plane_indices, plane_size
from pix2pix_training.intensity import MAX_CATEGORIES, PERCENTILES, Histogram, Sample, value_counter
from pix2pix_training.invalid_pixels import can_have_invalid_pixels, invalid_values
from pix2pix_training.regions import Region

Code = tuple[int, ...]
"""The values of a pixel, one per channel."""
Plane = tuple[int, ...]

MOST_READ = 2**30
MOST_COUNTED = 2**28
"""Values of one side that are read, and that are counted; of more, those of evenly spaced tiles."""
_TILE_PX = 1024
_FIRST_LOOK = 4096
_WORD_BYTES = 8
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """What is known of one image.

    Attributes
    ----------
    digest : checksum of the pixels that were read, their type and shape.
    planes : those with a pixel that is valid in all channels; of others nothing can be learnt.
    is_constant : whether all valid pixels have one value per channel.
    ends : percentiles of each channel over this image alone, where they were asked for.
    codes : the different pixels of an integer image, None where there are more than `MAX_CATEGORIES`.
    hidden_share : of the pixels that were read, those that hold no data in a channel.
    """

    digest: str
    planes: tuple[Plane, ...]
    is_constant: bool
    hidden_share: float
    ends: tuple[tuple[float, ...], tuple[float, ...]] | None
    codes: frozenset[Code] | None


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What is known of the images of one side together; see `ImageFacts`.

    Attributes
    ----------
    low, high : smallest and largest valid value of each channel.
    values : the different values of each channel, None where there are more than `MAX_CATEGORIES`.
    percentiles : low and high ones of each channel, `PERCENTILES`; exact for integers of up to 16 bits.
    is_complete : whether the values of all pixels were counted.
    """

    images: tuple[ArraySource, ...]
    facts: tuple[ImageFacts, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    values: tuple[frozenset[float] | None, ...]
    percentiles: tuple[tuple[float, ...], tuple[float, ...]]
    codes: frozenset[Code] | None
    is_complete: bool

    @property
    def hidden_share(self) -> float:
        """Of all pixels, those that hold no data."""
        sizes = [int(np.prod(image.shape)) for image in self.images]
        return sum(size * each.hidden_share for size, each in zip(sizes, self.facts, strict=True)) / sum(sizes)

    @property
    def is_constant(self) -> bool:
        """Whether all valid pixels of all images have one value per channel."""
        return all(low >= high for low, high in zip(self.low, self.high, strict=True))


def survey(images: Sequence[ArraySource], *, each: bool = False, complete: bool = False) -> Survey:
    """What `survey_steps` finds."""
    return result_of(survey_steps(images, each=each, complete=complete))


def result_of(steps: Generator[Any, None, T]) -> T:
    """What a generator returns."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        return cast(T, end.value)


def survey_steps(
    images: Sequence[ArraySource], *, each: bool = False, complete: bool = False
) -> Generator[int, None, Survey]:
    """Read the pixels of `images`, of one type and channel count, once; yield how many values were read, tile by tile.

    Parameters
    ----------
    each : find the percentiles of each image as well.
    complete : however many pixels there are.
    """
    first = images[0]
    total = sum(int(np.prod(image.shape)) for image in images)
    read_every = 1 if complete else -(-total // MOST_READ)
    count_every = read_every if complete else -(-total // (read_every * MOST_COUNTED)) * read_every
    counters = [_Counter(first.dtype, total // channel_count(first)) for _ in range(channel_count(first))]
    numbers = count()
    facts = []
    for image in images:
        tiles = _Tiles(image, numbers, read_every, count_every)
        facts.append((yield from _survey_one(image, tiles, counters, each)))
    ends = [counter.percentiles() for counter in counters]
    return Survey(
        images=tuple(images),
        facts=tuple(facts),
        low=tuple(counter.low for counter in counters),
        high=tuple(counter.high for counter in counters),
        values=tuple(counter.values for counter in counters),
        percentiles=(tuple(low for low, _ in ends), tuple(high for _, high in ends)),
        codes=_joined([fact.codes for fact in facts]),
        is_complete=count_every == 1,
    )


def _joined(codes: Sequence[frozenset[Code] | None]) -> frozenset[Code] | None:
    known = [some for some in codes if some is not None]
    joined = frozenset[Code]().union(*known)
    return joined if len(known) == len(codes) and len(joined) <= MAX_CATEGORIES else None


@dataclass(frozen=True)
class _Tiles:
    """Tiles of an image, numbered on from those of the images before; of many, evenly spaced ones."""

    image: ArraySource
    numbers: Iterator[int]
    read_every: int
    count_every: int

    def __iter__(self) -> Iterator[tuple[Plane, Region, bool]]:
        """Plane and region of each tile to read, and whether its values count."""
        for plane in plane_indices(self.image):
            for region, number in zip(
                Region.whole(*plane_size(self.image)).tiles(_TILE_PX), self.numbers, strict=False
            ):
                if number % self.read_every == 0:
                    yield plane, region, number % self.count_every == 0


def _survey_one(
    image: ArraySource, tiles: _Tiles, counters: Sequence[_Counter], each: bool
) -> Generator[int, None, ImageFacts]:
    channels = channel_count(image)
    pixels = int(np.prod(image.shape)) // channels
    own = [_Counter(image.dtype, pixels) for _ in range(channels)] if each else []
    checksum = _checksum(image)
    spread = _Spread(channels)
    codes = _Codes(image.dtype)
    usable: dict[Plane, bool] = {}
    read = hidden = 0
    for plane, region, counts in tiles:
        stored, opacity = image.read_with_opacity(region, plane)
        _add_pixels(checksum, stored, opacity)
        invalid = invalid_values(stored, image.nodata, opacity)
        is_valid = not invalid.any()
        valid = [stored[c].ravel() if is_valid else stored[c][~invalid[c]] for c in range(channels)]
        usable[plane] = usable.get(plane, False) or is_valid or not invalid.any(0).all()
        read += stored[0].size
        hidden += 0 if is_valid else int(invalid.any(0).sum())
        spread.add(valid)
        if counts:
            codes.add(stored.reshape(channels, -1) if is_valid else stored[:, ~invalid.any(0)])
            for group in (counters, own):
                for counter, values in zip(group, valid, strict=False):
                    counter.add(values)
        yield stored.size
    ends = [counter.percentiles() for counter in own]
    return ImageFacts(
        digest=checksum.hexdigest(),
        planes=tuple(
            plane
            for plane in plane_indices(image)
            if usable.get(plane, False) or (tiles.read_every > 1 and _is_usable(image, plane))
        ),
        is_constant=spread.is_constant,
        hidden_share=hidden / max(read, 1),
        ends=(tuple(low for low, _ in ends), tuple(high for _, high in ends)) if each else None,
        codes=codes.found(),
    )


def digest_of(image: ArraySource) -> str:
    """`ImageFacts.digest` of an image of which all pixels are read."""
    checksum = _checksum(image)
    for plane, region, _ in _Tiles(image, count(), 1, 1):
        _add_pixels(checksum, *image.read_with_opacity(region, plane))
    return checksum.hexdigest()


def _checksum(image: ArraySource) -> blake2b:
    return blake2b(repr((image.shape, image.dtype.str, image.nodata)).encode(), digest_size=16)


def _add_pixels(checksum: blake2b, stored: AnyArray, opacity: Opacity | None) -> None:
    checksum.update(np.ascontiguousarray(stored).data)
    checksum.update(b"" if opacity is None else np.ascontiguousarray(opacity).data)


def _is_usable(image: ArraySource, plane: Plane) -> bool:
    """Whether a plane of which not all tiles were read has a pixel that is valid in all channels."""
    if not can_have_invalid_pixels(image):
        return True
    for region in Region.whole(*plane_size(image)).tiles(_TILE_PX):
        stored, opacity = image.read_with_opacity(region, plane)
        if not invalid_values(stored, image.nodata, opacity).any(0).all():
            return True
    return False


class _Spread:
    """Whether the values of each channel are all the same."""

    def __init__(self, channels: int) -> None:
        self._first: list[Any] = [None] * channels
        self.is_constant = True

    def add(self, values: Sequence[AnyArray]) -> None:
        for channel, some in enumerate(values):
            if self.is_constant and some.size:
                if self._first[channel] is None:
                    self._first[channel] = some[0]
                self.is_constant = bool((some == self._first[channel]).all())


class _Counter:
    """Values of one channel: the extremes, percentiles, and which there are while they are few."""

    def __init__(self, dtype: np.dtype[Any], pixels: int) -> None:
        self._counter: Histogram | Sample = value_counter(dtype, pixels)
        self._few: set[float] | None = set()
        self.low, self.high = np.inf, -np.inf

    def add(self, values: AnyArray) -> None:
        if values.size == 0:
            return
        self._counter.add(values)
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        if self._few is not None and isinstance(self._counter, Sample):
            some = _few_unique(values)
            joined = None if some is None else self._few | set(some.tolist())
            self._few = joined if joined is not None and len(joined) <= MAX_CATEGORIES else None

    @property
    def values(self) -> frozenset[float] | None:
        if isinstance(self._counter, Histogram):
            found = self._counter.values()
            return frozenset(found.tolist()) if len(found) <= MAX_CATEGORIES else None
        return None if self._few is None else frozenset(self._few)

    def percentiles(self) -> tuple[float, float]:
        return self._counter.percentiles(PERCENTILES)


class _Codes:
    """The different pixels of an image of integers, while they are few."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._found: set[Code] | None = set() if dtype.kind in "biu" else None

    def add(self, pixels: AnyArray) -> None:
        """Pixels of shape (C, n)."""
        if self._found is None or pixels.size == 0:
            return
        some = _few_unique(_packed(pixels))
        if some is not None:
            self._found.update(_unpacked(some, pixels.shape[0], pixels.dtype))
        if some is None or len(self._found) > MAX_CATEGORIES:
            self._found = None

    def found(self) -> frozenset[Code] | None:
        return None if self._found is None else frozenset(self._found)


def _packed(pixels: AnyArray) -> AnyArray:
    """The pixels (C, n) as n items that can be sorted, numbers where that is possible."""
    if pixels.shape[0] == 1:
        return cast(AnyArray, pixels[0])
    rows = np.ascontiguousarray(pixels.T)
    bytes_each = rows.dtype.itemsize * rows.shape[1]
    if bytes_each <= _WORD_BYTES:
        words = np.zeros((len(rows), _WORD_BYTES), np.uint8)
        words[:, :bytes_each] = rows.view(np.uint8)
        return words.view(np.uint64)[:, 0]
    items: NDArray[np.void] = rows.view(np.dtype((np.void, bytes_each)))[:, 0]
    return items


def _unpacked(items: AnyArray, channels: int, dtype: np.dtype[Any]) -> list[Code]:
    if channels == 1:
        return [(int(item),) for item in items]
    rows = items.reshape(-1, 1).view(np.uint8)[:, : channels * dtype.itemsize]
    return [tuple(int(value) for value in row) for row in np.ascontiguousarray(rows).view(dtype)]


def _few_unique(values: AnyArray) -> AnyArray | None:
    """The different values, None where there are more than `MAX_CATEGORIES`; that is mostly seen in a few of them."""
    if values.dtype in (np.uint8, np.uint16):
        present = np.flatnonzero(np.bincount(values))
        return present if len(present) <= MAX_CATEGORIES else None
    found: AnyArray = np.unique(values[:: max(1, values.size // _FIRST_LOOK)])
    if len(found) > MAX_CATEGORIES:
        return None
    others = np.unique(values[found[np.searchsorted(found, values).clip(max=len(found) - 1)] != values])
    if len(found) + len(others) > MAX_CATEGORIES:
        return None
    return np.sort(np.concatenate([found, others]))
