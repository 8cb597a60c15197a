"""pix2pix for large images: a napari plugin, a command line, and what a script needs.

`Pix2Pix` trains, loads, applies, judges and exports a model. Below it are ``train`` (events of a training run),
``load_model`` and ``save_model``, ``translate_array`` and ``translate_file``, ``evaluate_pairs``, ``open_image``. Each
is loaded when it is first used, so importing this package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_pix2pix.api import Pix2Pix
    from napari_pix2pix.evaluation import evaluate_pairs
    from napari_pix2pix.formats.source import open_image
    from napari_pix2pix.translation.pipeline import translate_array, translate_file
    from pix2pix_training.model_file import load_model, save_model
    from pix2pix_training.training import train

_HOMES = {
    "Pix2Pix": "napari_pix2pix.api",
    "evaluate_pairs": "napari_pix2pix.evaluation",
    "load_model": "pix2pix_training.model_file",
    "open_image": "napari_pix2pix.formats.source",
    "save_model": "pix2pix_training.model_file",
    "train": "pix2pix_training.training",
    "translate_array": "napari_pix2pix.translation.pipeline",
    "translate_file": "napari_pix2pix.translation.pipeline",
}

__all__ = [
    "Pix2Pix",
    "evaluate_pairs",
    "load_model",
    "open_image",
    "save_model",
    "train",
    "translate_array",
    "translate_file",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
