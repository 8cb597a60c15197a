"""What share of an image's values lies beyond the range that a model knows, counted while the image is translated."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pix2pix_training.array_source import AnyArray
from pix2pix_training.intensity import CategoryMapping, LinearMapping
from pix2pix_training.intensity import Mapping as IntensityMapping

TOLERATED_SHARE = 0.01
"""Ends are percentiles 0.1 and 99.9 of the training images, so that a little beyond them is normal."""

_LARGEST_EXACT = 2**53
"""Up to here floats hold every integer."""


class ValuesSeen:
    """Counts of the values of each channel that were read, of all planes of an image.

    A pixel that is read for several tiles counts as often. Invalid pixels do not count.
    """

    def __init__(self) -> None:
        self._beyond: NDArray[np.int64] | None = None
        self._total: NDArray[np.int64] | int = 0
        self._smallest, self._largest = np.inf, -np.inf

    def add(self, stored: AnyArray, invalid: NDArray[np.bool_] | None, mapping: IntensityMapping) -> None:
        """Count pixels (C, h, w) of which those of the mask (h, w) are invalid.

        `mapping` has ends for each channel. Called by one thread at a time.
        """
        valid = stored if invalid is None else stored[:, ~invalid]
        if isinstance(mapping, CategoryMapping):
            beyond = np.array([_of_no_category(valid, mapping)])
        else:
            beyond = np.array([_beyond(*channel) for channel in zip(valid, mapping.low, mapping.high, strict=True)])
        self._beyond = beyond if self._beyond is None else self._beyond + beyond
        self._total += valid[0].size
        if valid.size:
            self._smallest = min(self._smallest, float(valid.min()))
            self._largest = max(self._largest, float(valid.max()))

    def merge(self, other: ValuesSeen) -> None:
        """Take what another one has counted, of other parts of the same image."""
        if other._beyond is not None:
            self._beyond = other._beyond if self._beyond is None else self._beyond + other._beyond
        self._total += other._total
        self._smallest = min(self._smallest, other._smallest)
        self._largest = max(self._largest, other._largest)

    def as_json(self) -> dict[str, Any] | None:
        """The counts; None before anything was read."""
        if self._beyond is None:
            return None
        extent = [self._smallest, self._largest] if self._smallest <= self._largest else None
        return {"beyond": self._beyond.tolist(), "total": int(self._total), "extent": extent}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any] | None) -> ValuesSeen:
        """What `as_json` gave."""
        seen = cls()
        if stored is not None:
            seen._beyond, seen._total = np.array(stored["beyond"], np.int64), int(stored["total"])
            if stored["extent"] is not None:
                seen._smallest, seen._largest = (float(value) for value in stored["extent"])
        return seen

    @property
    def clipped_share(self) -> tuple[float, ...]:
        """From 0 to 1, for each channel; a single share, of pixels of no category, where the source are categories.

        Empty before anything was read.
        """
        if self._beyond is None:
            return ()
        return tuple(float(n) for n in self._beyond / max(1, int(self._total)))

    @property
    def extent(self) -> tuple[float, float]:
        """The smallest and the largest valid value, of all channels; infinite and turned round before there was one."""
        return self._smallest, self._largest


def _beyond(values: AnyArray, low: float, high: float) -> int:
    """How many of `values` lie below `low` or above `high`."""
    if values.dtype.kind == "b":
        return 0
    if values.dtype.itemsize == 8 and max(abs(low), abs(high)) > _LARGEST_EXACT:
        values = values.astype(np.float64)  # ends that were numbers of the image are rounded as these are
    if values.dtype.kind == "f":
        return int(np.count_nonzero(values < low)) + int(np.count_nonzero(values > high))
    limits = np.iinfo(values.dtype)  # integers are compared with integers, for speed and because floats are not exact
    smallest, largest = ceil(low), floor(high)
    count = 0
    if smallest > limits.min:
        count += values.size if smallest > limits.max else int(np.count_nonzero(values < smallest))
    if largest < limits.max:
        count += values.size if largest < limits.min else int(np.count_nonzero(values > largest))
    return count


def _of_no_category(values: AnyArray, mapping: CategoryMapping) -> int:
    known = np.zeros(values.shape[1:], bool)
    for category in mapping.values:
        known |= np.logical_and.reduce([channel == value for channel, value in zip(values, category, strict=True)])
    return int(known.size - np.count_nonzero(known))


def ends_in_words(mapping: LinearMapping, channel: int) -> str:
    return f"{mapping.low[channel]:.6g} to {mapping.high[channel]:.6g}"
