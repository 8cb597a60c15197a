"""The Translate widget: a model, layers, a button."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from napari.utils.notifications import show_info
from napari.viewer import Viewer
from qtpy.QtWidgets import QApplication, QCheckBox, QLabel, QPushButton

from napari_pix2pix._widgets.command_line import translate_command
from napari_pix2pix._widgets.forms import (
    Choice,
    LayerPicker,
    Message,
    PathField,
    ProgressBar,
    ask_image,
    ask_model,
    ask_ome_zarr,
    collapsed,
    column,
    form,
    row,
    scrolling,
)
from napari_pix2pix._widgets.job_widget import JobWidget
from napari_pix2pix._widgets.layer_outputs import image_metadata, output_layers, placement, shown_in_colours
from napari_pix2pix._widgets.layer_sources import Extent, size_in_words
from napari_pix2pix._widgets.live_view import LiveChoice, LiveView
from napari_pix2pix._widgets.model_card import (
    ModelCard,
    UnreadableModel,
    fit_problem,
    fit_warnings,
    load_card,
    rescaling,
    size_comparison,
)
from napari_pix2pix._widgets.part_choice import PartChoice
from napari_pix2pix._widgets.preferences import preferences
from napari_pix2pix._widgets.recent_models import recent_models
from napari_pix2pix._widgets.saving_job import USUAL_SUFFIX, Saved, SaveRequest, saving_events, with_suffix
from napari_pix2pix._widgets.translation_job import TilesDone, Translated, TranslationRequest, translation_events
from napari_pix2pix._widgets.translation_options import ONLY_FOR_RESULTS, TranslationOptions
from napari_pix2pix._widgets.workers import CoreWorker, start_worker
from napari_pix2pix.formats.metadata import ImageMetadata
from pix2pix_training.array_source import AnyArray, ArraySource
from pix2pix_training.cancel import Cancel
from pix2pix_training.errors import ImageError, Pix2PixError

_REFRESH_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class _Result:
    """The last result while its layers are in the viewer."""

    result: Translated
    pixels: AnyArray
    axes: str
    metadata: ImageMetadata
    layers: list[Any]


class TranslateWidget(JobWidget):
    """Form -> `TranslationRequest` -> worker -> new layers."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self._card: ModelCard | None = None
        self._card_worker: CoreWorker | None = None
        self._show_result: Callable[[Translated], None] | None = None
        self._result: _Result | None = None
        self._filling: list[Any] = []
        self._can_go_on = False
        self._refreshed = 0.0
        self._build()
        self._connect()
        self._offer_recent()
        self._choose_active_layer()

    def _build(self) -> None:
        self.recent = Choice({"choose a recent model": None}, "Models trained or used before.")
        self.model = PathField(ask_model, "model.safetensors")
        self.card = QLabel("Choose a model, or train one.")
        self.card.setWordWrap(True)
        self.picker = LayerPicker(self.viewer, tip="Tick the image; several layers are the channels of one image.")
        self.fit = Message()
        self.rescale = QCheckBox("rescale to the model's pixel size")
        self.rescale.setToolTip("The model sees pixels as large as those it was trained on; the result is scaled back.")
        self.rescale.setVisible(False)
        self.part = PartChoice(self.viewer, self.picker)
        self.settings = TranslationOptions()
        self.destination = Choice({"in memory": False, "OME-Zarr": True}, "Where the result goes while it is computed.")
        self.out = PathField(ask_ome_zarr, "result.ome.zarr")
        self.out.setVisible(False)
        self.live = QCheckBox("over what is on the screen")
        self.live.setToolTip("A layer over the image that follows pan and zoom; for judging a model before it is run.")
        self.live_words = Message()
        self.live_view = LiveView(self.viewer, self._live_choice, self)
        self.translate_button = QPushButton("Translate")
        self.cancel_button = QPushButton("Cancel")
        self.save_button = QPushButton("Save result…")
        self.save_button.setToolTip("Write the last result to a file, with its pixel size, axes and channel names.")
        self.copy_button = QPushButton("Copy command line")
        self.copy_button.setToolTip("Copy the command that does the same to the files of these layers.")
        self.progress = ProgressBar()
        self.state = Message()
        self.advanced = collapsed("Advanced", self.settings)
        scrolling(
            self,
            [
                form([("Model", self.model), ("", self.recent)]),
                self.card,
                form([("Image", self.picker)]),
                self.fit,
                self.rescale,
                form([("Live view", self.live)]),
                self.live_words,
                form([("Part", self.part), ("Result", column(self.destination, self.out))]),
                self.advanced,
                row(self.translate_button, self.cancel_button),
                self.progress,
                self.state,
                row(self.save_button, self.copy_button),
            ],
        )
        self.setMinimumWidth(330)
        self.progress.setVisible(False)

    def _connect(self) -> None:
        self.recent.activated.connect(self._on_recent_chosen)
        self.model.changed.connect(self._on_model_changed)
        self.picker.changed.connect(self._refresh)
        self.rescale.toggled.connect(self._refresh)
        self.destination.currentIndexChanged.connect(self._on_destination_changed)
        self.out.changed.connect(self._refresh)
        self.live.toggled.connect(self.live_view.switch)
        self.live_view.said.connect(self.live_words.say)
        self.translate_button.clicked.connect(self._on_translate)
        self.cancel_button.clicked.connect(self._on_cancel)
        self.save_button.clicked.connect(self._on_save)
        self.copy_button.clicked.connect(self._on_copy)
        recent_models().changed.connect(self._on_model_added)

    def set_model(self, path: Path) -> None:
        """Choose a model file."""
        self.model.set_path(path)

    def _choose_active_layer(self) -> None:
        active = self.viewer.layers.selection.active
        self.picker.choose([active] if active is not None else list(self.viewer.layers)[:1])

    # The model

    def _offer_recent(self) -> None:
        self.recent.fill({"recent models": None, **{str(path): path for path in recent_models().paths()}})
        self.recent.setVisible(self.recent.count() > 1)

    def _on_recent_chosen(self, _index: int) -> None:
        if self.recent.value is not None:
            self.set_model(self.recent.value)
            self.recent.setCurrentIndex(0)

    def _on_model_added(self, path: Path) -> None:
        self._offer_recent()
        if self.model.path is None:
            self.set_model(path)

    def _on_model_changed(self) -> None:
        self._card = None
        if self._card_worker is not None:
            self._card_worker.quit()
        path = self.model.path
        if path is None or not path.is_file():
            self.card.setText("Choose a model, or train one." if path is None else f"{path} does not exist.")
            self._refresh()
            return
        self.card.setText("reading the model…")
        self._card_worker = start_worker(
            partial(_card_events, path),
            on_events=self._on_card,
            on_error=self._on_card_error,
            on_end=self._refresh,
        )

    def _on_card(self, answers: list[ModelCard | UnreadableModel]) -> None:
        card = answers[-1]
        if card.path != self.model.path:
            return  # a late answer about another file
        if isinstance(card, UnreadableModel):
            self.card.setText(card.problem)
            return
        self._card = card
        self.settings.offer_samples(card.has_noise)
        lines = [f"<tr><td>{label}&nbsp;&nbsp;</td><td>{text}</td></tr>" for label, text in card.rows()]
        self.card.setText(f"<table>{''.join(lines)}</table>")
        self._refresh()

    def _on_card_error(self, error: Exception) -> None:
        """An error that is not about the file."""
        if self._card is None:
            self.card.setText(str(error))

    # The choice, in words

    def _refresh(self, *_: Any) -> None:
        self.rescale.setVisible(self._may_rescale())
        problem, warnings = self._judge()
        text = problem or "\n".join(warnings) or self._summary()
        self.fit.say(text, "error" if problem and self.picker.layers else "warning" if warnings else "plain")
        is_ready = problem is None and self._card is not None
        has_place = not self.destination.value or self.out.path is not None
        self.translate_button.setEnabled(is_ready and has_place and not self.is_running)
        self.cancel_button.setEnabled(self.is_running and self._show_result is not None)
        if self._result is not None and not any(layer in self.viewer.layers for layer in self._result.layers):
            self._result = None
        self.save_button.setEnabled(self._result is not None and not self.is_running)
        self.copy_button.setEnabled(is_ready)

    def _judge(self) -> tuple[str | None, list[str]]:
        """What forbids the translation, and what may spoil it."""
        try:
            source = self.picker.source()
        except ImageError as error:
            return str(error), []
        if self._card is None:
            return None, []
        metadata = image_metadata(self.picker.layers[0])
        options = self.settings.options()
        warnings = fit_warnings(self._card, source, None if self._rescales() else metadata, options)
        return fit_problem(self._card, source, options), warnings

    def _summary(self) -> str:
        words = size_in_words(self.picker.source())
        if self._card is None or not self._rescales():
            return words
        comparison = size_comparison(self._card, image_metadata(self.picker.layers[0]))
        return f"{words}\n{comparison} The layer is rescaled for it, the result back."

    def _may_rescale(self) -> bool:
        """Whether the pixels of the layers have clearly another size than those that the model was trained on."""
        if self._card is None or not self.picker.layers:
            return False
        return rescaling(self._card, image_metadata(self.picker.layers[0])) is not None

    def _rescales(self) -> bool:
        return self._may_rescale() and bool(self.rescale.isChecked())

    def _on_destination_changed(self) -> None:
        self.out.setVisible(self.destination.value)
        if self.destination.value and self.out.path is None and self.picker.layers:
            self.out.set_path(preferences().runs_folder / f"{_file_name(self.picker.layers[0].name)}.ome.zarr")
        self._refresh()

    # The work

    def options(self) -> dict[str, Any]:
        """Fields of `TranslationSettings` as they are chosen, those with their defaults left out."""
        return self.settings.options() | ({"match_pixel_size": True} if self._rescales() else {})

    def _live_choice(self) -> LiveChoice:
        if self._card is None:
            raise ImageError("choose a model")
        if (problem := fit_problem(self._card, self.picker.source(), self.options())) is not None:
            raise ImageError(problem)
        options = {name: value for name, value in self.options().items() if name not in ONLY_FOR_RESULTS}
        return LiveChoice(
            model=self._card.path,
            layers=tuple(self.picker.layers),
            channel_axis=self.picker.channel_axis,
            options=tuple(sorted(options.items())),
            uses_image_statistics=options.get("statistics", self._card.statistics) == "image",
        )

    def _on_translate(self) -> None:
        assert self._card is not None  # the button is disabled without a model
        layer, axis = self.picker.layers[0], self.picker.channel_axis
        try:
            extent = self.part.extent()
            source: ArraySource = self.picker.source(extent)
        except Pix2PixError as error:
            self.state.say(str(error), "error")
            return
        request = TranslationRequest(
            model=self._card.path,
            source=source,
            options=self.options(),
            out=self.out.path if self.destination.value else None,
            metadata=image_metadata(layer),
        )
        self._can_go_on = request.out is not None and not self._rescales()
        origin = None if extent is None else [first for first, _ in extent]
        place = placement(layer, channel_axis=axis, origin=origin)
        self._show_result = partial(self._add_layers, layer, place, extent, source.axes)
        self.state.say("reading the model…")
        self.progress.tell(0, 0)
        self.progress.setVisible(True)
        recent_models().add(self._card.path)
        stop = Cancel()
        self.run(partial(translation_events, request, cancel=stop), stop)
        self._refresh()

    def on_events(self, events: list[Any]) -> None:
        for event in events:
            match event:
                case TilesDone():
                    self._show_tiles(event)
                case Translated():
                    self._deliver(event)
                case Saved():
                    self.state.say(f"saved as {event.path}", "good")

    def _deliver(self, result: Translated) -> None:
        if self._show_result is not None:
            self._show_result(result)
        if result.is_complete:
            self._show_result = None

    def _show_tiles(self, event: TilesDone) -> None:
        self.progress.tell(event.done, event.total if event.done else 0)
        self.state.say(f"{event.done} of {event.total} tiles" if event.total > 1 else "translating…")
        now = time.monotonic()
        if self._filling and now - self._refreshed >= _REFRESH_SECONDS:
            self._refreshed = now
            for layer in self._filling:
                layer.refresh()

    def _add_layers(
        self, layer: Any, place: dict[str, Any], extent: Extent | None, axes: str, result: Translated
    ) -> None:
        model = Path(result.provenance["model"])
        if extent is not None:
            result = _with_provenance(result, extent=[list(part) for part in extent])
        contents = output_layers(result, layer, place, model.parent.name)
        filling, self._filling = self._filling, []
        if filling and all(one in self.viewer.layers for one in filling):
            for one, (data, attributes, _) in zip(filling, contents, strict=True):
                one.data = data
                one.metadata = attributes["metadata"]
        else:
            filling = [getattr(self.viewer, f"add_{kind}")(data, **attributes) for data, attributes, kind in contents]
        if not result.is_complete:
            self._filling = filling
            return
        metadata = replace(
            image_metadata(layer), channel_names=result.channel_names, rgb=shown_in_colours(result, layer)
        )
        if isinstance(result.pixels, np.ndarray):
            self._result = _Result(result=result, pixels=result.pixels, axes=axes, metadata=metadata, layers=filling)
        facts = result.provenance
        self.state.say(f"done in {facts['seconds']:.1f} s, scheme {facts['scheme']}, on {facts['device']}", "good")

    def _drop_filling(self) -> None:
        """Take layers of an unfinished result away."""
        for layer in self._filling:
            if layer in self.viewer.layers:
                self.viewer.layers.remove(layer)
        self._filling = []

    def on_error(self, error: Exception) -> None:
        self._show_result = None
        self.state.say(str(error), "error")

    def on_end(self) -> None:
        self.progress.setVisible(False)
        self._drop_filling()
        if self._show_result is not None:
            self._show_result = None
            self.state.say("cancelled; Translate goes on from here" if self._can_go_on else "cancelled")
        self._refresh()

    def _on_cancel(self) -> None:
        self.stop()
        self.cancel_button.setEnabled(False)
        self.state.say("cancelling…")

    def _on_save(self) -> None:
        result = self._result
        assert result is not None  # the button is disabled without a result
        proposed = preferences().runs_folder / (_file_name(result.layers[0].name) + USUAL_SUFFIX)
        if not (chosen := ask_image(self, str(proposed))):
            return
        path = with_suffix(Path(chosen))
        request = SaveRequest(
            result=result.result, pixels=result.pixels, axes=result.axes, metadata=result.metadata, path=path
        )
        self.state.say("saving…")
        self.progress.tell(0, 0)
        self.progress.setVisible(True)
        self.run(partial(saving_events, request))
        self._refresh()

    def _on_copy(self) -> None:
        assert self._card is not None  # the button is disabled without a model
        out = self.out.path if self.destination.value else None
        command, complete = translate_command(self._card.path, self.picker.layers, self.options(), out)
        QApplication.clipboard().setText(command)
        words = ["The command is on the clipboard."]
        words += [] if complete else ["Save the layers under the names in it first."]
        words += ["It translates all of the layers, not the chosen part."] if self.part.kind.value != "whole" else []
        show_info(" ".join(words))

    def on_closed(self) -> None:
        super().on_closed()
        self.live_view.switch(False)
        self.picker.disconnect_viewer()


def _file_name(layer_name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", layer_name)


def _with_provenance(result: Translated, **facts: Any) -> Translated:
    return replace(result, provenance={**result.provenance, **facts})


def _card_events(path: Path) -> Generator[ModelCard | UnreadableModel, None, None]:
    try:
        yield load_card(path)
    except Pix2PixError as error:
        yield UnreadableModel(path=path, problem=str(error))
