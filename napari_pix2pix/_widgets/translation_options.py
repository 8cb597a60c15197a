"""The part of the Translate widget that says how: scheme, statistics, noise, memory, and what it runs on."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QAbstractSpinBox, QLineEdit, QVBoxLayout, QWidget

from napari_pix2pix._widgets.forms import Choice, form, whole_number
from napari_pix2pix._widgets.preferences import preferences

SCHEMES = {"automatic": "auto", "whole image at once": "whole", "exact tiles": "exact", "blended tiles": "blend"}
STATISTICS = {"as the model says": None, "of training": "running", "of the image": "image", "of each tile": "tile"}
VALUES = {
    "are refused": "refuse",
    "from range to range of the types": "type",
    "as they are": "values",
    "fitted to each image": "image",
}
BACKENDS = {
    "automatic": "auto",
    "PyTorch": "torch",
    "OpenVINO": "openvino",
    "TensorRT": "tensorrt",
    "TensorRT-RTX": "tensorrt-rtx",
}
DEVICES = {"automatic": "auto", "CPU": "cpu", "NVIDIA GPU": "cuda", "Apple GPU": "mps"}
ONLY_FOR_RESULTS = ("dropout", "dropout_samples", "tile", "scheme")
"""Options of no use for a live view, which is small."""

_MEBIBYTE = 2**20
_AUTOMATIC = "automatic"


class TranslationOptions(QWidget):
    """Fields of `TranslationSettings`; `changed` is emitted when one of them is changed."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        preferred = preferences()
        self.scheme = Choice(SCHEMES, "How an image larger than memory is translated.")
        self.statistics = Choice(STATISTICS, "Where the network's normalisation takes its statistics.")
        self.samples = whole_number(1, 10_000, 1, 1, "Runs with other noise; the result is their mean and deviation.")
        self.tile = _optional(2**16, preferred.tile, " px", "Side of a tile of the result.")
        self.channels = QLineEdit()
        self.channels.setPlaceholderText("all, or such as 0, 2")
        self.channels.setToolTip("Channels of the image that the model takes, counted from 0, in the model's order.")
        self.values = Choice(VALUES, "Pixels of another type than those the model was trained on.")
        self.memory = _optional(2**20, preferred.memory_mib, " MiB", "Most memory that the translation may take.")
        self.backend = Choice(BACKENDS, "What the network runs with.")
        self.backend.choose(preferred.backend)
        self.device = Choice(DEVICES, "Where the network runs.")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        rows = [("Scheme", self.scheme), ("Statistics", self.statistics), ("Dropout samples", self.samples)]
        rows += [("Channels", self.channels), ("Values of another type", self.values)]
        rows += [("Tile", self.tile), ("Memory", self.memory), ("Backend", self.backend), ("Device", self.device)]
        layout.addWidget(form(rows))
        for field in self.findChildren(QAbstractSpinBox):
            field.valueChanged.connect(self.changed)
        for choice in self.findChildren(Choice):
            choice.currentIndexChanged.connect(self.changed)
        self.channels.textChanged.connect(self.changed)

    def offer_samples(self, possible: bool) -> None:
        """Whether the model has noise of which samples can be taken."""
        self.samples.setEnabled(possible)
        if not possible:
            self.samples.setValue(1)

    def options(self) -> dict[str, Any]:
        """Fields of `TranslationSettings` as they are chosen, those with their defaults left out.

        What is typed for channels counts once it is a list of numbers; see `problem`.
        """
        chosen: dict[str, Any] = {
            "scheme": self.scheme.value,
            "statistics": self.statistics.value,
            "convert_values": self.values.value,
            "backend": self.backend.value,
            "device": self.device.value,
        }
        options = {name: value for name, value in chosen.items() if value not in ("auto", "refuse", None)}
        if self.samples.value() > 1:
            options |= {"dropout": "seeded", "dropout_samples": self.samples.value()}
        if self.problem() is None and self.channels.text().strip():
            options["channels"] = tuple(map(int, self.channels.text().split(",")))
        if self.tile.value():
            options["tile"] = self.tile.value()
        if self.memory.value():
            options["max_memory"] = self.memory.value() * _MEBIBYTE
        return options

    def problem(self) -> str | None:
        """What is wrong with a field, in words."""
        text = self.channels.text().strip()
        if not text or all(part.strip().isdecimal() for part in text.split(",")):
            return None
        return f"Channels are numbers such as 0, 2, and not {text!r}."


def _optional(high: int, value: int, unit: str, tip: str) -> Any:
    """A whole number whose lowest value stands for an automatic choice."""
    field = whole_number(0, high, value, 64, tip)
    field.setSpecialValueText(_AUTOMATIC)
    field.setSuffix(unit)
    return field
