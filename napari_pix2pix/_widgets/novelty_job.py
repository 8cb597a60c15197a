"""Finding what of an image is unlike what a model was trained on, and the layer that shows it."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari.layers import Image
from napari.utils.colormaps import Colormap
from napari.viewer import Viewer

from napari_pix2pix._widgets.layer_facts import RESULT_KEY
from napari_pix2pix._widgets.layer_outputs import result_name
from napari_pix2pix._widgets.layer_places import placement
from napari_pix2pix._widgets.result_layers import Placed, put_above
from napari_pix2pix._widgets.translation_job import LastTranslator, TranslationRequest
from pix2pix_training.cancel import Cancel

if TYPE_CHECKING:
    from napari_pix2pix.translation.novelty_map import Novelty

_SHOWN_P = 0.02
_RED, _CLEAR = (1.0, 0.15, 0.1, 0.6), (1.0, 0.15, 0.1, 0.0)


@dataclass(frozen=True, kw_only=True)
class NoveltySubject:
    """An image that was translated, and where it lies; `channel_axis` is that of its layer.

    `layers` are those of the result.
    """

    request: TranslationRequest
    placed: Placed
    channel_axis: int | None
    layers: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class NoveltyFound:
    """The map of an image, and height and width of its squares in pixels of the image."""

    subject: NoveltySubject
    novelty: Novelty
    side: tuple[float, float]


def novelty_events(subject: NoveltySubject, *, cancel: Cancel) -> Generator[NoveltyFound, None, None]:
    """Find what of an image is unlike the training images.

    Raises
    ------
    InputError
        Image and model do not fit together, or the model cannot tell.
    Interrupted
        `cancel` was set.
    """
    from napari_pix2pix.translation.image_fit import WithMetadata
    from napari_pix2pix.translation.novelty_map import found_novelty
    from pix2pix_training.array_source import plane_size

    request = subject.request
    translator = LastTranslator().get(request)
    with translator.interruptible(cancel):
        image = translator.fit(WithMetadata(request.source, request.metadata))
        novelty = found_novelty(image, translator)
    sizes = zip(plane_size(request.source), plane_size(image), strict=True)
    height, width = (novelty.cell_px * own / seen for own, seen in sizes)
    yield NoveltyFound(subject=subject, novelty=novelty, side=(height, width))


def add_novelty_layer(viewer: Viewer, found: NoveltyFound) -> Image:
    """A layer of p-values over the image, red where it is unlike the training images and clear elsewhere."""
    p_values, placed = found.novelty.p_values, found.subject.placed
    first = [0.0] * p_values.ndim if placed.extent is None else [float(start) for start, _ in placed.extent]
    origin = [*first[:-2], *(start + (side - 1) / 2 for start, side in zip(first[-2:], found.side, strict=True))]
    factors = [1.0] * (p_values.ndim - 2) + list(found.side)
    place: Mapping[str, Any] = placement(
        placed.layer, channel_axis=found.subject.channel_axis, origin=origin, factors=factors
    )
    request = found.subject.request
    layer = viewer.add_image(
        p_values,
        name=f"{result_name(request.source.name, request.model.parent.name)}: p-value of novelty",
        colormap=Colormap([_RED, _CLEAR], name="novelty"),
        contrast_limits=(0.0, _SHOWN_P),
        blending="translucent",
        metadata={RESULT_KEY: {"model": str(request.model), "source": request.source.name}},
        **place,
    )
    put_above(viewer, layer, found.subject.layers)
    return layer
