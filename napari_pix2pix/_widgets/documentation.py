"""Help for the forms: the documentation that came with the package, shown in a window, and the package's links."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, QUrl
from qtpy.QtGui import QImage, QTextDocument
from qtpy.QtWidgets import QTextBrowser, QWidget

_PAGE = "reference/napari.md"
_SIZE_PX = 860, 700
_MARGIN_PX = 120


def documentation_folder() -> Path:
    """Where the pages are: in the package that is installed, or beside it in the sources."""
    package = Path(__file__).parents[1]
    installed = package / "docs"
    return installed if installed.is_dir() else package.parent / "docs"


def project_urls() -> dict[str, str]:
    """The links of ``[project.urls]`` by their names, as they were installed."""
    try:
        entries = metadata("napari-pix2pix").get_all("Project-URL") or []
    except PackageNotFoundError:  # the sources alone
        return {}
    return dict(entry.split(", ", 1) for entry in entries)


def open_documentation(parent: QWidget) -> None:
    """Show the page about napari in a window of its own, of which there is one for a form."""
    window = parent.findChild(DocumentationWindow) or DocumentationWindow(parent)
    window.show()
    window.raise_()


class DocumentationWindow(QTextBrowser):
    """The pages of the documentation, with links between them; pictures are as wide as the window at most."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowFlag(Qt.WindowType.Window)
        self.setWindowTitle("napari-pix2pix")
        self.setOpenExternalLinks(True)
        self.resize(*_SIZE_PX)
        self.setSource(QUrl.fromLocalFile(str(documentation_folder() / _PAGE)))

    def loadResource(self, kind: int, name: QUrl) -> Any:
        if kind != QTextDocument.ResourceType.ImageResource.value:
            return super().loadResource(kind, name)
        picture = QImage(self.source().resolved(name).toLocalFile())
        width = self.width() - _MARGIN_PX
        return picture.scaledToWidth(width, _SMOOTH) if picture.width() > width else picture


_SMOOTH = Qt.TransformationMode.SmoothTransformation
