"""Words of the forms: beside the fields that they are about, in colours that can be read in every theme."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QPalette
from qtpy.QtWidgets import QLabel, QSizePolicy, QWidget

from napari_pix2pix._widgets.status_colours import Colour, status_colour

CHANGES_OF_THEME = (QEvent.Type.PaletteChange, QEvent.Type.StyleChange)


class Message(QLabel):
    """A line or two of words beside the fields that they are about; takes no room while it has none."""

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
        self.kind = "plain"
        self._colour: str | None = None
        self.say("")

    def say(self, text: str, kind: str = "plain") -> None:
        """Show `text`; `kind` is "plain", "good", "warning" or "error"."""
        self.kind = kind
        self._colour_words()
        self.setText(text)
        self.setVisible(bool(text))

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() in CHANGES_OF_THEME:
            self._colour_words()

    def _colour_words(self) -> None:
        colour = status_colour(self.kind, background_of(self))
        if colour != self._colour:  # a style sheet is costly
            self._colour = colour
            self.setStyleSheet("" if colour is None else f"color: {colour};")


class Remarks(Message):
    """What was decided about images during a job, a line each; a line that is there already is not added again."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(self._lines)

    def add(self, line: str) -> None:
        if line not in self._lines:
            self._lines.append(line)
            self.say("\n".join(f"• {line}" for line in self._lines), "warning")

    def forget(self) -> None:
        self._lines = []
        self.say("")


def background_of(widget: QWidget) -> Colour:
    """The colour behind the words of a widget, in the theme of this moment."""
    colour: Any = widget.palette().color(QPalette.ColorRole.Window)
    return colour.red(), colour.green(), colour.blue()
