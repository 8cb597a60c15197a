"""The words in the Train widget about what pixel values are taken for, with the offer to train on labelled or not."""

from __future__ import annotations

from functools import partial

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from napari_pix2pix._widgets.inquiry import Inquiry
from napari_pix2pix._widgets.messages import Message
from napari_pix2pix._widgets.values_look import ValuesLook, ValuesRequest, look_events

LOOKING = "Looking at the values of the images…"
_REST_MS = 200
_PATIENCE_MS = 15_000


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
        self._found: ValuesLook | None = None
        self._patience = QTimer(self)  # active while an answer is worth waiting for
        self._patience.setSingleShot(True)
        self._patience.setInterval(_PATIENCE_MS)
        self._patience.timeout.connect(self.changed)
        self._inquiry = Inquiry(self, _REST_MS)
        self._inquiry.answered.connect(self._on_found)
        self._inquiry.failed.connect(self._on_failed)

    @property
    def problem(self) -> str | None:
        """Why the values cannot be trained on; None where they can, and while that is not known."""
        return None if self._found is None else self._found.problem

    @property
    def is_looking(self) -> bool:
        """Whether words about the values may come soon; not for ever, as reading the images may take long."""
        return bool(self._patience.isActive())

    def look(self, request: ValuesRequest | None, about: object) -> None:
        """Look at the images of `request` soon, unless that was done; `about` is equal where nothing has changed."""
        if self._inquiry.ask(None if request is None else partial(look_events, request), about):
            self._show(None)
            self._patience.stop()
            if request is not None:
                self.message.say(LOOKING)
                self._patience.start()

    def stop(self) -> None:
        """Do not look any more."""
        self._inquiry.stop()
        self._patience.stop()

    def _on_found(self, found: ValuesLook) -> None:
        self._patience.stop()
        self._show(found)
        self.changed.emit()

    def _on_failed(self, words: str) -> None:
        self._patience.stop()
        self.message.say(words, "error")
        self.changed.emit()

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
