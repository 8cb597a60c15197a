"""Where and how results are shown: the place of the source layer, colours by what the channels are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from napari.layers import Image
from napari.utils import DirectLabelColormap
from napari.utils.transforms import Affine

from napari_pix2pix._widgets.layer_sources import ImageLayer, is_rgb, spatial_axes
from napari_pix2pix._widgets.lazy_result import StoredImage
from napari_pix2pix._widgets.translation_job import Translated
from napari_pix2pix.formats.metadata import ImageMetadata
from napari_pix2pix.formats.units import standard_unit
from pix2pix_training.array_source import AnyArray

METADATA_KEY = "napari-pix2pix"
_COLORMAPS = ("cyan", "magenta", "yellow", "green", "red", "blue")

LayerData = tuple[Any, dict[str, Any], str]


def placement(
    layer: Any,
    *,
    channel_axis: int | None = None,
    origin: Sequence[float] | None = None,
    factors: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Where `layer` lies, as arguments for a new layer: scale, translate, rotate, shear, affine, units, axis_labels.

    Parameters
    ----------
    channel_axis : axis that the new layer lacks.
    origin : centre of the new layer's first pixel along its axes, in pixels of `layer`; default the first of those.
    factors : size of the new layer's pixels along its axes, in those of `layer`; default 1.
    """
    kept = spatial_axes(layer, channel_axis)
    own = Affine(scale=layer.scale, translate=layer.translate, rotate=layer.rotate, shear=layer.shear, ndim=layer.ndim)
    result = {
        "scale": layer.scale,
        "translate": layer.translate,
        "rotate": layer.rotate,
        "shear": layer.shear,
        "affine": np.asarray(layer.affine.affine_matrix),
        "units": tuple(layer.units[axis] for axis in kept),
        "axis_labels": tuple(layer.axis_labels[axis] for axis in kept),
    }
    if len(kept) < layer.ndim:
        own = own.set_slice(kept)
        affine = layer.affine.set_slice(kept)
        result |= {"scale": own.scale, "translate": own.translate, "rotate": own.rotate, "shear": own.shear}
        result["affine"] = np.asarray(affine.affine_matrix)
    if origin is not None:
        result["translate"] = np.asarray(result["translate"]) + own.linear_matrix @ np.asarray(origin, float)
    if factors is not None:
        result["scale"] = np.asarray(result["scale"]) * np.asarray(factors, float)
    return result


def pixel_size(layer: Any) -> tuple[float | None, str | None]:
    """Width of a pixel and its unit; None where the layer counts in pixels."""
    unit = standard_unit(str(layer.units[-1]))
    return (None, None) if unit is None else (abs(float(layer.scale[-1])), unit)


def image_metadata(layer: Any) -> ImageMetadata:
    """What a file says about `layer` and what has its place: pixel size, and whether it is in colours."""
    width, unit = pixel_size(layer)
    z = [axis for axis, label in enumerate(layer.axis_labels[:-2]) if label.lower() == "z"]
    return ImageMetadata(
        pixel_size=None if width is None else (abs(float(layer.scale[-2])), width),
        z_spacing=None if width is None or not z else abs(float(layer.scale[z[0]])),
        unit=unit,
        rgb=is_rgb(layer),
        file_format="napari",
    )


def shown_in_colours(result: Translated, layer: Any) -> bool:
    """Whether the three channels of a result are red, green and blue."""
    if result.pixels.shape[-3] != 3 or result.pixels.dtype != np.uint8:
        return False
    names = [name.lower()[:1] for name in result.channel_names]
    return names == ["r", "g", "b"] or (not names and (is_rgb(layer) or result.limits is not None))


def output_layers(result: Translated, layer: ImageLayer, place: Mapping[str, Any], model_name: str) -> list[LayerData]:
    """The layers that show a result: one in colours, one of labels, or one per channel.

    Parameters
    ----------
    layer : the source, which lends its metadata and the way colours are shown.
    place : see `placement`.
    """
    common = {
        **place,
        "metadata": {**getattr(layer, "metadata", {}), METADATA_KEY: dict(result.provenance)},
    }
    pixels, base = result.pixels, f"{layer.name} → {model_name}"
    if shown_in_colours(result, layer):
        return [_layer_data(pixels, None, {**common, "name": base, "rgb": True}, "image")]
    channels = pixels.shape[-3]
    if result.is_categories and channels == 1 and (pixels.dtype.kind in "iu" or not isinstance(pixels, StoredImage)):
        return [_layer_data(pixels, 0, {**common, **_label_colors(result), "name": base}, "labels")]
    names = result.channel_names or tuple(f"channel {i}" for i in range(channels))
    return [
        _layer_data(
            pixels,
            number,
            {
                **common,
                **_appearance(result, number, channels, layer),
                "name": base if channels == 1 else f"{base}: {name}",
            },
            "image",
        )
        for number, name in enumerate(names)
    ]


def _layer_data(pixels: AnyArray | StoredImage, channel: int | None, look: dict[str, Any], kind: str) -> LayerData:
    """A layer of one channel, or of all as colours where it is None."""
    if isinstance(pixels, StoredImage):
        levels = pixels.colours() if channel is None else pixels.channel(channel)
        return levels, {**look, "multiscale": True}, kind
    data = np.moveaxis(pixels, -3, -1) if channel is None else pixels[..., channel, :, :]
    return data.astype(np.uint8) if kind == "labels" and data.dtype.kind == "b" else data, look, kind


def _label_colors(result: Translated) -> dict[str, Any]:
    if not result.colors:
        return {}
    colors: dict[Any, Any] = {None: np.zeros(4, np.float32), **result.colors}
    return {"colormap": DirectLabelColormap(color_dict=colors)}


def _appearance(result: Translated, number: int, channels: int, layer: ImageLayer) -> dict[str, Any]:
    """A single channel looks as the source does, several are laid over each other."""
    look: dict[str, Any] = {"colormap": layer.colormap if isinstance(layer, Image) and not is_rgb(layer) else "gray"}
    if channels > 1:
        look = {"colormap": _COLORMAPS[number % len(_COLORMAPS)], "blending": "additive"}
    if result.limits is not None:
        look["contrast_limits"] = result.limits[number]
    return look
