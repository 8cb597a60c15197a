"""The part of the Translate widget for the images of a folder: which, where to, and what was made of them."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

from napari.viewer import Viewer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLineEdit, QPushButton, QVBoxLayout, QWidget

from napari_pix2pix._widgets.folder_job import FolderImages, FolderLook, FolderTranslated, look_events
from napari_pix2pix._widgets.forms import Choice, PathField, ask_folder, form, row
from napari_pix2pix._widgets.inquiry import Inquiry, state_of
from napari_pix2pix._widgets.layer_files import add_file
from napari_pix2pix._widgets.messages import Message
from napari_pix2pix.formats.registry import writable_formats
from napari_pix2pix.output_paths import results_folder
from pix2pix_training.errors import Pix2PixError

_REST_MS = 200
_EXISTING = {"keep, do the rest": "resume", "replace": "overwrite"}


class FolderChoice(QWidget):
    """A folder, a pattern of names, and a folder for the results; `changed`: the choice or what is known is another."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._look: FolderLook | None = None
        self._proposed: Path | None = None
        self.folder = PathField(ask_folder, "folder of images", "The images to translate.")
        self.pattern = QLineEdit("*")
        self.pattern.setToolTip("Which images: * stands for any letters, as in *_phase.tif.")
        self.out = PathField(ask_folder, "folder for the results", "Results get the names of their images there.")
        formats = {"as the images": "same", **{name: name for name in writable_formats()}}
        self.file_format = Choice(formats, "The format of the results.")
        self.existing = Choice(
            _EXISTING,
            "What happens to results that are in the folder already; those that are unfinished are gone on with.",
        )
        self.message = Message()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        rows = [("Folder", self.folder), ("Names like", self.pattern), ("Results in", self.out)]
        layout.addWidget(form([*rows, ("Format", self.file_format), ("Existing results", self.existing)]))
        layout.addWidget(self.message)
        self._inquiry = Inquiry(self, _REST_MS)
        self._inquiry.answered.connect(self._on_looked)
        self._inquiry.failed.connect(self._on_failed)
        self.folder.changed.connect(self._on_images_changed)
        self.pattern.textChanged.connect(self._on_images_changed)
        self.out.changed.connect(self._on_other_changed)
        for choice in (self.file_format, self.existing):
            choice.currentIndexChanged.connect(self._on_other_changed)
        self._on_other_changed()

    @property
    def images(self) -> FolderImages | None:
        folder = self.folder.path
        return None if folder is None else FolderImages(folder=folder, pattern=self.pattern.text().strip() or "*")

    def choice(self) -> object:
        """What is chosen, to be compared."""
        return self.images, self.out.path, self.file_format.value, self.existing.value

    @property
    def is_all(self) -> bool:
        """Whether all images of the folder are meant."""
        return self.images is not None and self.images.pattern == "*"

    def command(self) -> tuple[Path, Path, dict[str, Any]]:
        """Folder, folder of the results, and options for the command line; only where there is no problem."""
        assert self.images is not None and self.out.path is not None
        chosen = self.file_format.value
        options = {"format": None if chosen == "same" else chosen, self.existing.value: True, "on_error": "skip"}
        return self.images.folder, self.out.path, options

    def problem(self) -> str | None:
        """What forbids to translate, in words; None where nothing does."""
        if self.images is None:
            return "Choose a folder of images."
        if self._look is None:
            return "Looking at the folder…"
        if self._look.problem is None and self.out.path is None:
            return "Choose a folder for the results."
        if self._look.problem is None and self._replaces_images(self._look):
            return "Results would take the place of the images. Choose another folder for them."
        return self._look.problem

    def _replaces_images(self, look: FolderLook) -> bool:
        folder, out = self.folder.path, self.out.path
        is_same = folder is not None and out is not None and os.path.realpath(folder) == os.path.realpath(out)
        return is_same and look.takes_place(self.file_format.value)

    def look_again(self) -> None:
        """Files may have come or gone since the folder was looked at."""
        if self._ask():
            self._on_other_changed()

    def _ask(self) -> bool:
        images = self.images
        question = None if images is None else partial(look_events, images)
        has_changed = self._inquiry.ask(question, images and (images, state_of(images.folder)))
        if has_changed:
            self._look = None
        return has_changed

    def _on_images_changed(self) -> None:
        folder = self.folder.path
        self._ask()
        if folder is not None and self.out.path == self._proposed:
            self._proposed = results_folder(folder)
            self.out.set_path(self._proposed)
        self._on_other_changed()

    def _on_other_changed(self, *_: Any) -> None:
        problem = self.problem()
        words = "" if self._look is None else self._look.words
        is_waiting = self.images is None or self._look is None
        self.message.say(problem or words, "plain" if is_waiting or problem is None else "error")
        self.changed.emit()

    def _on_looked(self, found: FolderLook) -> None:
        self._look = found
        self._on_other_changed()

    def _on_failed(self, words: str) -> None:
        self.message.say(words, "error")

    def stop(self) -> None:
        """Do not look any more."""
        self._inquiry.stop()


class FolderResults(QWidget):
    """The results of a folder to open, and the images that have none, with the reasons."""

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self.files = Choice({"no results": None}, "Results of the folder.")
        self.open_button = QPushButton("Open result")
        self.open_button.setToolTip("Show the result in the viewer.")
        self.open_button.clicked.connect(self._on_open)
        self.failures = Message()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(row(self.files, self.open_button))
        layout.addWidget(self.failures)
        self.setVisible(False)

    def show_results(self, results: FolderTranslated) -> None:
        self.files.fill({path.name: path for path in results.outputs} or {"no results": None})
        self.open_button.setEnabled(bool(results.outputs))
        lines = [f"{path.name}: {reason}" for path, reason in results.failed.items()]
        self.failures.say("\n".join(lines), "error")
        self.setVisible(True)

    def forget(self) -> None:
        self.setVisible(False)

    def _on_open(self) -> None:
        try:
            add_file(self._viewer, self.files.value)
        except Pix2PixError as error:
            self.failures.say(str(error), "error")
