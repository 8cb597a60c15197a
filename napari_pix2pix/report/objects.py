"""Objects in outputs and targets: how many there are, which of them are the same, and how large they are."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from napari_pix2pix.class_evaluation import Foreground
from napari_pix2pix.evaluation import Comparison
from pix2pix_training.array_source import AnyArray, ArraySource, channel_count, plane_indices, plane_size
from pix2pix_training.errors import SettingsError
from pix2pix_training.invalid_pixels import FilledSource
from pix2pix_training.pairs import Pair
from pix2pix_training.regions import Region

SQUARE_PX = 2048
SMALLEST_PX = 10
_SAME_IOU = 0.5


@dataclass(frozen=True, kw_only=True)
class Objects:
    """Of one image or several: how many objects outputs and targets have, how many are the same, and their areas.

    Two are the same where their intersection is more than half of their union (IoU above 0.5), so that each has one
    partner at most. Areas are sums in pixels.
    """

    found: int
    true: int
    same: int
    found_area: int
    true_area: int

    @property
    def f1(self) -> float | None:
        both = self.found + self.true
        return 2 * self.same / both if both else None

    @property
    def count_ratio(self) -> float | None:
        return self.found / self.true if self.true else None

    @property
    def size_ratio(self) -> float | None:
        """Mean area of an object of outputs over that of one of targets."""
        if not self.found or not self.true:
            return None
        return (self.found_area / self.found) / (self.true_area / self.true)

    def as_dict(self) -> dict[str, Any]:
        counts = {"objects": self.found, "true_objects": self.true, "same_objects": self.same}
        return {**counts, "f1": self.f1, "count_ratio": self.count_ratio, "size_ratio": self.size_ratio}


def all_objects(images: Sequence[Objects]) -> Objects:
    names = ("found", "true", "same", "found_area", "true_area")
    return Objects(**{name: sum(getattr(image, name) for image in images) for name in names})


class ObjectRule:
    """What an object is: connected pixels (also across corners) of the second of two classes, or above a threshold.

    Where targets number their objects, each number is one. Objects below 10 pixels do not count.
    """

    def __init__(self, wanted: Comparison, above: float | None) -> None:
        self.above = above
        self.makes_sense = above is not None or (wanted.classes is not None and len(wanted.classes.values) == 2)
        self._second = None if wanted.classes is None else wanted.classes.values[-1]
        channels = channel_count(wanted.pairs[0].target)
        if above is not None and (wanted.classes is not None or channels > 1):
            has = "classes" if wanted.classes is not None else f"{channels} channels"
            raise SettingsError(
                f"objects-above is for targets of one channel of intensities, and {wanted.pairs[0].target.name} has "
                f"{has}; leave it out"
            )

    def objects(self, pair: Pair) -> Generator[None, None, Objects]:
        """Of a prediction (the source) and its target; images are looked at in squares of 2048 pixels."""
        images = [_labels(image) for image in pair.images]
        found = []
        for plane in plane_indices(pair.target):
            for region in Region.whole(*plane_size(pair.target)).tiles(SQUARE_PX):
                read = [image.read_with_mask(region, plane) for image in images]
                bad = [mask for _, mask in read if mask is not None]
                valid = ~np.logical_or.reduce(bad) if bad else np.ones(region.size, bool)
                found.append(_counted(*(self._numbered(pixels, valid) for pixels, _ in read)))
                yield
        return all_objects(found)

    def _numbered(self, pixels: AnyArray, valid: NDArray[np.bool_]) -> NDArray[np.int64]:
        """A number for each object (h, w) of pixels (C, h, w), 0 for what is none."""
        if self.above is not None:
            return _connected((pixels[0] > self.above) & valid)
        assert self._second is not None
        if self._second == (1,) and len(np.unique(pixels)) > 2:
            numbers = np.unique(pixels[0], return_inverse=True)[1].reshape(valid.shape) + 1
            return _large(np.where((pixels[0] != 0) & valid, numbers, 0))
        is_second = np.logical_and.reduce([c == v for c, v in zip(pixels, self._second, strict=True)])
        return _connected((pixels[0] != 0 if self._second == (1,) else is_second) & valid)


def _labels(image: ArraySource) -> FilledSource:
    return FilledSource(image.labels if isinstance(image, Foreground) else image, may_be_empty=True)


def _connected(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    found: Any = label(mask, np.ones((3, 3)))
    return _large(found[0].astype(np.int64))


def _large(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Without the objects that are too small."""
    areas = np.bincount(numbers.ravel())
    return np.where(areas[numbers] < SMALLEST_PX, 0, numbers)


def _counted(found: NDArray[np.int64], true: NDArray[np.int64]) -> Objects:
    areas = [np.bincount(numbers.ravel()) for numbers in (found, true)]
    for area in areas:
        area[0] = 0
    both = (found > 0) & (true > 0)
    pairs, common = np.unique(np.stack([found[both], true[both]]), axis=1, return_counts=True)
    union = areas[0][pairs[0]] + areas[1][pairs[1]] - common
    return Objects(
        found=int((areas[0] > 0).sum()),
        true=int((areas[1] > 0).sum()),
        same=int((common > _SAME_IOU * union).sum()),
        found_area=int(areas[0].sum()),
        true_area=int(areas[1].sum()),
    )
