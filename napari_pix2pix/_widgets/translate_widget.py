"""The Translate widget: a model, layers, a button."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_info
from napari.viewer import Viewer
from qtpy.QtWidgets import QApplication, QCheckBox, QPushButton

from napari_pix2pix._widgets.command_line import translate_command
from napari_pix2pix._widgets.forms import (
    Choice,
    PathField,
    ProgressBar,
    ask_image,
    ask_ome_zarr,
    collapsed,
    column,
    form,
    row,
    scrolling,
)
from napari_pix2pix._widgets.job_widget import JobWidget
from napari_pix2pix._widgets.layer_axes import finest_level, is_rgb
from napari_pix2pix._widgets.layer_facts import image_metadata
from napari_pix2pix._widgets.layer_picker import LayerPicker
from napari_pix2pix._widgets.layer_places import misplaced_among, placement
from napari_pix2pix._widgets.layer_sources import size_in_words
from napari_pix2pix._widgets.live_view import LiveChoice, LiveView
from napari_pix2pix._widgets.messages import Message
from napari_pix2pix._widgets.model_card import fit_problem, fit_warnings, rescaling, size_comparison
from napari_pix2pix._widgets.model_choice import ModelChoice
from napari_pix2pix._widgets.part_choice import PartChoice
from napari_pix2pix._widgets.place_check import PlaceCheck
from napari_pix2pix._widgets.preferences import preferences
from napari_pix2pix._widgets.recent_models import recent_models
from napari_pix2pix._widgets.result_layers import Placed, ResultLayers, file_name
from napari_pix2pix._widgets.saving_job import Saved, SaveRequest, saving_events, with_suffix
from napari_pix2pix._widgets.translation_job import Translated, TranslationRequest, translation_events
from napari_pix2pix._widgets.translation_options import ONLY_FOR_RESULTS, TranslationOptions
from napari_pix2pix.formats.metadata import ImageMetadata
from napari_pix2pix.translation.progress import TilesDone
from pix2pix_training.cancel import Cancel
from pix2pix_training.errors import ImageError, Pix2PixError


class TranslateWidget(JobWidget):
    """Form -> `TranslationRequest` -> worker -> new layers."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self._placed: Placed | None = None
        self._can_go_on = False
        self.results = ResultLayers(napari_viewer)
        self._build()
        self._connect()
        self._choose_active_layer()

    def _build(self) -> None:
        self.model = ModelChoice()
        self.picker = LayerPicker(self.viewer, tip="Tick the image; several layers are the channels of one image.")
        self.fit = Message()
        self.same_pixels = PlaceCheck()
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
        self.save_button.setToolTip("Write the last result to a file, with its place, pixel size, axes and channels.")
        self.copy_button = QPushButton("Copy command line")
        self.copy_button.setToolTip("Copy the command that does the same to the files of these layers.")
        self.progress = ProgressBar()
        self.advanced = collapsed("Advanced", self.settings)
        destination = column(self.destination, self.out)
        self.inputs = [self.model, self.picker, self.same_pixels, self.rescale, self.part, destination, self.advanced]
        scrolling(
            self,
            [
                self.model,
                form([("Image", self.picker)]),
                self.fit,
                self.same_pixels,
                self.rescale,
                form([("Live view", self.live)]),
                self.live_words,
                form([("Part", self.part), ("Result", destination)]),
                self.advanced,
                row(self.translate_button, self.cancel_button),
                self.progress,
                self.state,
                self.remarks,
                row(self.save_button, self.copy_button),
            ],
        )
        self.setMinimumWidth(330)
        self.progress.setVisible(False)

    def _connect(self) -> None:
        self.model.changed.connect(self._on_model_changed)
        self.picker.changed.connect(self._refresh)
        self.picker.arrived.connect(self._on_arrived)
        self.same_pixels.toggled.connect(self._refresh)
        self.rescale.toggled.connect(self._refresh)
        self.part.changed.connect(self._refresh)
        self.settings.changed.connect(self._refresh)
        self.destination.currentIndexChanged.connect(self._on_destination_changed)
        self.out.changed.connect(self._refresh)
        self.live.toggled.connect(self.live_view.switch)
        self.live_view.said.connect(self.live_words.say)
        self.translate_button.clicked.connect(self._on_translate)
        self.cancel_button.clicked.connect(self._on_cancel)
        self.save_button.clicked.connect(self._on_save)
        self.copy_button.clicked.connect(self._on_copy)

    def set_model(self, path: Path) -> None:
        """Choose a model file, or the folder of a run."""
        self.model.set_path(path)

    def _choose_active_layer(self) -> None:
        active = self.viewer.layers.selection.active
        self.picker.choose([active] if active in self.picker.offered else self.picker.images[:1], decided=False)

    def _on_arrived(self) -> None:
        """A layer that comes when none is ticked is what there is to translate."""
        if not self.picker.layers:
            self.picker.choose(self.picker.images[:1], decided=False)

    def _on_model_changed(self) -> None:
        if self.model.card is not None:
            self.settings.offer_samples(self.model.card.has_noise)
        self._refresh()

    # The choice, in words

    def choice(self) -> object:
        layers = tuple(map(id, self.picker.layers))
        out = self.out.path if self.destination.value else None
        return self.model.path, layers, self.picker.channel_axis, self.part.choice(), out, self.options()

    def _refresh(self, *_: Any) -> None:
        self.rescale.setVisible(self._may_rescale())
        problem, warnings = self._judge()
        text = problem or "\n".join([*warnings, *([] if warnings else self._summary())])
        self.fit.say(text, "error" if problem and self.picker.layers else "warning" if warnings else "plain")
        self.forget_stale_words()
        self.lock_inputs()
        is_ready = problem is None and self.model.card is not None
        has_place = not self.destination.value or self.out.path is not None
        self.translate_button.setEnabled(is_ready and has_place and not self.is_running)
        self.cancel_button.setEnabled(self.is_running and self._placed is not None)
        self.save_button.setEnabled(self.results.last is not None and not self.is_running)
        self.copy_button.setEnabled(is_ready)

    def _judge(self) -> tuple[str | None, list[str]]:
        """What forbids the translation, and what may spoil it."""
        try:
            source = self.picker.source()
        except ImageError as error:
            self.same_pixels.judge([])
            return str(error), []
        apart, words = self.same_pixels.judge(misplaced_among([(self.picker.layers, self.picker.channel_axis)]))
        card = self.model.card
        if card is None or apart is not None:
            return apart, words
        options = self.settings.options()
        problem = self.settings.problem() or fit_problem(card, source, options)
        if problem is not None and self._may_hold_channels(card.source_channels):
            problem += f" If it holds them, choose its axis of {card.source_channels} as channel axis."
        warnings = fit_warnings(card, source, None if self._rescales() else self._metadata(), options)
        return problem, words + warnings

    def _may_hold_channels(self, count: int) -> bool:
        """Whether a layer without a channel axis has an axis of that many."""
        layer, *others = self.picker.layers
        if others or is_rgb(layer) or self.picker.channel_axis is not None:
            return False
        return count in finest_level(layer).shape[: layer.ndim - 2]

    def _metadata(self) -> ImageMetadata:
        return image_metadata(self.picker.layers[0], self.picker.channel_axis)

    def _summary(self) -> list[str]:
        words = [size_in_words(self.picker.source())]
        if self.model.card is not None and self._rescales():
            comparison = size_comparison(self.model.card, self._metadata())
            words += [f"{comparison} The layer is rescaled for it, the result back."]
        return words

    def _may_rescale(self) -> bool:
        """Whether the pixels of the layers have clearly another size than those that the model was trained on."""
        if self.model.card is None or not self.picker.layers:
            return False
        return rescaling(self.model.card, self._metadata()) is not None

    def _rescales(self) -> bool:
        return self._may_rescale() and bool(self.rescale.isChecked())

    def _on_destination_changed(self) -> None:
        self.out.setVisible(self.destination.value)
        if self.destination.value and self.out.path is None and self.picker.layers:
            self.out.set_path(preferences().runs_folder / f"{file_name(self.picker.layers[0].name)}.ome.zarr")
        self._refresh()

    # The work

    def options(self) -> dict[str, Any]:
        """Fields of `TranslationSettings` as they are chosen, those with their defaults left out."""
        return self.settings.options() | ({"match_pixel_size": True} if self._rescales() else {})

    def _live_choice(self) -> LiveChoice:
        card = self.model.card
        if card is None:
            raise ImageError("choose a model")
        if (problem := self._judge()[0]) is not None:
            raise ImageError(problem)
        options = {name: value for name, value in self.options().items() if name not in ONLY_FOR_RESULTS}
        return LiveChoice(
            model=card.path,
            layers=tuple(self.picker.layers),
            channel_axis=self.picker.channel_axis,
            options=tuple(sorted(options.items())),
            uses_image_statistics=options.get("statistics", card.statistics) == "image",
        )

    def _on_translate(self) -> None:
        assert self.model.card is not None  # the button is disabled without a model
        layer, axis = self.picker.layers[0], self.picker.channel_axis
        try:
            extent = self.part.extent()
            request = TranslationRequest(
                model=self.model.card.path,
                source=self.picker.source(extent),
                options=self.options(),
                out=self.out.path if self.destination.value else None,
                metadata=image_metadata(layer, axis, extent),
            )
        except Pix2PixError as error:
            self.state.say(str(error), "error")
            return
        self._can_go_on = request.out is not None and not self._rescales()
        origin = None if extent is None else [first for first, _ in extent]
        place = placement(layer, channel_axis=axis, origin=origin)
        self._placed = Placed(layer=layer, place=place, extent=extent)
        self.state.say("reading the model…")
        self.progress.tell(0, 0)
        self.progress.setVisible(True)
        recent_models().add(request.model)
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
        if self._placed is None:
            return
        hidden = self.results.add(result, self._placed)
        if result.is_complete:
            self._placed = None
            facts = result.provenance
            words = f"done in {facts['seconds']:.1f} s, scheme {facts['scheme']}, on {facts['device']}"
            self.state.say(words + (f"; hidden below it: {', '.join(hidden)}" if hidden else ""), "good")

    def _show_tiles(self, event: TilesDone) -> None:
        self.progress.tell(event.done, event.total if event.done else 0)
        self.state.say(f"{event.done} of {event.total} tiles" if event.total > 1 else "translating…")
        self.results.refresh()

    def on_error(self, error: Exception) -> None:
        self._placed = None
        self.state.say(str(error), "error")

    def on_end(self) -> None:
        self.progress.setVisible(False)
        self.results.drop_unfinished()
        if self._placed is not None:
            self._placed = None
            self.state.say("cancelled; Translate goes on from here" if self._can_go_on else "cancelled")
        self._refresh()

    def _on_cancel(self) -> None:
        self.stop()
        self.cancel_button.setEnabled(False)
        self.state.say("cancelling…")

    def _on_save(self) -> None:
        result = self.results.last
        assert result is not None  # the button is disabled without a result
        if not (chosen := ask_image(self, str(self.results.proposed_path(preferences().runs_folder)))):
            return
        self.state.say("saving…")
        self.progress.tell(0, 0)
        self.progress.setVisible(True)
        self.run(partial(saving_events, SaveRequest(result=result, path=with_suffix(Path(chosen)))))
        self._refresh()

    def _on_copy(self) -> None:
        assert self.model.card is not None  # the button is disabled without a model
        out = self.out.path if self.destination.value else None
        files, options = self.picker.files(), self.options() | {"alpha": self.picker.alpha}
        command = translate_command(self.model.card.path, [path for path, _ in files], options, out)
        QApplication.clipboard().setText(command)
        words = ["The command is on the clipboard."]
        words += [] if all(exists for _, exists in files) else ["Save the layers under the names in it first."]
        words += ["It translates all of the layers, not the chosen part."] if self.part.kind.value != "whole" else []
        show_info(" ".join(words))

    def on_closed(self) -> None:
        super().on_closed()
        self.live_view.switch(False)
        self.picker.disconnect_viewer()
