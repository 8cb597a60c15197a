"""A result in an OME-Zarr as arrays for layers: read where napari looks, also while it fills. No napari, no Qt."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from napari_pix2pix.formats.metadata import time_and_depth
from pix2pix_training.array_source import AnyArray


@dataclass(frozen=True)
class LazyChannel:
    """One channel of an array, or its colours as the last axis; each access reads anew, so that news are seen.

    Parameters
    ----------
    array : anything sliced like an array.
    letters : one per axis of it.
    axes : those of what is presented, in order; "C" last for colours.
    channel : the one that is taken where `axes` has no C.
    """

    array: Any
    letters: str
    axes: str
    channel: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape[self.letters.index(axis)] for axis in self.axes)

    @property
    def ndim(self) -> int:
        return len(self.axes)

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        found: np.dtype[Any] = np.dtype(self.array.dtype)
        return found

    def __getitem__(self, key: Any) -> AnyArray:
        keys = key if isinstance(key, tuple) else (key,)
        if Ellipsis in keys:
            before = keys.index(Ellipsis)
            keys = (*keys[:before], *[slice(None)] * (self.ndim + 1 - len(keys)), *keys[before + 1 :])
        by_axis = dict(zip(self.axes, (*keys, *[slice(None)] * (self.ndim - len(keys))), strict=True))
        if "C" in self.letters:
            by_axis.setdefault("C", self.channel)
        pixels = np.asarray(self.array[tuple(_plain(by_axis[letter]) for letter in self.letters)])
        kept = [letter for letter in self.letters if isinstance(by_axis[letter], slice)]
        wanted = [axis for axis in self.axes if isinstance(by_axis[axis], slice)]
        return pixels.transpose([kept.index(axis) for axis in wanted])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> AnyArray:
        return np.array(self[...], dtype=dtype)


def _plain(index: Any) -> int | slice:
    return index if isinstance(index, slice) else int(index)


class StoredImage:
    """An OME-Zarr that this plugin has written, or is writing.

    Parameters
    ----------
    path : the group, which may be unfinished.
    axes : of the image, ending in "CYX"; those of the arrays are the same in another order, or lack C.
    """

    def __init__(self, path: Path, axes: str) -> None:
        import zarr

        from napari_pix2pix.formats.ome_zarr_metadata import axis_letters, level_paths, multiscales

        image = multiscales(zarr.open_group(path, mode="r").attrs.asdict())[0]
        self.path = path
        self._axes = time_and_depth(axes[:-3]) + "CYX"
        self.levels = [zarr.open_array(path / name, mode="r") for name in level_paths(image)]
        self._letters = axis_letters(image["axes"], self.levels[0].ndim)
        lengths = dict(zip(self._letters, self.levels[0].shape, strict=True))
        self.shape = tuple(lengths.get(axis, 1) for axis in self._axes)
        self.dtype = np.dtype(self.levels[0].dtype)

    def channel(self, number: int) -> list[LazyChannel]:
        """One channel, from fine to coarse; shape (*leading, Y, X) each."""
        return [LazyChannel(level, self._letters, self._axes.replace("C", ""), number) for level in self.levels]

    def colours(self) -> list[LazyChannel]:
        """All channels as colours, from fine to coarse; shape (*leading, Y, X, C) each."""
        return [LazyChannel(level, self._letters, self._axes.replace("C", "") + "C") for level in self.levels]
