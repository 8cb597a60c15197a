"""The part of the Translate widget that says which open layers are the image, with a judgement in words."""

from __future__ import annotations

from typing import Any

from napari.viewer import Viewer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QVBoxLayout, QWidget

from napari_pix2pix._widgets.forms import form
from napari_pix2pix._widgets.layer_axes import Extent, finest_level, is_rgb
from napari_pix2pix._widgets.layer_facts import apart_on_the_earth, doubts, file_in_words, image_metadata
from napari_pix2pix._widgets.layer_picker import LayerPicker, PlaceCheck
from napari_pix2pix._widgets.layer_places import misplaced_among
from napari_pix2pix._widgets.layer_sources import size_in_words
from napari_pix2pix._widgets.messages import Message
from napari_pix2pix._widgets.model_card import ModelCard, fit_problem, fit_warnings, rescaling, size_comparison
from napari_pix2pix._widgets.translation_options import TranslationOptions
from napari_pix2pix.formats.metadata import ImageMetadata
from pix2pix_training.errors import ImageError


class TranslationImages(QWidget):
    """Layers that are one image, and whether they fit the model; `changed`: the choice is another one."""

    changed = Signal()

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self.picker = LayerPicker(viewer, tip="Tick the image; several layers are the channels of one image.")
        self.message = Message()
        self.same_pixels = PlaceCheck()
        self.rescale = QCheckBox("rescale to the model's pixel size")
        self.rescale.setToolTip("The model sees pixels as large as those it was trained on; the result is scaled back.")
        self.rescale.setVisible(False)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for part in (form([("Image", self.picker)]), self.message, self.same_pixels, self.rescale):
            layout.addWidget(part)
        self.picker.changed.connect(self.changed)
        self.picker.arrived.connect(self._on_arrived)
        self.same_pixels.toggled.connect(self.changed)
        self.rescale.toggled.connect(self.changed)

    @property
    def layers(self) -> list[Any]:
        return self.picker.layers

    def choose_first(self) -> None:
        """The active layer, else the lowest image."""
        active = self._viewer.layers.selection.active
        self.picker.choose([active] if active in self.picker.offered else self.picker.images[:1], decided=False)

    def _on_arrived(self) -> None:
        """A layer that comes when none is ticked is what there is to translate."""
        if not self.layers:
            self.picker.choose(self.picker.images[:1], decided=False)

    def metadata(self, extent: Extent | None = None) -> ImageMetadata:
        """What a file would say about the image, or about a part of it."""
        return image_metadata(self.layers[0], self.picker.channel_axis, extent)

    def rescales(self, card: ModelCard | None) -> bool:
        """Whether the image is brought to the pixel size of the model."""
        return self._may_rescale(card) and bool(self.rescale.isChecked())

    def say(self, card: ModelCard | None, settings: TranslationOptions) -> str | None:
        """Say in words what is chosen; what forbids to translate it, None where nothing does."""
        self.rescale.setVisible(self._may_rescale(card))
        problem, warnings = self.judge(card, settings)
        text = problem or "\n".join(warnings or self._summary(card))
        self.message.say(text, "error" if problem and self.layers else "warning" if warnings else "plain")
        return problem

    def judge(self, card: ModelCard | None, settings: TranslationOptions) -> tuple[str | None, list[str]]:
        """What forbids the translation, and what may spoil it."""
        try:
            source = self.picker.source()
        except ImageError as error:
            self.same_pixels.judge([])
            return str(error), []
        axis = self.picker.channel_axis
        apart, words = self.same_pixels.judge(misplaced_among([(self.layers, axis)]))
        words = [*words, *doubts(self.layers[0], axis), *apart_on_the_earth(self.layers)]
        if card is None or apart is not None:
            return apart, words
        options = settings.options()
        problem = settings.problem() or fit_problem(card, source, options)
        if problem is not None and self._may_hold_channels(card.source.channels):
            problem += f" If it holds them, choose its axis of {card.source.channels} as channel axis."
        warnings = fit_warnings(card, source, None if self.rescales(card) else self.metadata(), options)
        return problem, words + warnings

    def _may_hold_channels(self, count: int) -> bool:
        """Whether a layer without a channel axis has an axis of that many."""
        layer, *others = self.layers
        if others or is_rgb(layer) or self.picker.channel_axis is not None:
            return False
        return count in finest_level(layer).shape[: layer.ndim - 2]

    def _summary(self, card: ModelCard | None) -> list[str]:
        words = [f"{size_in_words(self.picker.source())}{file_in_words(self.layers[0])}"]
        if card is not None and self.rescales(card):
            words += [f"{size_comparison(card, self.metadata())} The layer is rescaled for it, the result back."]
        return words

    def _may_rescale(self, card: ModelCard | None) -> bool:
        """Whether the pixels of the layers have clearly another size than those that the model was trained on."""
        if card is None or not self.layers:
            return False
        try:
            return rescaling(card, self.metadata()) is not None
        except ImageError:  # which stands in the form
            return False

    def disconnect_viewer(self) -> None:
        """Forget the viewer; for a widget that is closed."""
        self.picker.disconnect_viewer()
