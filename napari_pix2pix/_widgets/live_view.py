"""A switch that shows the model applied to what is on the screen, following pan, zoom and the sliders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from napari.viewer import Viewer
from qtpy.QtCore import QObject, QTimer, Signal

from napari_pix2pix._widgets.layer_axes import is_labels
from napari_pix2pix._widgets.layer_facts import image_metadata
from napari_pix2pix._widgets.layer_outputs import LayerData, output_layers
from napari_pix2pix._widgets.layer_places import placement
from napari_pix2pix._widgets.previews import PREVIEW_KEY
from napari_pix2pix._widgets.translation_job import (
    LastTranslator,
    Translated,
    TranslationRequest,
    translation_events,
)
from napari_pix2pix._widgets.views import View, screen_of, shown_source, view_of
from napari_pix2pix._widgets.workers import CoreWorker, make_worker, release_gpu_memory
from pix2pix_training.cancel import Cancel
from pix2pix_training.errors import Pix2PixError

_TICK_MS = 150
_NAME = "live view"


@dataclass(frozen=True, kw_only=True)
class LiveChoice:
    """Which model, in which state of its file, is applied to which layers, and how."""

    model: Path
    model_state: object
    layers: tuple[Any, ...]
    channel_axis: int | None
    options: tuple[tuple[str, Any], ...]
    uses_image_statistics: bool


@dataclass(frozen=True)
class _Wanted:
    choice: LiveChoice
    arrays: tuple[int, ...]
    """Identities of the layers' arrays, which the user may exchange."""
    view: View


class LiveView(QObject):
    """Looks at the screen a few times a second; a view that has come to rest is translated, one that has moved on is
    given up.

    Parameters
    ----------
    choice : what to show; raises `Pix2PixError` where the choice is incomplete.
    """

    said = Signal(str, str)
    """Words about what is shown, and their kind; see `Message`."""
    removed = Signal()
    """The user has taken its layers away."""

    def __init__(self, viewer: Viewer, choice: Callable[[], LiveChoice], parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._choice = choice
        self._translators = LastTranslator()
        self._worker: CoreWorker | None = None
        self._seen: _Wanted | None = None
        self._requested: _Wanted | None = None
        self._layers: list[Any] = []
        self._timer = QTimer(self)
        self._timer.setInterval(_TICK_MS)
        self._timer.timeout.connect(self._look)

    @property
    def is_on(self) -> bool:
        return bool(self._timer.isActive())

    @property
    def is_running(self) -> bool:
        return self._worker is not None

    def switch(self, on: bool) -> None:
        if on:
            self._timer.start()
            return
        self._timer.stop()
        self._give_up()
        self._seen = self._requested = None
        self._translators = LastTranslator()
        release_gpu_memory()
        self._remove_layers()
        self.said.emit("", "plain")

    def _look(self) -> None:
        if self._layers and not any(layer in self._viewer.layers for layer in self._layers):
            self.removed.emit()
            return
        try:
            wanted = self._wanted()
        except Pix2PixError as error:
            self._seen = self._requested = None
            self._give_up()
            self._remove_layers()
            self.said.emit(str(error), "warning")
            return
        is_at_rest = wanted == self._seen
        self._seen = wanted
        if wanted == self._requested:
            return
        if self._worker is not None:
            self._give_up()
        elif is_at_rest:
            self._start(wanted)

    def _wanted(self) -> _Wanted:
        choice = self._choice()
        layer = choice.layers[0]
        view = view_of(layer, screen_of(self._viewer, layer), choice.channel_axis)
        return _Wanted(choice, tuple(id(layer.data) for layer in choice.layers), view)

    def _start(self, wanted: _Wanted) -> None:
        self._requested = wanted
        choice, view = wanted.choice, wanted.view
        layer = choice.layers[0]
        try:
            source = shown_source(choice.layers, choice.channel_axis, view, average=not is_labels(layer))
        except Pix2PixError as error:
            self.said.emit(str(error), "warning")
            return
        place = placement(layer, channel_axis=choice.channel_axis, origin=view.origin, factors=view.factors)
        request = TranslationRequest(
            model=choice.model,
            source=source,
            options=dict(choice.options),
            metadata=image_metadata(layer, choice.channel_axis),
        )
        stop = Cancel()
        self._worker = make_worker(
            partial(translation_events, request, self._translators, cancel=stop),
            on_events=partial(self._on_events, wanted, place),
            on_error=self._on_error,
            on_end=self._on_end,
            stop=stop,
        )
        self.destroyed.connect(self._worker.stop.set)
        self.said.emit("translating the view…", "plain")
        self._worker.start()

    def _give_up(self) -> None:
        """Ask the work on a view that is gone to end."""
        self._requested = None
        if self._worker is not None:
            self._worker.quit()

    def _on_events(self, wanted: _Wanted, place: Mapping[str, Any], events: list[Any]) -> None:
        if self._requested != wanted or not isinstance(result := events[-1], Translated):
            return
        self._show(output_layers(result, wanted.choice.layers[0], place, _NAME))
        self.said.emit(_words(wanted), "good")

    def _on_error(self, error: Exception) -> None:
        if self._requested is not None:  # not about a view that is gone
            self.said.emit(str(error), "error")

    def _on_end(self) -> None:
        self._worker = None

    # The layers

    def _show(self, contents: list[LayerData]) -> None:
        shown = [layer for layer in self._layers if layer in self._viewer.layers]
        names = [(layer.name, layer._type_string) for layer in shown]
        if names == [(look["name"], kind) for _, look, kind in contents]:
            for layer, (data, look, _) in zip(shown, contents, strict=True):
                layer.data = data
                for name in ("scale", "translate", "rotate", "shear", "affine"):
                    setattr(layer, name, look[name])
            return
        self._remove_layers()
        selected = set(self._viewer.layers.selection)
        for data, look, kind in contents:
            look["metadata"][PREVIEW_KEY] = _NAME
            self._layers.append(getattr(self._viewer, f"add_{kind}")(data, **look))
        self._viewer.layers.selection = selected

    def _remove_layers(self) -> None:
        for layer in self._layers:
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
        self._layers = []


def _words(wanted: _Wanted) -> str:
    factor = wanted.view.factors[-1]
    words = "live"
    if factor > 1:
        words += f", at 1/{factor:.3g} of the full resolution: zoom in to see what the model was trained for"
    if wanted.choice.uses_image_statistics:
        words += "; with the statistics of the view, those of the whole image differ a little"
    return words
