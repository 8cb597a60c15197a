"""The field that says how much of an image is translated: all of it, what is on the screen, or some slices."""

from __future__ import annotations

from napari.viewer import Viewer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_pix2pix._widgets.forms import Choice, row, whole_number
from napari_pix2pix._widgets.layer_axes import Extent, full_extent, spatial_axes
from napari_pix2pix._widgets.layer_picker import LayerPicker
from napari_pix2pix._widgets.views import plane_at, screen_of, view_extent

_OF_ALL = {"whole layer": "whole", "current view": "view"}
_OF_STACKS = {"current slice": "slice", "slices from … to": "range"}


class PartChoice(QWidget):
    """A part of the layers in a picker; slices are offered where those have some. `changed`: another part is chosen."""

    changed = Signal()

    def __init__(self, viewer: Viewer, picker: LayerPicker) -> None:
        super().__init__()
        self._viewer = viewer
        self._picker = picker
        self.kind = Choice(_OF_ALL, "What to translate.")
        self.first = whole_number(0, 0, 0, 1, "First slice, counted from 0 as napari's slider does.")
        self.last = whole_number(0, 0, 0, 1, "Last slice.")
        self._range = row(self.first, self.last)
        self._slices = 0
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.kind)
        layout.addWidget(self._range)
        self.kind.currentIndexChanged.connect(self._on_kind_changed)
        picker.changed.connect(self._on_image_changed)
        for field in (self.first, self.last):
            field.valueChanged.connect(self.changed)
        self._on_kind_changed()
        self._on_image_changed()

    def choice(self) -> object:
        """What is chosen, to be compared; a view or slice that moves on is the same choice."""
        is_range = self.kind.value == "range"
        return (self.kind.value, self.first.value(), self.last.value()) if is_range else self.kind.value

    def extent(self) -> Extent | None:
        """The part to translate; None for all of it. Raises `ImageError` where nothing is on the screen."""
        layer, axis = self._picker.layers[0], self._picker.channel_axis
        match self.kind.value:
            case "view":
                return view_extent(layer, screen_of(self._viewer, layer), axis)
            case "slice":
                return self._shown_slice()
            case "range":
                first, last = sorted((self.first.value(), self.last.value()))
                return ((first, last + 1), *self._picker.extent()[1:])
        return None

    def _shown_slice(self) -> Extent:
        layer, axis = self._picker.layers[0], self._picker.channel_axis
        point = layer.world_to_data(self._viewer.dims.point)
        *leading, rows, columns = full_extent(layer, axis)
        positions = [point[own] for own in spatial_axes(layer, axis)]
        planes = [plane_at(position, stop) for position, (_, stop) in zip(positions, leading, strict=False)]
        return (*planes, rows, columns)

    def _on_kind_changed(self) -> None:
        self._range.setVisible(self.kind.value == "range")
        self.changed.emit()

    def _on_image_changed(self) -> None:
        extent = self._picker.extent() if self._picker.layers else ()
        slices = extent[0][1] if len(extent) > 2 else 0
        if slices == self._slices:
            return
        if bool(slices) != bool(self._slices):
            chosen = self.kind.value
            self.kind.fill({**_OF_ALL, **(_OF_STACKS if slices else {})})
            self.kind.choose(chosen if slices or chosen in _OF_ALL.values() else "whole")
        self._slices = slices
        for field in (self.first, self.last):
            field.setMaximum(max(0, slices - 1))
        self.last.setValue(slices - 1)
