"""Layers as the images that training and translation read: lazily, region by region. Imports neither napari nor Qt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pix2pix._widgets.layer_axes import Extent, ImageLayer, axis_letters, is_rgb, level_of
from napari_pix2pix._widgets.layer_facts import nodata_of
from pix2pix_training.array_source import AnyArray, ArraySource, Region, StackedChannels
from pix2pix_training.errors import ImageError

_MAX_COLOURS = 3


class LazyArraySource:
    """An array, or anything sliced like one (dask, zarr, xarray), as an `ArraySource`.

    Parameters
    ----------
    axes : one letter per axis of `array`; Y and X in this order, C anywhere or not at all, others before them.
    extent : part to take along each axis but C; default all.
    channels : channels to take where there is an axis C; default all.
    nodata : value that marks invalid pixels.
    """

    palette: NDArray[np.uint8] | None = None
    channel_names: tuple[str, ...] = ()
    masked = False

    def __init__(
        self,
        array: Any,
        *,
        name: str,
        axes: str,
        extent: Extent | None = None,
        channels: slice = slice(None),
        nodata: float | None = None,
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
        self.nodata = nodata
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
        array = level_of(layer, level)
        sources.append(
            LazyArraySource(
                array, name=layer.name, axes=letters, extent=extent, channels=channels, nodata=nodata_of(layer)
            )
        )
    return sources[0] if len(sources) == 1 else StackedChannels(sources)


def size_in_words(source: ArraySource) -> str:
    """ "1024 x 1024 pixels, 2 channels, uint16"; of a stack with its planes, "5 x 40 planes (T, Z) of ..."."""
    *leading, channels, height, width = source.shape
    names = ", ".join(source.axes[:-3])
    planes = "" if not leading else f"{' x '.join(map(str, leading))} planes ({names}) of "
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
