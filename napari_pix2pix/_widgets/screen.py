"""What napari's window shows of a layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.viewer import Viewer

from napari_pix2pix._widgets.views import Screen
from pix2pix_training.errors import ImageError


def screen_of(viewer: Viewer, layer: Any) -> Screen:
    """Corners, level and resolution of `layer` on the screen.

    Raises
    ------
    ImageError
        What is shown is no plane of the layer's last two axes.
    """
    if viewer.dims.ndisplay != 2 or list(viewer.dims.displayed) != [viewer.dims.ndim - 2, viewer.dims.ndim - 1]:
        raise ImageError(
            "the current view is not a plane of the last two axes; show it in 2-D, or take the whole layer"
        )
    level = layer.data_level if layer.multiscale else 0
    downsampling = layer.downsample_factors[level] if layer.multiscale else np.ones(layer.ndim)
    first, last = np.asarray(layer.corner_pixels).tolist()
    return Screen(
        corners=(tuple(first), tuple(last)),
        level=level,
        downsampling=tuple(map(float, downsampling)),
        point=tuple(map(float, layer.world_to_data(viewer.dims.point))),
        pixels_per_screen_pixel=1 / (_screen_pixels_per_unit(viewer) * _pixel_side(layer) * float(downsampling[-1])),
    )


def _screen_pixels_per_unit(viewer: Any) -> float:
    scene = getattr(viewer, "scene", viewer)  # napari before 0.9 has the camera in the viewer itself
    return float(scene.camera.zoom)


def _pixel_side(layer: Any) -> float:
    """Length of a pixel along the last axis, in units of the world."""
    step = np.zeros((2, layer.ndim))
    step[1, -1] = 1
    start, end = (np.asarray(layer.data_to_world(point)) for point in step)
    return float(np.linalg.norm(end - start))
