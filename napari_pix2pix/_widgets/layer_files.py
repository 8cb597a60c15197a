"""Image files as layers that lie where the file says, in its units, with all that it says in their metadata; and back.

napari's own reader keeps neither scale nor place of a GeoTIFF, and opens neither OME-Zarr as what it is nor slides.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Layer
from napari.utils.notifications import show_warning

from napari_pix2pix._widgets.form_words import in_form_words
from napari_pix2pix._widgets.layer_axes import is_labels
from napari_pix2pix._widgets.layer_facts import FACTS_KEY, facts_of, image_metadata, likely_channel_axis
from napari_pix2pix._widgets.layer_sources import source_of
from napari_pix2pix._widgets.lazy_result import StoredImage
from napari_pix2pix._widgets.result_jobs import save_image
from napari_pix2pix.formats.ome_zarr_metadata import axis_scale
from napari_pix2pix.formats.slide import SlideSource
from napari_pix2pix.formats.source import ImageSource, is_zarr, open_image
from napari_pix2pix.formats.writing import OutputSpec
from pix2pix_training.array_source import AnyArray
from pix2pix_training.errors import ImageError
from pix2pix_training.regions import Region
from pix2pix_training.remarks import remarks

LayerData = tuple[Any, dict[str, Any], str]
Reader = Callable[[str | list[str]], list[LayerData]]


def image_reader(path: str | list[str]) -> Reader | None:
    """A reader for one image file; None for several paths, and for folders that are no OME-Zarr."""
    if not isinstance(path, str) or (Path(path).is_dir() and not is_zarr(Path(path))):
        return None
    return _read


def _read(path: str | list[str]) -> list[LayerData]:
    assert isinstance(path, str)
    return layers_of_file(Path(path))


def layers_of_file(path: Path) -> list[LayerData]:
    """The image in a file as a layer of colours, of labels, or one for each channel.

    Raises
    ------
    ImageError
        The file cannot be read.
    """
    image = open_image(path, 0, "keep")  # stays open as long as its layers
    names = image.channel_names
    is_colour = image.metadata.rgb and image.shape[-3] in (3, 4)
    common = _place(image) | {"metadata": {FACTS_KEY: facts_of(image)}}
    if is_colour:
        return [(*_pixels(path, image, None), {**common, "name": path.stem, "rgb": True}, "image")]
    kind = "labels" if image.palette is not None and image.dtype.kind in "iu" else "image"
    count = image.shape[-3]
    layers: list[LayerData] = []
    for channel in range(count):
        name = names[channel] if names else f"{path.stem} [{channel}]" if count > 1 else path.stem
        look = {"blending": "additive" if channel else "translucent"} if count > 1 else {}
        (data,) = _pixels(path, image, channel)
        layers.append((data, {**common, **look, "name": name}, kind))
    return layers


def add_file(viewer: Any, path: Path) -> None:
    """Show the image in a file; raises `ImageError` where it cannot be read."""
    for data, look, kind in layers_of_file(path):
        getattr(viewer, f"add_{kind}")(data, multiscale=isinstance(data, list), **look)


def _pixels(path: Path, image: ImageSource, channel: int | None) -> tuple[Any]:
    """One channel, or all as colours; where the file has coarser levels, these follow the finest."""
    if is_zarr(path):
        try:
            stored = StoredImage(path, image.axes)
            if len(stored.levels) > 1 and stored.shape == image.shape:
                return (stored.colours() if channel is None else stored.channel(channel),)
        except (ImageError, KeyError, ValueError):
            pass
    if isinstance(image, SlideSource) and len(image.downsampling) > 1:
        return ([FileArray(image, channel, level) for level in range(len(image.downsampling))],)
    return (FileArray(image, channel),)


def _place(image: ImageSource) -> dict[str, Any]:
    """Scale, place, units and labels of the axes, as arguments for a layer."""
    scales = [axis_scale(image.metadata, letter) for letter in image.axes.replace("C", "")]
    return {
        "scale": [scale.step for scale in scales],
        "translate": [scale.origin for scale in scales],
        "units": [scale.unit or "pixel" for scale in scales],
        "axis_labels": [scale.name for scale in scales],
    }


class FileArray:
    """One channel of an image file, or its colours as the last axis, read where it is looked at.

    Parameters
    ----------
    channel : the one that is taken; None for colours.
    level : of a slide, 0 the finest.
    """

    def __init__(self, image: ImageSource, channel: int | None, level: int = 0) -> None:
        self._image, self._channel, self._level = image, channel, level
        size = image.level_size(level) if isinstance(image, SlideSource) else image.shape[-2:]
        colours = () if channel is not None else (image.shape[-3],)
        self.shape: tuple[int, ...] = (*image.shape[:-3], *size, *colours)
        self.dtype = np.dtype(image.dtype)
        self.ndim = len(self.shape)
        self.size = prod(self.shape)

    def __getitem__(self, key: Any) -> AnyArray:
        keys = key if isinstance(key, tuple) else (key,)
        if Ellipsis in keys:
            before = keys.index(Ellipsis)
            keys = (*keys[:before], *[slice(None)] * (self.ndim + 1 - len(keys)), *keys[before + 1 :])
        keys = (*keys, *[slice(None)] * (self.ndim - len(keys)))
        chosen = [_indices(own, size) for own, size in zip(keys, self.shape, strict=True)]
        leading = len(self._image.shape) - 3
        rows, columns = chosen[leading], chosen[leading + 1]
        region = Region(*_span(rows), *_span(columns))
        inside = np.ix_([row - region.y0 for row in rows], [column - region.x0 for column in columns])
        planes = [self._plane(plane, region)[inside] for plane in product(*chosen[:leading])]
        found = np.stack(planes).reshape(*map(len, chosen[:leading]), *planes[0].shape)
        extra = chosen[leading + 2 :]
        found = found[..., extra[0]] if extra else found
        return found[tuple(0 if isinstance(own, int | np.integer) else slice(None) for own in keys)]

    def _plane(self, plane: tuple[int, ...], region: Region) -> AnyArray:
        image = self._image
        slide = image if isinstance(image, SlideSource) else None
        pixels = image.read(region, plane) if slide is None else slide.read_level(self._level, region)
        return np.moveaxis(pixels, 0, -1) if self._channel is None else pixels[self._channel]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> AnyArray:
        return np.array(self[...], dtype=dtype)


def _span(indices: list[int]) -> tuple[int, int]:
    return (min(indices), max(indices) + 1) if indices else (0, 0)


def _indices(key: Any, size: int) -> list[int]:
    if isinstance(key, slice):
        return list(range(*key.indices(size)))
    return [int(key) % size] if np.ndim(key) == 0 else [int(index) % size for index in key]


def write_image_layer(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write an image layer; a message tells what the file cannot say of it.

    Raises
    ------
    Pix2PixError
        The layer is no image that the format can hold, or the file cannot be written.
    """
    return _write(path, Layer.create(data, attributes, "image"))


def write_labels_layer(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """As `write_image_layer`, for labels."""
    return _write(path, Layer.create(data, attributes, "labels"))


def _write(path: str, layer: Any) -> list[str]:
    axis = likely_channel_axis(layer)
    image = source_of([layer], channel_axis=axis)
    spec = OutputSpec(
        axes=image.axes,
        shape=image.shape,
        dtype=image.dtype,
        metadata=image_metadata(layer, axis),
        nodata=image.nodata,
        categories=is_labels(layer),
    )
    with remarks(lambda line: show_warning(in_form_words(line))):
        save_image(Path(path), spec, image)
    return [path]
