"""The Train widget: two images or folders, a few settings, and how the run is getting on."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_info, show_warning
from napari.viewer import Viewer
from qtpy.QtWidgets import QPushButton

from napari_pix2pix._widgets.command_line import train_command
from napari_pix2pix._widgets.form_words import named_as_fields
from napari_pix2pix._widgets.forms import PathField, ProgressBar, ask_folder, row, scrolling
from napari_pix2pix._widgets.job_widget import JobWidget, opened
from napari_pix2pix._widgets.loss_plot import LossPlot
from napari_pix2pix._widgets.messages import HelpLinks, Message
from napari_pix2pix._widgets.preferences import preferences, recent_models
from napari_pix2pix._widgets.previews import PreviewStrip
from napari_pix2pix._widgets.score_words import shown_score
from napari_pix2pix._widgets.training_images import TrainingImages
from napari_pix2pix._widgets.training_job import (
    Preview,
    TrainingRequest,
    held_out_words,
    resumed_config,
    run_state,
    seconds_left,
    time_left,
    training_events,
)
from napari_pix2pix._widgets.training_pace import Pace, computing_device
from napari_pix2pix._widgets.training_settings import TrainingSettings
from napari_pix2pix._widgets.translate_widget import TranslateWidget
from napari_pix2pix._widgets.values_look import ValuesRequest
from napari_pix2pix._widgets.values_words import ValuesWords
from napari_pix2pix._widgets.workers import start_worker
from napari_pix2pix.output_paths import MODEL_NAME, free_run_folder, next_run_folder
from pix2pix_training.errors import Pix2PixError
from pix2pix_training.events import Finished, Preparing, Started, StepDone, Validated, Validating, Warned

_LOOKING = "Looking at the values of the images…"
_PROGRESS_PARTS = 1000
_REDRAW_SECONDS = 0.5


class TrainWidget(JobWidget):
    """Form -> `TrainingRequest` -> worker -> progress, curves, previews and a model."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self.images = TrainingImages(napari_viewer)
        self.out = PathField(
            ask_folder,
            "folder for the model and its curves",
            "Where the model goes, with its curves and pictures of how it was learnt.",
        )
        self.out.set_path(free_run_folder(preferences().runs_folder))
        self.settings = TrainingSettings([("Run folder", self.out)])
        self._auto_device: Pace | None = None
        self._model: Path | None = None
        self._first_step: StepDone | None = None
        self._last_step: StepDone | None = None
        self._run: Started | None = None
        self._has_scores = False
        self._steps_per_epoch = 1
        self._has_outcome = False
        self._redrawn = 0.0
        self._build()
        self._connect()
        self.images.choose_first_layers()
        self._on_images_changed()
        start_worker(
            computing_device, on_events=self._on_device_known, on_error=self._on_no_device, on_end=self._refresh
        )

    # The form

    def _build(self) -> None:
        self.train_button = QPushButton("Train")
        self.train_button.setToolTip("Begin a new run on these images.")
        self.stop_button = QPushButton("Stop")
        self.stop_button.setToolTip("End the run after this step, with a model; it can be gone on with.")
        self.resume_button = QPushButton("Resume")
        self.resume_button.setToolTip("Go on with the run in the run folder, with the settings it was started with.")
        self.problem = Message()
        self.epoch_progress, self.progress = ProgressBar(), ProgressBar()
        self.epoch_progress.setToolTip("Steps of this epoch, and images while those for validation are translated.")
        self.progress.setToolTip("The whole run.")
        self._show_bars(False)
        self.preview = PreviewStrip()
        self.plot = LossPlot()
        self.plot.setVisible(False)
        self.translate_button = QPushButton("Translate with it")
        self.translate_button.setToolTip("Open the model of the run folder in the Translate widget.")
        self.copy_button = QPushButton("Copy command line")
        self.copy_button.setToolTip("Copy the command that trains in the same way, on the files of these images.")
        self.values = ValuesWords()
        self.help = HelpLinks()
        self.inputs = [self.images, self.values, self.settings]
        self.area = scrolling(
            self,
            [
                self.images,
                self.values,
                self.settings,
                self.preview,
                self.plot,
                self.remarks,
                self.help,
            ],
            [
                self.problem,
                row(self.train_button, self.stop_button, self.resume_button),
                self.epoch_progress,
                self.progress,
                self.state,
                row(self.translate_button, self.copy_button),
            ],
        )
        self.setMinimumWidth(380)

    def _connect(self) -> None:
        self.images.changed.connect(self._on_images_changed)
        self.settings.changed.connect(self._refresh)
        self.settings.preset.changed.connect(self._on_images_changed)
        self.out.changed.connect(self._refresh)
        self.values.changed.connect(self._refresh)
        self.values.wants_foreground.connect(self.settings.choose_foreground)
        self.train_button.clicked.connect(self._on_train)
        self.resume_button.clicked.connect(self._on_resume)
        self.stop_button.clicked.connect(self._on_stop)
        self.translate_button.clicked.connect(self._on_translate)
        self.copy_button.clicked.connect(self._on_copy)

    def choose_layers(self, sources: list[Any], targets: list[Any]) -> None:
        """Tick layers as source and target."""
        self.images.choose_layers(sources, targets)

    def _on_images_changed(self) -> None:
        if (size := self.images.source_size()) is not None:
            self.settings.suggest_patch_size(*size)
        self._refresh()

    def _on_device_known(self, paces: list[Pace]) -> None:
        self.settings.suggest_width_for(paces[-1].kind)
        self._auto_device = paces[-1]
        self._refresh()

    def _on_no_device(self, error: Exception) -> None:
        self.state.say(str(error), "error")

    # The choice, in words

    def choice(self) -> object:
        return self.images.choice(), self.settings.choice(), self.out.path

    def _refresh(self, *_: Any) -> None:
        self.forget_stale_words()
        self.lock_inputs()
        patch_size, size = self.settings.form.value("patch_size"), self.images.source_size()
        has_images = self.images.judge(patch_size, self.settings.z_context.value())
        self._look_at_values(has_images)
        obstacle = self._obstacle()
        is_too_large = size is not None and min(size) < patch_size  # which stands beside the images
        self._look_at_pace(has_images and obstacle is None)
        self._say_held_out(has_images and obstacle is None)
        folder = "nothing" if self.out.path is None else run_state(self.out.path)
        if obstacle is not None:
            self.problem.say("" if is_too_large else obstacle, "error")
        else:
            self.problem.say(_LOOKING if self.values.is_looking else self._hint(folder))
        is_ready = has_images and obstacle is None
        is_known = self.values.problem is None and not self.values.is_looking
        self.train_button.setEnabled(is_ready and is_known and not self.is_running)
        self.resume_button.setEnabled(is_ready and not self.is_running and folder == "run")
        self.stop_button.setEnabled(self.is_running)
        self.copy_button.setEnabled(is_ready)
        self.translate_button.setEnabled(self.out.path is not None and (self.out.path / MODEL_NAME).is_file())

    def _look_at_values(self, has_images: bool) -> None:
        """Say what the values are taken for, once there are images that can be trained on."""
        if self.is_running:
            return
        if not has_images:
            self.values.look(None, None)
            return
        source, target = self.settings.values(target_is_labels=self.images.target_is_labels)
        request = ValuesRequest(images=self.images.chosen(), source_values=source, target_values=target)
        self.values.look(request, (self.images.choice(), source, target))

    def _look_at_pace(self, is_ready: bool) -> None:
        """Say how fast this device trains, once it is known which that is."""
        device = self.settings.device.value
        default = self._auto_device if device == "auto" else None
        if self.is_running:
            return
        is_known = self._auto_device is not None
        config = self.settings.config(target_is_labels=self.images.target_is_labels) if is_ready and is_known else None
        self.settings.badge.look(config, device, default)

    def _say_held_out(self, is_ready: bool) -> None:
        """Say which part of the images is not trained on, once there are some."""
        if self.is_running:
            return
        assert self.out.path is not None or not is_ready  # the folder is an obstacle too
        try:
            request = self._request(self.out.path, False) if is_ready and self.out.path is not None else None
            self.settings.held_out.say("" if request is None else held_out_words(request))
        except Pix2PixError as error:
            self.settings.held_out.say(str(error), "error")

    def _hint(self, folder: str) -> str:
        """Where the model goes, and what the buttons do with a run folder that holds something."""
        assert self.out.path is not None
        if folder == "nothing" or self.is_running:
            return f"The model goes to {self.out.path}."
        return f"{_HINTS[folder]} Train begins a new one in {next_run_folder(self.out.path).name}."

    def _obstacle(self) -> str | None:
        """What forbids to start, images apart."""
        if self.out.path is None:
            return "Choose a run folder."
        try:
            self.settings.config(target_is_labels=self.images.target_is_labels)
        except Pix2PixError as error:
            return named_as_fields(str(error))
        return None

    # The work

    def _on_train(self) -> None:
        """A run is never begun in the place of another one."""
        assert self.out.path is not None  # the button is disabled without a folder
        if run_state(self.out.path) != "nothing":
            self.out.set_path(next_run_folder(self.out.path))
        self._start(resume=False)

    def _on_resume(self) -> None:
        self._start(resume=True)

    def _start(self, *, resume: bool) -> None:
        assert self.out.path is not None  # the buttons are disabled without a folder
        try:
            request = self._request(self.out.path, resume)
        except Pix2PixError as error:
            self.state.say(str(error), "error")
            return
        self.images.settle()
        self._model = self.out.path / MODEL_NAME
        self._first_step, self._last_step, self._run, self._has_outcome = None, None, None, False
        self.preview.clear()
        if not resume:
            self.plot.clear_run()
        self.plot.setVisible(False)
        for bar in (self.epoch_progress, self.progress):
            bar.tell(0, 0)
        self._show_run(True)
        self.state.say("getting ready…")
        self.settings.badge.stop()
        self.run(partial(training_events, request))
        self._refresh()

    def _request(self, out: Path, resume: bool) -> TrainingRequest:
        settings = self.settings
        return TrainingRequest(
            config=resumed_config(out, settings.chosen_length(), settings.form.value("patience"))
            if resume
            else settings.config(target_is_labels=self.images.target_is_labels),
            images=self.images.chosen(),
            out=out,
            device=settings.device.value,
            validation=settings.validation.value(),
            within=self.images.training_regions(),
            held_out=self.images.held_out_region(),
            z_context=self.settings.z_context.value(),
            resume=resume,
            init=None if resume else settings.init.path,
            colors=self.images.class_colors(),
        )

    def on_events(self, events: list[Any]) -> None:
        for event in events:
            match event:
                case Preparing():
                    done = round(_PROGRESS_PARTS * event.fraction)
                    self.epoch_progress.tell(done, _PROGRESS_PARTS, "looking at the images: %p %")
                    self.progress.tell(0, _PROGRESS_PARTS)
                    self.state.say("looking at the images…")
                case Started():
                    self.plot.setVisible(True)
                    self._run, self._has_scores = event, event.resumed_from_step > 0
                    self.epoch_progress.tell(0, 0)
                    self.state.say("getting ready…")
                    self._steps_per_epoch = event.steps_per_epoch
                    self.plot.begin(event)
                case StepDone() if event.losses is not None:
                    self.plot.add_losses(event.step, event.losses)
                case Validated():
                    self._has_scores = True
                    self.plot.add_scores(event)
                case Warned():
                    words = f"{event.words[0].upper()}{event.words[1:]}."
                    show_warning(words)
                    self.remarks.add(words)
                case Finished():
                    self._has_outcome = True
                    self.state.say(_finished_words(event, self._run), "good")
        if time.monotonic() - self._redrawn >= _REDRAW_SECONDS:
            self._redraw()
        if previews := [event for event in events if isinstance(event, Preview)]:
            self.preview.show_preview(previews[-1])
        if steps := [event for event in events if isinstance(event, StepDone)]:
            self._show_progress(steps)
        if isinstance(events[-1], Validating):
            self._show_validating(events[-1])

    def _redraw(self) -> None:
        self.plot.redraw()
        self._redrawn = time.monotonic()

    def _show_run(self, running: bool) -> None:
        """While a run is on, what it shows has the room of the fields, which cannot be changed then."""
        for fields in (self.images, self.values, self.settings, self.help):
            fields.setVisible(not running)
        self._show_bars(running)

    def _show_bars(self, shown: bool) -> None:
        self.epoch_progress.setVisible(shown)
        self.progress.setVisible(shown)

    def _show_progress(self, steps: list[StepDone]) -> None:
        self._first_step = self._first_step or steps[0]
        self._last_step = last = steps[-1]
        self.progress.tell(
            round(_PROGRESS_PARTS * last.fraction), _PROGRESS_PARTS, f"%p %{time_left(self._first_step, last)}"
        )
        in_epoch = last.step - last.epoch * self._steps_per_epoch
        self.epoch_progress.tell(
            in_epoch,
            self._steps_per_epoch,
            f"epoch {last.epoch + 1}: step {in_epoch} of {self._steps_per_epoch}{self._epoch_left(last, in_epoch)}",
        )
        if not self._has_outcome:
            self.state.say(f"step {last.step}")

    def _show_validating(self, event: Validating) -> None:
        """The upper bar counts validation images until the next step is done."""
        self.epoch_progress.tell(event.done, event.total, f"validation: image {event.done + 1} of {event.total}")

    def _epoch_left(self, last: StepDone, in_epoch: int) -> str:
        first = self._first_step
        if first is None or last.step == first.step:
            return ""
        pace = (last.seconds - first.seconds) / (last.step - first.step)
        return seconds_left(pace * (self._steps_per_epoch - in_epoch))

    def on_error(self, error: Exception) -> None:
        self._has_outcome = True
        self.state.say(str(error), "error")

    def on_end(self) -> None:
        self._redraw()
        self._show_run(False)
        if not self._has_outcome:
            self.state.say(_stopped_words(self._last_step, self._run, has_scores=self._has_scores))
        if self._model is not None and self._model.is_file():
            recent_models().add(self._model)
        self._refresh()

    def _on_stop(self) -> None:
        self.stop()
        self.stop_button.setEnabled(False)
        self.state.say("stopping after this step…")

    def _on_translate(self) -> None:
        assert self.out.path is not None  # the button is disabled without a model
        widget = opened(self.viewer, "Translate", TranslateWidget)
        widget.set_model(self.out.path / MODEL_NAME)
        if self.images.are_layers:
            widget.kind.choose("layers")
            widget.picker.choose(self.images.source.layers)
        else:
            widget.kind.choose("folder")
            widget.folder.folder.set_path(self.images.source_folder.path)

    def _on_copy(self) -> None:
        assert self.out.path is not None  # the button is disabled without a folder
        sources, targets = self.images.files()
        command = train_command(
            [path for path, _ in sources],
            [path for path, _ in targets],
            self.out.path,
            self.settings.config(target_is_labels=self.images.target_is_labels),
            self._command_options(),
        )
        is_complete = all(exists for _, exists in [*sources, *targets])
        self.copy_command(command, *([] if is_complete else ["Save the layers under the names in it first."]))

    def _command_options(self) -> dict[str, Any]:
        options = self.settings.command_options() | {"alpha": self.images.alpha()}
        if (region := self.images.held_out_region()) is not None:
            options["validation"] = f"{region.y0}:{region.y1},{region.x0}:{region.x1}"
        if self.images.training_regions():
            show_info("The regions to train within are not part of the command; crop the files to them.")
        return options

    def on_closed(self) -> None:
        super().on_closed()
        self.values.stop()
        self.settings.badge.stop()
        self.images.disconnect_viewer()


_HINTS = {
    "run": "The run folder holds a run: Resume goes on with it.",
    "model": "The run folder holds a model, and nothing to go on with.",
}


def _stopped_words(last: StepDone | None, run: Started | None, *, has_scores: bool) -> str:
    """How far a run is that was stopped, and whether anything is known of its model."""
    if last is None or run is None:
        return "stopped; Resume goes on from here"
    words = f"stopped at step {last.step}; "
    if not has_scores and run.validation_pairs:
        words += (
            f"how good its model is was not measured yet (first at step {run.config.validate_every}): "
            "judge it with Evaluate in the Translate widget; "
        )
    return f"{words}Resume goes on from here"


def _finished_words(event: Finished, run: Started | None) -> str:
    assert run is not None  # it has started
    words = shown_score(is_classes=run.target_is_classes, span=run.target_span).words(event.scores)
    score = f", validation {words}" if words else ""
    if event.new_seconds == 0:
        return event.early_stop or f"the run was complete already at step {event.steps}; set a greater length to go on"
    done = event.early_stop or f"done: {event.steps} steps"
    return f"{done}; model of step {event.model_step}{score}"
