"""The way of a first-time user in the README: from the sample to a saved result in six clicks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from napari_pix2pix.formats import open_image
from tests.widgets.conftest import WaitUntil


def menu_entry(menu: Any, *titles: str) -> Any:
    """The action that a user finds under these titles."""
    for title in titles:
        menu.aboutToShow.emit()
        found = {action.text().replace("&", ""): action for action in menu.actions()}
        assert title in found, sorted(found)
        menu = found[title].menu()
    return found[titles[-1]]


def test_six_clicks_from_the_sample_to_a_saved_result(
    viewer: Any, tmp_path: Path, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_pix2pix._widgets import translate_widget

    sample = "Simulated cells, label-free and fluorescence"
    menu_entry(viewer.window.file_menu, "Open Sample", "pix2pix", sample).trigger()
    assert [layer.name for layer in viewer.layers] == ["label-free", "nuclei", "cytoplasm"]

    menu_entry(viewer.window.plugins_menu, "pix2pix", "Train (pix2pix)").trigger()
    (train,) = (w for w in viewer.window.dock_widgets.values() if type(w).__name__ == "TrainWidget")
    assert train.images.source.layers == viewer.layers[:1]
    assert train.images.target.layers == viewer.layers[1:]
    wait_until(train.train_button.isEnabled)
    assert train.settings.unit.value == "minutes"
    assert train.settings.length.value() == 10
    train.out.set_path(tmp_path / "run")  # smaller than what a user gets, for the sake of time
    train.settings.base_width.setValue(4)
    train.settings.patch_size.setValue(32)
    train.settings.unit.choose("steps")
    train.settings.length.setValue(1)

    train.train_button.click()
    wait_until(lambda: not train.is_running)
    train.translate_button.click()
    (translate,) = (w for w in viewer.window.dock_widgets.values() if type(w).__name__ == "TranslateWidget")
    wait_until(translate.translate_button.isEnabled)
    assert translate.picker.layers == train.images.source.layers

    translate.translate_button.click()
    wait_until(lambda: not translate.is_running)
    assert viewer.layers[-1].name.startswith("label-free → run")
    assert translate.save_button.isEnabled()

    monkeypatch.setattr(translate_widget, "ask_image", lambda _, proposed: str(tmp_path / Path(proposed).name))
    translate.save_button.click()
    wait_until(lambda: not translate.is_running)
    (saved,) = tmp_path.glob("*.ome.tif")
    with open_image(saved) as image:
        assert image.shape == (2, 1024, 1024)
        assert image.metadata.channel_names == ("nuclei", "cytoplasm")
        assert image.metadata.unit == "µm"
