"""What the axes of a layer mean: channels, time, depth, rows and columns. Imports neither napari nor Qt.

A layer is whatever has the attributes of `ImageLayer`, so all of this is tested without a viewer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Protocol

from napari_pix2pix.formats.units import in_seconds, standard_unit
from pix2pix_training.errors import ImageError

Extent = tuple[tuple[int, int], ...]
"""First and one-past-last index along each axis of an image, channels left out; Y and X are the last two."""

_CHANNEL_LABELS = ("c", "ch", "channel", "channels")
_LETTERS_OF_LABELS = {"time": "T", "frame": "T", "frames": "T", "depth": "Z", "plane": "Z", "slice": "Z"}
NO_LABEL = re.compile(r"(axis )?-?\d*")
"""How napari labels an axis that nobody has."""
_OTHER_LETTERS = "ABDEFGHIJKLMNOP"


class ImageLayer(Protocol):
    """What is asked of a napari image or labels layer."""

    @property
    def name(self) -> str: ...

    @property
    def data(self) -> Any: ...

    @property
    def multiscale(self) -> bool: ...

    @property
    def ndim(self) -> int: ...

    @property
    def axis_labels(self) -> tuple[str, ...]: ...

    @property
    def units(self) -> Sequence[Any]: ...


def level_of(layer: ImageLayer, level: int) -> Any:
    """The array of a layer; of a multiscale layer that of a resolution level, 0 the finest."""
    return layer.data[level] if layer.multiscale else layer.data


def finest_level(layer: ImageLayer) -> Any:
    """The array of a layer; of a multiscale layer the one of full resolution."""
    return level_of(layer, 0)


def move_to_front(axis: str) -> str:
    """The advice for a layer whose channels are not before its rows and columns."""
    return f"move {axis} to the front, for example by np.moveaxis(layer.data, -1, 0), and add that as a layer"


def is_rgb(layer: ImageLayer) -> bool:
    return bool(getattr(layer, "rgb", False))


def is_labels(layer: ImageLayer) -> bool:
    """Whether the pixels of a layer are categories."""
    return getattr(layer, "_type_string", "") == "labels"


def labelled_channel_axis(layer: ImageLayer) -> int | None:
    """The axis that is labelled as channels, or None."""
    labelled = [i for i, label in enumerate(layer.axis_labels[:-2]) if label.lower() in _CHANNEL_LABELS]
    return labelled[0] if labelled else None


def axis_letters(layer: ImageLayer, channel_axis: int | None = None) -> str:
    """One letter per axis of the layer's array: "ZYX", "TCYX", "YXC" for RGB; A, B, ... for axes of another meaning.

    Of axes that nobody has labelled, one that is measured in seconds is T; else the last is Z and the one before it T,
    which is their order nearly everywhere.
    """
    if layer.ndim < 2:
        raise ImageError(f"{layer.name}: has one axis only; choose an image")
    if is_rgb(layer):
        return _leading_letters(layer, None) + "YXC"
    if beside := [label for label in layer.axis_labels[-2:] if label.lower() in _CHANNEL_LABELS]:
        raise ImageError(
            f"{layer.name}: axis {beside[0]} lies among rows and columns, which are the last two; "
            f"{move_to_front(f'axis {beside[0]}')}"
        )
    if channel_axis is not None and not 0 <= channel_axis < layer.ndim - 2:
        raise ImageError(f"{layer.name}: axis {channel_axis} cannot hold the channels of a layer of {layer.ndim} axes")
    return _leading_letters(layer, channel_axis) + "YX"


def _leading_letters(layer: ImageLayer, channel_axis: int | None) -> str:
    letters = ["C" if axis == channel_axis else "" for axis in range(layer.ndim - 2)]
    unlabelled = []
    for axis, label in enumerate(layer.axis_labels[:-2]):
        letter = _LETTERS_OF_LABELS.get(label.lower(), label.upper())
        if letters[axis]:
            continue
        if NO_LABEL.fullmatch(label):
            unlabelled.append(axis)
        elif len(letter) == 1 and letter.isalpha() and letter.isascii() and letter not in ("C", "Y", "X", *letters):
            letters[axis] = letter
    for axis in reversed(unlabelled):
        wanted = ("T",) if is_time(layer.units[axis]) else ("Z", "T")
        letters[axis] = next((letter for letter in wanted if letter not in letters), "")
    spare = iter(_OTHER_LETTERS)
    return "".join(letter or next(s for s in spare if s not in letters) for letter in letters)


def is_time(unit: Any) -> bool:
    """Whether a layer's unit is one of time."""
    return in_seconds(1, standard_unit(str(unit)) or "") is not None


def spatial_axes(layer: ImageLayer, channel_axis: int | None) -> list[int]:
    """The axes of a layer that its translation keeps: all but `channel_axis`."""
    return [axis for axis in range(layer.ndim) if is_rgb(layer) or axis != channel_axis]


def full_extent(layer: ImageLayer, channel_axis: int | None) -> Extent:
    shape = finest_level(layer).shape
    return tuple((0, int(shape[axis])) for axis in spatial_axes(layer, channel_axis))
