"""How much of the last image is unlike what the model was trained on, in words, and a button that asks where."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from napari_pix2pix._widgets.messages import Message

SHOW_WHERE = "Show where"


class NoveltyBadge(QWidget):
    """Takes no room before something is told; `asked` is emitted when the button is clicked.

    `subject` is what was told of last.
    """

    asked = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.words = Message()
        self.button = QPushButton(SHOW_WHERE)
        self.button.setToolTip("Add a layer that is red where the image is unlike the training images.")
        self.button.clicked.connect(self.asked)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.words, 1)
        layout.addWidget(self.button)
        self.subject: Any = None
        self._about: object = None
        self.setVisible(False)

    def tell(self, share: float | None, about: object, subject: Any, *, is_sampled: bool = True) -> None:
        """Show a share from 0 to 1, None for nothing.

        Parameters
        ----------
        about : the choice that it is of, see `forget_other`.
        subject : what was looked at.
        is_sampled : it is of some places of the image only.
        """
        from napari_pix2pix.translation.novelty_map import WARNED_SHARE, share_in_words

        self._about, self.subject = about, None if share is None else subject
        self.setVisible(share is not None)
        if share is not None:
            words = share_in_words(share)
            if is_sampled and words[0].isdigit():
                words = f"about {words}"
            self.words.say(f"{words[0].upper()}{words[1:]}.", "warning" if share > WARNED_SHARE else "plain")

    def forget_other(self, choice: object) -> None:
        """Take the words away where they are about another choice."""
        if choice != self._about:
            self.tell(None, choice, None)
