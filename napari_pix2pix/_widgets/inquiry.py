"""Questions that take a while, asked in a thread once a choice has come to rest."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_pix2pix._widgets.workers import CoreWorker, MakeEvents, make_worker


def state_of(path: Path) -> tuple[int, int] | None:
    """When a file was written, or files of a folder came or went, and its size; None where there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):  # which is for what can be no path
        return None
    return found.st_mtime_ns, found.st_size


class Inquiry(QObject):
    """One question at a time; answers to others than the last are dropped.

    `answered` has what the generator yields, None left out. `failed` has the words of an error.
    """

    answered = Signal(object)
    failed = Signal(str)

    def __init__(self, parent: QObject, rest_ms: int) -> None:
        super().__init__(parent)
        self._about: object = None
        self._question: MakeEvents | None = None
        self._worker: CoreWorker | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(rest_ms)
        self._timer.timeout.connect(self._start)

    def ask(self, question: MakeEvents | None, about: object) -> bool:
        """Ask soon, unless that was done; `about` is equal where nothing has changed. Whether it had changed."""
        if about == self._about:
            return False
        self.stop()
        self._about, self._question = about, question
        if question is not None:
            self._timer.start()
        return True

    def stop(self) -> None:
        """Do not ask any more, until `ask` is called about something else."""
        self._timer.stop()
        self._question = None
        if self._worker is not None:
            self._worker.quit()
            self._worker = None

    def _start(self) -> None:
        question, self._question = self._question, None
        if question is not None:
            self._worker = make_worker(
                question,
                on_events=partial(self._on_answers, self._about),
                on_error=partial(self._on_error, self._about),
                on_end=self._on_end,
            )
            self._worker.start()

    def _on_answers(self, about: object, answers: list[Any]) -> None:
        known = [answer for answer in answers if answer is not None]
        if about == self._about and known:  # not a late answer about others
            self.answered.emit(known[-1])

    def _on_error(self, about: object, error: Exception) -> None:
        if about == self._about:
            self.failed.emit(str(error))

    def _on_end(self) -> None:
        """Qt lets go of this slot when the widget is gone."""
