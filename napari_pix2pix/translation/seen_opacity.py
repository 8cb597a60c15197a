"""Which pixels of a plane hold data, remembered from when they were read, so that they are not read again for it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from pix2pix_training.array_source import Opacity
from pix2pix_training.regions import Region, Span

_MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class _Kept:
    """The opacity of a window, compressed."""

    window: Region
    content: bytes

    def part(self, region: Region) -> Opacity:
        """Shape (h, w), of a region that lies in the window."""
        whole = np.frombuffer(zlib.decompress(self.content), np.uint8).reshape(self.window.size)
        return whole[region.seen_from(self.window).slices].copy()


class SeenOpacity:
    """How opaque the pixels of windows of a plane are; added by one thread and asked for by another.

    Windows come row by row. Those of which all pixels show are kept as spans of columns for each band of rows, the
    opacity of others while it takes little.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._opaque: dict[Span, list[Span]] = {}
        self._others: dict[Span, dict[Span, _Kept]] = {}
        self._left = most_bytes

    def add(self, window: Region, opacity: Opacity | None) -> None:
        """A window that was read, and its opacity (h, w), None where all pixels show."""
        rows, columns = window.rows, window.columns
        if opacity is None:
            self._opaque[rows] = _joined([*self._opaque.get(rows, ()), columns])
        elif columns not in self._others.get(rows, ()):
            kept = _Kept(window, zlib.compress(opacity.tobytes(), level=1))
            if len(kept.content) <= self._left:
                self._left -= len(kept.content)
                self._others[rows] = {**self._others.get(rows, {}), columns: kept}

    def of(self, region: Region) -> Opacity | None:
        """The opacity (h, w) of a region, None where all pixels show; `KeyError` where that is not known."""
        own_rows, own_columns = region.rows, region.columns
        for rows, spans in list(self._opaque.items()):
            if _lies_in(own_rows, rows) and any(_lies_in(own_columns, columns) for columns in spans):
                return None
        for rows, windows in list(self._others.items()):
            holding = [kept for columns, kept in windows.items() if _lies_in(own_columns, columns)]
            if _lies_in(own_rows, rows) and holding:
                return holding[0].part(region)
        raise KeyError(region)


def _lies_in(inner: Span, outer: Span) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def _joined(spans: list[Span]) -> list[Span]:
    """The same columns with touching and overlapping spans joined."""
    result: list[Span] = []
    for start, stop in sorted(spans):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(result[-1][1], stop))
        else:
            result.append((start, stop))
    return result
