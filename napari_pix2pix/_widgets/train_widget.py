"""The Train widget: two images or folders, a few settings, and how the run is getting on."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_info
from napari.viewer import Viewer
from qtpy.QtWidgets import QPushButton

from napari_pix2pix._widgets.command_line import train_command
from napari_pix2pix._widgets.form_words import named_as_fields
from napari_pix2pix._widgets.forms import PathField, ask_folder, row, scrolling
from napari_pix2pix._widgets.job_widget import JobWidget, opened
from napari_pix2pix._widgets.messages import HelpLinks, Message
from napari_pix2pix._widgets.preferences import preferences, recent_models
from napari_pix2pix._widgets.run_progress import RunProgress
from napari_pix2pix._widgets.training_images import TrainingImages
from napari_pix2pix._widgets.training_job import (
    TrainingRequest,
    held_out_words,
    resumed_config,
    run_state,
    training_events,
)
from napari_pix2pix._widgets.training_pace import Pace, computing_device
from napari_pix2pix._widgets.training_settings import TrainingSettings
from napari_pix2pix._widgets.translate_widget import TranslateWidget
from napari_pix2pix._widgets.values_look import ValuesRequest
from napari_pix2pix._widgets.values_words import ValuesWords
from napari_pix2pix._widgets.workers import make_worker
from napari_pix2pix.output_paths import MODEL_NAME, free_run_folder, next_run_folder
from pix2pix_training.errors import Pix2PixError

_GOES_TO = "The model goes to {}."


class TrainWidget(JobWidget):
    """Form -> `TrainingRequest` -> worker -> progress, curves, previews and a model."""

    least_width = 380

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
        self._trained_on: object = None
        self._foreground_of: object = None
        self.progress = RunProgress(self.state, self.remarks)
        self._build()
        self._connect()
        self.images.choose_first_layers()
        self._on_images_changed()
        make_worker(
            computing_device, on_events=self._on_device_known, on_error=self._on_no_device, on_end=self.refresh
        ).start()

    # The form

    def _build(self) -> None:
        self.train_button = QPushButton("Train")
        self.train_button.setToolTip("Begin a new run on these images.")
        self.stop_button = QPushButton("Stop")
        self.stop_button.setToolTip("End the run after this step, with a model; it can be gone on with.")
        self.resume_button = QPushButton("Resume")
        self.resume_button.setToolTip("Go on with the run in the run folder, with the settings it was started with.")
        self.problem = Message()
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
                self.progress.preview,
                self.progress.plot,
                self.remarks,
                self.help,
            ],
            [
                self.problem,
                row(self.train_button, self.stop_button, self.resume_button),
                self.progress.of_epoch,
                self.progress.of_run,
                self.state,
                row(self.translate_button, self.copy_button),
            ],
        )

    def _connect(self) -> None:
        self.images.changed.connect(self._on_images_changed)
        self.settings.changed.connect(self.refresh)
        self.settings.preset.changed.connect(self._on_images_changed)
        self.out.changed.connect(self.refresh)
        self.values.changed.connect(self.refresh)
        self.values.wants_foreground.connect(self._on_foreground)
        self.train_button.clicked.connect(self._on_train)
        self.resume_button.clicked.connect(self._on_resume)
        self.stop_button.clicked.connect(self._on_stop)
        self.translate_button.clicked.connect(self._on_translate)
        self.copy_button.clicked.connect(self._on_copy)

    def choose_layers(self, sources: list[Any], targets: list[Any]) -> None:
        """Tick layers as source and target."""
        self.images.choose_layers(sources, targets)

    def _on_images_changed(self) -> None:
        if self._foreground_of is not None and self._foreground_of != self.images.choice():
            self._foreground_of = None
            self.settings.form.restore_default("target_values")
        if (size := self.images.source_size()) is not None:
            self.settings.suggest_patch_size(*size)
        self.refresh()

    def _on_foreground(self) -> None:
        """Train on labelled or not, as long as these images are chosen."""
        self._foreground_of = self.images.choice()
        self.settings.choose_foreground()

    def _on_device_known(self, paces: list[Pace]) -> None:
        self.settings.suggest_width_for(paces[-1].kind)
        self._auto_device = paces[-1]
        self.refresh()

    def _on_no_device(self, error: Exception) -> None:
        self.state.say(str(error), "error")

    # The choice, in words

    def choice(self) -> object:
        return self.images.choice(), self.settings.choice(), self.out.path

    def look_again(self) -> None:
        if not self.is_running:
            self.images.look_again()
        super().look_again()

    def refresh(self, *_: Any) -> None:
        self.lock_inputs()
        self.stop_button.setEnabled(self.is_running)
        self.translate_button.setEnabled(self.out.path is not None and os.path.isfile(self.out.path / MODEL_NAME))  # noqa: PTH113 (any name)
        if self.is_running:
            self._offer_nothing()
        else:
            self._judge()

    def _offer_nothing(self) -> None:
        """Nothing can be begun while a run is on; its command can be copied as long as its images are there."""
        self.train_button.setEnabled(False)
        self.resume_button.setEnabled(False)
        self.copy_button.setEnabled(self.choice() == self.said_about)

    def _judge(self) -> None:
        """Say what is chosen and how the run would go, or what is wrong; offer what can be begun."""
        self.forget_stale_words()
        self.progress.show_of(self.images.choice() == self._trained_on)
        patch_size, size = self.settings.form.value("patch_size"), self.images.source_size()
        has_images = self.images.judge(patch_size, self.settings.z_context.value())
        self._look_at_values(has_images)
        obstacle = self._obstacle()
        is_too_large = size is not None and min(size) < patch_size  # which stands beside the images
        self._look_at_pace(has_images and obstacle is None)
        self._say_held_out(has_images and obstacle is None)
        folder = "nothing" if self.out.path is None or obstacle is not None else run_state(self.out.path)
        if obstacle is not None:
            self.problem.say("" if is_too_large else obstacle, "error")
        else:
            self.problem.say(self._hint(folder))
        is_ready = has_images and obstacle is None
        is_known = self.values.problem is None and not self.values.is_looking
        self.train_button.setEnabled(is_ready and is_known)
        self.resume_button.setEnabled(is_ready and folder == "run")
        self.copy_button.setEnabled(is_ready)

    def _look_at_values(self, has_images: bool) -> None:
        """Say what the values are taken for, once there are images that can be trained on."""
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
        is_known = self._auto_device is not None
        config = self.settings.config(target_is_labels=self.images.target_is_labels) if is_ready and is_known else None
        self.settings.badge.look(config, device, default)

    def _say_held_out(self, is_ready: bool) -> None:
        """Say which part of the images is not trained on, once there are some."""
        assert self.out.path is not None or not is_ready  # the folder is an obstacle too
        try:
            request = self._request(self.out.path, False) if is_ready and self.out.path is not None else None
            self.settings.held_out.say("" if request is None else held_out_words(request))
        except Pix2PixError as error:
            self.settings.held_out.say(str(error), "error")

    def _hint(self, folder: str) -> str:
        """Where the model goes, and what the buttons do with a run folder that holds something."""
        assert self.out.path is not None
        if folder == "nothing":
            return _GOES_TO.format(self.out.path)
        return f"{_HINTS[folder]} Train begins a new one in {next_run_folder(self.out.path).name}."

    def _obstacle(self) -> str | None:
        """What forbids to start, images apart."""
        if self.out.path is None:
            return "Choose a run folder."
        try:
            run_state(self.out.path)
            self.settings.config(target_is_labels=self.images.target_is_labels)
        except Pix2PixError as error:
            return named_as_fields(str(error))
        return None

    # The work

    def _on_train(self) -> None:
        """A run is never begun in the place of another one."""
        self.settings.badge.stop()  # it computes, and what follows waits for the interpreter
        self.look_again()
        if not self.train_button.isEnabled():  # the form says what is other than it was
            return
        assert self.out.path is not None  # the button is disabled without a folder
        if run_state(self.out.path) != "nothing":
            self.out.set_path(next_run_folder(self.out.path))
        self._start(resume=False)

    def _on_resume(self) -> None:
        self.look_again()
        if self.resume_button.isEnabled():  # else the form says what is other than it was
            self._start(resume=True)

    def _start(self, *, resume: bool) -> None:
        assert self.out.path is not None  # the buttons are disabled without a folder
        try:
            request = self._request(self.out.path, resume)
        except Pix2PixError as error:
            self.state.say(str(error), "error")
            return
        self.images.settle()
        self._trained_on = self.images.choice()
        self._model = self.out.path / MODEL_NAME
        self.settings.badge.stop()
        self.problem.say(_GOES_TO.format(self.out.path))
        self._show_fields(False)
        self.progress.begin(resume=resume)
        self.run(partial(training_events, request))

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
        self.progress.show(events)

    def _show_fields(self, shown: bool) -> None:
        """While a run is on, what it shows has the room of the fields, which cannot be changed then."""
        for fields in (self.images, self.values, self.settings, self.help):
            fields.setVisible(shown)

    def on_error(self, error: Exception) -> None:
        self.progress.fail(error)

    def on_end(self) -> None:
        self._show_fields(True)
        self.progress.end()
        if self._model is not None and self._model.is_file():
            recent_models().add(self._model)
        self.refresh()

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
    "busy": "Another run is writing to the run folder.",
    "other": "The run folder holds something else.",
}
