"""The Train widget in a viewer: words beside the choice, a run to a usable model, stop, resume, closing."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_pix2pix import load_model
from pix2pix_training.errors import SettingsError
from pix2pix_training.events import Validating, Warned
from pix2pix_training.model_file import save_model
from pix2pix_training.regions import Region
from tests.product.conftest import model_for
from tests.widgets.conftest import WaitUntil, trained_on


def test_train_then_translate(viewer: Any, train: Any, pair: list[Any], tmp_path: Path, wait_until: WaitUntil) -> None:
    assert train.train_button.isEnabled()
    train.train_button.click()
    assert train.is_running
    assert train.stop_button.isEnabled()
    assert not train.train_button.isEnabled()
    wait_until(lambda: not train.is_running)
    assert "done: 6 steps" in train.state.text()
    model = load_model(tmp_path / "run" / "model.safetensors")
    assert model.source.channel_names == ("phase",)
    assert model.target.channel_names == ("stain",)
    assert model.source.pixel_size == (0.5, 0.5)
    assert model.source.unit == "µm"
    assert model.training["config"]["steps"] == 6
    assert model.training["validation_pairs"] == 1
    assert list(viewer.layers) == pair
    shown = train.progress.preview.preview.images
    assert list(shown) == ["source", "output", "target"]
    assert np.array_equal(255 - shown["source"], shown["target"])
    viewer.layers.selection.active = pair[1]  # the image to translate is the one it was trained on, all the same
    train.translate_button.click()
    translate = next(widget for name, widget in viewer.window.dock_widgets.items() if "Translate" in name)
    assert translate.picker.layers == pair[:1]
    wait_until(lambda: translate.translate_button.isEnabled())
    translate.translate_button.click()
    wait_until(lambda: not translate.is_running)
    assert viewer.layers[-1].name == "phase → run: stain"


def test_a_run_begins_when_the_form_has_nothing_more_to_do(
    train: Any, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both threads want the interpreter from then on, and the form waited 0.3 s for it at the click."""
    from napari_pix2pix._widgets.workers import CoreWorker

    at_start, judged = list[tuple[bool, bool, str]](), list[int]()
    start, judge = CoreWorker.start, train.images.judge

    def watched(worker: CoreWorker) -> None:
        at_start.append((train.stop_button.isEnabled(), train.train_button.isEnabled(), train.problem.text()))
        judged.clear()
        start(worker)

    def judging(*given: Any) -> Any:
        judged.append(0)
        return judge(*given)

    monkeypatch.setattr(CoreWorker, "start", watched)
    monkeypatch.setattr(train.images, "judge", judging)
    train.train_button.click()
    assert at_start == [(True, False, f"The model goes to {train.out.path}.")]
    assert not judged
    train.refresh()
    assert not judged  # what is chosen cannot be changed
    wait_until(lambda: not train.is_running)


def test_the_command_of_a_run_can_be_copied_while_its_images_are_there(
    viewer: Any, train: Any, pair: list[Any], wait_until: WaitUntil
) -> None:
    train.settings.length.setValue(100_000)
    train.train_button.click()
    assert train.copy_button.isEnabled()
    viewer.layers.remove(pair[1])
    assert not train.copy_button.isEnabled()
    train.stop_button.click()
    wait_until(lambda: not train.is_running)


def test_a_preview_is_there_after_the_first_step_and_follows_the_width_of_the_form(
    train: Any, wait_until: WaitUntil
) -> None:
    train.settings.form.native("validate_every").setValue(1000)
    train.settings.length.setValue(100_000)
    assert not train.progress.preview.isVisibleTo(train)
    train.train_button.click()
    wait_until(lambda: train.progress.preview.preview is not None)
    train.stop_button.click()
    wait_until(lambda: not train.is_running)
    assert train.progress.preview.isVisibleTo(train)
    low, high = train.progress.preview.heightForWidth(300), train.progress.preview.heightForWidth(600)
    assert 0 < low < high
    strip = train.progress.preview
    wait_until(lambda: abs(strip.height() - strip.heightForWidth(strip.width())) <= 12, 10)
    picture = train.progress.preview.grab().toImage()
    assert len({picture.pixel(x, picture.height() - 3) for x in range(0, picture.width() // 4, 3)}) > 1


def test_of_a_wide_preview_the_part_is_shown_in_which_most_is_to_be_seen(train: Any) -> None:
    from napari_pix2pix._widgets.training_job import Preview

    target = np.zeros((60, 400, 3), np.uint8)
    target[::2, 250:300] = 200
    target[:, :250] = 100
    train.progress.preview.show_preview(Preview(step=1, images=dict.fromkeys(("source", "output", "target"), target)))
    picture = train.progress.preview._images[2]
    assert (picture.width(), picture.height()) == (80, 60)
    assert sum(picture.pixelColor(x, 0).red() == 200 for x in range(80)) == 50


def started(**fields: Any) -> Any:
    from pix2pix_training.events import Started
    from pix2pix_training.presets import preset

    usual: dict[str, Any] = {"config": preset("seamless"), "resumed_from_step": 0, "total_steps": 9}
    usual |= {"steps_per_epoch": 3, "training_pairs": 1, "validation_pairs": 1, "device": "cpu"}
    return Started(**{**usual, **fields})


def test_the_curve_is_in_units_of_the_target_and_names_the_best(train: Any) -> None:
    from pix2pix_training.events import Validated

    plot = train.progress.plot
    plot.begin(started(target_span=200.0))
    plot.add_losses(1, {"G_L1": started().config.objective.l1_weight * 0.5, "G_GAN": 1.0})
    for step, mae, best in ((2, 0.25, True), (4, 0.5, False)):
        plot.add_scores(Validated(step=step, scores={"mae": mae, "ssim": 0.5}, is_best=best))
    plot.redraw()
    held_out, trained = plot.main.listDataItems()[::-1]
    assert [values.tolist() for values in held_out.getOriginalDataset()] == [[2, 4], [25, 50]]
    assert [values.tolist() for values in trained.getOriginalDataset()] == [[1], [50]]
    assert plot.words.text() == "now 50; best so far step 2, by SSIM 0.5: 25"
    title = plot.title.text()
    assert "difference on held-out images" in title
    assert "in units of the target" in title


def test_the_curve_of_classes_is_their_overlap(train: Any) -> None:
    from pix2pix_training.events import Validated

    train.progress.plot.begin(started(target_is_classes=True))
    assert "overlap with held-out labels" in train.progress.plot.title.text()  # before the first score too
    train.progress.plot.add_scores(Validated(step=2, scores={"mae": 0.25, "iou": 0.0, "ssim": 0.5}, is_best=True))
    assert train.progress.plot.words.text() == "now IoU 0; best so far step 2, by SSIM 0.5: IoU 0"
    assert "overlap with held-out labels" in train.progress.plot.title.text()


def test_the_legend_says_when_the_first_score_comes_and_what_is_held_out(train: Any) -> None:
    """It promised a curve that a run shorter than the first validation never had."""
    from pix2pix_training.events import Validated

    plot, every = train.progress.plot, started().config.validate_every
    plot.begin(started(total_steps=None, held_out="the bottom 10 %, rows 922 to 1024"))
    assert f"held-out images</span> (first at step {every}, or at the end)" in plot.title.text()
    assert plot.words.text() == "Held out: the bottom 10 %, rows 922 to 1024."
    plot.begin(started(total_steps=9))
    assert "(first at the end, step 9)" in plot.title.text()
    plot.begin(started(validation_pairs=0))
    assert "(none are held out)" in plot.title.text()
    plot.add_scores(Validated(step=9, scores={"mae": 0.25}, is_best=True))
    assert "(" not in plot.title.text()


def test_a_run_stopped_before_its_first_validation_says_so(train: Any, wait_until: WaitUntil) -> None:
    train.settings.form.native("validate_every").setValue(1000)
    train.settings.length.setValue(100_000)
    train.train_button.click()
    wait_until(lambda: train.state.text().startswith("step "))
    train.stop_button.click()
    wait_until(lambda: not train.is_running)
    assert train.state.text().startswith("stopped at step ")
    assert "was not measured yet (first at step 1000): judge it with Evaluate" in train.state.text()


def test_the_bar_of_the_run_is_empty_before_its_first_step(train: Any) -> None:
    """It stood at 88 % while the images were looked at, and fell back."""
    from pix2pix_training.events import Preparing

    train.on_events([Preparing(fraction=0.88)])
    assert (train.progress.of_run.value(), train.progress.of_run.maximum()) == (0, 1000)
    assert (train.progress.of_epoch.value(), train.progress.of_epoch.format()) == (
        880,
        "looking at the images: %p %",
    )


def test_the_score_at_the_end_is_in_the_unit_of_the_curve() -> None:
    """The line below said a MAE in [-1, 1] beside a curve in units of the target."""
    from napari_pix2pix._widgets.run_progress import _finished_words
    from pix2pix_training.events import Finished

    usual: dict[str, Any] = {"steps": 9, "seconds": 9.0, "new_seconds": 9.0, "skipped_patches": 0}
    scores = {"mae": 0.25, "ssim": 0.5, "iou": 0.75}
    end = Finished(**usual, model=Path("m"), model_step=8, scores=scores, early_stop=None, coverage=None)
    words = _finished_words(end, started(target_span=200.0))
    assert words == "done: 9 steps; model of step 8, validation mean difference 25 in units of the target"
    assert _finished_words(end, started()).endswith("validation mean difference 12.5 % of the range")
    assert _finished_words(end, started(target_is_classes=True)).endswith("validation IoU 0.75")


def test_curves_of_the_discriminator_are_behind_a_switch(train: Any) -> None:
    plot = train.progress.plot
    plot.setVisible(True)
    assert not plot.contest.isVisibleTo(plot)
    plot.add_losses(1, {"G_GAN": 1.0, "D_real": 0.5, "D_fake": 0.25})
    plot.contest_button.click()
    assert plot.contest.isVisibleTo(plot)
    assert "generator: " in plot.contest_words.text()
    assert [list(curve.getOriginalDataset()[1]) for curve in plot._contest_plot.listDataItems()] == [[1], [0.5], [0.25]]


def test_a_run_without_a_discriminator_has_no_such_switch(train: Any) -> None:
    from pix2pix_training.presets import preset

    plot = train.progress.plot
    plot.setVisible(True)
    plot.begin(started())
    plot.contest_button.click()
    assert plot.contest.isVisibleTo(plot)
    plot.begin(started(config=preset("faithful")))
    assert not plot.contest_button.isVisibleTo(plot)
    assert not plot.contest.isVisibleTo(plot)


def test_the_plot_is_dragged_to_another_height(train: Any, qtbot: Any) -> None:
    from qtpy.QtCore import QPoint, Qt

    plot = train.progress.plot
    plot.setVisible(True)
    plot.resize(300, 500)
    plot.layout().activate()
    before, edge = plot.graphs.height(), plot.graphs.geometry().bottom() + 2
    qtbot.mousePress(plot, Qt.MouseButton.LeftButton, pos=QPoint(5, edge))
    qtbot.mouseMove(plot, QPoint(5, edge + 60))
    assert plot.graphs.minimumHeight() == before + 60
    qtbot.mouseRelease(plot, Qt.MouseButton.LeftButton, pos=QPoint(5, edge + 60))
    qtbot.mouseMove(plot, QPoint(5, edge))
    assert plot.graphs.minimumHeight() == before + 60


def test_stop_and_resume(train: Any, tmp_path: Path, wait_until: WaitUntil) -> None:
    train.settings.length.setValue(100_000)
    train.train_button.click()
    wait_until(lambda: train.progress.of_run.maximum() > 0)
    assert train.progress.of_epoch.isVisibleTo(train)
    wait_until(lambda: train.progress.of_epoch.format().startswith("epoch "))  # and not about a validation
    assert 0 < train.progress.of_epoch.value() <= train.progress.of_epoch.maximum()
    train.stop_button.click()
    wait_until(lambda: not train.is_running)
    assert not train.progress.of_epoch.isVisibleTo(train)
    assert train.state.text().startswith("stopped at step ")
    assert train.state.text().endswith("; Resume goes on from here")
    assert (tmp_path / "run" / "last.pt").is_file()
    assert "holds a run: Resume goes on with it. Train begins a new one in run-2." in train.problem.text()
    stopped_at = load_model(tmp_path / "run" / "model.safetensors").training["step"]
    import torch

    step = torch.load(tmp_path / "run" / "last.pt", weights_only=True)["step"]
    assert step >= stopped_at
    train.settings.length.setValue(step + 3)
    train.resume_button.click()
    wait_until(lambda: not train.is_running)
    assert f"done: {step + 3} steps" in train.state.text()


def test_a_layer_that_is_opened_after_a_run_is_not_ticked(
    viewer: Any, train: Any, pair: list[Any], wait_until: WaitUntil
) -> None:
    train.settings.length.setValue(1)
    train.train_button.click()
    wait_until(lambda: not train.is_running)
    viewer.add_image(pair[0].data, name="another", scale=pair[0].scale, units=pair[0].units)
    assert train.images.target.layers == pair[1:]


def test_pictures_and_curves_are_not_shown_of_other_images(
    viewer: Any, train: Any, pair: list[Any], wait_until: WaitUntil
) -> None:
    train.settings.length.setValue(1)
    train.train_button.click()
    wait_until(lambda: not train.is_running)
    shown = train.progress.preview, train.progress.plot
    assert all(each.isVisibleTo(train) for each in shown)
    train.choose_layers(pair[1:], pair[:1])
    assert not any(each.isVisibleTo(train) for each in shown)
    train.choose_layers(pair[:1], pair[1:])
    assert all(each.isVisibleTo(train) for each in shown)


def test_axes_of_a_new_run_do_not_stand_where_those_of_an_earlier_one_did(train: Any) -> None:
    from pix2pix_training.events import Validated

    plot = train.progress.plot
    view = plot.graphs._plot.getViewBox()
    for step in (1, 500):
        plot.add_scores(Validated(step=step, scores={"mae": 0.25}, is_best=True))
    plot.redraw()
    view.updateAutoRange()  # as it does before it is drawn
    assert view.viewRange()[0][1] > 400
    plot.clear_run()
    view.updateAutoRange()
    assert view.viewRange()[0][1] < 10


def test_train_again_without_typing_begins_a_new_run(train: Any, tmp_path: Path, wait_until: WaitUntil) -> None:
    train.settings.length.setValue(1)
    for name in ("run", "run-2", "run-3"):
        assert train.train_button.isEnabled()
        train.train_button.click()
        wait_until(lambda: not train.is_running)
        assert train.out.path == tmp_path / name
        assert (tmp_path / name / "model.safetensors").is_file()
    assert train.resume_button.isEnabled()
    assert train.translate_button.isEnabled()


def test_fields_that_a_run_does_not_look_at_any_more_cannot_be_changed(train: Any, wait_until: WaitUntil) -> None:
    train.settings.length.setValue(100_000)
    fields = (
        train.settings.patch_size,
        train.settings.form.native("learning_rate"),
        train.images.source,
        train.out.line,
    )
    assert all(field.isEnabled() for field in fields)
    train.train_button.click()
    assert not any(field.isEnabled() for field in fields)
    assert train.stop_button.isEnabled()
    train.stop_button.click()
    wait_until(lambda: not train.is_running)
    assert all(field.isEnabled() for field in fields)


def test_words_beside_the_choice(viewer: Any, train: Any, pair: list[Any], wait_until: WaitUntil) -> None:
    message, button = train.images.message, train.train_button
    size = "96 x 128 pixels, 1 channel, uint8, 0.5\N{NO-BREAK SPACE}µm"
    assert message.text() == f"Source: {size}.\nTarget: {size}."
    other = viewer.add_image(np.zeros((96, 100, 3), np.uint8), name="other")
    train.choose_layers(pair[:1], [other])
    assert "target 96 x 100" in message.text()
    assert not button.isEnabled()
    train.choose_layers(pair[:1], pair[:1])
    assert message.text() == "A layer is ticked as source and as target."
    train.choose_layers(pair[:1], [])
    assert message.text() == "Tick a target layer."
    train.choose_layers(pair[:1], pair[1:])
    wait_until(button.isEnabled)
    train.settings.patch_size.setValue(36)
    assert "not a multiple of 8" in train.problem.text()
    assert not button.isEnabled()
    train.settings.patch_size.setValue(128)
    assert "smaller than a patch of 128" in message.text()
    assert not button.isEnabled()


def test_a_patch_that_is_too_large_and_off_the_grid_is_told_of_once(train: Any) -> None:
    train.settings.patch_size.setValue(1025)
    assert "smaller than a patch of 1025" in train.images.message.text()
    assert train.problem.text() == ""
    assert not train.train_button.isEnabled()
    train.settings.patch_size.setValue(36)
    assert "smaller than" not in train.images.message.text()
    assert train.problem.text().startswith("“Patch size” 36 is not a multiple of 8")


def test_arrows_of_a_field_lead_to_multiples_of_its_step(train: Any, translate: Any, qtbot: Any) -> None:
    from qtpy.QtCore import Qt

    patch, tile = train.settings.patch_size, translate.settings.tile
    for start, key, reached in ((33, "Up", 64), (33, "Down", 32), (64, "Down", 32), (32, "Down", 32), (1, "Up", 32)):
        patch.setValue(start)
        qtbot.keyClick(patch, getattr(Qt.Key, f"Key_{key}"))
        assert patch.value() == reached, (start, key)
    for start, key, reached in ((100, "Up", 128), (0, "Up", 64), (64, "Down", 0)):
        tile.setValue(start)
        qtbot.keyClick(tile, getattr(Qt.Key, f"Key_{key}"))
        assert tile.value() == reached, (start, key)
    assert tile.text() == tile.specialValueText()


def test_defaults_come_from_the_data(viewer: Any, wait_until: WaitUntil) -> None:
    viewer.add_image(np.zeros((300, 400), np.uint8))
    viewer.add_image(np.zeros((300, 400), np.uint8))
    train = viewer.window.add_plugin_dock_widget("napari-pix2pix", "Train")[1]
    assert train.images.source.layers == [viewer.layers[0]]
    assert train.images.target.layers == [viewer.layers[1]]
    assert train.settings.patch_size.value() == 128
    assert train.settings.depth.value() == 7
    import torch

    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        wait_until(lambda: train.settings.base_width.value() == 32)


def test_what_a_run_shows_has_the_room_of_the_fields(train: Any, wait_until: WaitUntil) -> None:
    fields = (train.images, train.settings, train.help)
    train.settings.length.setValue(100_000)
    train.train_button.click()
    assert not any(field.isVisibleTo(train) for field in fields)
    wait_until(lambda: train.progress.plot.isVisibleTo(train))
    train.stop_button.click()
    wait_until(lambda: not train.is_running)
    assert all(field.isVisibleTo(train) for field in fields)
    assert train.progress.plot.isVisibleTo(train)


def test_depth_follows_the_patch_until_it_is_set(train: Any) -> None:
    settings = train.settings
    settings.preset.choose("paper")
    assert settings.depth.value() == 8
    settings.preset.choose("seamless")
    for patch_size, depth in ((192, 6), (512, 8), (32, 5), (64, 6)):
        settings.patch_size.setValue(patch_size)
        assert settings.depth.value() == depth
    settings.depth.setValue(4)
    settings.patch_size.setValue(256)
    assert settings.depth.value() == 4


def test_regions_of_a_shapes_layer(
    viewer: Any, train: Any, pair: list[Any], tmp_path: Path, wait_until: WaitUntil
) -> None:
    assert not train.images.regions.isVisibleTo(train)
    corners = [np.array([[0, 0], [0, 40], [32, 40], [32, 0]]), np.array([[30, 80], [90, 80], [90, 120]])]
    kinds = ["rectangle", "polygon"]
    within = viewer.add_shapes([part / 2 for part in corners], shape_type=kinds, name="good")
    held_out = viewer.add_shapes([np.array([[64, 0], [64, 32], [96, 32], [96, 0]])], name="test", scale=(0.5, 0.5))
    regions = train.images.regions
    regions.training.choose(within)
    assert "Patches come from the rectangles of 32 x 40, 60 x 40 pixels." in train.images.message.text()
    assert train.images.training_regions() == (Region(0, 32, 0, 40), Region(30, 90, 80, 120))
    train.settings.patch_size.setValue(40)
    assert "The rectangle of 32 x 40 pixels is smaller than a patch of 40" in train.images.message.text()
    assert not train.train_button.isEnabled()
    train.settings.patch_size.setValue(32)
    regions.validation.choose(within)
    assert "good: has 2 shapes; draw one to validate on" in train.images.message.text()
    regions.validation.choose(held_out)
    assert "Validation on the rectangle of 32 x 32 pixels." in train.images.message.text()
    assert train.settings.held_out.text().endswith("8.3 % of the image, rows 64 to 96, columns 0 to 32.")
    wait_until(train.train_button.isEnabled)
    train.train_button.click()
    wait_until(lambda: not train.is_running)
    assert "done: 6 steps" in train.state.text()
    preview = train.progress.preview.preview.images["source"]
    assert preview.shape[:2] == (32, 32)
    np.testing.assert_array_equal(preview[..., 0], pair[0].data[64:96, :32])
    viewer.layers.remove(within)
    assert train.images.training_regions() == ()


def test_folders(viewer: Any, train: Any, tmp_path: Path, wait_until: WaitUntil) -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 64), np.uint8)
    for side, pixels in (("a", image), ("b", 255 - image)):
        (tmp_path / side).mkdir()
        for number in range(3):
            tifffile.imwrite(tmp_path / side / f"{number}.tif", np.roll(pixels, number))
    train.images.kind.choose("folders")
    assert (train.images.message.text(), train.images.message.kind) == ("Choose the two folders.", "plain")
    assert not train.train_button.isEnabled()
    train.images.source_folder.set_path(tmp_path / "a")
    train.images.target_folder.set_path(tmp_path / "b")
    wait_until(lambda: train.images.message.text().startswith("3 pairs. Source: 48 x 64 pixels, 1 channel, uint8."))
    wait_until(train.train_button.isEnabled)
    train.train_button.click()
    wait_until(lambda: not train.is_running)
    assert "done: 6 steps" in train.state.text()
    train.translate_button.click()
    translate = next(widget for name, widget in viewer.window.dock_widgets.items() if "Translate" in name)
    wait_until(translate.translate_button.isEnabled)
    assert translate.folder.images.folder == tmp_path / "a"
    (tmp_path / "b" / "2.tif").unlink()
    train.images.target_folder.set_path(tmp_path)
    train.images.target_folder.set_path(tmp_path / "b")
    wait_until(lambda: "2" in train.images.message.text() and "pairs" not in train.images.message.text()[:8])
    assert not train.train_button.isEnabled()


def test_what_is_decided_about_files_of_folders_stands_in_the_form(
    train: Any, tmp_path: Path, wait_until: WaitUntil
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 4), np.uint8)
    image[..., 3] = 255
    image[:9, :, 3] = 0
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
        tifffile.imwrite(tmp_path / side / "0.tif", image, photometric="rgb", extrasamples=["unassalpha"])
    train.images.kind.choose("folders")
    train.images.source_folder.set_path(tmp_path / "a")
    train.images.target_folder.set_path(tmp_path / "b")
    wait_until(lambda: "1 pair." in train.images.message.text())
    said = train.images.message.text()
    for side in ("a", "b"):
        assert f"{tmp_path / side / '0.tif'}: channel 4 is alpha, and pixels that are transparent hold no data." in said
    assert train.images.message.kind == "warning"
    wait_until(train.train_button.isEnabled)


def test_a_late_answer_about_folders_chosen_before(
    train: Any, tmp_path: Path, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qtpy.QtWidgets import QApplication
    from superqt.utils import WorkerBase

    from napari_pix2pix._widgets import training_images
    from napari_pix2pix._widgets.training_job import FolderPair, FoldersChecked, check_folders

    image = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64)
    for name in ("a/0", "a/1", "b/0", "none/2"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / f"{name}.tif", image)
    may_answer = threading.Event()

    def late(folders: FolderPair) -> Iterator[FoldersChecked]:
        if folders.target == tmp_path / "none":
            assert may_answer.wait(60)
        yield from check_folders(folders)

    monkeypatch.setattr(training_images, "check_folders", late)
    train.images.kind.choose("folders")
    train.images.source_folder.set_path(tmp_path / "a")
    train.images.target_folder.set_path(tmp_path / "none")
    train.images.target_folder.set_path(tmp_path / "b")
    wait_until(lambda: "1 of 2 images" in train.images.message.text())
    may_answer.set()
    WorkerBase.await_workers(20_000)
    QApplication.processEvents()
    assert "1 of 2 images" in train.images.message.text()


@pytest.mark.parametrize("ends", ["found", "failed", "waited"])
def test_a_run_is_not_begun_before_the_values_were_looked_at(
    train: Any, pair: list[Any], wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """Unless the look fails or takes for ever."""
    from napari.utils.notifications import notification_manager

    from napari_pix2pix._widgets import values_words
    from napari_pix2pix._widgets.values_look import look_events

    may_answer = threading.Event()

    def late(request: Any) -> Any:
        assert may_answer.wait(60)
        if ends == "failed":
            raise RuntimeError("not to be read")
        yield from look_events(request)

    monkeypatch.setattr(values_words, "look_events", late)
    train.choose_layers(pair[1:], pair[:1])
    assert not train.train_button.isEnabled()
    looking = "Looking at the values of the images…"
    assert train.values.message.text() == looking
    train.choose_layers(pair[1:], [])
    assert not train.train_button.isEnabled()
    train.values._patience.setInterval(10 if ends == "waited" else 60_000)
    train.choose_layers(pair[1:], pair[:1])
    if ends != "waited":
        may_answer.set()
    wait_until(train.train_button.isEnabled)
    assert train.problem.text().startswith("The model goes to")
    words = {"failed": "RuntimeError: not to be read", "waited": looking}
    assert train.values.message.text() == words.get(ends, "Intensities in the target.")
    may_answer.set()
    notification_manager.records.clear()


def test_labels_are_categories(viewer: Any, train: Any, pair: list[Any], tmp_path: Path, wait_until: WaitUntil) -> None:
    labels = viewer.add_labels((np.asarray(pair[0].data) > 127).astype(np.int32) * 7)
    train.choose_layers(pair[:1], [labels])
    wait_until(train.train_button.isEnabled)
    train.train_button.click()
    wait_until(lambda: not train.is_running)
    mapping = load_model(tmp_path / "run" / "model.safetensors").target.mapping
    assert getattr(mapping, "values", None) == ((0,), (7,))


def test_a_stack_with_neighbouring_planes(viewer: Any, train: Any, pair: list[Any], wait_until: WaitUntil) -> None:
    image = pair[0].data
    planes = np.stack([image, 255 - image, image // 2])
    stacks = [viewer.add_image(pixels, axis_labels=("z", "y", "x")) for pixels in (planes, 255 - planes)]
    settings = train.settings
    settings.z_context.setValue(1)
    assert "is no Z stack of several planes" in train.images.message.text(), "a single plane has no neighbours"
    assert not train.train_button.isEnabled()
    settings.form.choice("decoder").choose("resize")
    settings.form.choice("sampling").choose("content")
    model = trained_on(train, stacks[0], stacks[1], wait_until)
    assert model.source.axes == "ZCYX"
    assert model.source.z_context == 1
    assert model.source.mapping.image_channels == 3
    assert model.generator_config.decoder == "resize"
    assert model.training["config"]["sampling"]["placement"] == "content"
    assert train.progress.preview.preview.images["target"].shape[2:] == (3,)


def test_a_multiscale_layer_is_trained_on_at_full_resolution(
    viewer: Any, train: Any, pair: list[Any], wait_until: WaitUntil
) -> None:
    image = pair[0].data
    pyramid = viewer.add_image([image, image[::2, ::2]], multiscale=True, name="pyramid", scale=(0.5, 0.5))
    model = trained_on(train, pyramid, pair[1], wait_until)
    assert "Source: 96 x 128 pixels, 1 channel, uint8." in train.images.message.text()
    assert model.source.channel_names == ("pyramid",)


def test_a_lazy_layer_is_trained_on_piece_by_piece(
    viewer: Any, train: Any, pair: list[Any], wait_until: WaitUntil
) -> None:
    image, reads = pair[0].data, list[tuple[int, ...]]()

    def piece(block: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        reads.append(block.shape)
        return block

    blocks = pytest.importorskip("dask.array").from_array(image, chunks=(32, 32))
    array = blocks.map_blocks(piece, dtype=image.dtype, meta=image[:0, :0])
    lazy = viewer.add_image(array, name="lazy", contrast_limits=(0, 255))
    reads.clear()
    model = trained_on(train, lazy, pair[1], wait_until)
    assert model.source.channel_names == ("lazy",)
    assert set(reads) == {(32, 32)}


def test_the_upper_bar_counts_validation_images(train: Any) -> None:
    train.on_events([Validating(step=3, done=1, total=4)])
    assert train.progress.of_epoch.format() == "validation: image 2 of 4"
    assert (train.progress.of_epoch.value(), train.progress.of_epoch.maximum()) == (1, 4)


def test_a_warning_is_shown(train: Any) -> None:
    from napari.utils.notifications import notification_manager

    train.on_events([Warned(step=0, message="source and target look misaligned"), Warned(step=7, message="so so")])
    shown = [notification.message for notification in notification_manager.records[-2:]]
    assert shown == ["Source and target look misaligned.", "Step 7: so so."]


def test_error_in_the_worker_ends_the_run(train: Any, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari.utils.notifications import notification_manager

    from pix2pix_training.training_step import TrainingStep

    def failing(*_: Any) -> Any:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(TrainingStep, "run", failing)
    train.train_button.click()
    wait_until(lambda: not train.is_running)
    assert train.state.text().startswith(
        "cpu is out of memory in step 1 with batch_size 1 and patch_size 32; no smaller"
    )
    assert train.state.text().endswith(
        "try a smaller “Base width”, or “Precision: bfloat16”, or end other programs on the device"
    )
    assert notification_manager.records[-1].message == train.state.text()
    assert train.train_button.isEnabled()
    notification_manager.records.clear()


@pytest.mark.parametrize("how", ["viewer", "widget"])
def test_closing_stops_the_run_and_saves_it(
    viewer: Any, train: Any, tmp_path: Path, wait_until: WaitUntil, how: str
) -> None:
    train.settings.length.setValue(100_000)
    train.train_button.click()
    wait_until(lambda: train.progress.of_run.maximum() > 0)
    worker = train._worker
    if how == "viewer":
        viewer.close()
    else:
        viewer.window.remove_dock_widget(train)
    wait_until(lambda: not worker.is_running, 20)
    assert (tmp_path / "run" / "last.pt").is_file()


def test_copied_command(train: Any, tmp_path: Path) -> None:
    from qtpy.QtWidgets import QApplication

    from napari_pix2pix.cli.application import run

    train.settings.form.choice("decoder").choose("pixel-shuffle")
    train.copy_button.click()
    words = QApplication.clipboard().text()
    assert words.startswith("napari-pix2pix train --source phase.tif --target stain.tif --out ")
    assert "--steps 6 --patch-size 32" in words
    assert "--decoder pixel-shuffle" in words
    assert run([*words.split()[1:], "--depth", "99"]) == 2  # the options are known; the depth is not allowed


FIELDS: dict[str, Any] = {
    "preset": "paper",
    "length": 77,
    "unit": "epochs",
    "patch_size": 64,
    "batch_size": 3,
    "base_width": 24,
    "depth": 4,
    "decoder": "pixel-shuffle",
    "z_context": 1,
    "sampling": "content",
    "learning_rate": 0.0001,
    "validation": 0.25,
    "validate_every": 7,
    "source_values": "image",
    "target_values": "training-set",
    "device": "cpu",
    "precision": "bf16",
    "patience": 5,
    "ema_decay": 0.99,
    "seed": 11,
    "init": "model.safetensors",
}
"""A value that is not the one it has, for fields of each kind and all that are no part of the settings of a run."""


def set_field(settings: Any, name: str, value: Any) -> None:
    field = settings.form.fields.get(name) or getattr(settings, name)
    if name in settings.form.fields:
        field.value = value
    elif hasattr(field, "choose"):
        field.choose(value)
    elif hasattr(field, "setValue"):
        field.setValue(value)
    else:
        field.set_path(value)


def value_of(settings: Any, name: str) -> Any:
    field = settings.form.fields.get(name) or getattr(settings, name)
    if name in settings.form.fields or hasattr(field, "choose"):
        return field.value
    return field.value() if hasattr(field, "setValue") else field.path


@pytest.fixture
def trained_with(train: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[], tuple[Any, Any]]:
    """What the copied command trains with, and what the form does: settings, data, folder, start and device."""
    from napari_pix2pix import training_data
    from napari_pix2pix._widgets import training_job
    from napari_pix2pix.cli.application import run
    from pix2pix_training import training

    used: list[Any] = []

    def record(config: Any, data: Any, out: Path, **options: Any) -> Any:
        used.append((config, data, out, options["init"] is not None, options["device"]))
        raise SettingsError("far enough")

    def of_files(request: Any, **options: Any) -> Any:
        return request.validation, request.z_context, options

    def of_layers(_: Any, config: Any, request: Any) -> Any:
        return request.validation, request.z_context, {"patch_size": config.patch_size, "seed": config.seed}

    monkeypatch.setattr(training, "train", record)
    monkeypatch.setattr(training_data, "load_training_data", of_files)
    monkeypatch.setattr(training_job, "_data_of_layers", of_layers)

    def both() -> tuple[Any, Any]:
        from qtpy.QtWidgets import QApplication

        used.clear()
        assert train.copy_button.isEnabled(), train.problem.text()
        train.copy_button.click()
        assert run(shlex.split(QApplication.clipboard().text())[1:]) == 2
        with pytest.raises(SettingsError, match="far enough"):
            list(training_job.training_events(train._request(train.out.path, resume=False)))
        by_command, by_form = used
        return by_command, by_form

    return both


def test_the_copied_command_trains_with_every_setting_of_the_form(
    viewer: Any, train: Any, tmp_path: Path, trained_with: Callable[[], tuple[Any, Any]]
) -> None:
    """Form -> command -> what the command line trains with: the settings that the form trains with."""
    settings = train.settings
    stacks = [viewer.add_image(np.zeros((3, 600, 800), np.uint8), name=side) for side in "ab"]
    train.choose_layers(stacks[:1], stacks[1:])
    save_model(model_for(1, 1), tmp_path / "model.safetensors")
    by_command, by_form = trained_with()
    assert by_command == by_form
    for name, value in FIELDS.items():
        before = value_of(settings, name)
        set_field(settings, name, tmp_path / value if name == "init" else value)
        assert value_of(settings, name) != before, name
        by_command, by_form = trained_with()
        assert by_command == by_form, name
        set_field(settings, name, before)
    for name in [*FIELDS][:-1]:
        set_field(settings, name, FIELDS[name])
    by_command, by_form = trained_with()
    assert by_command == by_form
    assert by_form[0].learning_rate == 0.0001
    own = {"length", "unit", "z_context", "validation", "device", "init"}
    assert {*FIELDS} - {*settings.form.fields} == own, "the others are tried in test_setting_form"


def test_three_questions_stand_in_the_form_and_the_rest_is_folded_away(train: Any) -> None:
    from qtpy.QtWidgets import QAbstractSpinBox, QComboBox, QLineEdit

    fields = [each for kind in (QAbstractSpinBox, QComboBox, QLineEdit) for each in train.findChildren(kind)]
    asked = {each for each in fields if each.isVisibleTo(train) and not isinstance(each.parent(), QAbstractSpinBox)}
    assert asked == {train.images.kind, train.settings.length, train.settings.unit}
    train.settings.more.expand(animate=False)
    for field in (train.out, train.settings.preset.native, train.settings.patch_size, train.settings.device):
        assert field.isVisibleTo(train)
    assert train.problem.text() == f"The model goes to {train.out.path}."


def test_all_fields_that_are_folded_away_have_their_defaults_restored(train: Any) -> None:
    settings = train.settings
    settings.z_context.setValue(2)
    settings.validation.setValue(0.3)
    settings.device.choose("cpu")
    settings.init.set_path("model.safetensors")
    settings.form.restore.click()
    assert settings.command_options() == {"validation": None, "device": None, "z_context": None, "init": None}


def test_names_of_channels_that_are_kept_stand_beside_the_choice(viewer: Any, train: Any, pair: list[Any]) -> None:
    for name in ("b", "c", "d", "e", "f"):
        viewer.add_image(pair[0].data, name=name, scale=(0.5, 0.5), units=("um", "um"))
    train.choose_layers(pair[:1], list(viewer.layers)[1:5])
    assert "4 channels, uint8, 0.5\N{NO-BREAK SPACE}µm; names kept: stain, b, c, d." in train.images.message.text()
    train.choose_layers(pair[:1], list(viewer.layers)[1:])
    assert (
        "6 channels, uint8, 0.5\N{NO-BREAK SPACE}µm; names kept: stain, b, c, d and 2 more."
        in train.images.message.text()
    )


def test_the_badge_says_how_many_steps_fit_into_the_time(train: Any, wait_until: WaitUntil) -> None:
    from napari_pix2pix._widgets.training_pace import Pace

    badge, settings = train.settings.badge, train.settings
    settings.device.choose("cpu")
    settings.unit.choose("minutes")
    wait_until(lambda: train._auto_device is not None)
    settings.device.choose("auto")
    assert badge.text() == f"{train._auto_device.device}: measuring…"
    settings.device.choose("cpu")
    badge._inquiry._start()
    wait_until(lambda: badge.text().startswith("Processor: about ") and badge.text().endswith(" steps in 10 minutes."))
    (pace,) = badge._known.values()
    assert 0 < pace.seconds < 5
    pace = Pace(kind="cpu", device="Processor", seconds=0.654)
    assert pace.words("minutes", 10.0) == "Processor: about 920 steps in 10 minutes."
    assert pace.words("minutes", 1.0) == "Processor: about 92 steps in 1 minute."
    assert pace.words("steps", 5000) == "Processor: about 54 minutes for 5,000 steps."
    assert pace.words("steps", 100) == "Processor: about 65 seconds for 100 steps."
    assert pace.words("steps", 100_000) == "Processor: about 18 hours for 100,000 steps."
    assert pace.words("epochs", 200) == "Processor: about 92 steps a minute."


def test_a_device_that_is_not_there_is_named_before_the_run(train: Any, wait_until: WaitUntil) -> None:
    train.settings.device.choose("mps")
    train.settings.badge._inquiry._start()
    wait_until(lambda: "this machine has none" in train.settings.badge.text())
    assert train.settings.badge.kind == "warning"


def test_a_run_waits_for_steps_that_are_tried_out_and_lets_none_begin() -> None:
    from napari_pix2pix._widgets.training_pace import no_trials, pace_events
    from pix2pix_training.config import TrainingConfig
    from pix2pix_training.network_config import GeneratorConfig

    config = TrainingConfig(generator=GeneratorConfig(base_width=1, depth=2), patch_size=32)
    trial = pace_events(config, "cpu")
    assert next(trial) is None
    begun = threading.Event()

    def run() -> None:
        with no_trials():
            begun.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert not begun.wait(0.1)
    trial.close()
    assert begun.wait(5)
    thread.join()
    with no_trials():
        assert list(pace_events(config, "cpu")) == []


@pytest.mark.parametrize(
    ("names", "targets"),
    [
        (("DAPI", "MAP2", "phase_z03", "phase_z05"), ()),
        (("phase_z03", "phase_z05", "DAPI", "MAP2"), ("DAPI", "MAP2")),
        (("image", "image [1]"), ("image [1]",)),
        (("a", "b", "c"), ("b", "c")),
    ],
)
def test_more_planes_of_the_source_are_no_targets(
    viewer: Any, names: tuple[str, ...], targets: tuple[str, ...]
) -> None:
    for name in names:
        viewer.add_image(np.zeros((64, 64), np.uint8), name=name)
    train = viewer.window.add_plugin_dock_widget("napari-pix2pix", "Train")[1]
    assert [layer.name for layer in train.images.source.layers] == list(names[: len(targets) > 0])
    assert tuple(layer.name for layer in train.images.target.layers) == targets
    viewer.add_labels(np.zeros((64, 64), np.uint8), name="cells")
    assert [layer.name for layer in train.images.target.layers] == ["cells"]


def test_a_run_folder_with_a_name_that_is_too_long(train: Any, tmp_path: Path) -> None:
    train.out.set_path(tmp_path / ("y" * 300))
    assert train.problem.text().endswith("y cannot be written: File name too long; choose another name")
    assert not train.train_button.isEnabled()
    train.out.set_path(tmp_path / "run")
    assert train.problem.kind != "error"
