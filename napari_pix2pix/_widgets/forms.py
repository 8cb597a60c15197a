"""The parts that both widgets are made of: paths, messages, choices, and the picker of layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from napari.layers import Image, Labels
from napari.viewer import Viewer
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_pix2pix._widgets.layer_sources import (
    Extent,
    finest_level,
    full_extent,
    is_rgb,
    likely_channel_axis,
    source_of,
)
from napari_pix2pix._widgets.preferences import preferences
from napari_pix2pix._widgets.previews import is_preview
from pix2pix_training.array_source import ArraySource

_ROWS_SHOWN = 3
_ERROR_COLOR, _WARNING_COLOR, _GOOD_COLOR = "#ff7b72", "#e3b341", "#7ee787"


class Message(QLabel):
    """A line or two of words beside the fields that they are about; takes no room while it has none."""

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
        self._kind = "plain"
        self.say("")

    def say(self, text: str, kind: str = "plain") -> None:
        """Show `text`; `kind` is "plain", "good", "warning" or "error"."""
        colors = {"error": _ERROR_COLOR, "warning": _WARNING_COLOR, "good": _GOOD_COLOR}
        if kind != self._kind:  # a style sheet is costly
            self.setStyleSheet(f"color: {colors[kind]};" if kind in colors else "")
            self._kind = kind
        self.setText(text)
        self.setVisible(bool(text))


class ProgressBar(QProgressBar):
    """How much of a job is done, busy without a number where that is not known."""

    def tell(self, done: int, total: int, text: str = "%p %") -> None:
        """`done` of `total`, 0 of 0 for busy; `text` may hold "%p" for the per cent."""
        self.setUpdatesEnabled(False)  # a new value would be painted at once, and with it the window and its canvas
        self.setRange(0, total)
        self.setValue(done)
        self.setFormat(text)
        self.setUpdatesEnabled(True)


class Choice(QComboBox):
    """A list of labels, each with a value."""

    def __init__(self, choices: Mapping[str, Any], tip: str = "") -> None:
        super().__init__()
        self._values: list[Any] = []
        self.fill(choices)
        self.setToolTip(tip)
        self.setMinimumContentsLength(6)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def fill(self, choices: Mapping[str, Any]) -> None:
        """Offer these entries instead, the first of them chosen."""
        self._values = list(choices.values())
        self.clear()
        self.addItems(list(choices))

    @property
    def value(self) -> Any:
        return self._values[self.currentIndex()]

    def choose(self, value: Any) -> None:
        """Select the entry with `value`, which must be there."""
        self.setCurrentIndex(self._values.index(value))


class PathField(QWidget):
    """A path to type, or to choose with the button; `changed` is emitted when either is done."""

    changed = Signal()

    def __init__(self, ask: Callable[[QWidget, str], str], placeholder: str = "") -> None:
        super().__init__()
        self._ask = ask
        self.line = QLineEdit()
        self.line.setPlaceholderText(placeholder)
        self.line.textChanged.connect(self.changed)
        button = QPushButton("Browse…")
        button.clicked.connect(self._on_browse)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.line, 1)
        layout.addWidget(button)

    @property
    def path(self) -> Path | None:
        text = self.line.text().strip()
        return Path(text).expanduser() if text else None

    def set_path(self, path: Path | None) -> None:
        self.line.setText("" if path is None else str(path))

    def _on_browse(self) -> None:
        if chosen := self._ask(self, self.line.text()):
            self.line.setText(chosen)


def ask_folder(parent: QWidget, start: str) -> str:
    return str(QFileDialog.getExistingDirectory(parent, "Choose a folder", start))


def ask_model(parent: QWidget, start: str) -> str:
    start = start or str(preferences().runs_folder)
    return str(QFileDialog.getOpenFileName(parent, "Choose a model", start, "Models (*.safetensors)")[0])


def ask_image(parent: QWidget, start: str) -> str:
    """A file to write; napari's user is asked before one is replaced."""
    kinds = "OME-TIFF (*.ome.tif);;TIFF (*.tif);;PNG (*.png);;All files (*)"
    return str(QFileDialog.getSaveFileName(parent, "Save the result", start, kinds)[0])


def ask_ome_zarr(parent: QWidget, start: str) -> str:
    """A folder to make; one that exists is refused later."""
    return str(QFileDialog.getSaveFileName(parent, "Write the result to", start, "OME-Zarr (*.ome.zarr)")[0])


class LayerPicker(QWidget):
    """Image and labels layers to tick; several are the channels of one image. `changed`: the choice is another one."""

    changed = Signal()

    def __init__(self, viewer: Viewer, *, tip: str) -> None:
        super().__init__()
        self._viewer = viewer
        self._known: list[Any] = []
        self.list = QListWidget()
        self.list.setToolTip(tip)
        self.list.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setFixedHeight(_ROWS_SHOWN * (self.list.fontMetrics().height() + 4) + 6)
        self.list.itemChanged.connect(self._on_item_changed)
        self.axis = Choice({"no channel axis": None}, "Axis of the layer that holds its channels.")
        self.axis.currentIndexChanged.connect(self.changed)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addWidget(self.list)
        layout.addWidget(self.axis)
        self._connect(viewer.layers.events)
        self._refresh()

    def _connect(self, events: Any) -> None:
        for emitter in (events.inserted, events.removed, events.reordered):
            emitter.connect(self._refresh)

    def disconnect_viewer(self) -> None:
        """Forget the viewer; for a widget that is closed."""
        events = self._viewer.layers.events
        for emitter in (events.inserted, events.removed, events.reordered):
            emitter.disconnect(self._refresh)
        for layer in self._known:
            layer.events.name.disconnect(self._on_renamed)
        self._known = []

    @property
    def offered(self) -> list[Any]:
        """All layers that can be ticked, in the order shown."""
        return list(self._known)

    @property
    def layers(self) -> list[Any]:
        """The layers that are ticked and still in the viewer, in the order shown."""
        return [layer for layer in self._known if self._item(layer).checkState() == Qt.CheckState.Checked]

    @property
    def channel_axis(self) -> int | None:
        value: int | None = self.axis.value
        return value

    def source(self, extent: Extent | None = None) -> ArraySource:
        """The choice as one image; raises `ImageError` where it is none."""
        return source_of(self.layers, channel_axis=self.channel_axis, extent=extent)

    def extent(self) -> Extent:
        return full_extent(self.layers[0], self.channel_axis)

    def choose(self, layers: Sequence[Any]) -> None:
        """Tick these layers and no others."""
        self.list.blockSignals(True)
        for layer in self._known:
            self._item(layer).setCheckState(_checked(layer in layers))
        self.list.blockSignals(False)
        self._on_item_changed()

    def _item(self, layer: Any) -> QListWidgetItem:
        return self.list.item(self._known.index(layer))

    def _refresh(self, *_: Any) -> None:
        chosen = self.layers
        for layer in self._known:
            layer.events.name.disconnect(self._on_renamed)
        self._known = [
            layer for layer in self._viewer.layers if isinstance(layer, Image | Labels) and not is_preview(layer)
        ]
        self.list.blockSignals(True)
        self.list.clear()
        for layer in self._known:
            layer.events.name.connect(self._on_renamed)
            item = QListWidgetItem(layer.name)
            item.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsUserCheckable)
            item.setCheckState(_checked(layer in chosen))
            item.setToolTip(layer.name)
            self.list.addItem(item)
        self.list.blockSignals(False)
        self._on_item_changed()

    def _on_renamed(self, *_: Any) -> None:
        for layer in self._known:
            self._item(layer).setText(layer.name)

    def _on_item_changed(self, *_: Any) -> None:
        self._offer_axes()
        self.changed.emit()

    def _offer_axes(self) -> None:
        first = self.layers[0] if self.layers else None
        offered = range(first.ndim - 2) if first is not None and not is_rgb(first) else range(0)
        wanted = self.channel_axis
        if wanted is None and first is not None:
            wanted = likely_channel_axis(first)
        self.axis.blockSignals(True)
        self.axis.fill({"no channel axis": None, **{_axis_name(first, axis): axis for axis in offered}})
        self.axis.choose(wanted if wanted in offered else None)
        self.axis.blockSignals(False)
        self.axis.setVisible(len(offered) > 0)


def _checked(value: bool) -> Qt.CheckState:
    return Qt.CheckState.Checked if value else Qt.CheckState.Unchecked


def _axis_name(layer: Any, axis: int) -> str:
    return f"channels: axis {layer.axis_labels[axis]} ({finest_level(layer).shape[axis]})"


def whole_number(low: int, high: int, value: int, step: int, tip: str) -> QSpinBox:
    """A field for a whole number."""
    return _ranged(QSpinBox(), low, high, value, step, tip)


def real_number(low: float, high: float, value: float, step: float, decimals: int, tip: str) -> QDoubleSpinBox:
    """A field for a real number."""
    field = QDoubleSpinBox()
    field.setDecimals(decimals)
    return _ranged(field, low, high, value, step, tip)


def _ranged(field: Any, low: float, high: float, value: float, step: float, tip: str) -> Any:
    field.setRange(low, high)
    field.setSingleStep(step)
    field.setValue(value)
    field.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    field.setToolTip(tip)
    return field


def form(rows: Sequence[tuple[str, QWidget]]) -> QWidget:
    """Labels and fields in two aligned columns."""
    widget = QWidget()
    layout = QFormLayout(widget)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
    layout.setLabelAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
    for label, field in rows:
        layout.addRow(label, field)
    return widget


def row(*widgets: QWidget) -> QWidget:
    """Widgets side by side, of equal width."""
    widget = QWidget()
    layout = QHBoxLayout(widget)
    layout.setContentsMargins(0, 0, 0, 0)
    for part in widgets:
        layout.addWidget(part, 1)
    return widget


def column(*widgets: QWidget) -> QWidget:
    """Widgets below each other."""
    widget = QWidget()
    layout = QVBoxLayout(widget)
    layout.setContentsMargins(0, 0, 0, 0)
    for part in widgets:
        layout.addWidget(part)
    return widget


def collapsed(title: str, content: QWidget) -> QCollapsible:
    """`content` behind a line to click on."""
    section = QCollapsible(title, expandedIcon="▾", collapsedIcon="▸")
    section.layout().setContentsMargins(0, 0, 0, 0)
    section.layout().setSpacing(0)
    section.setContent(content)
    section.collapse(animate=False)
    return section


def scrolling(outer: QWidget, parts: Sequence[QWidget]) -> None:
    """Fill `outer` with `parts` below each other, to be scrolled where there is too little room."""
    content = QWidget()
    stacked = QVBoxLayout(content)
    stacked.setContentsMargins(6, 6, 6, 6)
    stacked.setSpacing(5)
    for part in parts:
        stacked.addWidget(part)
    stacked.addStretch(1)
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setWidget(content)
    layout = QVBoxLayout(outer)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.addWidget(area)
