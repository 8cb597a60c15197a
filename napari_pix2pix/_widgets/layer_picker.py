"""The list of layers to tick, and what is chosen with it as one image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import ref

from napari.layers import Image, Labels
from napari.viewer import Viewer
from qtpy.QtCore import QEvent, QModelIndex, QPoint, QSize, Qt, Signal
from qtpy.QtGui import QMouseEvent, QPainter, QPalette
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QSizePolicy,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from napari_pix2pix._widgets.command_line import NamedFiles, files_of
from napari_pix2pix._widgets.forms import Choice
from napari_pix2pix._widgets.layer_axes import Extent, finest_level, full_extent, is_rgb
from napari_pix2pix._widgets.layer_facts import has_alpha, is_result, likely_channel_axis
from napari_pix2pix._widgets.layer_places import Misplaced
from napari_pix2pix._widgets.layer_sources import source_of
from napari_pix2pix._widgets.messages import CHANGES_OF_THEME
from napari_pix2pix._widgets.previews import is_preview
from pix2pix_training.array_source import ArraySource

_ROWS_SHOWN = range(3, 7)
_AXIS_CHARACTERS = 8
_TELLING = ("data", "scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
"""Events of a layer after which words about it may be wrong."""


class _Row(QStyledItemDelegate):
    """A name that is too long has both of its ends; round the row that keys act on is a line in the colour of words."""

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex) -> QSize:
        return QSize(0, super().sizeHint(option, index).height())  # as wide as the list

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        super().paint(painter, option, index)
        if option.state & QStyle.StateFlag.State_HasFocus:
            painter.setPen(option.palette.color(QPalette.ColorRole.Text))
            painter.drawRect(option.rect.adjusted(0, 0, -1, -1))


class _TickList(QListWidget):
    """A click on a name ticks as one on its box does; boxes have an outline in the colour of the words."""

    def __init__(self) -> None:
        super().__init__()
        self._pressed: QPoint | None = None
        self._outline = ""
        self.setItemDelegate(_Row(self))
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)  # the form decides its width

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self._pressed = event.position().toPoint() if event.button() == Qt.MouseButton.LeftButton else None
        super().mousePressEvent(event)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        item, pressed = self.itemAt(event.position().toPoint()), self._pressed
        is_click = item is not None and pressed is not None and self.itemAt(pressed) is item
        before = item.checkState() if is_click else None
        super().mouseReleaseEvent(event)  # ticks where it is on the box
        if is_click and event.button() == Qt.MouseButton.LeftButton and item.checkState() == before:
            item.setCheckState(_checked(before != Qt.CheckState.Checked))

    def outline(self) -> None:
        """Draw the boxes in the theme of this moment."""
        colour = self.palette().color(QPalette.ColorRole.Text).name()
        if colour != self._outline:  # a style sheet is costly
            self._outline = colour
            self.setStyleSheet(
                f"QListWidget::indicator:unchecked {{ border: 1px solid {colour}; border-radius: 2px; }}"
            )


class LayerPicker(QWidget):
    """Image and labels layers to tick; several are the channels of one image.

    `changed`: the choice is another one. `arrived`: there is a new layer, and the user has not chosen yet.
    """

    changed = Signal()
    arrived = Signal()

    def __init__(self, viewer: Viewer, *, tip: str) -> None:
        super().__init__()
        self._viewer = viewer
        self._known: list[Any] = []
        self._is_decided = False
        self._axis_of: Any = None
        self.list = _TickList()
        self.list.setToolTip(tip)
        self.count = QLabel()
        self.list.itemChanged.connect(self._on_ticked)
        self.axis = Choice(
            {"no channel axis": None}, "Axis of the layer that holds its channels.", at_most=_AXIS_CHARACTERS
        )
        self.axis.currentIndexChanged.connect(self.changed)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)  # else a form gives it no width
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        for part in (self.list, self.count, self.axis):
            layout.addWidget(part)
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
            self._leave(layer)
        self._known = []

    def event(self, event: QEvent) -> bool:
        if event.type() in (QEvent.Type.Polish, *CHANGES_OF_THEME):
            self._fit_list()
            self.list.outline()
        handled = bool(super().event(event))
        if event.type() == QEvent.Type.Show:
            self._scroll_to_ticked()
        return handled

    def _fit_list(self) -> None:
        """As many rows are shown as there are images, within limits; with results the form below would move."""
        row = max(self.list.sizeHintForRow(0), self.list.fontMetrics().height() + 4)
        self.list.setFixedHeight(self._rows_shown * row + 2 * self.list.frameWidth() + 4)

    @property
    def _rows_shown(self) -> int:
        return min(max(len(self.images), _ROWS_SHOWN.start), _ROWS_SHOWN.stop - 1)

    def _scroll_to_ticked(self) -> None:
        """Show the first row that is ticked."""
        if self.layers:
            self.list.scrollToItem(self._item(self.layers[-1]))

    def _watch(self, layer: Any) -> None:
        layer.events.name.connect(self._on_renamed)
        for name in _TELLING:
            getattr(layer.events, name).connect(self._on_layer_changed)

    def _leave(self, layer: Any) -> None:
        layer.events.name.disconnect(self._on_renamed)
        for name in _TELLING:
            getattr(layer.events, name).disconnect(self._on_layer_changed)

    @property
    def offered(self) -> list[Any]:
        """All layers that can be ticked, from the lowest."""
        return list(self._known)

    @property
    def images(self) -> list[Any]:
        """Those of them that are no results of this plugin, for a first choice."""
        return [layer for layer in self._known if not is_result(layer)]

    @property
    def is_decided(self) -> bool:
        """Whether the user, or what the user did, has chosen; else a first choice may be another one."""
        return self._is_decided

    @property
    def layers(self) -> list[Any]:
        """The layers that are ticked and still in the viewer, from the lowest."""
        return [layer for layer in self._known if self._item(layer).checkState() == Qt.CheckState.Checked]

    @property
    def channel_axis(self) -> int | None:
        value: int | None = self.axis.value
        return value

    def source(self, extent: Extent | None = None) -> ArraySource:
        """The choice as one image; raises `ImageError` where it is none."""
        return source_of(self.layers, channel_axis=self.channel_axis, extent=extent)

    def files(self) -> NamedFiles:
        """The files of the choice for a command line, see `files_of`."""
        return files_of(self.layers, self.channel_axis)

    @property
    def alpha(self) -> str | None:
        """What alpha is, as the command line calls it; None where there is none."""
        if not any(map(has_alpha, self.layers)):
            return None
        return "mask" if self.channel_axis is None else "keep"

    def extent(self) -> Extent:
        return full_extent(self.layers[0], self.channel_axis)

    def choose(self, layers: Sequence[Any], *, decided: bool = True) -> None:
        """Tick these layers and no others; not `decided` for a first choice that nobody has made."""
        self._is_decided = decided
        self.list.blockSignals(True)
        for layer in self._known:
            self._item(layer).setCheckState(_checked(layer in layers))
        self.list.blockSignals(False)
        self._scroll_to_ticked()
        self._on_chosen()

    def choose_named(self, names: Sequence[str]) -> None:
        """Tick the layers that are called so, where there are all of them and the user has not chosen."""
        by_name = {layer.name: layer for layer in self.images}
        if not self._is_decided and names and set(names) <= set(by_name):
            self.choose([by_name[name] for name in names], decided=False)

    def settle(self) -> None:
        """What is ticked is what the user wants, whatever arrives."""
        self._is_decided = True

    def _item(self, layer: Any) -> QListWidgetItem:
        return self.list.item(len(self._known) - 1 - self._known.index(layer))

    def _refresh(self, *_: Any) -> None:
        before, chosen = self._known, self.layers
        for layer in before:
            self._leave(layer)
        self._known = [
            layer for layer in self._viewer.layers if isinstance(layer, Image | Labels) and not is_preview(layer)
        ]
        self.list.blockSignals(True)
        self.list.clear()
        for layer in self._known:
            self._watch(layer)
        for layer in reversed(self._known):  # as in napari's list
            item = QListWidgetItem(layer.name)
            item.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsUserCheckable)
            item.setCheckState(_checked(layer in chosen))
            item.setToolTip(layer.name)
            self.list.addItem(item)
        self.list.blockSignals(False)
        self._fit_list()
        self._scroll_to_ticked()
        if chosen and not self.layers:  # what was chosen is gone
            self._is_decided = False
        self._on_chosen()
        if not self._is_decided and any(layer not in before for layer in self._known):
            self.arrived.emit()

    def _on_renamed(self, *_: Any) -> None:
        self.list.blockSignals(True)
        for layer in self._known:
            self._item(layer).setText(layer.name)
        self.list.blockSignals(False)
        self.changed.emit()

    def _on_layer_changed(self, *_: Any) -> None:
        if self.layers:
            self._on_chosen()

    def _on_ticked(self, *_: Any) -> None:
        self._is_decided = True
        self._on_chosen()

    def _on_chosen(self) -> None:
        """Some of many rows are out of sight, so it is said how many are ticked."""
        self._offer_axes()
        self.count.setText(f"{len(self.layers)} of {len(self._known)} ticked")
        self.count.setToolTip("Ticked: " + (", ".join(layer.name for layer in self.layers) or "none") + ".")
        self.count.setVisible(len(self._known) > self._rows_shown)
        self.changed.emit()

    def _offer_axes(self) -> None:
        """The axes of the first layer that is ticked; for another one than before, the axis that its label names."""
        first = self.layers[0] if self.layers else None
        offered = {} if first is None else _offered_axes(first)
        is_same = self._axis_of is not None and self._axis_of() is first
        wanted = self.channel_axis if is_same or first is None else likely_channel_axis(first)
        self._axis_of = None if first is None else ref(first)
        self.axis.blockSignals(True)
        self.axis.fill(offered or {"no channel axis": None})
        self.axis.choose(wanted if wanted in offered.values() else None)
        self.axis.blockSignals(False)
        self.axis.setVisible(bool(offered))


def _checked(value: bool) -> Qt.CheckState:
    return Qt.CheckState.Checked if value else Qt.CheckState.Unchecked


def _offered_axes(layer: Any) -> dict[str, int | None]:
    """What may hold the channels of a layer, in words; nothing where there is no choice."""
    if is_rgb(layer):
        choices = {"alpha says where there is data": None, "alpha is a channel too": layer.ndim}
        return choices if has_alpha(layer) else {}
    shape, labels = finest_level(layer).shape, layer.axis_labels
    axes = {f"channels: axis {labels[axis]} ({shape[axis]})": axis for axis in range(layer.ndim - 2)}
    return {"no channel axis": None, **axes} if axes else {}


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
