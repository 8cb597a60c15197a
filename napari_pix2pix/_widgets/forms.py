"""The fields and frames that both widgets are made of; the mouse wheel scrolls them and changes none."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from qtpy.QtCore import QEvent, QObject, QSize, Qt, Signal
from qtpy.QtGui import QHelpEvent, QIcon, QPaintEvent, QPixmap, QResizeEvent, QValidator, QWheelEvent
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLineEdit,
    QMessageBox,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QSpinBox,
    QStackedWidget,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
    QToolTip,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_pix2pix._widgets.preferences import preferences

_ANY_HEIGHT = (1 << 24) - 1
"""Qt's own limit, QWIDGETSIZE_MAX."""
BROWSE, BROWSE_TIP = "…", "Choose it in a dialog."
_TIP_CHARACTERS = 60
_CHOICE_CHARACTERS = 22


class ProgressBar(QProgressBar):
    """How much of a job is done, busy without a number where that is not known."""

    def tell(self, done: int, total: int, text: str = "%p %") -> None:
        """`done` of `total`, 0 of 0 for busy; `text` may hold "%p" for the per cent."""
        self.setUpdatesEnabled(False)  # a new value would be painted at once, and with it the window and its canvas
        self.setRange(0, total)
        self.setValue(done)
        self.setFormat(text)
        self.setUpdatesEnabled(True)


class _QuietWheel:
    """Of a field that is wheeled over while the form is scrolled; it passes the wheel on.

    Its focus policy must be `StrongFocus`, for with Qt's own the wheel itself gives the focus.
    """

    def wheelEvent(self, event: QWheelEvent) -> None:
        event.ignore()


class Choice(_QuietWheel, QComboBox):
    """A list of labels, each with a value.

    Parameters
    ----------
    at_most : letters of a label that the field has room for, however long the labels are.
    """

    def __init__(self, choices: Mapping[str, Any], tip: str = "", at_most: int = _CHOICE_CHARACTERS) -> None:
        super().__init__()
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._values: list[Any] = []
        self._at_most = at_most
        self.fill(choices)
        self.setToolTip(tip)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def fill(self, choices: Mapping[str, Any]) -> None:
        """Offer these entries instead, the first of them chosen."""
        self._values = list(choices.values())
        self.clear()
        self.addItems(list(choices))
        for number, label in enumerate(choices):
            self.setItemData(number, label, Qt.ItemDataRole.ToolTipRole)
        make_room(self, choices, self._at_most)

    @property
    def value(self) -> Any:
        return self._values[self.currentIndex()]

    def choose(self, value: Any) -> None:
        """Select the entry with `value`, which must be there."""
        self.setCurrentIndex(self._values.index(value))

    def event(self, event: QEvent) -> bool:
        """What stands over the field names the whole of a label that is too long."""
        if isinstance(event, QHelpEvent) and self.shown_label() != self.currentText():
            QToolTip.showText(event.globalPos(), f"{self.toolTip()}\n{self.currentText()}", self)
            return True
        return bool(super().event(event))

    def paintEvent(self, event: QPaintEvent) -> None:
        """As Qt does, but a label that is too long has both of its ends."""
        del event
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        option.currentText = self.shown_label()
        painter = QStylePainter(self)
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)
        painter.end()

    def shown_label(self) -> str:
        """As much of the label as the field has room for."""
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        field = QStyle.SubControl.SC_ComboBoxEditField
        room = self.style().subControlRect(QStyle.ComplexControl.CC_ComboBox, option, field, self)
        return str(self.fontMetrics().elidedText(self.currentText(), Qt.TextElideMode.ElideMiddle, room.width() - 4))


def make_room(field: QComboBox, labels: Iterable[str], at_most: int = _CHOICE_CHARACTERS) -> None:
    """Let a field have room for its labels, up to so many letters: in a form it goes below its name where it must."""
    field.setMinimumContentsLength(min(at_most, max((len(label) for label in labels), default=0)))
    field.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)


class _PathLine(QLineEdit):
    """Has room for the end of a path, whatever the font: in a form it goes below its name where it must."""

    def minimumSizeHint(self) -> QSize:
        room = _CHOICE_CHARACTERS * self.fontMetrics().averageCharWidth()
        return super().minimumSizeHint().expandedTo(QSize(room, 0))


class PathField(QWidget):
    """A path to type, or to choose with the button; `changed` is emitted when either is done."""

    changed = Signal()

    def __init__(self, ask: Callable[[QWidget, str], str], placeholder: str, tip: str) -> None:
        super().__init__()
        self._ask = ask
        self.line = _PathLine()
        self.line.setPlaceholderText(placeholder)
        self.line.setToolTip(tip)
        self.line.textChanged.connect(self.changed)
        button = QPushButton(BROWSE)
        button.setToolTip(BROWSE_TIP)
        button.clicked.connect(self._on_browse)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.line, 1)
        layout.addWidget(button)

    @property
    def path(self) -> Path | None:
        text = self.line.text().strip()
        return Path(text).expanduser() if text else None

    @property
    def is_folder(self) -> bool:
        """Whether a folder is there; False too for what can be no path."""
        return self.path is not None and os.path.isdir(self.path)  # noqa: PTH112 (whose own method raises then)

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
    """A file to write, first of the type that `start` has; see `ask_file`."""
    kinds = {".ome.tif": "OME-TIFF (*.ome.tif)", ".tif": "GeoTIFF, TIFF (*.tif)", ".png": "PNG (*.png)"}
    own = next((suffix for suffix in kinds if start.endswith(suffix)), "")
    ordered = dict(sorted(kinds.items(), key=lambda entry: entry[0] != own))
    return ask_file(parent, "Save the result", start, {**ordered, "": "All files (*)"})


def ask_file(parent: QWidget, title: str, start: str, kinds: Mapping[str, str]) -> str:
    """A file to write; a name without an ending gets that of the chosen type, and one that is there is asked about.

    Parameters
    ----------
    kinds : types of files by their endings; for one without an ending the first is taken.
    """
    while True:
        name, chosen = QFileDialog.getSaveFileName(parent, title, start, ";;".join(kinds.values()))
        if not name or Path(name).suffix:
            return str(name)  # which the dialog has asked about
        start = name + (next((ending for ending, kind in kinds.items() if kind == chosen), "") or next(iter(kinds)))
        if not os.path.lexists(start):
            return str(start)
        question = f"{Path(start).name} exists already. Replace it?"
        if QMessageBox.question(parent, title, question) == QMessageBox.StandardButton.Yes:
            return str(start)


def ask_ome_zarr(parent: QWidget, start: str) -> str:
    """A folder to make; one that exists is refused later."""
    return str(QFileDialog.getSaveFileName(parent, "Write the result to", start, "OME-Zarr (*.ome.zarr)")[0])


class WholeNumber(_QuietWheel, QSpinBox):
    """A field for a whole number."""


class RealNumber(_QuietWheel, QDoubleSpinBox):
    """A field for a real number."""


def whole_number(low: int, high: int, value: int, step: int, tip: str) -> WholeNumber:
    """A field for a whole number."""
    field = WholeNumber()
    _set_up(field, low, high, value, step, tip)
    return field


def real_number(low: float, high: float, value: float, step: float, decimals: int, tip: str) -> RealNumber:
    """A field for a real number."""
    field = RealNumber()
    field.setDecimals(decimals)
    _set_up(field, low, high, value, step, tip)
    return field


class EitherPoint(QValidator):
    """Of a number field: comma and point are the decimal point, as Qt leaves out the other one, and makes 15 of 1,5.

    A field for whole numbers takes neither. magicgui makes some fields, so that there is no class to do it in.
    """

    def validate(self, text: str | None, position: int) -> Any:
        field: Any = self.parent()
        if (text := text or "") == field.specialValueText():
            return QValidator.State.Acceptable, text, position
        number = text.removesuffix(field.suffix())
        is_whole = isinstance(field, QSpinBox) or field.decimals() == 0
        if is_whole and re.search("[.,]", number):
            return QValidator.State.Invalid, text, position
        return field.validate(re.sub("[.,]", field.locale().decimalPoint(), number) + field.suffix(), position)


def _set_up(field: Any, low: float, high: float, value: float, step: float, tip: str) -> None:
    field.lineEdit().setValidator(EitherPoint(field))
    field.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    field.setRange(low, high)
    field.setSingleStep(step)
    field.setValue(value)
    field.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    field.setToolTip(tip)


def form(rows: Sequence[tuple[str, QWidget]]) -> QWidget:
    """Labels and fields in two aligned columns; over its label stands what stands over a field."""
    widget = QWidget()
    layout = QFormLayout(widget)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
    layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
    layout.setLabelAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
    for label, field in rows:
        layout.addRow(label, field)
        tips = [part.toolTip() for part in (field, *field.findChildren(QWidget))]
        if (name := layout.labelForField(field)) is not None:
            name.setToolTip(next(filter(None, tips), ""))
    return widget


def row(*widgets: QWidget) -> QWidget:
    """Widgets side by side, of equal width."""
    widget = QWidget()
    layout = QHBoxLayout(widget)
    layout.setContentsMargins(0, 0, 0, 0)
    for part in widgets:
        layout.addWidget(part, 1)
    return widget


def in_turn(*widgets: QWidget) -> QStackedWidget:
    """Widgets in the same place, the first of them shown."""
    widget = QStackedWidget()
    for part in widgets:
        widget.addWidget(part)
    widget.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
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
    """`content` behind a line to click on; the Tab key passes it over, and it may grow while it is shown."""
    nothing = QPixmap(1, 1)
    nothing.fill(Qt.GlobalColor.transparent)
    icon = QIcon(nothing)  # superqt's own have the colour of no theme; one without a pixmap is none with PySide6
    section = QCollapsible(expandedIcon=icon, collapsedIcon=icon)
    section.layout().setContentsMargins(0, 0, 0, 0)
    section.layout().setSpacing(0)
    section.layout().setAlignment(Qt.AlignmentFlag(0))
    section.setContent(content)
    section.setDuration(0)
    section.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)  # as high as wrapped rows need

    def show(is_expanded: bool) -> None:
        content.setMaximumHeight(_ANY_HEIGHT)
        content.setVisible(is_expanded)
        section.setText(f"{'▾' if is_expanded else '▸'} {title}")

    section.toggled.connect(show)
    section.collapse(animate=False)
    show(False)
    return section


class _UprightScroll(QScrollArea):
    """Scrolls up and down only, so it is as wide as its content needs, whatever the font; no higher than that."""

    def minimumSizeHint(self) -> QSize:
        content, bar = self.widget(), self.verticalScrollBar()
        width = 0 if content is None else content.minimumSizeHint().width()
        return QSize(width + bar.sizeHint().width(), super().minimumSizeHint().height())

    def sizeHint(self) -> QSize:
        content = self.widget()
        hint = QSize(super().sizeHint().width(), 0).expandedTo(self.minimumSizeHint())
        if content is None:
            return hint
        frame = self.height() - self.maximumViewportSize().height()
        wraps = content.hasHeightForWidth()
        height = content.heightForWidth(content.width()) if wraps else content.sizeHint().height()
        return hint.expandedTo(QSize(0, frame + max(height, content.minimumSizeHint().height())))

    def resizeEvent(self, event: QResizeEvent) -> None:
        self.widget().setMaximumWidth(event.size().width())  # it would be cut off, as there is no bar to move it
        super().resizeEvent(event)
        if event.size().width() != event.oldSize().width():
            self.updateGeometry()  # words may need other lines

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        if watched is self.widget() and event is not None and event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return bool(super().eventFilter(watched, event))


def scrolling(outer: QWidget, parts: Sequence[QWidget], always: Sequence[QWidget]) -> QScrollArea:
    """Fill `outer` with `parts` below each other, to be scrolled where there is too little room.

    Below them is what can `always` be seen: buttons, and how far they have got.
    """
    area = _UprightScroll()
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
    area.setWidget(_stacked(parts))
    layout = QVBoxLayout(outer)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(0)
    layout.addWidget(area)
    layout.addWidget(_stacked(always))
    layout.addStretch(1)
    for part in outer.findChildren(QWidget):
        part.setToolTip(fill(part.toolTip(), _TIP_CHARACTERS))
    return area


def _stacked(parts: Sequence[QWidget]) -> QWidget:
    content = QWidget()
    stacked = QVBoxLayout(content)
    stacked.setContentsMargins(6, 6, 6, 6)
    stacked.setSpacing(5)
    for part in parts:
        stacked.addWidget(part)
    return content
