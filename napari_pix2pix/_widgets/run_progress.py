"""How a run is getting on: bars, pictures, curves, and words about where it is."""

from __future__ import annotations

import time
from typing import Any

from napari.utils.notifications import show_warning

from napari_pix2pix._widgets.forms import ProgressBar
from napari_pix2pix._widgets.loss_plot import LossPlot
from napari_pix2pix._widgets.messages import Message, Remarks
from napari_pix2pix._widgets.previews import PreviewStrip
from napari_pix2pix._widgets.score_words import shown_score
from napari_pix2pix._widgets.training_job import Preview, seconds_left, time_left
from pix2pix_training.events import (
    Finished,
    LearningErrors,
    MeasuringInt8,
    Preparing,
    Started,
    StepDone,
    Validated,
    Validating,
    Warned,
)

_PARTS = 1000
_REDRAW_SECONDS = 0.5


class RunProgress:
    """What the events of a run are shown with; `state` says in words where it is, `remarks` what it warns of."""

    def __init__(self, state: Message, remarks: Remarks) -> None:
        self.state, self.remarks = state, remarks
        self.of_epoch, self.of_run = ProgressBar(), ProgressBar()
        self.of_epoch.setToolTip("Steps of this epoch, and images while those for validation are translated.")
        self.of_run.setToolTip("The whole run.")
        self.preview = PreviewStrip()
        self.plot = LossPlot()
        self.plot.setVisible(False)
        self.show_bars(False)
        self._redrawn = 0.0
        self._forget()

    def _forget(self) -> None:
        self._first_step: StepDone | None = None
        self._last_step: StepDone | None = None
        self._run: Started | None = None
        self._has_scores = False
        self._has_outcome = False

    def begin(self, *, resume: bool) -> None:
        """A run is being made ready; the curves of one that goes on stay."""
        self._forget()
        self.preview.clear()
        if not resume:
            self.plot.clear_run()
        self.plot.setVisible(False)
        for bar in (self.of_epoch, self.of_run):
            bar.tell(0, 0)
        self.show_bars(True)
        self.state.say("getting ready…")

    def show_of(self, is_of_choice: bool) -> None:
        """Show what the last run has left where it is of the images that are chosen."""
        self.preview.setVisible(is_of_choice and self.preview.preview is not None)
        self.plot.setVisible(is_of_choice and self._run is not None)

    def show(self, events: list[Any]) -> None:
        """What has happened since the last call."""
        for event in events:
            self._show_event(event)
        if time.monotonic() - self._redrawn >= _REDRAW_SECONDS:
            self._redraw()
        if previews := [event for event in events if isinstance(event, Preview)]:
            self.preview.show_preview(previews[-1])
        if steps := [event for event in events if isinstance(event, StepDone)]:
            self._show_steps(steps)
        if isinstance(events[-1], Validating):
            self._show_validating(events[-1])

    def fail(self, error: Exception) -> None:
        self._has_outcome = True
        self.state.say(str(error), "error")

    def end(self) -> None:
        """There are no more events; a run without an outcome was stopped."""
        self._redraw()
        self.show_bars(False)
        if not self._has_outcome:
            self.state.say(_stopped_words(self._last_step, self._run, has_scores=self._has_scores))

    def show_bars(self, shown: bool) -> None:
        self.of_epoch.setVisible(shown)
        self.of_run.setVisible(shown)

    def _show_event(self, event: Any) -> None:
        match event:
            case Preparing():
                self.of_epoch.tell(round(_PARTS * event.fraction), _PARTS, f"{event.words}: %p %")
                self.of_run.tell(0, _PARTS)
                self.state.say(f"{event.words}…")
            case Started():
                self._run, self._has_scores = event, event.resumed_from_step > 0
                self.of_epoch.tell(0, 0)
                self.state.say("getting ready…")
                self.plot.setVisible(True)
                self.plot.begin(event)
            case StepDone() if event.losses is not None:
                self.plot.add_losses(event.step, event.losses)
            case MeasuringInt8():
                self.of_epoch.tell(round(_PARTS * event.fraction), _PARTS, "8 bits: %p %")
                self.state.say("measuring what 8 bits cost…")
            case LearningErrors():
                self.of_epoch.tell(round(_PARTS * event.fraction), _PARTS, "error map: %p %")
                self.state.say("learning how large errors are…")
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

    def _redraw(self) -> None:
        self.plot.redraw()
        self._redrawn = time.monotonic()

    def _show_steps(self, steps: list[StepDone]) -> None:
        assert self._run is not None  # it has started
        self._first_step = self._first_step or steps[0]
        self._last_step = last = steps[-1]
        self.of_run.tell(round(_PARTS * last.fraction), _PARTS, f"%p %{time_left(self._first_step, last)}")
        in_each = self._run.steps_per_epoch
        done = last.step - last.epoch * in_each
        left = self._left_of_epoch(last, in_each - done)
        self.of_epoch.tell(done, in_each, f"epoch {last.epoch + 1}: step {done} of {in_each}{left}")
        if not self._has_outcome:
            self.state.say(f"step {last.step}")

    def _left_of_epoch(self, last: StepDone, steps: int) -> str:
        first = self._first_step
        if first is None or last.step == first.step:
            return ""
        return seconds_left((last.seconds - first.seconds) / (last.step - first.step) * steps)

    def _show_validating(self, event: Validating) -> None:
        """The upper bar counts validation images until the next step is done."""
        self.of_epoch.tell(event.done, event.total, f"validation: image {event.done + 1} of {event.total}")


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
