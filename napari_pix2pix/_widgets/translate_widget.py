"""The Translate widget: a model, layers, a button."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from napari.viewer import Viewer
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QCheckBox, QPushButton, QWidget

from napari_pix2pix._widgets.command_line import translate_command
from napari_pix2pix._widgets.error_layer import ErrorMapFound, ErrorSubject, error_map_events
from napari_pix2pix._widgets.evaluation_job import Evaluated, EvaluationRequest, evaluation_events, report_events
from napari_pix2pix._widgets.folder_choice import FolderChoice, FolderResults
from napari_pix2pix._widgets.folder_job import FilesDone, FolderRequest, FolderTranslated, folder_events
from napari_pix2pix._widgets.forms import (
    Choice,
    PathField,
    ProgressBar,
    ask_image,
    ask_ome_zarr,
    collapsed,
    column,
    form,
    in_turn,
    row,
    scrolling,
)
from napari_pix2pix._widgets.job_widget import JobWidget
from napari_pix2pix._widgets.layer_places import placement
from napari_pix2pix._widgets.live_view import LiveChoice, LiveView
from napari_pix2pix._widgets.messages import HelpLinks, Message
from napari_pix2pix._widgets.model_actions import ModelActions
from napari_pix2pix._widgets.model_choice import ModelChoice, dropped_model
from napari_pix2pix._widgets.novelty_job import NoveltyFound, NoveltySubject, novelty_events
from napari_pix2pix._widgets.part_choice import PartChoice
from napari_pix2pix._widgets.preferences import preferences, recent_models
from napari_pix2pix._widgets.result_jobs import Saved, export_events, saving_events
from napari_pix2pix._widgets.result_layers import Placed, ResultLayers
from napari_pix2pix._widgets.result_panel import ResultPanel
from napari_pix2pix._widgets.translation_images import TranslationImages
from napari_pix2pix._widgets.translation_job import Translated, TranslationRequest, translation_events
from napari_pix2pix._widgets.translation_options import ONLY_FOR_RESULTS, TranslationOptions
from napari_pix2pix._widgets.workers import MakeEvents
from napari_pix2pix.output_paths import zarr_path
from napari_pix2pix.translation.progress import TilesDone
from napari_pix2pix.translation.settings import Scheme
from pix2pix_training.cancel import Cancel
from pix2pix_training.errors import ImageError, Pix2PixError
from pix2pix_training.validated import labels

_PROGRESS_PARTS = 1000
_TRANSLATING = "translating"


class TranslateWidget(JobWidget):
    """Form -> `TranslationRequest` -> worker -> new layers."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self._placed: Placed | None = None
        self._request: TranslationRequest | None = None
        self._shown: list[Any] = []  # what the words of a translation are about
        self._can_go_on, self._is_cancellable, self._is_ended = False, False, True
        self._doing = _TRANSLATING
        self.results = ResultLayers(napari_viewer)
        self._build()
        self._connect()
        self.images.choose_first()

    def _build(self) -> None:
        self.model = ModelChoice()
        self.images = TranslationImages(self.viewer)
        self.picker, self.fit = self.images.picker, self.images.message
        self.same_pixels, self.rescale = self.images.same_pixels, self.images.rescale
        self.part = PartChoice(self.viewer, self.picker)
        self.kind = Choice({"open layers": "layers", "a folder": "folder"}, "Where the images are.")
        self.folder, self.folder_results = FolderChoice(), FolderResults(self.viewer)
        self.folder.setVisible(False)
        self.settings = TranslationOptions()
        self.destination = Choice({"in memory": False, "OME-Zarr": True}, "Where the result goes while it is computed.")
        self.out = PathField(ask_ome_zarr, "result.ome.zarr", "The OME-Zarr to write, which must not exist yet.")
        self.out.setVisible(False)
        self.live = QCheckBox("Live view of what is shown")
        self.live.setToolTip("A layer over the image that follows pan and zoom; for judging a model before it is run.")
        self.live_words = Message()
        self.live_view = LiveView(self.viewer, self._live_choice, self)
        self.translate_button = QPushButton("Translate")
        self.translate_button.setToolTip("Make of the image what the model has learnt, as new layers or files.")
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip("End the translation.")
        self.save_button = QPushButton("Save result…")
        self.save_button.setToolTip("Write the last result to a file, with its place, pixel size, axes and channels.")
        self.copy_button = QPushButton("Copy command line")
        self.copy_button.setToolTip("Copy the command that does the same to the files of these layers.")
        self.progress = ProgressBar()
        self.start = in_turn(self.translate_button, self.progress)
        self.model_actions = ModelActions(self.viewer)
        self.result = ResultPanel(self.viewer, lambda: self.model_actions.targets.layers)
        self.more = collapsed("More", self.settings)
        destination = column(self.destination, self.out)
        self._of_layers = [
            self.images,
            column(self.live, self.live_words),
            form([("Part", self.part), ("Result", destination)]),
        ]
        self.inputs = [self.model, self.kind, self.images, self.part, destination, self.folder, self.more]
        self.area = scrolling(
            self,
            [
                self.model,
                form([("Images from", self.kind)]),
                *self._of_layers,
                self.folder,
                self.more,
                collapsed("Evaluate, export", self.model_actions),
                self.folder_results,
                self.remarks,
                HelpLinks(),
            ],
            [
                row(self.start, self.cancel_button),
                self.state,
                self.result,
                row(self.save_button, self.copy_button),
            ],
        )
        self.setAcceptDrops(True)

    def _connect(self) -> None:
        self.model.changed.connect(self._on_model_changed)
        self.picker.arrived.connect(self._choose_named)
        self.model_actions.targets.arrived.connect(self._choose_named)
        self.images.changed.connect(self.refresh)
        self.part.changed.connect(self.refresh)
        self.settings.changed.connect(self.refresh)
        self.destination.currentIndexChanged.connect(self._on_destination_changed)
        self.out.changed.connect(self.refresh)
        self.kind.currentIndexChanged.connect(self._on_kind_changed)
        self.folder.changed.connect(self.refresh)
        self.live.toggled.connect(self.live_view.switch)
        self.live_view.said.connect(self.live_words.say)
        self.live_view.removed.connect(partial(self.live.setChecked, False))
        self.translate_button.clicked.connect(self._on_translate)
        self.cancel_button.clicked.connect(self._on_cancel)
        self.save_button.clicked.connect(self._on_save)
        self.copy_button.clicked.connect(self._on_copy)
        self.result.wants_novelty.connect(self._on_novelty)
        self.result.wants_error_map.connect(self._on_error_map)
        self.model_actions.changed.connect(self.refresh)
        self.model_actions.wants_evaluation.connect(self._on_evaluate)
        self.model_actions.wants_report.connect(self._on_report)
        self.model_actions.wants_export.connect(self._on_export)

    def set_model(self, path: Path) -> None:
        """Choose a model file, or the folder of a run."""
        self.model.set_path(path)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if not self.is_running and dropped_model(event.mimeData()) is not None:
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """A model file, or the folder of a run, that is dropped anywhere on the form is chosen."""
        if (path := dropped_model(event.mimeData())) is not None:
            self.set_model(path)
            event.acceptProposedAction()

    def _on_model_changed(self) -> None:
        self.model_actions.forget_scores()
        if self.model.card is not None:
            self.settings.offer_samples(self.model.card.has_noise)
        self._choose_named()

    def _choose_named(self) -> None:
        """Tick what is called like the channels of the model, unless the user has chosen."""
        if self.model.card is not None:
            self.picker.choose_named(self.model.card.source.channel_names)
            self.model_actions.targets.choose_named(self.model.card.target.channel_names)
        self.refresh()

    # The choice, in words

    @property
    def _is_of_folder(self) -> bool:
        return bool(self.kind.value == "folder")

    def _on_kind_changed(self) -> None:
        for part in (*self._of_layers, self.save_button):
            part.setVisible(not self._is_of_folder)
        self.result.comparison.compare([])
        self.model_actions.forget_scores()
        self.folder.setVisible(self._is_of_folder)
        if self._is_of_folder:
            self.live.setChecked(False)
        self.refresh()

    def outcome(self) -> list[QWidget]:
        return [self.folder_results, *super().outcome()]

    def choice(self) -> object:
        if self._is_of_folder:
            return self.model.seen, self.folder.choice(), self.settings.options()
        layers = tuple(map(id, self.picker.layers))
        out = self.out.path if self.destination.value else None
        return self.model.seen, layers, self.picker.channel_axis, self.part.choice(), out, self.options()

    def refresh(self, *_: Any) -> None:
        problem = self.images.say(self.model.card, self.settings)
        self.forget_stale_words()
        self._forget_removed()
        self.result.refresh(self.choice(), is_running=self.is_running)
        self.lock_inputs()
        if self._is_of_folder:
            problem = self.folder.problem() or self.settings.problem()
        is_ready = problem is None and self.model.card is not None
        has_place = self._is_of_folder or not self.destination.value or self.out.path is not None
        self.translate_button.setEnabled(is_ready and has_place and not self.is_running)
        self.cancel_button.setEnabled(self.is_running and self._is_cancellable)
        self.save_button.setEnabled(self.results.last is not None and not self.is_running)
        self.copy_button.setEnabled(is_ready)
        has_result = self.results.last is not None
        self.model_actions.refresh(
            has_model=self.model.card is not None, has_result=has_result, is_running=self.is_running
        )

    def look_again(self) -> None:
        if not self.is_running:
            self.model.look_again()
            self.folder.look_again()
        super().look_again()

    def _forget_removed(self) -> None:
        """The user has removed results; what was hidden for them is shown again."""
        self.results.uncover()
        if self._shown and not any(layer in self.viewer.layers for layer in self._shown):
            self._shown = []
            self.state.say("")

    def _on_destination_changed(self) -> None:
        self.out.setVisible(self.destination.value)
        if self.destination.value and self.out.path is None and self.picker.layers:
            self.out.set_path(zarr_path(preferences().runs_folder, self.picker.layers[0].name))
        self.refresh()

    # The work

    def options(self) -> dict[str, Any]:
        """Fields of `TranslationSettings` as they are chosen, those with their defaults left out."""
        return self.settings.options() | ({"match_pixel_size": True} if self.images.rescales(self.model.card) else {})

    def _live_choice(self) -> LiveChoice:
        self.model.look_again()
        card = self.model.card
        if card is None:
            raise ImageError("choose a model")
        if (problem := self.images.judge(card, self.settings)[0]) is not None:
            raise ImageError(problem)
        options = {name: value for name, value in self.options().items() if name not in ONLY_FOR_RESULTS}
        return LiveChoice(
            model=card.path,
            model_state=self.model.seen,
            layers=tuple(self.picker.layers),
            channel_axis=self.picker.channel_axis,
            options=tuple(sorted(options.items())),
            uses_image_statistics=options.get("statistics", card.statistics) == "image",
        )

    def _on_translate(self) -> None:
        self.look_again()
        if not self.translate_button.isEnabled():  # the form says what is other than it was
            return
        self.folder_results.forget()
        self.model_actions.forget_scores()
        self.result.show_result()
        if self._is_of_folder:
            self._translate_folder()
        else:
            self._translate_layers()

    def _translate_folder(self) -> None:
        images, out = self.folder.images, self.folder.out.path
        assert self.model.card is not None and images is not None and out is not None  # the button is disabled else
        request = FolderRequest(
            model=self.model.card.path,
            images=images,
            out=out,
            file_format=self.folder.file_format.value,
            existing=self.folder.existing.value,
            options=self.settings.options(),
        )
        self._placed = None
        stop = Cancel()
        recent_models().add(request.model)
        self._begin("reading the model…", partial(folder_events, request, cancel=stop), stop, can_go_on=True)

    def _begin(
        self,
        words: str,
        events: MakeEvents,
        stop: Cancel | None = None,
        *,
        doing: str = _TRANSLATING,
        can_go_on: bool = False,
    ) -> None:
        """Start a job, which can be cancelled where it has a `stop`.

        Parameters
        ----------
        doing : what the form says with the number of tiles.
        can_go_on : Translate goes on where it was cancelled.
        """
        self._is_cancellable, self._is_ended = stop is not None, False
        self._doing, self._can_go_on, self._shown = doing, can_go_on, []
        for said in (self.state, self.remarks):
            said.keep_room(True)
        self.state.say(words)
        self.progress.tell(0, 0)
        self.start.setCurrentWidget(self.progress)
        self.run(events, stop)

    def _translate_layers(self) -> None:
        assert self.model.card is not None  # the button is disabled without a model
        layer, axis = self.picker.layers[0], self.picker.channel_axis
        try:
            extent = self.part.extent()
            request = TranslationRequest(
                model=self.model.card.path,
                source=self.picker.source(extent),
                options=self.options(),
                out=self.out.path if self.destination.value else None,
                metadata=self.images.metadata(extent),
            )
        except Pix2PixError as error:
            self.state.say(str(error), "error")
            return
        can_go_on = request.out is not None and not self.images.rescales(self.model.card)
        origin = None if extent is None else [first for first, _ in extent]
        place = placement(layer, channel_axis=axis, origin=origin)
        self._placed = Placed(layer=layer, sources=tuple(self.picker.layers), place=place, extent=extent)
        self._request = request
        stop = Cancel()
        recent_models().add(request.model)
        events = partial(translation_events, request, cancel=stop)
        self._begin("reading the model…", events, stop, can_go_on=can_go_on)

    def on_events(self, events: list[Any]) -> None:
        for event in events:
            match event:
                case TilesDone():
                    self._show_tiles(event)
                case Translated():
                    self._deliver(event)
                case NoveltyFound():
                    self._is_ended = True
                    self.result.show_novelty(event, self.choice())
                    self.state.say("red in the new layer is unlike the training images", "good")
                case ErrorMapFound():
                    self._is_ended = True
                    self.result.show_errors(event)
                    self.state.say("the status bar names the interval under the cursor", "good")
                case FilesDone():
                    self.progress.tell(round(_PROGRESS_PARTS * event.fraction), _PROGRESS_PARTS)
                    self.state.say(f"image {min(event.done + 1, event.total)} of {event.total}")
                case FolderTranslated():
                    self._tell_folder(event)
                case Saved():
                    self._is_ended = True
                    extras = f", with {' and '.join(event.extras)}" if event.extras else ""
                    self.state.say(f"saved as {event.path}{extras}", "good")
                case Evaluated():
                    self._is_ended = True
                    self.state.say("evaluated", "good")
                    self.model_actions.show_scores(event)

    def _tell_folder(self, results: FolderTranslated) -> None:
        self._is_ended = True
        self.folder_results.show_results(results)
        self.remarks.drop(results.failed.values())
        count, failed = len(results.outputs), len(results.failed)
        words = f"{count} of {count + failed} images are in {self.folder.out.path}"
        self.state.say(words if not failed else f"{words}; {failed} failed", "warning" if failed else "good")

    def _deliver(self, result: Translated) -> None:
        if self._placed is None:
            return
        self.live.setChecked(False)  # it would cover the result
        shown, hidden = self.results.add(result, self._placed)
        self.result.comparison.compare(shown)
        if result.is_complete:
            self._offer_maps(result.novel_share, tuple(shown))
            self._placed, self._request, self._is_ended = None, None, True
            self._shown = shown
            facts = result.provenance
            scheme = labels(Scheme)[facts["scheme"]]
            words = f"done in {facts['seconds']:.1f} s, {scheme}, on {facts['device']}"
            self.state.say(words + (f"; hidden to show it: {', '.join(hidden)}" if hidden else ""), "good")

    def _offer_maps(self, novel_share: float | None, shown: tuple[Any, ...]) -> None:
        request, placed, card = self._request, self._placed, self.model.card
        assert request is not None and placed is not None and card is not None
        novelty = NoveltySubject(request=request, placed=placed, channel_axis=self.picker.channel_axis, layers=shown)
        errors = ErrorSubject(request=request, placed=placed, layers=shown) if card.errors else None
        self.result.tell(novel_share, novelty, errors, self.choice())

    def _on_error_map(self, subject: ErrorSubject) -> None:
        stop = Cancel()
        events = partial(error_map_events, subject, cancel=stop)
        self._begin("reading the model…", events, stop, doing="making the error map")

    def _on_novelty(self, subject: NoveltySubject) -> None:
        stop = Cancel()
        self._begin("looking at the image…", partial(novelty_events, subject, cancel=stop), stop)

    def _show_tiles(self, event: TilesDone) -> None:
        is_counted = event.total > 1
        self.progress.tell(event.done, event.total if is_counted else 0)
        self.state.say(f"{self._doing}: {event.done} of {event.total} tiles" if is_counted else f"{self._doing}…")
        self.results.refresh()

    def on_error(self, error: Exception) -> None:
        self._placed, self._request, self._is_ended = None, None, True
        self.state.say(str(error), "error")

    def on_end(self) -> None:
        self.start.setCurrentWidget(self.translate_button)
        self.results.drop_unfinished()
        if not self._is_ended:
            self._placed = self._request = None
            self.state.say("cancelled; Translate goes on from here" if self._can_go_on else "cancelled")
        self.refresh()

    def _on_cancel(self) -> None:
        self.stop()
        self.cancel_button.setEnabled(False)
        self.state.say("cancelling…")

    def _on_save(self) -> None:
        result = self.results.last
        assert result is not None  # the button is disabled without a result
        if not (chosen := ask_image(self, str(self.results.proposed_path(preferences().runs_folder)))):
            return
        self._begin("saving…", partial(saving_events, result, Path(chosen), sources=self.results.sources))

    def _on_evaluate(self) -> None:
        result, targets = self.results.last, self.model_actions.targets
        assert result is not None  # the button is disabled else
        self.model_actions.forget_scores()
        extent = result.provenance.get("extent")
        corner = (0, 0) if extent is None else (extent[-2][0], extent[-1][0])
        try:
            target = targets.source(None if extent is None else tuple((a, b) for a, b in extent))
            request = EvaluationRequest(result=result, target=target, whole=targets.source(), corner=corner)
        except Pix2PixError as error:
            self.state.say(str(error), "error")
            return
        stop = Cancel()
        self._begin("evaluating…", partial(evaluation_events, request, cancel=stop), stop, doing="evaluating")

    def _on_report(self, path: Path) -> None:
        assert self.model_actions.evaluated is not None  # the button is disabled else
        stop = Cancel()
        events = partial(report_events, self.model_actions.evaluated, path, cancel=stop)
        self._begin("writing the report…", events, stop, doing="writing the report")

    def _on_export(self, path: Path) -> None:
        assert self.model.card is not None  # the button is disabled without a model
        events = partial(
            export_events,
            self.model.card.path,
            path,
            author=self.model_actions.author.text(),
            license=self.model_actions.license.text().strip(),
            sample=self.picker.source() if self.picker.layers else None,
        )
        self._begin("exporting…", events)

    def _on_copy(self) -> None:
        assert self.model.card is not None  # the button is disabled without a model
        words = []
        if self._is_of_folder:
            folder, place, options = self.folder.command()
            command = translate_command(self.model.card.path, [folder], self.settings.options(), place, options)
            is_all = self.folder.is_all
            words += [] if is_all else ["It translates all images of the folder, not only those called like that."]
        else:
            out = self.out.path if self.destination.value else None
            files, options = self.picker.files(), self.options() | {"alpha": self.picker.alpha}
            command = translate_command(self.model.card.path, [path for path, _ in files], options, out)
            words += [] if all(exists for _, exists in files) else ["Save the layers under the names in it first."]
            is_all = self.part.kind.value == "whole"
            words += [] if is_all else ["It translates all of the layers, not the chosen part."]
        self.copy_command(command, *words)

    def on_closed(self) -> None:
        super().on_closed()
        self.live_view.switch(False)
        self.folder.stop()
        self.images.disconnect_viewer()
        self.model_actions.disconnect_viewer()
