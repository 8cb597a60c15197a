"""The layers of a translation: added while they fill or when they are complete, and the last result to be saved."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image, Labels
from napari.viewer import Viewer

from napari_pix2pix._widgets.layer_axes import Extent, finest_level, is_rgb
from napari_pix2pix._widgets.layer_facts import file_of, is_result
from napari_pix2pix._widgets.layer_outputs import output_layers, resembled, shown_in_colours
from napari_pix2pix._widgets.translation_job import Translated
from napari_pix2pix.output_paths import result_path

_REFRESH_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Placed:
    """Where a result belongs.

    Attributes
    ----------
    layer : the first source layer, or the only one.
    sources : all source layers.
    place : see `placement`.
    extent : the part of the source that was translated; None for all of it.
    """

    layer: Any
    sources: tuple[Any, ...]
    place: Mapping[str, Any]
    extent: Extent | None


@dataclass(frozen=True, kw_only=True)
class _Last:
    result: Translated
    layers: list[Any]
    proposed: Path
    sources: tuple[Path, ...]


class ResultLayers:
    """Adds results to the viewer, and knows the last complete one while its layers are there."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._filling: list[Any] = []
        self._hidden: list[str] = []
        self._covered: list[tuple[list[Any], list[Any]]] = []  # layers of results, and those hidden to show them
        self._refreshed = 0.0
        self._last: _Last | None = None

    @property
    def last(self) -> Translated | None:
        """The last complete result in memory; None when all of its layers are gone."""
        if self._last is not None and not any(layer in self._viewer.layers for layer in self._last.layers):
            self._last = None
        return None if self._last is None else self._last.result

    @property
    def sources(self) -> tuple[Path, ...]:
        """The files that the last result was made of, where they are known."""
        return () if self._last is None else self._last.sources

    def proposed_path(self, folder: Path) -> Path:
        """Where the last result may be saved: beside the file of its source, else in `folder`."""
        assert self._last is not None  # only with a last result
        proposed = self._last.proposed
        return proposed if proposed.parent.is_dir() and proposed.is_absolute() else folder / proposed.name

    def add(self, result: Translated, placed: Placed) -> tuple[list[Any], list[str]]:
        """Show a result, or that one that is being filled is complete.

        Nothing else but its sources stays visible in its place, least of all the true targets. Given back are the
        layers of the result, and the names of those that are hidden.
        """
        model = Path(result.provenance["model"]).parent.name
        if placed.extent is not None:
            extent = [list(part) for part in placed.extent]
            result = replace(result, provenance={**result.provenance, "extent": extent})
        contents = output_layers(result, placed.layer, placed.place, model)
        filling, self._filling = self._filling, []
        if filling and all(layer in self._viewer.layers for layer in filling):
            for layer, (data, attributes, _) in zip(filling, contents, strict=True):
                layer.data = data
                layer.metadata = attributes["metadata"]
        else:
            twins = self._twins(result)
            covered = covering(self._viewer, placed.layer, placed.sources)
            for layer in covered:
                layer.visible = False
            self._hidden = [layer.name for layer in covered]
            filling = [
                self._added(data, attributes, kind, result, twins.get(name))
                for name, (data, attributes, kind) in zip(_channels(result, contents), contents, strict=True)
            ]
            self._covered.append((filling, covered))
        if not result.is_complete:
            self._filling = filling
        elif isinstance(result.pixels, np.ndarray):
            self._last = _Last(
                result=_as_shown(result, placed.layer),
                layers=filling,
                proposed=_proposed(result, placed.layer, model),
                sources=tuple(filter(None, map(file_of, placed.sources))),
            )
        return filling, self._hidden

    def _twins(self, result: Translated) -> dict[str, Any]:
        """Layers of true targets by the name of their channel, of the type of the result."""
        images = [layer for layer in self._viewer.layers if isinstance(layer, Image) and not is_result(layer)]
        return {layer.name: layer for layer in images if np.dtype(finest_level(layer).dtype) == result.spec.dtype}

    def _added(self, data: Any, attributes: Any, kind: str, result: Translated, twin: Any) -> Any:
        if kind == "image" and result.is_complete and not attributes.get("rgb") and result.limits is not None:
            attributes = resembled(attributes, data, twin)
        return getattr(self._viewer, f"add_{kind}")(data, **attributes)

    def uncover(self) -> None:
        """Show again what was hidden for results that are gone, unless a newer one is there, which hides it too."""
        there, hidden = list[tuple[list[Any], list[Any]]](), list[Any]()
        for layers, covered in self._covered:
            hidden = [*hidden, *covered]
            if any(layer in self._viewer.layers for layer in layers):
                there.append((layers, hidden))
                hidden = []
        self._covered = there
        for layer in hidden:
            if layer in self._viewer.layers:
                layer.visible = True

    def refresh(self) -> None:
        """Let layers that fill show what they have by now, once a second at most."""
        now = time.monotonic()
        if now - self._refreshed < _REFRESH_SECONDS:
            return
        self._refreshed = now
        for layer in self._filling:
            layer.refresh()

    def drop_unfinished(self) -> None:
        """Take layers of an unfinished result away."""
        for layer in self._filling:
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
        self._filling = []


def covering(viewer: Viewer, place: Any, kept: Sequence[Any]) -> list[Any]:
    """Images and labels that are visible and have the size of the layer `place`, those that are `kept` apart."""
    layers = [layer for layer in viewer.layers if isinstance(layer, Image | Labels) and layer.visible]
    return [layer for layer in layers if layer not in kept and _plane_of(layer) == _plane_of(place)]


def _plane_of(layer: Any) -> tuple[int, ...]:
    """Rows and columns."""
    shape = tuple(finest_level(layer).shape)
    return shape[-3:-1] if is_rgb(layer) else shape[-2:]


def put_above(viewer: Viewer, layer: Any, others: Sequence[Any]) -> None:
    """Move a layer above others in the list, so that what belongs together lies together; napari has no groups."""
    if places := [viewer.layers.index(other) for other in others if other in viewer.layers]:
        viewer.layers.move(viewer.layers.index(layer), max(places) + 1)


def _channels(result: Translated, contents: list[Any]) -> list[str]:
    """The name of the channel that each layer shows; empty where it shows several."""
    return list(result.channel_names) if len(result.channel_names) == len(contents) else [""] * len(contents)


def _as_shown(result: Translated, layer: Any) -> Translated:
    """What is shown in colours is saved in colours."""
    metadata = replace(result.spec.metadata, rgb=shown_in_colours(result, layer))
    return replace(result, spec=replace(result.spec, metadata=metadata))


def _proposed(result: Translated, layer: Any, model: str) -> Path:
    """A name that says the image, the model and all channels of a result."""
    name = f"{result.provenance['source']}-{model}"
    is_of_labels = result.spec.channels == 1 and result.spec.categories
    if result.channel_names and not is_of_labels and not shown_in_colours(result, layer):
        name = f"{name}-{'-'.join(result.channel_names)}"
    source = file_of(layer)
    folder = Path() if source is None else source.parent
    return result_path(folder, name, is_geographic=result.spec.metadata.georeference is not None)
