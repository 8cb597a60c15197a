"""Where the targets lie on their sources, estimated pair by pair, and which of these estimates are believed.

What targets look like is learnt from all pairs at once, however they lie, and again from where they were found
(`alignment_fit`). What fits by chance is measured on the images themselves: each source is also laid on targets of
other images, which it has no place on.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from pix2pix_training.aligned_source import Transform
from pix2pix_training.alignment_fit import Model, Parameters, Window
from pix2pix_training.appearance import Image
from pix2pix_training.array_source import ArraySource, cropped_from, plane_size
from pix2pix_training.choices import Align
from pix2pix_training.invalid_pixels import invalid_values
from pix2pix_training.pairs import Pair, natural_key
from pix2pix_training.regions import Region

_WINDOW_PX = 512
_SMALLEST_WINDOW_PX = 96
_WINDOWS_ALONG_A_SIDE = 3
_MOST_WINDOWS = _WINDOWS_ALONG_A_SIDE**2
_LEARNT_FROM = 128
_BLURS = (1.0, 0.7, 0.5)
_OTHERS = 16
_NEIGHBOURS = 4
_MARGIN = 1.5
"""By how much more of their spread a likeness is higher than the highest of those by chance."""
_LEAST_GAIN = 2.0
"""Times the likeness that targets of other images usually have."""
_LEAST_PX = 1.5
_MOST_DISAGREEMENT_PX = 1.5


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Where a target lies on its source.

    `likeness` is the correlation, where it is highest, of the target with what is predicted from its source. It has to
    be above `chance`, which targets of other images tell: how high it gets where nothing belongs together. `gain` is by
    how much it is higher there than where the target lies now. It has to be above `least_gain`, so that what speaks for
    a move is more than chance. `disagreement_px` is by how much quarters of the windows would move it further, the
    median; infinite where nothing could be compared.

    `has_moved` says that the target is taken from there, `is_doubtful` that it may lie elsewhere, or belong elsewhere,
    but is left as it is. What lies less than 1.5 pixels away counts as registered.
    """

    name: str
    transform: Transform
    distance_px: float
    likeness: float
    chance: float
    gain: float
    least_gain: float
    disagreement_px: float

    @property
    def _is_apart(self) -> bool:
        return self.distance_px >= _LEAST_PX

    @property
    def is_strange(self) -> bool:
        """Whether it fits its source no better than targets of other images do."""
        return math.isfinite(self.disagreement_px) and self.likeness <= self.chance

    @property
    def has_moved(self) -> bool:
        is_certain = self.gain > self.least_gain and self.disagreement_px <= _MOST_DISAGREEMENT_PX
        return self._is_apart and is_certain and not self.is_strange

    @property
    def is_doubtful(self) -> bool:
        return math.isinf(self.disagreement_px) or self.is_strange or (self._is_apart and not self.has_moved)


def estimates(images: Sequence[Sequence[Pair]], align: Align) -> Generator[float, None, list[Estimate]]:
    """An estimate for each target image, of which `images` have the pairs: one, or parts of one image.

    Yields the share that is done. What targets look like is learnt from up to 128 of the images.
    """
    chosen = sorted(np.random.default_rng(0).permutation(len(images))[:_LEARNT_FROM].tolist())
    total, done = len(_BLURS) * len(chosen) + len(images), 0
    some = max(1, min(_MOST_WINDOWS, _LEARNT_FROM // len(chosen)))
    every = {index: windows for index in chosen if (windows := _windows(images[index], align, some))}
    start = np.zeros(6 if align == "affine" else 2)
    known = [(windows, start) for windows in every.values()]
    if not known:
        return [_unknown(parts[0]) for parts in images]
    for blur in _BLURS:
        model = Model(known, blur)
        for position, (windows, at) in enumerate(known):
            known[position] = windows, model.found(windows, at)
            done += 1
            yield done / total
    model, results = Model(known, _BLURS[-1]), list[Estimate]()
    others = _Others(model, images, every)
    for index, parts in enumerate(images):
        windows = _windows(parts, align)
        estimate = _estimate(parts[0], windows, model, start, others.of(index, windows)) if windows else None
        results.append(estimate or _unknown(parts[0]))
        done += 1
        yield done / total
    return results


class _Others:
    """Targets that do not belong to an image.

    Among them are those of the next images in the order of names: they are likeliest to be taken for each other, and
    in a series, such as sections of a stack, they are most alike. Copies of the image's own target are none.
    """

    def __init__(self, model: Model, images: Sequence[Sequence[Pair]], known: dict[int, list[Window]]) -> None:
        self._known = known
        self._targets = {index: [model.seen(window.target) for window in known[index]] for index in known}
        by_name = sorted(range(len(images)), key=lambda index: natural_key(images[index][0].name))
        self._place = {index: place for place, index in enumerate(by_name)}

    def of(self, index: int, windows: Sequence[Window]) -> list[list[Image]]:
        """Targets, each for all `windows` of the image of number `index`; mirrored and turned where there are few."""
        count, own = len(windows), windows[0].target
        rng = np.random.default_rng(index)
        near = sorted(self._targets, key=lambda other: abs(self._place[other] - self._place[index]))
        foreign = [k for k in near if k != index and not np.array_equal(self._known[k][0].target, own)]
        drawn = [*foreign[:_NEIGHBOURS], *rng.permutation(foreign[_NEIGHBOURS:]).tolist()][:_OTHERS]
        others = [[self._targets[other][n % len(self._targets[other])] for n in range(count)] for other in drawn]
        if len(others) < _OTHERS:
            ways = [way for other in near for target in self._targets[other] for way in _turned(target)]
            few = len(ways) < count
            others += [[ways[n] for n in rng.choice(len(ways), count, few)] for _ in range(len(others), _OTHERS)]
        return others


def _turned(target: Image) -> list[Image]:
    """An image (C, h, w) in the seven other ways in which a sheet can be laid down."""
    ways = [np.rot90(image, turns, (1, 2)) for image in (target, target[:, :, ::-1]) for turns in range(4)]
    return [np.ascontiguousarray(way) for way in ways[1:]]


def _unknown(pair: Pair) -> Estimate:
    return Estimate(
        name=pair.target.name,
        transform=Transform(shift=(0.0, 0.0)),
        distance_px=0.0,
        likeness=0.0,
        chance=0.0,
        gain=0.0,
        least_gain=0.0,
        disagreement_px=math.inf,
    )


def _estimate(
    pair: Pair, windows: list[Window], model: Model, start: Parameters, others: list[list[Image]]
) -> Estimate:
    found = model.found(windows, start)
    own, *foreign = model.matches(windows, others)
    usual, highest = (float(of([match.best for match in foreign])) for of in (np.median, np.max))
    size = plane_size(cropped_from(pair.target)[0])
    transform = _transform(found, size)
    return Estimate(
        name=pair.target.name,
        transform=transform,
        distance_px=transform.distance_px(size),
        likeness=own.best,
        chance=usual + _MARGIN * (highest - usual),
        gain=own.gain,
        least_gain=_LEAST_GAIN * usual,
        disagreement_px=model.disagreement(windows, found),
    )


def _transform(found: Parameters, size: tuple[int, int]) -> Transform:
    """Parameters are displacements at half resolution, at the end of the longer half axis."""
    if len(found) == 2:
        return Transform(shift=(2 * found[0], 2 * found[1]))
    turn, scale, stretch, shear = 2 * found[2:] / (max(size) / 2)
    matrix = (scale + stretch, shear - turn, shear + turn, scale - stretch)
    return Transform(shift=(2 * found[0], 2 * found[1]), stretch=matrix)


def _windows(parts: Sequence[Pair], align: Align, most: int = _MOST_WINDOWS) -> list[Window]:
    """Up to `most` windows of the parts of one image, evenly spread over them and over the planes."""
    found = list[Window]()
    for pair in sorted(parts, key=lambda part: -int(np.prod(plane_size(part.source))))[:most]:
        image, place = cropped_from(pair.target)
        height, width = plane_size(pair.source)
        sides = min(height, _WINDOW_PX) // 2 * 2, min(width, _WINDOW_PX) // 2 * 2
        if min(sides) < _SMALLEST_WINDOW_PX:
            continue
        rows, columns = (
            sorted({round(k) for k in np.linspace(0, n - side, min(_WINDOWS_ALONG_A_SIDE, -(-n // side)))})
            for n, side in zip((height, width), sides, strict=True)
        )
        places = [Region.at(y, x, *sides) for y in rows for x in columns]
        for number, region in enumerate(places[: most - len(found)]):
            plane = tuple(n * (2 * number + 1) // (2 * len(places)) for n in pair.source.shape[:-3])
            source, target = _halved(pair.source, region, plane), _halved(pair.target, region, plane)
            if source is not None and target is not None:
                found.append(Window(source, target, region.placed_in(place), plane_size(image), align))
    return found


def _halved(image: ArraySource, region: Region, plane: tuple[int, ...]) -> Image | None:
    """Means of 2 x 2 pixels (C, h / 2, w / 2), each channel scaled to its range; None of invalid or constant ones."""
    stored, opacity = image.read_with_opacity(region, plane)
    if invalid_values(stored, image.nodata, opacity).any():
        return None
    values = stored.astype(np.float64)
    low, high = np.percentile(values, (0.1, 99.9), axis=(1, 2), keepdims=True)
    flat = low >= high
    low, high = (
        np.where(flat, values.min((1, 2), keepdims=True), low),
        np.where(flat, values.max((1, 2), keepdims=True), high),
    )
    varying = (low < high)[:, 0, 0]
    if not varying.any():
        return None
    scaled = (values - low).clip(0) / np.where(low < high, high - low, 1)
    channels, height, width = scaled.shape
    halved = scaled.clip(0, 1).reshape(channels, height // 2, 2, width // 2, 2).mean((2, 4))
    return np.asarray(halved, np.float32)
