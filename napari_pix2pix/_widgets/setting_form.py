"""A form of the settings of a class: a row for each, made by magicgui of its type, limits and words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import ref

from magicgui.widgets import ComboBox, create_widget
from qtpy.QtCore import QEvent, QObject, Qt, Signal
from qtpy.QtWidgets import QAbstractSpinBox, QComboBox, QLabel, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from napari_pix2pix._widgets.forms import BROWSE, BROWSE_TIP, EitherPoint, form, make_room
from pix2pix_training.setting_options import SettingOption
from pix2pix_training.validated import limits

_LARGEST = 2**53
_ENTRIES = "; "


class Choice(ComboBox):
    """A list of words, each with a value."""

    def choose(self, value: Any) -> None:
        """Select the entry with `value`, which must be there."""
        self.value = value


class SettingForm(QWidget):
    """Fields of settings.

    A field that shows what it was suggested stands for just that value, though it may show less of its digits.
    `changed` is emitted when a field is changed.

    Parameters
    ----------
    options : the settings, each with a row.
    usual : values to start with, by `SettingOption.name`; else those of the class.
    without : values of a setting that the form does not offer, by its name.
    """

    changed = Signal()

    def __init__(
        self,
        options: Iterable[SettingOption],
        *,
        usual: Mapping[str, Any] | None = None,
        without: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__()
        self.settings = {option.name: option for option in options}
        self.fields = {name: _field(each, (without or {}).get(name, ())) for name, each in self.settings.items()}
        self._suggested = {name: (usual or {}).get(name, option.default) for name, option in self.settings.items()}
        self._shown: dict[str, Any] = {}
        self._wheel = _QuietWheel(self)
        for name, field in self.fields.items():
            self.restore_default(name)
            field.changed.connect(self._on_changed)
            for part in (field.native, *field.native.findChildren(QWidget)):
                if isinstance(part, QAbstractSpinBox | QComboBox):
                    part.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
                    part.installEventFilter(self._wheel)
        self.restore = QPushButton("Restore defaults")
        self.restore.setToolTip("Set all fields to what they were before they were changed.")
        self.restore.clicked.connect(self.restore_defaults)

    def _on_changed(self, *_: Any) -> None:
        self.changed.emit()

    def rows(self, names: Iterable[str]) -> list[tuple[str, QWidget]]:
        """Labels and fields of settings."""
        return [(self.settings[name].label, self.fields[name].native) for name in names]

    def grouped(self, names: Iterable[str], first: Sequence[tuple[str, QWidget]] = ()) -> QWidget:
        """Rows of the settings under the names of their groups, after the rows `first`, and the button below."""
        groups: dict[str, list[tuple[str, QWidget]]] = {"": list(first)}
        for name in names:
            groups.setdefault(self.settings[name].group, []).extend(self.rows([name]))
        widget = QWidget()
        layout = QVBoxLayout(widget)
        layout.setContentsMargins(0, 0, 0, 0)
        for group, rows in groups.items():
            if group:
                layout.addWidget(QLabel(f"<b>{group[0].upper()}{group[1:]}</b>"))
            if rows:
                layout.addWidget(form(rows))
        layout.addWidget(self.restore)
        return widget

    def native(self, name: str) -> Any:
        """The Qt field of a setting that is a number or a text."""
        return self.fields[name].native

    def choice(self, name: str) -> Choice:
        """The field of a setting that is one of several words."""
        field = self.fields[name]
        assert isinstance(field, Choice), name
        return field

    def value(self, name: str) -> Any:
        """What a field is set to; text that is written is as it stands there, see `problem`."""
        if not self.is_changed(name):
            return self._suggested[name]
        return _read(self.settings[name], self.fields[name].value)

    def values(self) -> dict[str, Any]:
        """The values of all fields."""
        return {name: self.value(name) for name in self.fields}

    def is_changed(self, name: str) -> bool:
        """Whether the user has set another value than was suggested."""
        return bool(self.fields[name].value != self._shown[name])

    def suggest(self, name: str, value: Any) -> bool:
        """Show a value that fits, unless the user has set another one; whether it is another than before."""
        changed, is_new = self.is_changed(name), bool(value != self._suggested[name])
        self._suggested[name] = value
        if not changed:
            self._show(name, value)
        return is_new

    def restore_defaults(self) -> None:
        """Show what was suggested last."""
        for name in self._suggested:
            self.restore_default(name)

    def restore_default(self, name: str) -> None:
        self._show(name, self._suggested[name])

    def _show(self, name: str, value: Any) -> None:
        field = self.fields[name]
        written = _shown(self.settings[name], value)
        self._shown[name] = written
        field.value = written
        self._shown[name] = field.value


class _QuietWheel(QObject):
    """Passes the wheel on from fields, which are wheeled over while a form is scrolled."""

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Wheel:
            event.ignore()
            return True
        return False


def _step_on_grid(field: Any) -> None:
    """Let the arrows of a field lead to multiples of its step, whatever is typed in it."""
    known = ref(field)

    def step_by(steps: int) -> None:
        if (field := known()) is None:
            return
        step, value = field.singleStep(), field.value() / field.singleStep()
        least = 0 if field.specialValueText() else math.ceil(field.minimum() / step)
        field.setValue(max(least, (math.floor(value) if steps > 0 else math.ceil(value)) + steps) * step)

    field.stepBy = step_by  # magicgui makes the field, so that there is no class to override it in


def _field(option: SettingOption, without: Sequence[str]) -> Any:
    """The field of a setting, without a value yet."""
    low, high, includes_low = limits(option.annotation)
    is_optional = option.default is None
    more = "; several with semicolons between." if option.is_list else "."
    given: dict[str, Any] = {"tooltip": option.setting.help.removesuffix(".") + more}
    if (words := option.labels) and not option.is_list:
        entries = [(words[value], value) for value in words if value not in without]
        offered = [(option.setting.unset, None), *entries] if is_optional else entries
        field: Any = Choice(choices=offered, **given)
        make_room(field.native, (label for label, _ in offered))
    elif option.kind is bool:
        field = create_widget(annotation=bool, options={"text": "", **given})
    elif option.kind in (int, float):
        digits = 0 if option.kind is int else 1 + max(0, math.ceil(-math.log10(option.setting.step)))
        least = low if includes_low else 10.0**-digits
        unset = 0 if least > 0 else least - 1
        given |= {"min": unset if is_optional else least, "max": min(high, _LARGEST), "step": option.setting.step}
        field = create_widget(value=given["min"], annotation=float, options=given)  # that for int has no unit
        field.native.setDecimals(digits)
        field.native.lineEdit().setValidator(EitherPoint(field.native))
        if is_optional:
            field.native.setSpecialValueText(option.setting.unset)
        if digits == 0 and option.setting.step > 1:
            _step_on_grid(field.native)
        if option.setting.unit:
            field.native.setSuffix(f" {option.setting.unit}")
    elif option.kind is Path:
        field = create_widget(annotation=Path, options={"mode": "d", "nullable": True, **given})
        field.choose_btn.text, field.choose_btn.tooltip = BROWSE, BROWSE_TIP
        field.line_edit.tooltip = given["tooltip"]
    else:
        field = create_widget(value="", annotation=str, options=given)
        example = option.setting.unset if option.written is None else option.written.example
        field.native.setPlaceholderText(example)
    field.native.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return field


def _shown(option: SettingOption, value: Any) -> Any:
    """What the field has for a value."""
    if option.labels or option.kind in (bool, Path):
        return value
    if option.kind in (int, float):
        low = limits(option.annotation)[0]
        return (0 if low > 0 else low - 1) if value is None else value
    if option.is_list:
        return _ENTRIES.join(value or ())
    return "" if value is None else option.write(value)


def _read(option: SettingOption, shown: Any) -> Any:
    """The value of what a field has."""
    if option.labels or option.kind is bool:
        return shown
    if option.kind is Path:
        return shown if shown and str(shown) != "." else None
    if option.kind in (int, float):
        return None if option.default is None and shown == _shown(option, None) else option.kind(shown)
    if option.is_list:
        return tuple(part.strip() for part in shown.split(_ENTRIES.strip()) if part.strip())
    return shown.strip() or None
