"""The part of the Train widget that says which images: layers or folders, with a judgement in words."""

from __future__ import annotations

import re
from functools import cache, partial
from typing import Any

from napari.utils.colormaps import label_colormap
from napari.viewer import Viewer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLabel, QSizePolicy, QStackedWidget, QVBoxLayout, QWidget

from napari_pix2pix._widgets.command_line import NamedFiles
from napari_pix2pix._widgets.forms import Choice, PathField, ask_folder, form, row
from napari_pix2pix._widgets.inquiry import Inquiry, state_of
from napari_pix2pix._widgets.layer_axes import full_extent, is_labels, is_rgb
from napari_pix2pix._widgets.layer_facts import (
    apart_on_the_earth,
    doubts,
    file_facts,
    file_in_words,
    likely_channel_axis,
    pixel_size,
)
from napari_pix2pix._widgets.layer_picker import LayerPicker, PlaceCheck
from napari_pix2pix._widgets.layer_places import misplaced_among
from napari_pix2pix._widgets.layer_sources import pair_problem, pixel_size_in_words, size_in_words
from napari_pix2pix._widgets.messages import Message
from napari_pix2pix._widgets.region_choice import RegionChoice
from napari_pix2pix._widgets.training_job import (
    ClassColors,
    FolderPair,
    FoldersChecked,
    LayerFacts,
    LayerPair,
    check_folders,
)
from pix2pix_training.array_source import ArraySource, channel_count
from pix2pix_training.errors import Pix2PixError
from pix2pix_training.neighbouring_planes import with_neighbouring_planes
from pix2pix_training.regions import Region

_CHOOSE, _PAIRING, _TICK = "Choose the two folders.", "Pairing the files…", "Tick a {} layer."
_WHICH_SOURCE = "Several planes could be the source: tick one or more, and the target."
_NO_TARGET = "Tick a target layer: no other image has the size and the place of the source."
_REQUESTS = (_CHOOSE, _PAIRING, _WHICH_SOURCE, _NO_TARGET, *map(_TICK.format, ("source", "target")))
"""Nothing is wrong yet."""
_NAMES_SAID = 4
_NO_BREAK = "\N{NO-BREAK SPACE}"


class TrainingImages(QWidget):
    """Source and target; `changed` is emitted when the choice or what is known about it is another one."""

    changed = Signal()

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._checked: FoldersChecked | None = None
        self._pairing = Inquiry(self, 0)
        self._folders_seen: object = None
        self.kind = Choice({"open layers": "layers", "folders": "folders"}, "Where the training images are.")
        self.source = LayerPicker(viewer, tip="What the network sees; several layers are channels.")
        self.target = LayerPicker(viewer, tip="What it learns to make of it; several layers are channels.")
        self.source_folder = PathField(
            ask_folder, "folder of source images", "What the network sees; files go with those of the same name."
        )
        self.target_folder = PathField(
            ask_folder, "folder of target images", "What it learns to make of it, under the same names."
        )
        self.stack = QStackedWidget()
        self.stack.addWidget(row(_titled("Source", self.source), _titled("Target", self.target)))
        self.stack.addWidget(form([("Source", self.source_folder), ("Target", self.target_folder)]))
        self.regions = RegionChoice(viewer)
        self.message = Message()
        self.same_pixels = PlaceCheck()
        self._lay_out()
        self._connect()

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for part in (form([("Images from", self.kind)]), self.stack, self.regions, self.message, self.same_pixels):
            layout.addWidget(part)
        self._fit_stack()

    def _fit_stack(self) -> None:
        """Only the page that is shown takes room."""
        for index in range(self.stack.count()):
            is_shown = index == self.stack.currentIndex()
            policy = QSizePolicy.Policy.Preferred if is_shown else QSizePolicy.Policy.Ignored
            self.stack.widget(index).setSizePolicy(policy, policy)
        self.stack.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)

    def _connect(self) -> None:
        self.kind.currentIndexChanged.connect(self._on_kind_changed)
        for picker in (self.source, self.target):
            picker.changed.connect(self.changed)
            picker.arrived.connect(self.choose_first_layers)
        self.same_pixels.toggled.connect(self.changed)
        self.regions.changed.connect(self.changed)
        for folder in (self.source_folder, self.target_folder):
            folder.changed.connect(self._on_folder_changed)
        self._pairing.answered.connect(self._on_folders_checked)
        self._pairing.failed.connect(self._on_pairing_failed)

    @property
    def are_layers(self) -> bool:
        return bool(self.kind.value == "layers")

    @property
    def target_is_labels(self) -> bool:
        """Whether all target layers are labels, whose pixels are categories."""
        targets = self.target.layers
        return self.are_layers and bool(targets) and all(map(is_labels, targets))

    def choose_layers(self, sources: list[Any], targets: list[Any], *, decided: bool = True) -> None:
        """Tick layers as source and target; not `decided` for a first choice that nobody has made."""
        self.kind.choose("layers")
        self.source.choose(sources, decided=decided)
        self.target.choose(targets, decided=decided)

    def choose_first_layers(self) -> None:
        """Unless the user has chosen: the lowest image as source, as target those above that belong to it."""
        if self.source.is_decided or self.target.is_decided or not self.are_layers:
            return
        self.choose_layers(*_likely_pair(self.source.images), decided=False)

    def settle(self) -> None:
        """Layers that arrive from now on change no tick."""
        self.source.settle()
        self.target.settle()

    def choice(self) -> object:
        """What is chosen, to be compared."""
        if not self.are_layers:
            return self._folders_seen
        pickers = [(picker.layers, picker.channel_axis) for picker in (self.source, self.target)]
        return [([(id(layer), id(layer.data)) for layer in layers], axis) for layers, axis in pickers]

    def source_size(self) -> tuple[int, int] | None:
        """Height and width of the chosen source layers; None where that is not known."""
        if not self.are_layers:
            return None
        try:
            height, width = self.source.source().shape[-2:]
        except Pix2PixError:
            return None
        return height, width

    def chosen(self) -> LayerPair | FolderPair:
        """The images, for a worker; only after `judge` found no problem."""
        folders = self._folders()
        if not self.are_layers and folders is not None:
            return folders
        return LayerPair(
            source=self.source.source(),
            target=self.target.source(),
            source_facts=_facts(self.source),
            target_facts=_facts(self.target),
        )

    def class_colors(self) -> tuple[ClassColors, ClassColors]:
        """In which colours the viewer shows classes of source and target: as their labels layers, else as new ones."""
        return _label_colors(self.source.layers), _label_colors(self.target.layers)

    def training_regions(self) -> tuple[Region, ...]:
        """Rectangles to train within; none for all, and for folders."""
        return self.regions.training_regions(self.source.layers[0]) if self.are_layers else ()

    def held_out_region(self) -> Region | None:
        """The rectangle that validates; None where a share of the images does."""
        return self.regions.validation_region(self.source.layers[0]) if self.are_layers else None

    def files(self) -> tuple[NamedFiles, NamedFiles]:
        """Paths of source and target for a command line."""
        folders = self._folders()
        if not self.are_layers and folders is not None:
            return [(folders.source, True)], [(folders.target, True)]
        return self.source.files(), self.target.files()

    def alpha(self) -> str | None:
        """What alpha is, as the command line calls it; None where there is none."""
        return (self.source.alpha or self.target.alpha) if self.are_layers else None

    def judge(self, patch_size: int, z_context: int) -> bool:
        """Say in words what is chosen, or what is wrong with it; whether it can be trained on.

        Whether files have the planes that `z_context` asks for is known when they are opened for training.
        """
        apart, warnings = None, list[str]()
        if self.are_layers:
            problem, words, doubted = self._judge_layers(patch_size, z_context)
            apart, warnings = self._judge_places(problem is None)
            warnings += doubted
        else:
            problem, words = self._judge_folders()
            warnings = [f"{line}." for line in self._checked.remarks] if self._checked is not None else []
        problem = problem or apart
        text = "\n".join([problem or words, *warnings])
        is_wrong = problem is not None and problem not in _REQUESTS
        self.message.say(text, "error" if is_wrong else "warning" if warnings else "plain")
        return problem is None

    def _judge_places(self, is_pair: bool) -> tuple[str | None, list[str]]:
        """What forbids to take the layers for a pair because of where they lie, and what is to be said of it."""
        groups = [(picker.layers, picker.channel_axis) for picker in (self.source, self.target)]
        return self.same_pixels.judge(misplaced_among(groups) if is_pair else [])

    def _judge_layers(self, patch_size: int, z_context: int) -> tuple[str | None, str, list[str]]:
        if (request := self._request()) is not None:
            return request, "", []
        if any(layer in self.target.layers for layer in self.source.layers):
            return "A layer is ticked as source and as target.", "", []
        try:
            source, target = self.source.source(), self.target.source()
            with_neighbouring_planes(source, z_context)  # raises where there are none
            regions = self.regions.words(self.source.layers[0])
            too_small = self.regions.problem(self.source.layers[0], patch_size)
        except Pix2PixError as error:
            return str(error), "", []
        sides = (("Source", self.source, source), ("Target", self.target, target))
        words = "\n".join([*(f"{side}: {_in_words(each, image)}." for side, each, image in sides), regions]).rstrip()
        doubted = [line for each in (self.source, self.target) for line in doubts(each.layers[0], each.channel_axis)]
        doubted += apart_on_the_earth([*self.source.layers, *self.target.layers])
        return pair_problem(source, target, patch_size) or too_small, words, doubted

    def _request(self) -> str | None:
        """Which layers are to be ticked, and why none were where nobody has chosen."""
        images = self.source.images
        if not self.source.layers:
            is_unclear = bool(images) and not self.source.is_decided and not _likely_pair(images)[0]
            return _WHICH_SOURCE if is_unclear else _TICK.format("source")
        if not self.target.layers:
            has_others = len(images) > 1 and not self.target.is_decided
            return _NO_TARGET if has_others else _TICK.format("target")
        return None

    def _judge_folders(self) -> tuple[str | None, str]:
        folders = self._folders()
        if folders is None:
            return _CHOOSE, ""
        for field in (self.source_folder, self.target_folder):
            if not field.is_folder:
                return f"{field.path} is not a folder.", ""
        if self._checked is None:
            return _PAIRING, ""
        return self._checked.problem, self._checked.words

    def _folders(self) -> FolderPair | None:
        source, target = self.source_folder.path, self.target_folder.path
        return None if source is None or target is None else FolderPair(source=source, target=target)

    def _on_kind_changed(self) -> None:
        self.stack.setCurrentIndex(self.kind.currentIndex())
        self._fit_stack()
        self.regions.setEnabled(self.are_layers)
        self.changed.emit()

    def look_again(self) -> None:
        """Files may have come or gone since the folders were looked at."""
        if self._state_of_folders() != self._folders_seen:
            self._on_folder_changed()

    def _state_of_folders(self) -> object:
        folders = self._folders()
        return folders and (folders, state_of(folders.source), state_of(folders.target))

    def _on_folder_changed(self) -> None:
        self._checked = None
        self._folders_seen = self._state_of_folders()
        folders = self._folders()
        are_there = self.source_folder.is_folder and self.target_folder.is_folder
        self._pairing.ask(
            partial(check_folders, folders) if folders is not None and are_there else None, self._folders_seen
        )
        self.changed.emit()

    def _on_folders_checked(self, found: FoldersChecked) -> None:
        self._checked = found
        self.changed.emit()

    def _on_pairing_failed(self, words: str) -> None:
        """An error that is not about the folders."""
        folders = self._folders()
        if folders is not None:
            self._on_folders_checked(FoldersChecked(folders=folders, problem=words))

    def disconnect_viewer(self) -> None:
        self.source.disconnect_viewer()
        self.target.disconnect_viewer()
        self.regions.disconnect_viewer()


def _titled(title: str, content: QWidget) -> QWidget:
    widget = QWidget()
    layout = QVBoxLayout(widget)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(3)
    layout.addWidget(QLabel(title))
    layout.addWidget(content)
    layout.addStretch(1)
    return widget


def _likely_pair(images: list[Any]) -> tuple[list[Any], list[Any]]:
    """The lowest layer, and of those above that lie on it its labels, or else those that are no more of its kind.

    None where those would be several of one kind, such as planes: they are as likely what the network is to see.
    """
    above = [other for other in images[1:] if _belong(images[0], other)]
    if labels := [other for other in above if is_labels(other)]:
        return images[:1], labels
    others = [other for other in above if _series(other) != _series(images[0])]
    if len({_series(other) for other in others}) < len(others):
        return [], []
    return images[:1], others or above


def _series(layer: Any) -> str:
    """The same for phase_z1 and phase_z2."""
    return re.sub(r"\d+", "#", layer.name)


def _belong(source: Any, other: Any) -> bool:
    """Whether a layer can be the target of another without a word: of equal size, and lying on it."""
    axes = likely_channel_axis(source), likely_channel_axis(other)
    if full_extent(source, axes[0]) != full_extent(other, axes[1]):
        return False
    is_apart = misplaced_among([([source], axes[0]), ([other], axes[1])]) or apart_on_the_earth([source, other])
    return not is_apart


def _in_words(picker: LayerPicker, image: ArraySource) -> str:
    """ "1024 x 1024 pixels, 2 channels, uint16, 0.325 µm; names kept: nuclei, cytoplasm" """
    facts, words = _facts(picker), size_in_words(image)
    if facts.pixel_size is not None:
        words += f", {pixel_size_in_words(facts.pixel_size, facts.unit).replace(' ', _NO_BREAK)}"
    words += file_in_words(picker.layers[0])
    if len(names := facts.channel_names) > 1:
        more = f" and {len(names) - _NAMES_SAID} more" if len(names) > _NAMES_SAID + 1 else ""
        words += f"; names kept: {', '.join(names[: _NAMES_SAID + (not more)])}{more}"
    return words


def _facts(picker: LayerPicker) -> LayerFacts:
    """Channel names where each layer is a channel, all are colours or a file says them; pixel size with a unit."""
    layers, count = picker.layers, channel_count(picker.source())
    names = tuple(layer.name for layer in layers)
    if len(layers) == 1 and is_rgb(layers[0]):
        names = ("red", "green", "blue")
    elif len(layers) == 1 and count > 1 and (facts := file_facts(layers[0])) is not None:
        names = facts.metadata.channel_names
    size, unit = pixel_size(layers[0])
    return LayerFacts(channel_names=names if len(names) == count else (), pixel_size=size, unit=unit)


def _label_colors(layers: list[Any]) -> ClassColors:
    labelled = next(filter(is_labels, layers), None)
    colors: ClassColors = (_new_colors() if labelled is None else labelled.colormap).map
    return colors


@cache
def _new_colors() -> Any:
    """Of labels that are new; making them takes two milliseconds."""
    return label_colormap()
