"""The layers that show how a run is getting on: source, output and target of a validation image, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from napari.viewer import Viewer
from qtpy.QtCore import QObject, QTimer

from napari_pix2pix._widgets.training_job import Preview

PREVIEW_KEY = "napari-pix2pix-preview"
_GAP = 0.05
_END = object()


class PreviewLayers(QObject):
    """Three layers below everything else in the viewer; one that the user removes stays away until the next run.

    napari takes its time for each layer, so one is added or changed in a turn of the event loop.
    """

    def __init__(self, viewer: Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._are_shown = False
        self._turns: Iterator[None] = iter(())
        self._next: tuple[Preview, Mapping[str, Any]] | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(0)
        self._timer.timeout.connect(self._on_turn)

    def start(self) -> None:
        """Begin a run; where a layer of an earlier one was removed, all are shown anew."""
        self._are_shown = False

    def stop(self) -> None:
        """Leave the viewer as it is from now on, and let go of its layers."""
        self._timer.stop()
        self._turns, self._next = iter(()), None

    def show(self, preview: Preview, pixels: Mapping[str, Any]) -> None:
        """Add the layers, or change their pixels, soon; `pixels` are scale, units and axis labels of the source.

        Of previews that come while one is being shown, the last is shown after it.
        """
        self._next = preview, pixels
        self._timer.start()

    def _on_turn(self) -> None:
        if next(self._turns, _END) is not _END:
            return
        if self._next is None:
            self._timer.stop()
        else:
            self._turns, self._next = self._shown_in_turns(*self._next), None

    def _shown_in_turns(self, preview: Preview, pixels: Mapping[str, Any]) -> Iterator[None]:
        present = [layer for layer in self._viewer.layers if layer.metadata.get(PREVIEW_KEY) in preview.images]
        if self._are_shown or len(present) == len(preview.images):
            for layer in present:
                layer.data = preview.images[layer.metadata[PREVIEW_KEY]]
                yield
        else:
            for layer in present:
                self._viewer.layers.remove(layer)
                yield
            yield from self._added_in_turns(preview, pixels)
            self._viewer.reset_view()
        self._are_shown = True

    def _added_in_turns(self, preview: Preview, pixels: Mapping[str, Any]) -> Iterator[None]:
        height, width = pixels["scale"]
        top, left = self._free_place(height)
        for name, image in preview.images.items():
            self._viewer.add_image(
                image,
                name=f"preview: {name}",
                rgb=True,  # which napari does not see in an image that is less than 30 pixels wide
                translate=(top, left),
                metadata={PREVIEW_KEY: name},
                **pixels,
            )
            left += image.shape[1] * width * (1 + _GAP)
            yield

    def _free_place(self, least_gap: float) -> tuple[float, float]:
        """Where the first layer goes: below the left corner of all that is there."""
        if not len(self._viewer.layers):
            return 0.0, 0.0
        low, high = np.asarray(self._viewer.layers.extent.world)
        height = high[-2] - low[-2]
        return float(high[-2] + max(least_gap, _GAP * height)), float(low[-1])


def is_preview(layer: Any) -> bool:
    return PREVIEW_KEY in layer.metadata
