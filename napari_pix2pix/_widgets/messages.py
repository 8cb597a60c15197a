"""Words of the forms: beside the fields that they are about, in colours that can be read in every theme, and links."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from qtpy.QtCore import QEvent, Qt, QUrl
from qtpy.QtGui import QContextMenuEvent, QDesktopServices, QFocusEvent, QKeyEvent, QKeySequence, QPalette
from qtpy.QtWidgets import QApplication, QLabel, QMenu, QSizePolicy, QWidget

from napari_pix2pix._widgets.documentation import open_documentation, project_urls

CHANGES_OF_THEME = (QEvent.Type.PaletteChange, QEvent.Type.StyleChange)
LEAST_CONTRAST = 4.5
"""Of text, by WCAG 2.2, success criterion 1.4.3."""
_ON_DARK = {"error": "#ff8a80", "warning": "#e3b341", "good": "#7ee787", "blue": "#58a6ff", "violet": "#d2a8ff"}
_ON_LIGHT = {"error": "#a40e26", "warning": "#7a4a00", "good": "#14602b", "blue": "#0a4fa8", "violet": "#6e3bb5"}


_DOCUMENTATION = "documentation"
MOST_LINES = 20
_BREAK = "\N{ZERO WIDTH SPACE}"
_LONG_WORD = re.compile(r"\S{21,}")
_PARTS = re.compile(r"[^\W_]{13,}|[_./\\,;:=+@&-]+(?=\w)")


def breakable(text: str) -> str:
    """Words with places where a line may end, also in names without a space, which would be wider than a form."""
    return _LONG_WORD.sub(lambda word: _PARTS.sub(_with_breaks, word[0]), text)


def _with_breaks(part: re.Match[str]) -> str:
    """After signs that join parts of a name, and anywhere in long parts."""
    return _BREAK.join(part[0]) if part[0].isalnum() else part[0] + _BREAK


def _first_lines(text: str) -> str:
    """What is shown of words that may have hundreds of lines, such as one for each image of a folder."""
    lines = text.split("\n")
    more = len(lines) - MOST_LINES
    return text if more <= 1 else "\n".join([*lines[:MOST_LINES], f"… and {more} more: right-click, Copy, has all"])


class Message(QLabel):
    """A line or two of words beside the fields that they are about; takes no room while it has none.

    Of more than `MOST_LINES` the first are shown; all of them are `text` and are copied.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)
        self.kind = "plain"
        self._text = ""
        self._colour: str | None = None
        self.say("")

    def say(self, text: str, kind: str = "plain") -> None:
        """Show `text`; `kind` is "plain", "good", "warning" or "error"."""
        self.kind = kind
        self._colour_words()
        self._text = text
        self.setText(breakable(_first_lines(text)))
        self.setVisible(bool(text))

    def text(self) -> str:
        """The words as they were said."""
        return self._text

    def selectedText(self) -> str:
        return str(super().selectedText()).replace(_BREAK, "").replace("\N{PARAGRAPH SEPARATOR}", "\n")

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.matches(QKeySequence.StandardKey.Copy):
            self._copy()
        else:
            super().keyPressEvent(event)

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        menu = QMenu(self)
        menu.addAction("Copy", self._copy)
        menu.exec(event.globalPos())

    def _copy(self) -> None:
        """What is selected, or all of it, as it was said."""
        QApplication.clipboard().setText(self.selectedText() or self._text)

    def keep_room(self, kept: bool) -> None:
        """Have the room that the words take by now also with fewer words or none, so that nothing near them moves."""
        is_kept = kept and not self.isHidden()
        policy = self.sizePolicy()
        policy.setRetainSizeWhenHidden(is_kept)
        self.setSizePolicy(policy)
        self.setMinimumHeight(self.height() if is_kept else 0)

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
            self._say_lines([*self._lines, line])

    def drop(self, reasons: Collection[str]) -> None:
        """Forget lines with reasons that stand elsewhere by now."""
        self._say_lines([line for line in self._lines if not any(reason in line for reason in reasons)])

    def _say_lines(self, lines: list[str]) -> None:
        self._lines = lines
        self.say("\n".join(f"• {line}" for line in lines), "warning")

    def forget(self) -> None:
        self._lines = []
        self.say("")


def background_of(widget: QWidget) -> Colour:
    """The colour behind the words of a widget, in the theme of this moment."""
    colour: Any = widget.palette().color(QPalette.ColorRole.Window)
    return colour.red(), colour.green(), colour.blue()


Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""


def status_colour(kind: str, background: Colour) -> str | None:
    """The colour of words of a kind, as "#rrggbb": of a light and a dark one, what stands out more from `background`.

    Kinds are "good", "warning", "error", and "blue" and "violet" of curves; others have the colour of the theme, None.
    """
    if kind not in _ON_DARK:
        return None
    return max((_ON_DARK[kind], _ON_LIGHT[kind]), key=lambda colour: contrast(parsed(colour), background))


def contrast(first: Colour, second: Colour) -> float:
    """From 1 (equal) to 21 (black and white), as WCAG 2.2 defines the contrast ratio."""
    lighter, darker = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def parsed(colour: str) -> Colour:
    """ "#rrggbb" as three numbers."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue


def _luminance(colour: Colour) -> float:
    """Relative luminance of an sRGB colour."""
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (channel / 255 for channel in colour)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


class HelpLinks(QLabel):
    """What opens the documentation that came with the package, and the package's links, which the browser opens."""

    def __init__(self) -> None:
        super().__init__()
        self.linkActivated.connect(self._on_activated)
        self.setTextInteractionFlags(
            Qt.TextInteractionFlag.LinksAccessibleByMouse | Qt.TextInteractionFlag.LinksAccessibleByKeyboard
        )
        self.setWordWrap(True)
        self._colour: str | None = None
        self._colour_words()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() in CHANGES_OF_THEME and hasattr(self, "_colour"):
            self._colour_words()

    def _colour_words(self) -> None:
        colour = status_colour("blue", background_of(self))
        if colour != self._colour:
            self._colour = colour
            self.setStyleSheet(
                f"QLabel {{ border: 1px solid transparent; }} QLabel:focus {{ border: 1px solid {colour}; }}"
            )
            pages = {"Documentation": _DOCUMENTATION}
            links = pages | project_urls() | pages
            words = (f'<a href="{url}" style="color: {colour}">{name}</a>' for name, url in links.items())
            self.setText(f"Help: {' · '.join(words)}")

    def focusInEvent(self, event: QFocusEvent) -> None:
        super().focusInEvent(event)
        if event.reason() == Qt.FocusReason.TabFocusReason:
            self.focusNextPrevChild(True)  # to the first link

    def _on_activated(self, url: str) -> None:
        if url == _DOCUMENTATION:
            open_documentation(self)
        else:
            QDesktopServices.openUrl(QUrl(url))
