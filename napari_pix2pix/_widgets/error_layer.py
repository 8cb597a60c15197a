"""The error map of a result: a button, the work, and layers whose half-widths the status bar names under the cursor."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from napari.viewer import Viewer

from napari_pix2pix._widgets.layer_outputs import output_layers, resembled
from napari_pix2pix._widgets.result_layers import Placed, put_above
from napari_pix2pix._widgets.translation_job import LastTranslator, Translated, TranslationRequest, translation_events
from napari_pix2pix.translation.progress import TilesDone
from pix2pix_training.array_source import AnyArray
from pix2pix_training.cancel import Cancel

_LOOK = {"colormap": "magma", "blending": "translucent"}


@dataclass(frozen=True, kw_only=True)
class ErrorSubject:
    """What was translated, where it lies, and the layers of the result."""

    request: TranslationRequest
    placed: Placed
    layers: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class ErrorMapFound:
    """The half-widths of a result, as a result of their own."""

    subject: ErrorSubject
    result: Translated


class _ErrorMaker(LastTranslator):
    """Of a request, what makes the error map in place of the result."""

    def get(self, request: TranslationRequest) -> Any:
        from napari_pix2pix.translation.error_maker import error_settings
        from napari_pix2pix.translation.settings import TranslationSettings
        from napari_pix2pix.translation.translator import Translator
        from pix2pix_training.error_map import error_model
        from pix2pix_training.model_file import load_model

        model = load_model(request.model)
        return Translator(error_model(model), error_settings(model, TranslationSettings(**request.options)))


def error_map_events(subject: ErrorSubject, *, cancel: Cancel) -> Generator[TilesDone | ErrorMapFound, None, None]:
    """Make the error map of a result, in memory; of one that went to a file as a file beside it, NAME-error.

    Raises
    ------
    InputError
        The model has no error map, or it does not hold for these options; or the file is there already.
    Pix2PixError
        Memory ran out.
    Interrupted
        `cancel` was set.
    """
    from napari_pix2pix.formats.writing import map_path

    out = subject.request.out
    request = replace(subject.request, out=None if out is None else Path(map_path(out, "error")))
    for event in translation_events(request, _ErrorMaker(), cancel=cancel):
        if isinstance(event, TilesDone):
            yield event
        elif event.is_complete:
            yield ErrorMapFound(subject=subject, result=event)


def add_error_layers(viewer: Viewer, found: ErrorMapFound) -> list[Any]:
    """Layers of half-widths over those of the result; while they are there, both name the interval under the cursor."""
    placed, result = found.subject.placed, found.result
    model = Path(result.provenance["model"]).parent.name
    layers = []
    for data, attributes, _ in output_layers(result, placed.layer, placed.place, model):
        look = attributes if attributes.get("rgb") else resembled({**attributes, **_LOOK}, data, None)
        name = attributes["name"].removesuffix(" error")
        layers.append(viewer.add_image(data, **{**look, "name": f"{name}: error map"}))
        put_above(viewer, layers[-1], [*found.subject.layers, *layers[:-1]])
    for own, errors in zip(found.subject.layers, layers, strict=True):
        _name_intervals(viewer, (own, errors), (own, errors))
    return layers


def _name_intervals(viewer: Viewer, told: Sequence[Any], pair: tuple[Any, Any]) -> None:
    """Have the status of the layers `told` end in the value of the first of a pair, and that of the second as +-."""

    def extended(plain: Any) -> Any:
        def get_status(position: Any = None, **options: Any) -> dict[str, str]:
            status: dict[str, str] = plain(position, **options)
            if position is None or any(layer not in viewer.layers for layer in pair):
                return status
            value, half_width = (_value_at(layer, position, world=options.get("world", False)) for layer in pair)
            if value is None or half_width is None:
                return status
            words = f"{value} ± {half_width}"
            return {**status, "value": words, "coordinates": f"{status['coords']}: {words}"}

        return get_status

    for layer in told:
        layer.get_status = extended(layer.get_status)


def _value_at(layer: Any, position: Any, *, world: bool) -> AnyArray | None:
    """Of the pixel, also where the layer is not visible; None beside the image."""
    data = layer.data[0] if layer.multiscale else layer.data
    place = np.asarray(layer.world_to_data(position) if world else position)[-layer.ndim :]
    index = np.round(place).astype(int)
    if any(not 0 <= number < length for number, length in zip(index, data.shape, strict=False)):
        return None
    return np.asarray(data[tuple(index)])
