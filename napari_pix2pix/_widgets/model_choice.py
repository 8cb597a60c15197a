"""The field for a model file, with the recent ones and with what the file says about itself."""

from __future__ import annotations

import os
from collections.abc import Generator
from functools import partial
from html import escape
from pathlib import Path

from qtpy.QtCore import QMimeData, Signal
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_pix2pix._widgets.forms import Choice, PathField, ask_model, form
from napari_pix2pix._widgets.inquiry import Inquiry, state_of
from napari_pix2pix._widgets.messages import breakable
from napari_pix2pix._widgets.model_card import ModelCard, load_card
from napari_pix2pix._widgets.preferences import recent_models
from napari_pix2pix.output_paths import MODEL_NAME
from pix2pix_training.errors import Pix2PixError

_NOTHING = "Choose a model, or train one."


class ModelChoice(QWidget):
    """A model file, or a run folder with one; `changed` is emitted when it, or what is known of it, is another one."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._card: ModelCard | None = None
        self._seen: object = None
        self._inquiry = Inquiry(self, 0)
        self._inquiry.answered.connect(self._on_card)
        self._inquiry.failed.connect(self._on_failed)
        self.recent = Choice({"choose a recent model": None}, "Models trained or used before.")
        self.file = PathField(ask_model, MODEL_NAME, "A model file, or the folder of a run; it can be dropped here.")
        self.file.line.setAcceptDrops(False)  # it would take the text of a URL; the form takes the path
        self.words = QLabel(_NOTHING)
        self.words.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(form([("Model", self.file), ("", self.recent)]))
        layout.addWidget(self.words)
        self.recent.activated.connect(self._on_recent_chosen)
        self.file.changed.connect(self._on_file_changed)
        recent_models().changed.connect(self._on_model_added)
        self._offer_recent()

    @property
    def card(self) -> ModelCard | None:
        """What the chosen file says; None while it is not known, and where it is no model."""
        return self._card

    @property
    def path(self) -> Path | None:
        """The model file; of a run folder that is chosen, the model in it."""
        chosen = self.file.path
        return chosen / MODEL_NAME if chosen is not None and self.file.is_folder else chosen

    @property
    def _present(self) -> object:
        return self.path and (self.path, state_of(self.path))

    @property
    def seen(self) -> object:
        """Which file, in which state, was looked at last; to be compared."""
        return self._seen

    def set_path(self, path: Path) -> None:
        self.file.set_path(path)
        self.look_again()

    def look_again(self) -> None:
        """The file may have been replaced, or have gone or come, since it was looked at."""
        if self._present != self._seen:
            self._on_file_changed()

    def _offer_recent(self) -> None:
        self.recent.fill({"recent models": None, **{str(path): path for path in recent_models().paths()}})
        self.recent.setVisible(self.recent.count() > 1)

    def _on_recent_chosen(self, _index: int) -> None:
        if self.recent.value is not None:
            self.set_path(self.recent.value)
            self.recent.setCurrentIndex(0)

    def _on_model_added(self, path: Path) -> None:
        self._offer_recent()
        if self.file.path is None:
            self.set_path(path)

    def _on_file_changed(self) -> None:
        path, self._seen = self.path, self._present
        if path is None or not os.path.isfile(path):  # noqa: PTH113 (whose own method raises for what can be no path)
            self._card = None
            self._inquiry.ask(None, None)
            self.words.setText(_NOTHING if path is None else escape(breakable(_absence(path))))
        elif self._inquiry.ask(partial(_card_events, path), self._seen):
            self._card = None
            self.words.setText("reading the model…")
        self.changed.emit()

    def _on_card(self, card: ModelCard | str) -> None:
        if isinstance(card, str):
            self._on_failed(card)
            return
        self._card = card
        lines = [
            f"<tr><td>{escape(label)}&nbsp;&nbsp;</td><td>{_unbroken(text)}</td></tr>" for label, text in card.rows()
        ]
        self.words.setText(f"<table>{''.join(lines)}</table>")
        self.words.setToolTip(card.details and f"<p>{escape(card.details)}</p>")
        self.changed.emit()

    def _on_failed(self, words: str) -> None:
        self.words.setText(escape(breakable(words)))
        self.changed.emit()


def dropped_model(dropped: QMimeData) -> Path | None:
    """The model file or folder that is dragged; None for something else, or for several."""
    urls = dropped.urls()
    path = Path(urls[0].toLocalFile()) if len(urls) == 1 and urls[0].isLocalFile() else None
    return path if path is not None and (path.is_dir() or path.suffix == Path(MODEL_NAME).suffix) else None


def _unbroken(text: str) -> str:
    """As HTML, with no new line between a number and its per cent."""
    return escape(breakable(text)).replace(" %", "&nbsp;%")


def _absence(path: Path) -> str:
    if path.name == MODEL_NAME and path.parent.is_dir():
        return f"{path.parent} has no model yet: there is no {MODEL_NAME} in it."
    return f"{path} does not exist."


def _card_events(path: Path) -> Generator[ModelCard | str, None, None]:
    """What a file says; that it cannot be used is an answer, not an error."""
    try:
        yield load_card(path)
    except Pix2PixError as error:
        yield str(error)
