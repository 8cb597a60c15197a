"""How results are shown: as colours, labels or one layer per channel, by what the channels are."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from napari.layers import Image
from napari.utils import DirectLabelColormap

from napari_pix2pix._widgets.layer_axes import ImageLayer, is_rgb
from napari_pix2pix._widgets.layer_facts import FACTS_KEY, RESULT_KEY, ImageFacts
from napari_pix2pix._widgets.lazy_result import StoredImage
from napari_pix2pix._widgets.translation_job import Translated
from pix2pix_training.array_source import AnyArray

_BEYOND = 0.5
"""How far percentiles of real colours may lie beyond 0 and 1."""
_SEEN_PX = 512
"""Rows and columns of a result that its contrast is found from."""
_COLORMAPS = ("cyan", "magenta", "yellow", "green", "red", "blue")

LayerData = tuple[Any, dict[str, Any], str]


def shown_in_colours(result: Translated, layer: Any) -> bool:
    """Whether the three channels of a result are red, green and blue, in a type that napari shows as such."""
    if result.spec.channels != 3 or result.spec.dtype == np.bool_:
        return False
    names = [name.lower()[:1] for name in result.channel_names]
    if names:
        return names == ["r", "g", "b"] and (is_rgb(layer) or _has_shown_range(result))
    return is_rgb(layer) or (result.limits is not None and _has_shown_range(result))


def _has_shown_range(result: Translated) -> bool:
    """napari takes colours from 0 to 255 in 8 bits, and reals from 0 to 1."""
    if result.spec.dtype.kind != "f":
        return bool(result.spec.dtype == np.uint8)
    ends = [end for limits in result.limits or () for end in limits]
    return bool(ends) and min(ends) > -_BEYOND and max(ends) < 1 + _BEYOND


def result_name(source: str, model_name: str) -> str:
    """What the names of all layers of a result begin with."""
    return f"{source} → {model_name}"


def output_layers(result: Translated, layer: ImageLayer, place: Mapping[str, Any], model_name: str) -> list[LayerData]:
    """The layers that show a result: one in colours, one of labels, or one per channel.

    Colours are transparent where there is no data, as alpha or a mask of the source says.

    Parameters
    ----------
    layer : the source, which lends its metadata and the way colours are shown.
    place : see `placement`.
    """
    common = {**place, "metadata": {**getattr(layer, "metadata", {}), **_kept_facts(result)}}
    pixels, base = result.pixels, result_name(result.provenance["source"], model_name)
    if shown_in_colours(result, layer):
        return [_layer_data(pixels, None, {**common, "name": base, "rgb": True}, "image")]
    channels = result.spec.channels
    if result.spec.categories and channels == 1 and (pixels.dtype.kind in "iu" or not isinstance(pixels, StoredImage)):
        return [_layer_data(pixels, 0, {**common, **_label_colors(result), "name": base}, "labels")]
    names = result.channel_names or (("",) if channels == 1 else tuple(f"channel {i}" for i in range(channels)))
    return [
        _layer_data(
            pixels,
            number,
            {
                **common,
                **_appearance(result, number, channels, layer),
                "name": f"{base}: {name}" if name else base,
            },
            "image",
        )
        for number, name in enumerate(names)
    ]


def _kept_facts(result: Translated) -> dict[str, Any]:
    """How the result was made, and what a file of it would say."""
    spec = result.spec
    facts = ImageFacts(
        metadata=spec.metadata,
        nodata=spec.nodata,
        size=(spec.height, spec.width),
        dtype=spec.dtype.name,
        channels=spec.channels,
        planes=prod(spec.leading_shape),
    )
    return {RESULT_KEY: dict(result.provenance), FACTS_KEY: facts}


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
    """A single channel looks as the source does; several are laid over each other, and the first over what is below."""
    look: dict[str, Any] = {"colormap": layer.colormap if isinstance(layer, Image) and not is_rgb(layer) else "gray"}
    if channels > 1:
        look = {"colormap": _COLORMAPS[number % len(_COLORMAPS)], "blending": "additive" if number else "translucent"}
    if result.limits is not None:
        look["contrast_limits"] = result.limits[number]
    return look


def resembled(look: Mapping[str, Any], pixels: Any, twin: Image | None) -> dict[str, Any]:
    """`look` with colours and contrast of the layer of true targets, else with the contrast of its own values.

    Parameters
    ----------
    pixels : of the layer; of one that is read lazily its levels, from fine to coarse.
    twin : a layer that shows the same thing; None where there is none.
    """
    if twin is not None:
        return {**look, "colormap": twin.colormap, "contrast_limits": tuple(twin.contrast_limits)}
    seen = np.asarray(pixels[-1]) if isinstance(pixels, list) else pixels
    seen = seen[..., :: max(1, seen.shape[-2] // _SEEN_PX), :: max(1, seen.shape[-1] // _SEEN_PX)]
    finite = seen[np.isfinite(seen)]
    low, high = (float(finite.min()), float(np.percentile(finite, 99.9))) if finite.size else (0.0, 0.0)
    return {**look, "contrast_limits": (low, high)} if low < high else dict(look)
