"""A slider between an image and the result that lies over it."""

from __future__ import annotations

from typing import Any

from napari.viewer import Viewer
from qtpy.QtCore import Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QSlider, QWidget

_STEPS = 100


class _Slider(QSlider):
    """The wheel scrolls the form."""

    def wheelEvent(self, event: QWheelEvent) -> None:
        event.ignore()


class Comparison(QWidget):
    """Fades the layers of the last result; the buttons at both ends show one of the two alone."""

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
