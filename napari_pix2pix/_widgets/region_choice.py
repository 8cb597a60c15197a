"""Fields that restrict training and validation to parts of the image, drawn by the user in a Shapes layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Shapes
from napari.viewer import Viewer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_pix2pix._widgets.forms import Choice, form
from pix2pix_training.errors import ImageError
from pix2pix_training.regions import Region

_WORDS = "The rectangles around the shapes of this layer count; other outlines are not followed."


class RegionChoice(QWidget):
    """Where patches come from and which region validates; hidden while the viewer has no Shapes layer."""

    changed = Signal()

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._known: list[Any] = []
        self.training = Choice({"the whole image": None}, f"Where training patches come from. {_WORDS}")
        self.validation = Choice({"a share of the image": None}, f"What validates. {_WORDS} Only one shape is allowed.")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(form([("Train within", self.training), ("Validate on", self.validation)]))
        for choice in (self.training, self.validation):
            choice.currentIndexChanged.connect(self.changed)
        for emitter in self._emitters():
            emitter.connect(self._refresh)
        self.setVisible(False)
        self._refresh()

    def _emitters(self) -> tuple[Any, ...]:
        events = self._viewer.layers.events
        return events.inserted, events.removed, events.reordered

    def disconnect_viewer(self) -> None:
        """Forget the viewer; for a widget that is closed."""
        for emitter in self._emitters():
            emitter.disconnect(self._refresh)
        self._watch([])

    def _watch(self, layers: list[Any]) -> None:
        for layer in self._known:
            layer.events.data.disconnect(self._on_data)
        self._known = layers
        for layer in layers:
            layer.events.data.connect(self._on_data)

    def _on_data(self, *_: Any) -> None:
        self.changed.emit()

    def _refresh(self, *_: Any) -> None:
        layers = [layer for layer in self._viewer.layers if isinstance(layer, Shapes)]
        if layers == self._known:
            return
        self._watch(layers)
        offered = {f"{number}: {layer.name}": layer for number, layer in enumerate(layers, start=1)}
        for choice, usual in ((self.training, "the whole image"), (self.validation, "a share of the image")):
            chosen = choice.value
            choice.blockSignals(True)
            choice.fill({usual: None, **offered})
            choice.choose(chosen if chosen in layers else None)
            choice.blockSignals(False)
        self.setVisible(bool(layers))
        self.changed.emit()

    def training_regions(self, image: Any) -> tuple[Region, ...]:
        """Rectangles of the layer `image` to train within; none for all of it. Raises `ImageError` where none fits."""
        return () if self.training.value is None else tuple(rectangles(self.training.value, image))

    def validation_region(self, image: Any) -> Region | None:
        """The rectangle that validates; None for a share. Raises `ImageError` unless there is exactly one."""
        if self.validation.value is None:
            return None
        found = rectangles(self.validation.value, image)
        if len(found) != 1:
            raise ImageError(f"{self.validation.value.name}: has {len(found)} shapes; draw one to validate on")
        return found[0]

    def problem(self, image: Any, patch_size: int) -> str | None:
        """Why patches cannot come from the chosen rectangles, in words; None where they can."""
        for region in self.training_regions(image):
            if min(region.height, region.width) < patch_size:
                return f"{_areas([region]).capitalize()} is smaller than a patch of {patch_size}: draw a larger one."
        return None

    def words(self, image: Any) -> str:
        """What is chosen, for the user; empty where nothing is."""
        regions, held_out = self.training_regions(image), self.validation_region(image)
        parts = [f"Patches come from {_areas(regions)}."] if regions else []
        parts += [f"Validation on {_areas([held_out])}."] if held_out is not None else []
        return " ".join(parts)


def _areas(regions: Any) -> str:
    sizes = ", ".join(f"{region.height} x {region.width}" for region in regions[:3])
    more = f" and {len(regions) - 3} more" if len(regions) > 3 else ""
    return f"the rectangle{'s' if len(regions) > 1 else ''} of {sizes}{more} pixels"


def rectangles(shapes: Any, image: Any) -> list[Region]:
    """The part of `image` in the rectangle around each shape; raises `ImageError` where a shape lies beside it."""
    height, width = (image.data[0] if image.multiscale else image.data).shape[image.ndim - 2 : image.ndim]
    regions = []
    for number, vertices in enumerate(shapes.data, start=1):
        corners = np.array([image.world_to_data(shapes.data_to_world(vertex))[-2:] for vertex in vertices])
        (y0, x0), (y1, x1) = np.rint(corners.min(0)).astype(int), np.rint(corners.max(0)).astype(int)
        region = Region(int(y0), int(y1), int(x0), int(x1)).common(Region.whole(height, width))
        if region.is_empty:
            raise ImageError(f"{shapes.name}: shape {number} lies beside {image.name}; move or delete it")
        regions.append(region)
    if not regions:
        raise ImageError(f"{shapes.name}: has no shapes; draw one, or take the whole image")
    return regions
