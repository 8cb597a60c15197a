"""The part of the Translate widget for what is done with a model besides translating: judge its result, export it."""

from __future__ import annotations

from pathlib import Path

from napari.viewer import Viewer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLineEdit, QPushButton, QVBoxLayout, QWidget

from napari_pix2pix._widgets.evaluation_job import Evaluated
from napari_pix2pix._widgets.forms import ask_file, form, row
from napari_pix2pix._widgets.layer_picker import LayerPicker
from napari_pix2pix._widgets.messages import Message

_REPORTS = {".html": "Page (*.html)", ".json": "All scores (*.json)"}
_EXPORTS = {".zip": "BioImage Model Zoo (*.zip)", ".onnx": "ONNX (*.onnx)"}


class ModelActions(QWidget):
    """True targets to tick, scores in words, and what an exported model says of its makers.

    `wants_evaluation`, `wants_report` and `wants_export` (with the file to write): the user has pressed the button.
    `evaluated` is what a report would be about.
    """

    changed = Signal()
    wants_evaluation = Signal()
    wants_report = Signal(object)
    wants_export = Signal(object)

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self.evaluated: Evaluated | None = None
        self._scored_by: object = None
        self.targets = LayerPicker(viewer, tip="The truth that the last result is compared with.")
        self.evaluate_button = QPushButton("Evaluate")
        self.evaluate_button.setToolTip("Score the last result by the layers that are ticked above.")
        self.report_button = QPushButton("Save report…")
        self.report_button.setToolTip("Write a page with the scores in words and pictures, or all scores as JSON.")
        self.scores = Message()
        self.author, self.license = QLineEdit(), QLineEdit()
        self.author.setPlaceholderText("as the model says; several with commas")
        self.author.setToolTip("Whom an exported package comes from.")
        self.license.setPlaceholderText("as the model says, or such as CC-BY-4.0")
        self.license.setToolTip("How an exported package may be used: an SPDX identifier.")
        self.export_button = QPushButton("Export the model…")
        self.export_button.setToolTip("For the BioImage Model Zoo (Fiji, ilastik, QuPath) or as ONNX.")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(form([("True targets", self.targets)]))
        layout.addWidget(row(self.evaluate_button, self.report_button))
        layout.addWidget(self.scores)
        layout.addWidget(form([("Author", self.author), ("Licence", self.license)]))
        layout.addWidget(self.export_button)
        self.targets.changed.connect(self._on_targets_changed)
        self.evaluate_button.clicked.connect(self.wants_evaluation)
        self.report_button.clicked.connect(self._on_report)
        self.export_button.clicked.connect(self._on_export)

    def refresh(self, *, has_model: bool, has_result: bool, is_running: bool) -> None:
        self.evaluate_button.setEnabled(has_model and has_result and bool(self.targets.layers) and not is_running)
        self.export_button.setEnabled(has_model and not is_running)
        if not has_result:
            self.forget_scores()
        self.report_button.setEnabled(self.evaluated is not None and not is_running)

    def _on_targets_changed(self) -> None:
        """Scores are of the targets that were ticked."""
        ticked = [(id(layer), id(layer.data)) for layer in self.targets.layers], self.targets.channel_axis
        if ticked != self._scored_by:
            self._scored_by = ticked
            self.forget_scores()
        self.changed.emit()

    def show_scores(self, found: Evaluated) -> None:
        self.evaluated = found
        self.scores.say(found.words)

    def forget_scores(self) -> None:
        """For a new result, or other targets."""
        self.evaluated = None
        self.scores.say("")

    def _on_report(self) -> None:
        if name := ask_file(self, "Save the report", "report.html", _REPORTS):
            self.wants_report.emit(Path(name))

    def _on_export(self) -> None:
        if name := ask_file(self, "Export the model", "", _EXPORTS):
            self.wants_export.emit(Path(name))

    def disconnect_viewer(self) -> None:
        """Forget the viewer; for a widget that is closed."""
        self.targets.disconnect_viewer()
