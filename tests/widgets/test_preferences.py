"""Preferences set in napari's own dialog take effect in forms that are opened afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def test_new_forms_start_with_the_preferences(viewer: Any, tmp_path: Path) -> None:
    from napari.settings import get_plugin_settings

    settings = get_plugin_settings("napari-pix2pix")
    settings.training.runs_folder = str(tmp_path / "runs")
    settings.translation.backend = "torch"
    settings.translation.tile = 512
    settings.translation.memory_mib = 2000
    train = viewer.window.add_plugin_dock_widget("napari-pix2pix", "Train")[1]
    assert train.out.path == tmp_path / "runs" / "run-1"
    translate = viewer.window.add_plugin_dock_widget("napari-pix2pix", "Translate")[1]
    assert translate.options() == {"backend": "torch", "tile": 512, "max_memory": 2000 * 2**20}


def test_without_preferences_everything_is_automatic(viewer: Any) -> None:
    translate = viewer.window.add_plugin_dock_widget("napari-pix2pix", "Translate")[1]
    assert translate.options() == {}
