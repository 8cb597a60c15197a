"""Layers as image files that keep place, scale, units and names, as far as the format can say them. No Qt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari.layers import Layer
from napari.utils.notifications import show_warning

from napari_pix2pix._widgets.form_words import in_form_words
from napari_pix2pix._widgets.layer_axes import is_labels
from napari_pix2pix._widgets.layer_facts import image_metadata, likely_channel_axis
from napari_pix2pix._widgets.layer_sources import source_of
from napari_pix2pix._widgets.saving_job import save_image
from napari_pix2pix.formats.writing import OutputSpec
from pix2pix_training.remarks import remarks


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
