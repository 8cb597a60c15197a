"""Which device trains, and how many steps it can be expected to do in the time that is chosen."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from napari_pix2pix._widgets.inquiry import Inquiry
from napari_pix2pix._widgets.messages import Message
from napari_pix2pix._widgets.training_pace import Pace, pace_events
from pix2pix_training.config import TrainingConfig

_REST_MS = 1000


class PaceBadge(Message):
    """Tries a few steps once the settings have come to rest; settings that were tried are not tried again."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[object, Pace] = {}
        self._shown: object = None
        self._length = ("minutes", 0.0)
        self._inquiry = Inquiry(self, _REST_MS)
        self._inquiry.answered.connect(self._on_pace)
        self._inquiry.failed.connect(self.say)

    def look(self, config: TrainingConfig | None, device: str, default: Pace | None) -> None:
        """Show the pace of these settings, and find it out where it is not known.

        Parameters
        ----------
        config : None where there is nothing to be trained on, or with.
        default : what is known of the device otherwise.
        """
        if config is None:
            self._inquiry.ask(None, None)
            self._show(default)
            return
        lengths = {name: getattr(config, name) for name in ("minutes", "steps", "epochs")}
        self._length = next(((name, value) for name, value in lengths.items() if value is not None), self._length)
        config = replace(config, minutes=None, steps=None, epochs=None)
        self._shown = (config, device)
        pace = self._known.get(self._shown)
        self._show(pace or default)
        if pace is None and default is not None:
            self.say(f"{default.device}: measuring…")
        self._inquiry.ask(partial(pace_events, config, device) if pace is None else None, self._shown)

    def stop(self) -> None:
        """Try nothing any more, until there is something else to look at."""
        self._inquiry.ask(None, None)

    def _on_pace(self, pace: Pace) -> None:
        self._known[self._shown] = pace
        self._show(pace)

    def _show(self, pace: Pace | None) -> None:
        if pace is None:
            self.say("")
        else:
            self.say(pace.words(*self._length), "plain" if pace.problem is None else "warning")
