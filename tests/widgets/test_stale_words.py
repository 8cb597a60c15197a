"""What the forms say goes when the files, layers or folders that it is about are others, or are gone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pix2pix_training.array_source import MemorySource
from pix2pix_training.config import TrainingConfig
from pix2pix_training.locks import RUN_LOCK, locked
from pix2pix_training.model_file import save_model
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.pairs import Pair, Split
from pix2pix_training.remarks import remarks
from pix2pix_training.training import TrainingData
from pix2pix_training.training import train as training
from tests.product.conftest import model_for
from tests.widgets.conftest import WaitUntil


def come_back_to(widget: Any) -> None:
    """The user was in another program."""
    from qtpy.QtCore import QEvent
    from qtpy.QtWidgets import QApplication

    QApplication.sendEvent(widget, QEvent(QEvent.Type.WindowActivate))


def noise(size: tuple[int, int] = (40, 48)) -> Any:
    return np.random.default_rng(0).integers(0, 256, size, np.uint8)


def test_a_model_file_that_is_replaced_or_gone_and_back(
    viewer: Any, run: Any, translate: Any, grey_model: Path, wait_until: WaitUntil
) -> None:
    run(grey_model, [viewer.add_image(noise())])
    assert translate.state.text().startswith("done")
    save_model(model_for(1, 2), grey_model)
    translate.set_model(grey_model)
    assert translate.state.text() == ""
    wait_until(lambda: translate.model.card is not None)
    assert translate.model.card.target.channels == 2
    content = grey_model.read_bytes()
    grey_model.unlink()
    come_back_to(translate)
    assert (translate.model.card, translate.translate_button.isEnabled()) == (None, False)
    assert "there is no model.safetensors in it" in translate.model.words.text()
    grey_model.write_bytes(content)
    come_back_to(translate)
    wait_until(translate.translate_button.isEnabled)


def test_a_model_that_was_replaced_is_not_run_before_its_card_is_read(
    viewer: Any, run: Any, translate: Any, grey_model: Path, rgb_model: Path, wait_until: WaitUntil
) -> None:
    run(grey_model, [viewer.add_image(noise())])
    grey_model.write_bytes(rgb_model.read_bytes())
    translate.translate_button.click()
    assert not translate.is_running
    wait_until(lambda: "3" in translate.fit.text())
    assert not translate.translate_button.isEnabled()


def test_files_of_folders_come_and_go(
    translate: Any, train: Any, grey_model: Path, tmp_path: Path, wait_until: WaitUntil
) -> None:
    from PIL import Image

    folder = tmp_path / "images"
    folder.mkdir()
    for name in "ab":
        Image.fromarray(noise()).save(folder / f"{name}.png")
    translate.kind.choose("folder")
    translate.folder.folder.set_path(folder)
    train.images.kind.choose("folders")
    for field in (train.images.source_folder, train.images.target_folder):
        field.set_path(folder)
    wait_until(lambda: translate.folder.message.text() == "2 images.")
    wait_until(lambda: train.images.message.text().startswith("2 pairs"))
    Image.fromarray(noise()).save(folder / "c.png")
    for widget in (translate, train):
        come_back_to(widget)
    wait_until(lambda: translate.folder.message.text() == "3 images.")
    wait_until(lambda: train.images.message.text().startswith("3 pairs"))
    shutil.rmtree(folder)
    for widget in (translate, train):
        come_back_to(widget)
    wait_until(lambda: translate.folder.message.text() == f"{folder} is not a folder.")
    assert train.images.message.text() == f"{folder} is not a folder."


def test_a_run_folder_that_is_gone_or_in_use(train: Any, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "last.pt").touch()
    come_back_to(train)
    assert "Resume goes on" in train.problem.text()
    shutil.rmtree(out)
    train.resume_button.click()
    assert (train.is_running, train.problem.text()) == (False, f"The model goes to {out}.")
    with locked(out / RUN_LOCK, out):
        train.train_button.click()
        assert train.out.path == tmp_path / "run-2"
        train.stop()
        train.out.set_path(out)
    (out / "notes.txt").parent.mkdir(exist_ok=True)
    (out / "notes.txt").touch()
    from napari_pix2pix._widgets.training_job import run_state

    assert run_state(out) == "other"


def test_scores_go_with_their_targets(viewer: Any, run: Any, translate: Any, grey_model: Path, wait_until: Any) -> None:
    actions = translate.model_actions
    image, truth = viewer.add_image(noise(), name="phase"), viewer.add_image(noise(), name="truth")
    other = viewer.add_image(noise((8, 8)), name="small")
    run(grey_model, [image])
    actions.targets.choose([truth])
    actions.evaluate_button.click()
    wait_until(lambda: not translate.is_running)
    assert "True targets: truth." in actions.scores.text()
    actions.targets.choose([other])
    assert (actions.scores.text(), actions.report_button.isEnabled()) == ("", False)
    actions.evaluate_button.click()
    wait_until(lambda: not translate.is_running)
    assert "the result of phase has 40 x 48 pixels" in translate.state.text()
    assert (actions.scores.text(), actions.report_button.isEnabled()) == ("", False)


def test_a_result_that_is_removed(viewer: Any, run: Any, translate: Any, grey_model: Path) -> None:
    image, truth = viewer.add_image(noise(), name="phase"), viewer.add_image(noise(), name="truth")
    (first,), (second,) = run(grey_model, [image]), run(grey_model, [image])
    panel = translate.result
    panel.tell(0.5, panel_subject(second), panel_subject(second), translate.choice())
    viewer.layers.remove(first)
    assert (truth.visible, second.visible, panel.error_map.isHidden()) == (False, True, False)
    assert translate.state.text().startswith("done")
    viewer.layers.remove(second)
    assert (truth.visible, panel.error_map.isHidden(), panel.novelty.isHidden()) == (True, True, True)
    assert translate.state.text() == ""


def panel_subject(layer: Any) -> Any:
    from types import SimpleNamespace

    return SimpleNamespace(layers=(layer,))


def test_the_live_view_and_its_box_agree(
    viewer: Any, run: Any, translate: Any, grey_model: Path, wait_until: WaitUntil
) -> None:
    def live_layers() -> list[Any]:
        return [layer for layer in viewer.layers if layer.name.endswith("live view")]

    image = viewer.add_image(noise(), name="phase")
    run(grey_model, [image])
    image.corner_pixels = np.array([[0, 0], [39, 47]])
    translate.live.setChecked(True)
    wait_until(lambda: bool(live_layers()))
    viewer.layers.remove(live_layers()[0])
    wait_until(lambda: not translate.live.isChecked())
    translate.live.setChecked(True)
    wait_until(lambda: bool(live_layers()))
    run(grey_model, [image])
    assert (translate.live.isChecked(), live_layers()) == (False, [])


@pytest.mark.parametrize("side", [0, 1])
def test_a_layer_without_a_number_is_told_before_the_run(
    viewer: Any, train: Any, pair: list[Any], wait_until: WaitUntil, side: int
) -> None:
    layers = list(pair)
    layers[side] = viewer.add_image(np.full((96, 128), np.nan, np.float32), name="empty", scale=(0.5, 0.5))
    layers[side].units = pair[0].units
    train.choose_layers(layers[:1], layers[1:])
    wait_until(lambda: train.values.problem is not None)
    assert not train.train_button.isEnabled()


@pytest.mark.parametrize("painted", [True, False])
def test_pixels_that_are_changed_during_a_run_are_told_of(tmp_path: Path, painted: bool) -> None:
    images = [noise((64, 64)), noise((64, 64))]
    source, target = (MemorySource(image[None], name=name) for image, name in zip(images, "ab", strict=True))
    config = TrainingConfig(
        steps=2, patch_size=32, generator=GeneratorConfig(depth=2, base_width=2), coverage=0.0, calibration=0
    )
    data = TrainingData(split=Split(training=(Pair(source, target, "a"),), validation=()))
    with remarks() as lines:
        for event in training(config, data, tmp_path / "run", device="cpu"):
            if painted and getattr(event, "step", 0) == 1:
                images[1][:8] = 7
    said = [line for line in lines if "during the run" in line]
    assert (
        said
        == [
            "the pixels of b were changed during the run; what was learnt is of both, so train again on what "
            "they are now"
        ]
        * painted
    )
