"""The part of the Train widget that says how: how long, and all other settings behind "More"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_pix2pix._widgets.forms import (
    Choice,
    PathField,
    ask_model,
    collapsed,
    form,
    real_number,
    row,
    whole_number,
)
from napari_pix2pix._widgets.messages import Message
from napari_pix2pix._widgets.pace_badge import PaceBadge
from napari_pix2pix._widgets.setting_form import SettingForm
from napari_pix2pix._widgets.training_job import VALIDATION_FRACTION, suggested_patch_size
from napari_pix2pix.translation.settings import Device
from pix2pix_training.choices import Values
from pix2pix_training.config import TrainingConfig
from pix2pix_training.neighbouring_planes import MAX_Z_CONTEXT
from pix2pix_training.presets import preset, usual_depth
from pix2pix_training.setting_options import by_path, setting_options, settings_of_options, training_config
from pix2pix_training.validated import labels

LENGTHS = {"minutes": 10.0, "epochs": 200.0, "steps": 5000.0}
_FIRST = ("preset", "patch_size", "batch_size", "base_width")
_WIDTH_ON_CPU = 32
_PREVIEW_EVERY_STEPS = 100
_SMALLEST_PATCH = 32
_OFFERED_ELSEWHERE = {"source_values": ("foreground",), "target_values": ("image",)}
"""Values that are refused on this side of the pairs."""


class TrainingSettings(QWidget):
    """The fields of a `TrainingConfig` and of what is no part of it; `changed` is emitted when one is changed.

    Parameters
    ----------
    first : rows that come first among those that are folded away.
    """

    changed = Signal()

    def __init__(self, first: Sequence[tuple[str, QWidget]] = ()) -> None:
        super().__init__()
        self.form = SettingForm(
            (option for option in setting_options() if option.name not in LENGTHS),
            usual=_usual("seamless"),
            without=_OFFERED_ELSEWHERE,
        )
        self.preset = self.form.choice("preset")
        self.patch_size, self.base_width, self.depth = map(self.form.native, ("patch_size", "base_width", "depth"))
        self.source_values, self.target_values = map(self.form.choice, ("source_values", "target_values"))
        self.length = real_number(0.1, 10**6, LENGTHS["minutes"], 1, 1, "How long the run is.")
        self.unit = Choice({name: name for name in LENGTHS}, "How the length of the run is counted.")
        self.z_context = whole_number(
            0, MAX_Z_CONTEXT, 0, 1, "Planes of a Z stack above and below that a plane is seen with; 0: none."
        )
        self.validation = real_number(
            0,
            0.5,
            VALIDATION_FRACTION,
            0.05,
            2,
            "Share of the images that is not learnt from, to see how well the model does on new ones.",
        )
        self.device = Choice(
            {words: value for value, words in labels(Device).items()}, "What computes, the processor or a GPU."
        )
        self.init = PathField(
            ask_model,
            "model to start from",
            "A trained model that goes on learning on these images; it decides the networks.",
        )
        rows = [*first, *self.form.rows(_FIRST), ("Planes in Z", self.z_context), ("Held out", self.validation)]
        rows += [("Device", self.device), ("Start from", self.init)]
        rest = [name for name in self.form.fields if name not in _FIRST]
        self.more = collapsed("More", self.form.grouped(rest, rows))
        self.badge = PaceBadge()
        self.held_out = Message()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for part in (form([("How long", row(self.length, self.unit))]), self.badge, self.held_out, self.more):
            layout.addWidget(part)
        self._on_unit_changed()
        self._connect()

    def _connect(self) -> None:
        self.preset.changed.connect(self._on_preset_changed)
        self.form.fields["patch_size"].changed.connect(self._on_patch_size_changed)
        self.form.fields["base_width"].changed.connect(self._on_width_changed)
        self.form.changed.connect(self.changed)
        self.unit.currentIndexChanged.connect(self._on_unit_changed)
        for number in (self.length, self.z_context, self.validation):
            number.valueChanged.connect(self.changed)
        for choice in (self.unit, self.device):
            choice.currentIndexChanged.connect(self.changed)
        self.init.changed.connect(self._on_init_changed)
        self.form.restore.clicked.connect(self._on_restore)

    def config(self, *, target_is_labels: bool) -> TrainingConfig:
        """The settings; raises `SettingsError` where they do not fit together."""
        chosen = settings_of_options({name: self.form.value(name) for name in self.form.fields if self._counts(name)})
        _, chosen["target_values"] = self.values(target_is_labels=target_is_labels)
        return training_config({}, chosen | self.chosen_length())

    def _counts(self, name: str) -> bool:
        """Whether a field does: a model to start from decides networks and how they are used."""
        (table, *_), *also = self.form.settings[name].paths
        is_decided = self.init.path is not None and (table in ("generator", "inference") or bool(also))
        return not is_decided

    def values(self, *, target_is_labels: bool) -> tuple[Values, Values]:
        """What the values of source and target are; those of labels layers are categories."""
        target: Values = self.target_values.value
        return self.source_values.value, "categories" if target_is_labels and target == "auto" else target

    def choose_foreground(self) -> None:
        """Train on labelled or not."""
        self.target_values.choose("foreground")

    def choice(self) -> object:
        """What is chosen, to be compared."""
        others = (self.length.value(), self.unit.value, self.z_context.value(), self.validation.value())
        return tuple(self.form.values().items()), others, self.device.value, self.init.path

    def chosen_length(self) -> dict[str, float]:
        """ "minutes", "epochs" or "steps", and how many."""
        unit, value = self.unit.value, self.length.value()
        return {unit: value if unit == "minutes" else round(value)}

    def command_options(self) -> dict[str, Any]:
        """Options of the command line that are no part of `config`; None where they have their defaults."""
        validation, device = self.validation.value(), self.device.value
        return {
            "validation": None if validation == VALIDATION_FRACTION else validation,
            "device": None if device == "auto" else device,
            "z_context": self.z_context.value() or None,
            "init": self.init.path,
        }

    def suggest_patch_size(self, height: int, width: int) -> None:
        """A patch size for images of this size, unless the user has set one."""
        fixed = self.preset.value == "paper" or self.form.is_changed("depth")
        stride = 2 ** self.form.value("depth") if fixed else _SMALLEST_PATCH
        self.form.suggest("patch_size", suggested_patch_size(height, width, stride))

    def suggest_width_for(self, device: str) -> None:
        """A network that trains in reasonable time on this kind of device, unless the user has set one."""
        if device == "cpu":
            self.form.suggest("base_width", _WIDTH_ON_CPU)

    def _on_init_changed(self) -> None:
        for name, field in self.form.fields.items():
            field.enabled = self._counts(name)
        self.changed.emit()

    def _on_restore(self) -> None:
        """The fields that are no part of the form of settings too."""
        self.z_context.setValue(0)
        self.validation.setValue(VALIDATION_FRACTION)
        self.device.choose("auto")
        self.init.set_path(None)

    def _on_preset_changed(self) -> None:
        """What presets differ in is set, whatever it was."""
        kept = ("preset", "depth", "base_width", "discriminator_base_width")
        for name, value in _usual(self.preset.value).items():
            if name in self.form.fields and name not in kept and self.form.suggest(name, value):
                self.form.restore_default(name)
        self._on_patch_size_changed()
        self.form.restore_default("depth")

    def _on_patch_size_changed(self) -> None:
        self.form.suggest("depth", usual_depth(self.preset.value, self.form.value("patch_size")))

    def _on_width_changed(self) -> None:
        self.form.suggest("discriminator_base_width", self.form.value("base_width"))

    def _on_unit_changed(self) -> None:
        is_time = self.unit.value == "minutes"
        self.length.setDecimals(1 if is_time else 0)
        self.length.setRange(0.1 if is_time else 1, 10**6)
        self.length.setValue(LENGTHS[self.unit.value])


def _usual(name: Any) -> dict[str, Any]:
    """Values of a preset by the names of their options; previews come more often here, where they are looked at."""
    values = by_path(preset(name))
    usual = {option.name: values[option.paths[0]] for option in setting_options()}
    return usual | {"validate_every": _PREVIEW_EVERY_STEPS}
