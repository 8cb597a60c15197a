"""What the menus do, and what happens when a model file or the folder of a run is dropped on the viewer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari.viewer
from napari.utils.notifications import show_error
from qtpy.QtWidgets import QFileDialog

from napari_pix2pix._widgets.job_widget import opened
from napari_pix2pix._widgets.layer_files import add_file
from napari_pix2pix._widgets.train_widget import TrainWidget
from napari_pix2pix._widgets.training_job import run_state
from napari_pix2pix._widgets.translate_widget import TranslateWidget
from napari_pix2pix.formats.source import is_zarr
from napari_pix2pix.output_paths import MODEL_NAME
from pix2pix_training.errors import Pix2PixError

_NO_LAYERS: list[tuple[None]] = [(None,)]
Reader = Callable[[str | list[str]], list[tuple[None]]]


def translate_selected(viewer: napari.viewer.Viewer) -> None:
    """Open the Translate widget with the selected layers chosen."""
    widget = opened(viewer, "Translate", TranslateWidget)
    if viewer.layers.selection:
        widget.picker.choose(_selected(viewer))


def train_selected(viewer: napari.viewer.Viewer) -> None:
    """Open the Train widget; the lowest of the selected layers is the source, the others are the target."""
    widget = opened(viewer, "Train", TrainWidget)
    if layers := _selected(viewer):
        widget.choose_layers(layers[:1], layers[1:])


def open_placed(viewer: napari.viewer.Viewer) -> None:
    """Ask for image files, and show each where and as large as it says."""
    for name in QFileDialog.getOpenFileNames(None, "Open images with place and scale")[0]:
        try:
            add_file(viewer, Path(name))
        except Pix2PixError as error:
            show_error(str(error))


def model_reader(path: str | list[str]) -> Reader | None:
    """A reader for one model file, or the folder of a run; None for several paths, and for images that are folders."""
    return _read_model if isinstance(path, str) and not is_zarr(Path(path)) else None


def _read_model(path: str | list[str]) -> list[tuple[None]]:
    """Show the model in the Translate widget of the current viewer; there is no layer to add."""
    viewer = napari.current_viewer()
    if viewer is None or not isinstance(path, str):
        return _NO_LAYERS
    if (problem := _no_model(Path(path))) is not None:
        show_error(problem)
    else:
        opened(viewer, "Translate", TranslateWidget).set_model(Path(path))
    return _NO_LAYERS


def _no_model(path: Path) -> str | None:
    """Why a folder that was dropped cannot be opened, in words; None for a file, and for a run with a model."""
    if not path.is_dir() or (path / MODEL_NAME).is_file():
        return None
    if run_state(path) == "run":
        return f"{path} is a run without a model yet; train on with Resume"
    return f"{path} is no folder of a run: there is no {MODEL_NAME} in it"


def _selected(viewer: Any) -> list[Any]:
    return [layer for layer in viewer.layers if layer in viewer.layers.selection]
