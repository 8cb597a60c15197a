"""The words and the tick where layers that are to be one image do not lie on each other."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtWidgets import QCheckBox

from napari_pix2pix._widgets.layer_places import Misplaced


class PlaceCheck(QCheckBox):
    """A tick that is asked for where layers lie at different places, and forgotten when it is about others."""

    def __init__(self) -> None:
        super().__init__("pixel by pixel all the same")
        self.setToolTip("Take the layers for one image although napari shows them at different places or scales.")
        self._about: tuple[str, ...] = ()
        self.setVisible(False)

    def judge(self, found: Sequence[Misplaced]) -> tuple[str | None, list[str]]:
        """What forbids to take the layers for one image, and what is to be said of it where it is allowed."""
        words = [each.words for each in found]
        serious = tuple(each.words for each in found if not each.is_plain)
        if serious != self._about:
            self._about = serious
            self.blockSignals(True)
            self.setChecked(False)
            self.blockSignals(False)
        self.setVisible(bool(serious))
        if serious and not self.isChecked():
            what_to_do = "give them the same place and scale, or tick below to take them pixel by pixel"
            return f"{'. '.join(words)}: {what_to_do}.", []
        return None, [f"{each}." for each in words]
