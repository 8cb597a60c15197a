"""Layers as the images that training and translation read: lazily, region by region. Imports neither napari nor Qt.

A layer is whatever has the attributes of `ImageLayer`, so all of this is tested without a viewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pix2pix_training.array_source import AnyArray, ArraySource, Region, StackedChannels
from pix2pix_training.errors import ImageError

Extent = tuple[tuple[int, int], ...]
"""First and one-past-last index along each axis of an image, channels left out; Y and X are the last two."""

_CHANNEL_LABELS = ("c", "ch", "channel", "channels")
_OTHER_LETTERS = "ABDEFGHIJKLMNOP"
_MAX_COLOURS = 3


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


class LazyArraySource:
    """An array, or anything sliced like one (dask, zarr, xarray), as an `ArraySource`.

    Parameters
    ----------
    axes : one letter per axis of `array`; Y and X in this order, C anywhere or not at all, others before them.
    extent : part to take along each axis but C; default all.
    channels : channels to take where there is an axis C; default all.
    """

    nodata: float | None = None
    palette: NDArray[np.uint8] | None = None
    channel_names: tuple[str, ...] = ()
    masked = False

    def __init__(
        self, array: Any, *, name: str, axes: str, extent: Extent | None = None, channels: slice = slice(None)
    ) -> None:
        dtype = np.dtype(array.dtype)
        if dtype.kind not in "biuf":
            raise ImageError(
                f"{name}: pixels of type {dtype.name} are not supported; convert the layer to real numbers"
            )
        sizes = dict(zip(axes, array.shape, strict=True))
        self._array = array
        self._array_axes = axes
        self._channels = channels
        spatial = axes.replace("C", "")
        self._extent = dict(zip(spatial, extent or tuple((0, sizes[a]) for a in spatial), strict=True))
        self.name = name
        self.axes = spatial[:-2] + "CYX"
        self.dtype = dtype
        self.shape: tuple[int, ...] = tuple(
            len(range(*channels.indices(sizes.get("C", 1)))) if a == "C" else self._extent[a][1] - self._extent[a][0]
            for a in self.axes
        )

    def read(self, region: Region, plane: tuple[int, ...] = ()) -> AnyArray:
        """Pixels of one plane, shape (C, region.height, region.width); only this part of the array is computed."""
        position = dict(zip(self.axes[:-3], plane, strict=True))
        index = tuple(self._index(axis, region, position) for axis in self._array_axes)
        kept = [axis for axis in self._array_axes if axis in "CYX"]
        pixels = np.array(self._array[index])
        return pixels[None] if "C" not in kept else np.moveaxis(pixels, kept.index("C"), 0)

    def read_with_opacity(self, region: Region, plane: tuple[int, ...] = ()) -> tuple[AnyArray, None]:
        return self.read(region, plane), None

    def _index(self, axis: str, region: Region, position: dict[str, int]) -> int | slice:
        if axis == "C":
            return self._channels
        start = self._extent[axis][0]
        if axis == "Y":
            return slice(start + region.y0, start + region.y1)
        if axis == "X":
            return slice(start + region.x0, start + region.x1)
        return start + position[axis]


def source_of(
    layers: Sequence[ImageLayer], *, channel_axis: int | None = None, extent: Extent | None = None, level: int = 0
) -> ArraySource:
    """One image from one layer, or from several that are its channels, in the order given.

    Parameters
    ----------
    channel_axis : axis of the layers' data that holds channels; None where none does. Ignored for RGB layers, whose
        colours are the channels; an alpha channel is left out.
    extent : part of the image, the same for all layers, in pixels of `level`.
    level : resolution level of multiscale layers, 0 the finest; others have no level but that.

    Raises
    ------
    ImageError
        There is no layer, or sizes, axes or pixel types do not allow it.
    """
    if not layers:
        raise ImageError("choose a layer")
    axes = axis_letters(layers[0], channel_axis)
    sources = []
    for layer in layers:
        own = axis_letters(layer, channel_axis)
        letters = axes if len(own) == len(axes) and own[-1] == axes[-1] else own  # layers may name equal axes otherwise
        channels = slice(0, _MAX_COLOURS) if is_rgb(layer) else slice(None)
        sources.append(
            LazyArraySource(level_of(layer, level), name=layer.name, axes=letters, extent=extent, channels=channels)
        )
    return sources[0] if len(sources) == 1 else StackedChannels(sources)


def level_of(layer: ImageLayer, level: int) -> Any:
    """The array of a layer; of a multiscale layer that of a resolution level, 0 the finest."""
    return layer.data[level] if layer.multiscale else layer.data


def finest_level(layer: ImageLayer) -> Any:
    """The array of a layer; of a multiscale layer the one of full resolution."""
    return level_of(layer, 0)


def is_rgb(layer: ImageLayer) -> bool:
    return bool(getattr(layer, "rgb", False))


def is_labels(layer: ImageLayer) -> bool:
    """Whether the pixels of a layer are categories."""
    return getattr(layer, "_type_string", "") == "labels"


def likely_channel_axis(layer: ImageLayer) -> int | None:
    """The axis that is labelled as channels, or None."""
    if is_rgb(layer):
        return None
    labelled = [i for i, label in enumerate(layer.axis_labels[:-2]) if label.lower() in _CHANNEL_LABELS]
    return labelled[0] if labelled else None


def axis_letters(layer: ImageLayer, channel_axis: int | None = None) -> str:
    """One letter per axis of the layer's array: "ZYX", "TCYX", "YXC" for RGB; A, B, ... for axes without a name."""
    if layer.ndim < 2:
        raise ImageError(f"{layer.name}: has one axis only; choose an image")
    if is_rgb(layer):
        return _leading_letters(layer.axis_labels[:-2], None) + "YXC"
    if channel_axis is not None and not 0 <= channel_axis < layer.ndim - 2:
        raise ImageError(f"{layer.name}: axis {channel_axis} cannot hold the channels of a layer of {layer.ndim} axes")
    return _leading_letters(layer.axis_labels[:-2], channel_axis) + "YX"


def _leading_letters(labels: Sequence[str], channel_axis: int | None) -> str:
    spare = iter(_OTHER_LETTERS)
    letters: list[str] = []
    for number, label in enumerate(labels):
        letter = label.upper()
        if number == channel_axis:
            letter = "C"
        elif len(letter) != 1 or not letter.isalpha() or not letter.isascii() or letter in ("C", "Y", "X", *letters):
            letter = next(s for s in spare if s not in letters)
        letters.append(letter)
    return "".join(letters)


def spatial_axes(layer: ImageLayer, channel_axis: int | None) -> list[int]:
    """The axes of a layer that its translation keeps: all but `channel_axis`."""
    return [axis for axis in range(layer.ndim) if is_rgb(layer) or axis != channel_axis]


def full_extent(layer: ImageLayer, channel_axis: int | None) -> Extent:
    shape = finest_level(layer).shape
    return tuple((0, int(shape[axis])) for axis in spatial_axes(layer, channel_axis))


def size_in_words(source: ArraySource) -> str:
    """ "1024 x 1024 pixels, 2 channels, uint16", with the planes of a stack."""
    *leading, channels, height, width = source.shape
    planes = "" if not leading else f"{' x '.join(map(str, leading))} planes of "
    return f"{planes}{height} x {width} pixels, {channels} channel{'s' if channels > 1 else ''}, {source.dtype.name}"


def pair_problem(source: ArraySource, target: ArraySource, patch_size: int) -> str | None:
    """Why two images cannot be trained on, in words; None where they can."""
    height, width = source.shape[-2:]
    if source.shape[-2:] != target.shape[-2:]:
        return (
            f"Source has {height} x {width} pixels, target {target.shape[-2]} x {target.shape[-1]}: "
            "they must be equal and registered."
        )
    if source.shape[:-3] != target.shape[:-3]:
        return f"Source has planes {_planes(source)}, target {_planes(target)}: the stacks must have equal length."
    if min(height, width) < patch_size:
        return f"The images are smaller than a patch of {patch_size} pixels: choose a smaller patch."
    return None


def _planes(source: ArraySource) -> str:
    return " x ".join(map(str, source.shape[:-3])) or "1"
