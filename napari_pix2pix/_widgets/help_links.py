"""Where help is found, as a line of links."""

from __future__ import annotations

from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QLabel

from napari_pix2pix._widgets.messages import CHANGES_OF_THEME, background_of
from napari_pix2pix._widgets.status_colours import status_colour

URLS = {
    "Documentation": "https://pypi.org/project/napari-pix2pix/",
    "Citation (the pix2pix paper)": "https://arxiv.org/abs/1611.07004",
}
"""Those of ``[project.urls]`` in pyproject.toml."""


class HelpLinks(QLabel):
    """Links that the browser opens."""

    def __init__(self) -> None:
        super().__init__()
        self.setOpenExternalLinks(True)
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
            links = (f'<a href="{url}" style="color: {colour}">{name}</a>' for name, url in URLS.items())
            self.setText(f"Help: {' · '.join(links)}")
