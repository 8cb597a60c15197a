"""Layers as the images that training and translation read: lazily, region by region. Imports neither napari nor Qt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pix2pix._widgets.layer_axes import Extent, ImageLayer, axis_letters, is_rgb, level_of
from napari_pix2pix._widgets.layer_facts import FileMask, mask_of, nodata_of
from napari_pix2pix.formats.opacity import to_opacity
from pix2pix_training.array_source import (
    AnyArray,
    ArraySource,
    Opacity,
    StackedChannels,
    is_array_in_memory,
)
from pix2pix_training.cancel import Interrupted
from pix2pix_training.errors import ImageError, Pix2PixError
from pix2pix_training.regions import Region

_COLOURS = 3


class LazyArraySource:
    """An array, or anything sliced like one (dask, zarr, xarray), as an `ArraySource`.

    Parameters
    ----------
    axes : one letter per axis of `array`; Y and X in this order, C anywhere or not at all, others before them.
    extent : part to take along each axis but C; default all.
    channels : channels to take where there is an axis C; default all.
    nodata : value that marks invalid pixels.
    alpha : index along C of what says how opaque pixels are; None where nothing in the array does.
    mask : what says it beside the array.
    """

    palette: NDArray[np.uint8] | None = None
    channel_names: tuple[str, ...] = ()

    def __init__(
        self,
        array: Any,
        *,
        name: str,
        axes: str,
        extent: Extent | None = None,
        channels: slice = slice(None),
        nodata: float | None = None,
        alpha: int | None = None,
        mask: FileMask | None = None,
    ) -> None:
        dtype = np.dtype(array.dtype)
        if dtype.kind not in "biuf":
            raise ImageError(
                f"{name}: pixels of type {dtype.name} are not supported; convert the layer to real numbers"
            )
        sizes = dict(zip(axes, array.shape, strict=True))
        self._array = array
        self.in_memory = is_array_in_memory(array)
        self._array_axes = axes
        self._channels = channels
        self._alpha = alpha
        self._mask = mask
        self.masked = alpha is not None or mask is not None
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
        return self._read(self._channels, region, plane)

    def read_with_opacity(self, region: Region, plane: tuple[int, ...] = ()) -> tuple[AnyArray, Opacity | None]:
        if self._alpha is not None:
            samples = self._read(slice(None), region, plane)
            return samples[self._channels], to_opacity(samples[self._alpha])
        return self.read(region, plane), None if self._mask is None else self._mask.read(self._in_array(region))

    def _read(self, channels: slice, region: Region, plane: tuple[int, ...]) -> AnyArray:
        rows, columns = self._in_array(region).slices
        position = dict(zip(self.axes[:-3], plane, strict=True))
        index = {axis: self._extent[axis][0] + position for axis, position in position.items()}
        by_axis: dict[str, int | slice] = {**index, "C": channels, "Y": rows, "X": columns}
        kept = [axis for axis in self._array_axes if axis in "CYX"]
        pixels = self._computed(tuple(by_axis[axis] for axis in self._array_axes))
        return pixels[None] if "C" not in kept else np.moveaxis(pixels, kept.index("C"), 0)

    def _computed(self, key: tuple[int | slice, ...]) -> AnyArray:
        """A part of the array, which may be read or computed only now, and fails in whatever way its maker chose."""
        try:
            return np.array(self._array[key])
        except (Pix2PixError, Interrupted, MemoryError):
            raise
        except Exception as error:
            words = " ".join(str(error).split()) or type(error).__name__
            raise ImageError(f"{self.name}: its pixels cannot be read ({words}); look at the layer's source") from error

    def _in_array(self, region: Region) -> Region:
        (top, bottom), (left, right) = self._extent["Y"], self._extent["X"]
        return region.placed_in(Region(top, bottom, left, right))


def source_of(
    layers: Sequence[ImageLayer], *, channel_axis: int | None = None, extent: Extent | None = None, level: int = 0
) -> ArraySource:
    """One image from one layer, or from several that are its channels, in the order given.

    Parameters
    ----------
    channel_axis : axis of the layers' data that holds channels; None where none does. Of RGB layers the colours are the
        channels, and alpha says where there is data; with that of the colours, alpha is a channel like them.
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
        array = level_of(layer, level)
        has_alpha = is_rgb(layer) and array.shape[-1] > _COLOURS and channel_axis != layer.ndim
        sources.append(
            LazyArraySource(
                array,
                name=layer.name,
                axes=letters,
                extent=extent,
                channels=slice(0, _COLOURS) if has_alpha else slice(None),
                nodata=nodata_of(layer),
                alpha=_COLOURS if has_alpha else None,
                mask=mask_of(layer) if level == 0 and not has_alpha else None,
            )
        )
    return sources[0] if len(sources) == 1 else StackedChannels(sources)


def size_in_words(source: ArraySource) -> str:
    """ "1024 x 1024 pixels, 2 channels, uint16"; of a stack with its planes, "5 x 40 planes (T, Z) of ..."."""
    *leading, channels, height, width = source.shape
    names = ", ".join(source.axes[:-3])
    planes = "" if not leading else f"{' x '.join(map(str, leading))} planes ({names}) of "
    return f"{planes}{height} x {width} pixels, {channels} channel{'s' if channels > 1 else ''}, {source.dtype.name}"


def pixel_size_in_words(pixel_size: tuple[float, float] | None, unit: str | None) -> str:
    """ "0.325 µm"; both sides where they differ."""
    if pixel_size is None:
        return "not recorded"
    y, x = (f"{length:.4g}" for length in pixel_size)
    return f"{x if x == y else f'{y} x {x}'} {unit or 'units'}"


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
