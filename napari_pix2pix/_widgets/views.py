"""What of a layer is on the screen, and at which resolution. Imports neither napari nor Qt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log2
from typing import Any

import numpy as np

from napari_pix2pix._widgets.layer_axes import Extent, ImageLayer, finest_level, level_of, spatial_axes
from napari_pix2pix._widgets.layer_sources import source_of
from napari_pix2pix.formats.pyramid import halved
from pix2pix_training.array_source import AnyArray, ArraySource, MemorySource, Opacity, plane_indices, plane_size
from pix2pix_training.errors import ImageError
from pix2pix_training.regions import Region

_STRIP_PIXELS = 2**24


@dataclass(frozen=True, kw_only=True)
class Screen:
    """What napari knows of a layer on the screen.

    Attributes
    ----------
    corners : first and last visible index per axis, in pixels of `level`.
    level : resolution level that is shown, 0 the finest.
    downsampling : of that level, per axis.
    point : position of the shown plane along each axis, in pixels of full resolution.
    pixels_per_screen_pixel : of `level`, along Y or X.
    """

    corners: tuple[tuple[int, ...], tuple[int, ...]]
    level: int
    downsampling: tuple[float, ...]
    point: tuple[float, ...]
    pixels_per_screen_pixel: float = 1.0


@dataclass(frozen=True, kw_only=True)
class View:
    """A rectangle of a layer as the screen shows it.

    Attributes
    ----------
    extent : the part along each axis but that of channels, in pixels of `level`.
    step : pixels of `level`, along Y and X each, that are one pixel of the view; a power of two.
    origin : centre of the first pixel of the view along these axes, in pixels of full resolution.
    factors : size of a pixel of the view along these axes, in those of full resolution.
    """

    level: int
    extent: Extent
    step: int
    origin: tuple[float, ...]
    factors: tuple[float, ...]


def view_of(layer: ImageLayer, screen: Screen, channel_axis: int | None) -> View:
    """The part of a layer that is on the screen, at the resolution of the screen.

    Raises
    ------
    ImageError
        No pixel of the layer is on the screen.
    """
    shape = level_of(layer, screen.level).shape
    axes = spatial_axes(layer, channel_axis)
    extent = []
    for axis in axes:
        if axis < layer.ndim - 2:
            extent.append(plane_at(screen.point[axis] / screen.downsampling[axis], int(shape[axis])))
        else:
            first, last = screen.corners[0][axis], screen.corners[1][axis]
            extent.append(_visible(layer, first, last + 1, int(shape[axis])))
    step = 2 ** round(log2(max(screen.pixels_per_screen_pixel, 1.0)))
    steps = [1] * (len(axes) - 2) + [step, step]
    sizes = [screen.downsampling[axis] for axis in axes]
    starts = [first + (step - 1) / 2 for (first, _), step in zip(extent, steps, strict=True)]
    return View(
        level=screen.level,
        extent=tuple(extent),
        step=step,
        origin=tuple(start * size for start, size in zip(starts, sizes, strict=True)),
        factors=tuple(step * size for step, size in zip(steps, sizes, strict=True)),
    )


def view_extent(layer: ImageLayer, screen: Screen, channel_axis: int | None) -> Extent:
    """The part of a layer that is on the screen, in pixels of full resolution; raises `ImageError` where none is."""
    shape = finest_level(layer).shape
    result = []
    for axis in spatial_axes(layer, channel_axis):
        size = int(shape[axis])
        if axis < layer.ndim - 2:
            result.append(plane_at(screen.point[axis], size))
            continue
        first = floor(screen.corners[0][axis] * screen.downsampling[axis])
        stop = ceil((screen.corners[1][axis] + 1) * screen.downsampling[axis])
        result.append(_visible(layer, first, stop, size))
    return tuple(result)


def plane_at(position: float, size: int) -> tuple[int, int]:
    """The plane nearest to a position along an axis, as an extent."""
    index = min(max(round(position), 0), size - 1)
    return index, index + 1


def _visible(layer: ImageLayer, first: int, stop: int, size: int) -> tuple[int, int]:
    first, stop = max(0, first), min(size, stop)
    if first >= stop:
        raise ImageError(f"{layer.name}: nothing of it is on the screen; move the view, or take the whole layer")
    return first, stop


def shown_source(
    layers: Sequence[ImageLayer], channel_axis: int | None, view: View, *, average: bool = True
) -> ArraySource:
    """The pixels of a view as an image; nothing is read yet.

    Parameters
    ----------
    average : a pixel of the view is the mean of those it stands for, rather than the first of them.
    """
    source = source_of(layers, channel_axis=channel_axis, extent=view.extent, level=view.level)
    return source if view.step == 1 else ReducedSource(source, view.step, average=average)


class ReducedSource:
    """An image at a fraction of its resolution, computed strip by strip when it is first read.

    Parameters
    ----------
    step : pixels along Y and X that become one; a power of two.
    """

    palette: None = None
    channel_names: tuple[str, ...] = ()

    def __init__(self, base: ArraySource, step: int, *, average: bool = True) -> None:
        self._base, self._step, self._average = base, step, average
        self._pixels: MemorySource | None = None
        height, width = plane_size(base)
        self.name, self.axes, self.dtype = base.name, base.axes, base.dtype
        self.nodata, self.masked = base.nodata, base.masked
        self.shape = (*base.shape[:-2], -(-height // step), -(-width // step))

    def read(self, region: Region, plane: tuple[int, ...] = ()) -> AnyArray:
        return self.read_with_opacity(region, plane)[0]

    def read_with_opacity(self, region: Region, plane: tuple[int, ...] = ()) -> tuple[AnyArray, Opacity | None]:
        if self._pixels is None:
            pixels: AnyArray = np.empty(self.shape, self.dtype)
            opacity = np.empty((*self.shape[:-3], *self.shape[-2:]), np.uint8) if self.masked else None
            for index in plane_indices(self._base):
                self._fill(pixels[index], None if opacity is None else opacity[index], index)
            self._pixels = MemorySource(pixels, axes=self.axes, nodata=self.nodata, opacity=opacity)
        return self._pixels.read_with_opacity(region, plane)

    def _fill(self, pixels: AnyArray, opacity: Opacity | None, plane: tuple[int, ...]) -> None:
        height, width = plane_size(self._base)
        rows = max(1, _STRIP_PIXELS // (width * self._step)) * self._step
        for region in Region.whole(height, width).strips(rows):
            strip, shown = self._base.read_with_opacity(region, plane)
            for _ in range(self._step.bit_length() - 1):
                strip = halved(strip, average=self._average, nodata=self.nodata)
            start = region.y0 // self._step
            pixels[:, start : start + strip.shape[1]] = strip
            if opacity is not None:
                opacity[start : start + strip.shape[1]] = 255 if shown is None else shown[:: self._step, :: self._step]


def screen_of(viewer: Any, layer: Any) -> Screen:
    """Corners, level and resolution of `layer` on the screen.

    Raises
    ------
    ImageError
        What is shown is no plane of the layer's last two axes.
    """
    if viewer.dims.ndisplay != 2 or list(viewer.dims.displayed) != [viewer.dims.ndim - 2, viewer.dims.ndim - 1]:
        raise ImageError(
            "the current view is not a plane of the last two axes; show it in 2-D, or take the whole layer"
        )
    level = layer.data_level if layer.multiscale else 0
    downsampling = layer.downsample_factors[level] if layer.multiscale else np.ones(layer.ndim)
    first, last = np.asarray(layer.corner_pixels).tolist()
    return Screen(
        corners=(tuple(first), tuple(last)),
        level=level,
        downsampling=tuple(map(float, downsampling)),
        point=tuple(map(float, layer.world_to_data(viewer.dims.point))),
        pixels_per_screen_pixel=1 / (_screen_pixels_per_unit(viewer) * _pixel_side(layer) * float(downsampling[-1])),
    )


def _screen_pixels_per_unit(viewer: Any) -> float:
    scene = getattr(viewer, "scene", viewer)  # napari before 0.9 has the camera in the viewer itself
    return float(scene.camera.zoom)


def _pixel_side(layer: Any) -> float:
    """Length of a pixel along the last axis, in units of the world."""
    step = np.zeros((2, layer.ndim))
    step[1, -1] = 1
    start, end = (np.asarray(layer.data_to_world(point)) for point in step)
    return float(np.linalg.norm(end - start))
