"""The part of the Translate widget that says how: all of `TranslationSettings` that the image does not decide."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_pix2pix._widgets.preferences import preferences
from napari_pix2pix._widgets.setting_form import SettingForm
from napari_pix2pix.translation.settings import TranslationSettings
from pix2pix_training.errors import SettingsError
from pix2pix_training.setting_options import setting_options

ONLY_FOR_RESULTS = ("dropout", "dropout_samples", "tile", "scheme", "region", "split_level")
"""Options of no use for a live view, which is small."""
OF_THE_LAYERS = ("alpha", "match_pixel_size")
"""Settings that the widget takes from the chosen layers."""


class TranslationOptions(QWidget):
    """Fields of `TranslationSettings`; `changed` is emitted when one of them is changed."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        preferred = preferences()
        self.form = SettingForm(
            option for option in setting_options(TranslationSettings) if option.name not in OF_THE_LAYERS
        )
        self.scheme, self.statistics = map(self.form.choice, ("scheme", "statistics"))
        self.samples, self.tile, self.channels, memory = map(
            self.form.native, ("dropout_samples", "tile", "channels", "max_memory")
        )
        if preferred.tile:
            self.tile.setValue(preferred.tile)
        if preferred.memory_mib:
            memory.setText(f"{preferred.memory_mib}MiB")
        self.form.choice("backend").choose(preferred.backend)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.form.grouped(self.form.fields))
        self.form.changed.connect(self.changed)

    def offer_samples(self, possible: bool) -> None:
        """Whether the model has noise of which samples can be taken."""
        for name in ("dropout", "dropout_samples", "seed"):
            self.form.fields[name].enabled = possible
            if not possible:
                self.form.restore_default(name)

    def options(self) -> dict[str, Any]:
        """Fields of `TranslationSettings` as they are chosen, those with their defaults left out.

        What cannot be used is left out too; see `problem`.
        """
        if self.problem() is not None:
            return {}
        settings = TranslationSettings(**self._chosen())
        return {name: getattr(settings, name) for name in self._chosen()}

    def problem(self) -> str | None:
        """What is wrong with a field, in words."""
        try:
            TranslationSettings(**self._chosen())
        except SettingsError as error:
            text = str(error)
            return f"{text[0].upper()}{text[1:]}."
        return None

    def _chosen(self) -> dict[str, Any]:
        options = self.form.settings.values()
        values = {option.name: self.form.value(option.name) for option in options}
        chosen = {option.name: values[option.name] for option in options if values[option.name] != option.default}
        if "dropout_samples" in chosen:
            chosen.setdefault("dropout", "seeded")
        return chosen
