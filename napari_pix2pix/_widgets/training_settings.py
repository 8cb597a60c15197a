"""The part of the Train widget that says how: preset, length, sizes, and the rest behind "Advanced"."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QAbstractSpinBox, QSpinBox, QVBoxLayout, QWidget

from napari_pix2pix._widgets.forms import Choice, PathField, ask_model, collapsed, form, real_number, row, whole_number
from napari_pix2pix._widgets.training_job import (
    VALIDATION_FRACTION,
    NetworkChoice,
    suggested_patch_size,
    training_config,
)
from napari_pix2pix._widgets.translation_options import DEVICES
from pix2pix_training.config import TrainingConfig, Values
from pix2pix_training.neighbouring_planes import MAX_Z_CONTEXT
from pix2pix_training.presets import preset, usual_depth

LENGTHS = {"minutes": 10.0, "epochs": 200.0, "steps": 5000.0}
PRESETS = {"seamless, for large images": "seamless", "as in the paper": "paper"}
VALUES = {
    "automatic": "auto",
    "range of the pixel type": "dtype",
    "range of the training set": "training-set",
    "range of each image": "image",
    "categories": "categories",
    "labelled or not": "foreground",
}
DECODERS = {"transposed convolution": "transposed", "resize": "resize", "pixel shuffle": "pixel-shuffle"}
PLACEMENTS = {"anywhere": "uniform", "where the target varies": "content"}
PRECISIONS = {"automatic": "auto", "32-bit": "fp32", "bfloat16": "bf16", "float16": "fp16"}
_WIDTH_ON_CPU = 32
_PREVIEW_EVERY_STEPS = 100
_SMALLEST_PATCH = 32


class TrainingSettings(QWidget):
    """The fields of a `TrainingConfig`; `changed` is emitted when one of them is changed."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        usual = preset("seamless")
        self.preset = Choice(PRESETS, "A set of settings; those below can be changed.")
        self.length = real_number(0.1, 10**6, LENGTHS["minutes"], 1, 1, "How long the run is.")
        self.unit = Choice({name: name for name in LENGTHS}, "How the length of the run is counted.")
        self.patch_size = whole_number(16, 4096, usual.patch_size, 32, "Side of a training patch in pixels.")
        self.batch_size = whole_number(1, 4096, usual.batch_size, 1, "Patches per step.")
        self.base_width = whole_number(1, 1024, usual.generator.base_width, 8, "Channels of the first layer.")
        self.advanced = collapsed("Advanced", self._advanced(usual))
        self._suggested = {
            self.patch_size: usual.patch_size,
            self.base_width: usual.generator.base_width,
            self.depth: usual.generator.depth,
        }
        sizes = row(self.patch_size, self.batch_size)
        rows = [("Preset", self.preset), ("Length", row(self.length, self.unit)), ("Patch, batch", sizes)]
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(form([*rows, ("Base width", self.base_width)]))
        layout.addWidget(self.advanced)
        self._on_unit_changed()
        self._connect()

    def _advanced(self, usual: TrainingConfig) -> QWidget:
        self.depth = whole_number(2, 10, usual.generator.depth, 1, "Down-samplings of the U-Net.")
        self.decoder = Choice(
            DECODERS, "How the U-Net doubles the resolution; resize and pixel shuffle leave no grid in the result."
        )
        self.z_context = whole_number(
            0, MAX_Z_CONTEXT, 0, 1, "Planes of a Z stack above and below that a plane is seen with; 0: none."
        )
        self.placement = Choice(PLACEMENTS, "Where training patches are taken.")
        self.learning_rate = real_number(1e-5, 1, usual.learning_rate, 1e-4, 5, "Step width of the optimiser.")
        self.validation = real_number(0, 0.5, VALIDATION_FRACTION, 0.05, 2, "Share of the images that validates.")
        self.preview_every = whole_number(1, 10**6, _PREVIEW_EVERY_STEPS, 50, "Steps between previews and validations.")
        sources = {label: value for label, value in VALUES.items() if value != "foreground"}
        self.source_values = Choice(sources, "What the source's pixel values mean.")
        targets = {label: value for label, value in VALUES.items() if value != "image"}
        self.target_values = Choice(targets, "What the target's pixel values mean; labels layers are categories.")
        self.device = Choice(DEVICES, "Where the network is trained.")
        self.precision = Choice(PRECISIONS, "Arithmetic of the training.")
        self.patience = whole_number(
            0, 10**6, usual.patience, 1, "Stop after so many validations without a better score; 0: never."
        )
        self.ema_decay = real_number(
            0, 0.9999, usual.ema_decay, 0.001, 4, "Average the weights over steps, for example 0.999; 0: do not."
        )
        self.seed = whole_number(0, 2**31 - 1, usual.seed, 1, "Makes runs repeatable.")
        self.init = PathField(ask_model, "model to start from")
        return form(
            [
                ("Depth", self.depth),
                ("Decoder", self.decoder),
                ("Planes in Z", self.z_context),
                ("Patches from", self.placement),
                ("Learning rate", self.learning_rate),
                ("Held out", self.validation),
                ("Preview every", self.preview_every),
                ("Source values", self.source_values),
                ("Target values", self.target_values),
                ("Device", self.device),
                ("Precision", self.precision),
                ("Patience", self.patience),
                ("Weight average", self.ema_decay),
                ("Seed", self.seed),
                ("Start from", self.init),
            ]
        )

    def _connect(self) -> None:
        self.preset.currentIndexChanged.connect(self._on_preset_changed)
        self.unit.currentIndexChanged.connect(self._on_unit_changed)
        self.patch_size.valueChanged.connect(self._on_patch_size_changed)
        for field in self.findChildren(QAbstractSpinBox):
            field.valueChanged.connect(self.changed)
        for choice in self.findChildren(Choice):
            choice.currentIndexChanged.connect(self.changed)
        self.init.changed.connect(self._on_init_changed)

    def config(self, *, target_is_labels: bool) -> TrainingConfig:
        """The settings; raises `SettingsError` where they do not fit together."""
        source_values, target_values = self.values(target_is_labels=target_is_labels)
        return training_config(
            self.preset.value,
            length=self.chosen_length(),
            patch_size=self.patch_size.value(),
            network=None if self.init.path is not None else self._network(),
            placement=self.placement.value,
            options={
                "batch_size": self.batch_size.value(),
                "learning_rate": self.learning_rate.value(),
                "validate_every": self.preview_every.value(),
                "source_values": source_values,
                "target_values": target_values,
                "precision": self.precision.value,
                "patience": self.patience.value(),
                "ema_decay": self.ema_decay.value(),
                "seed": self.seed.value(),
            },
        )

    def _network(self) -> NetworkChoice:
        return NetworkChoice(base_width=self.base_width.value(), depth=self.depth.value(), decoder=self.decoder.value)

    def values(self, *, target_is_labels: bool) -> tuple[Values, Values]:
        """What the values of source and target are; those of labels layers are categories."""
        target: Values = self.target_values.value
        return self.source_values.value, "categories" if target_is_labels and target == "auto" else target

    def choose_foreground(self) -> None:
        """Train on labelled or not."""
        self.target_values.choose("foreground")

    def choice(self) -> object:
        """What is chosen, to be compared."""
        numbers = tuple(field.value() for field in self.findChildren(QAbstractSpinBox))
        return numbers, tuple(choice.value for choice in self.findChildren(Choice)), self.init.path

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
        fixed = self.preset.value == "paper" or self.depth.value() != self._suggested[self.depth]
        stride = 2 ** self.depth.value() if fixed else _SMALLEST_PATCH
        self._suggest(self.patch_size, suggested_patch_size(height, width, stride))

    def suggest_width_for(self, device: str) -> None:
        """A network that trains in reasonable time on this kind of device, unless the user has set one."""
        if device == "cpu":
            self._suggest(self.base_width, _WIDTH_ON_CPU)

    def _suggest(self, field: QSpinBox, value: int) -> None:
        if field.value() == self._suggested[field]:
            self._suggested[field] = value
            field.setValue(value)

    def _on_init_changed(self) -> None:
        """A model to start from decides the networks."""
        for field in (self.base_width, self.depth, self.decoder):
            field.setEnabled(self.init.path is None)
        self.changed.emit()

    def _on_preset_changed(self) -> None:
        usual = preset(self.preset.value)
        self.learning_rate.setValue(usual.learning_rate)
        self.ema_decay.setValue(usual.ema_decay)
        self._suggest(self.patch_size, usual.patch_size)
        self._suggested[self.depth] = self.depth.value()
        self._on_patch_size_changed()

    def _on_patch_size_changed(self) -> None:
        self._suggest(self.depth, usual_depth(self.preset.value, self.patch_size.value()))

    def _on_unit_changed(self) -> None:
        is_time = self.unit.value == "minutes"
        self.length.setDecimals(1 if is_time else 0)
        self.length.setRange(0.1 if is_time else 1, 10**6)
        self.length.setValue(LENGTHS[self.unit.value])
