"""The words in the Train widget about what pixel values are taken for, with the offer to train on labelled or not."""

from __future__ import annotations

from functools import partial

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from napari_pix2pix._widgets.messages import Message
from napari_pix2pix._widgets.values_look import ValuesLook, ValuesRequest, look_events
from napari_pix2pix._widgets.workers import CoreWorker, start_worker

_REST_MS = 200


class ValuesWords(QWidget):
    """Looks at the images once a choice has come to rest.

    `changed`: the words are others. `wants_foreground`: the user takes the offer.
    """

    changed = Signal()
    wants_foreground = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.message = Message()
        self.foreground_button = QPushButton("labelled or not instead")
        self.foreground_button.setToolTip(
            "Train on two classes, background (0) and labelled, whatever the numbers are."
        )
        self.foreground_button.setVisible(False)
        self.foreground_button.clicked.connect(self.wants_foreground)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.message)
        layout.addWidget(self.foreground_button)
        self._about: object = None
        self._request: ValuesRequest | None = None
        self._found: ValuesLook | None = None
        self._worker: CoreWorker | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_REST_MS)
        self._timer.timeout.connect(self._start)

    @property
    def problem(self) -> str | None:
        """Why the values cannot be trained on; None where they can, and while that is not known."""
        return None if self._found is None else self._found.problem

    def look(self, request: ValuesRequest | None, about: object) -> None:
        """Look at the images of `request` soon, unless that was done; `about` is equal where nothing has changed."""
        if about == self._about:
            return
        self._about, self._request = about, request
        self.stop()
        self._show(None)
        if request is not None:
            self._timer.start()

    def stop(self) -> None:
        """Do not look any more."""
        self._timer.stop()
        if self._worker is not None:
            self._worker.quit()
            self._worker = None

    def _start(self) -> None:
        request, self._request = self._request, None
        if request is not None:
            self._worker = start_worker(
                partial(look_events, request),
                on_events=partial(self._on_found, self._about),
                on_error=self._on_error,
                on_end=self._on_end,
            )

    def _on_found(self, about: object, answers: list[ValuesLook | None]) -> None:
        if about == self._about and answers[-1] is not None:  # not a late answer about others
            self._show(answers[-1])
            self.changed.emit()

    def _on_error(self, error: Exception) -> None:
        self.message.say(str(error), "error")

    def _on_end(self) -> None:
        """Qt lets go of this slot when the widget is gone."""

    def _show(self, found: ValuesLook | None) -> None:
        self._found = found
        words, objects = (() if found is None else found.words), (None if found is None else found.objects)
        if objects is not None:
            words = (*words, f"{objects} objects in the labels: one class each?")
        if self.problem is not None:
            words = (self.problem, *words)
        kind = "error" if self.problem is not None else "warning" if objects is not None else "plain"
        self.message.say("\n".join(words), kind)
        self.foreground_button.setVisible(objects is not None)
