"""The layers that show how a run is getting on: source, output and target of a validation image, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from napari.viewer import Viewer

from napari_pix2pix._widgets.training_job import Preview

PREVIEW_KEY = "napari-pix2pix-preview"
_GAP = 0.05


class PreviewLayers:
    """Three layers below everything else in the viewer; one that the user removes stays away until the next run."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._are_shown = False

    def start(self) -> None:
        """Begin a run; where a layer of an earlier one was removed, all are shown anew."""
        self._are_shown = False

    def show(self, preview: Preview, pixels: Mapping[str, Any]) -> None:
        """Add the layers, or change their pixels; `pixels` are scale, units and axis labels of the source."""
        present = [layer for layer in self._viewer.layers if layer.metadata.get(PREVIEW_KEY) in preview.images]
        if not self._are_shown and len(present) < len(preview.images):
            for layer in present:
                self._viewer.layers.remove(layer)
            self._add(preview, pixels)
            self._viewer.reset_view()
        else:
            for layer in present:
                layer.data = preview.images[layer.metadata[PREVIEW_KEY]]
        self._are_shown = True

    def _add(self, preview: Preview, pixels: Mapping[str, Any]) -> None:
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

    def _free_place(self, least_gap: float) -> tuple[float, float]:
        """Where the first layer goes: below the left corner of all that is there."""
        if not len(self._viewer.layers):
            return 0.0, 0.0
        low, high = np.asarray(self._viewer.layers.extent.world)
        height = high[-2] - low[-2]
        return float(high[-2] + max(least_gap, _GAP * height)), float(low[-1])


def is_preview(layer: Any) -> bool:
    return PREVIEW_KEY in layer.metadata
