"""What the Translate widget offers while a result is looked at: to fade it, and maps of where not to trust it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from napari.viewer import Viewer
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QSlider, QVBoxLayout, QWidget

from napari_pix2pix._widgets.error_layer import ErrorMapFound, ErrorSubject, add_error_layers
from napari_pix2pix._widgets.forms import row
from napari_pix2pix._widgets.novelty_badge import NoveltyBadge
from napari_pix2pix._widgets.novelty_job import NoveltyFound, NoveltySubject, add_novelty_layer
from napari_pix2pix._widgets.result_layers import covering

_STEPS = 100


class ResultPanel(QWidget):
    """Takes no room before there is a result. `targets` gives the layers of true targets; none where they are unknown.

    `wants_novelty` and `wants_error_map` (with its subject): the user has pressed the button.
    """

    wants_novelty = Signal(object)
    wants_error_map = Signal(object)

    def __init__(self, viewer: Viewer, targets: Callable[[], list[Any]]) -> None:
        super().__init__()
        self._viewer, self._targets = viewer, targets
        self._covered: list[Any] = []
        self._uncovered: list[Any] = []
        self._errors_of: ErrorSubject | None = None
        self._about: object = None
        self._error_layers: list[Any] = []
        self.novelty = NoveltyBadge()
        self.error_map = QPushButton("Show error map")
        self.error_map.setToolTip(
            "Add a layer that says how far from the target each pixel may lie; the status bar names the interval."
        )
        self.error_map.setVisible(False)
        self.truth = QPushButton("True targets")
        self.truth.setCheckable(True)
        self.truth.setToolTip("Show the true targets in place of the result; a second click brings the result back.")
        self.truth.setVisible(False)
        self.comparison = Comparison(viewer)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(5)
        for part in (self.novelty, self.comparison, row(self.truth, self.error_map)):
            layout.addWidget(part)
        self.novelty.asked.connect(self._on_novelty)
        self.error_map.clicked.connect(self._on_error_map)
        self.truth.toggled.connect(self._on_truth)
        self.comparison.used.connect(self._on_compared)

    def tell(self, share: float | None, novelty: NoveltySubject, errors: ErrorSubject | None, about: object) -> None:
        """Say how much of the image is novel, None where the model cannot tell, and offer maps.

        Parameters
        ----------
        errors : what an error map would be of; None where the model has none.
        about : the choice that the result is of, see `refresh`.
        """
        self.novelty.tell(share, about, novelty)
        self._errors_of, self._about, self._error_layers = errors, about, []
        self.error_map.setVisible(errors is not None)

    def show_novelty(self, found: NoveltyFound, about: object) -> None:
        add_novelty_layer(self._viewer, found)
        self.novelty.tell(found.novelty.share, about, found.subject, is_sampled=False)

    def show_errors(self, found: ErrorMapFound) -> None:
        """Add the layers of an error map; the button shows them again, as long as they are there."""
        self._error_layers = add_error_layers(self._viewer, found)

    def refresh(self, choice: object, *, is_running: bool) -> None:
        """Let go of what is about another choice, and of layers that are no longer in the viewer."""
        self.novelty.forget_other(choice)
        if self.novelty.subject is not None and not self._are_there(self.novelty.subject.layers):
            self.novelty.tell(None, choice, None)
        if self._errors_of is not None and (choice != self._about or not self._are_there(self._errors_of.layers)):
            self._errors_of = None
        self.error_map.setVisible(self._errors_of is not None)
        for button in (self.novelty.button, self.error_map):
            button.setEnabled(not is_running)
        self.comparison.forget_removed()
        self.truth.setVisible(self.comparison.has_result and bool(self._targets()))
        if self.truth.isHidden():
            self.show_result()

    def _are_there(self, layers: Iterable[Any]) -> bool:
        return any(layer in self._viewer.layers for layer in layers)

    def show_result(self) -> None:
        """Bring the result back where true targets are shown in its place."""
        self.truth.setChecked(False)

    def _on_truth(self, is_shown: bool) -> None:
        if is_shown:
            targets = self._targets()
            self._covered = covering(self._viewer, targets[0], targets)
            self._uncovered = [layer for layer in targets if not layer.visible]
        for layers, are_visible in ((self._covered, not is_shown), (self._uncovered, is_shown)):
            for layer in layers:
                layer.visible = are_visible

    def _on_novelty(self) -> None:
        self.wants_novelty.emit(self.novelty.subject)

    def _on_error_map(self) -> None:
        self.show_result()
        if there := [layer for layer in self._error_layers if layer in self._viewer.layers]:
            for layer in there:
                layer.visible = True
        else:
            self.wants_error_map.emit(self._errors_of)

    def _on_compared(self) -> None:
        """Error maps would cover what is compared."""
        self.show_result()
        for layer in self._error_layers:
            layer.visible = False


class _Slider(QSlider):
    """The wheel scrolls the form."""

    def wheelEvent(self, event: QWheelEvent) -> None:
        event.ignore()


class Comparison(QWidget):
    """Fades the layers of the last result; the buttons at both ends show one of the two alone.

    `used`: the user looks at one of the two, or at both.
    """

    used = Signal()

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._layers: list[Any] = []
        self.before, self.after = QPushButton("Image"), QPushButton("Result")
        self.before.setToolTip("Show the image without the result.")
        self.after.setToolTip("Show the result over the image.")
        self.slider = _Slider(Qt.Orientation.Horizontal)
        self.slider.setToolTip("How much of the result is seen over the image.")
        self.slider.setRange(0, _STEPS)
        self.slider.valueChanged.connect(self._on_moved)
        self.slider.sliderMoved.connect(self.used)
        for button in (self.before, self.after):
            button.clicked.connect(self.used)
        self.before.clicked.connect(self._on_before)
        self.after.clicked.connect(self._on_after)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for part, stretch in ((self.before, 0), (self.slider, 1), (self.after, 0)):
            layout.addWidget(part, stretch)
        self.setVisible(False)

    def compare(self, layers: list[Any]) -> None:
        """Offer to compare these layers of a result with what lies below them."""
        self._layers = layers
        self.slider.setValue(_STEPS)
        self.setVisible(bool(layers))

    @property
    def has_result(self) -> bool:
        return bool(self._layers)

    def forget_removed(self) -> None:
        """Let go of layers that are no longer in the viewer."""
        self._layers = [layer for layer in self._layers if layer in self._viewer.layers]
        self.setVisible(bool(self._layers))

    def _on_before(self) -> None:
        self.slider.setValue(0)

    def _on_after(self) -> None:
        self.slider.setValue(_STEPS)

    def _on_moved(self, value: int) -> None:
        for layer in self._layers:
            layer.opacity = value / _STEPS
