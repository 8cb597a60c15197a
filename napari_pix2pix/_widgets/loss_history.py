"""Numbers over the steps of a run, and few enough points of them to draw. Imports neither napari nor Qt."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from math import isfinite

import numpy as np
from numpy.typing import NDArray

_MOST_POINTS = 1000

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


class History:
    """Values by name over steps; of long runs, means of neighbouring steps."""

    def __init__(self) -> None:
        self._steps = array("d")  # of which numpy makes an array in no time, also of a million steps
        self._values: dict[str, array[float]] = {}

    def add(self, step: int, values: Mapping[str, float | None]) -> None:
        """Values that are None or not finite leave a gap."""
        self._steps.append(step)
        for name in {**self._values, **values}:
            value = values.get(name)
            column = self._values.setdefault(name, array("d", [np.nan]) * (len(self._steps) - 1))
            column.append(value if value is not None and isfinite(value) else np.nan)

    def curve(self, name: str) -> Curve:
        """Steps and values of one name, at most a thousand points; none where the name never came."""
        steps, values = np.array(self._steps), np.array(self._values.get(name, array("d")))
        if values.size == 0:
            return np.zeros(0), np.zeros(0)
        width = -(-len(steps) // _MOST_POINTS)
        return _means(steps, width), _means(values, width)


def _means(numbers: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    whole = len(numbers) // width * width
    means = [numbers[:whole].reshape(-1, width).mean(1)]
    if whole < len(numbers):
        means.append(numbers[whole:].mean(keepdims=True))
    return np.concatenate(means)
