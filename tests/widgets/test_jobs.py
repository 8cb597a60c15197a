"""What the widgets work with but Qt: previews, histories, suggestions, command lines, model cards."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_pix2pix._widgets import form_words
from napari_pix2pix._widgets.command_line import train_command, translate_command
from napari_pix2pix._widgets.form_words import in_form_words
from napari_pix2pix._widgets.loss_plot import History
from napari_pix2pix._widgets.model_card import card_of, fit_problem, fit_warnings, rescaling
from napari_pix2pix._widgets.training_job import (
    VALIDATION_FRACTION,
    _preview,
    as_rgb,
    class_colors,
    resumed_config,
    suggested_patch_size,
    time_left,
)
from napari_pix2pix.formats.metadata import ImageMetadata
from napari_pix2pix.output_paths import free_run_folder, next_run_folder
from napari_pix2pix.training_data import DEFAULT_VALIDATION_FRACTION
from pix2pix_training.array_source import MemorySource
from pix2pix_training.choices import Decoder, Placement
from pix2pix_training.config import TrainingConfig
from pix2pix_training.error_network import ErrorTraits
from pix2pix_training.errors import CheckpointError, SettingsError
from pix2pix_training.events import PreviewReady, StepDone
from pix2pix_training.intensity import CategoryMapping
from pix2pix_training.presets import preset
from pix2pix_training.setting_options import training_config
from pix2pix_training.settings_tables import to_toml
from tests.product.conftest import model_for

SEAMLESS = preset("seamless")


def config(
    *,
    patch_size: int = 256,
    seed: int = 0,
    decoder: Decoder = SEAMLESS.generator.decoder,
    placement: Placement = "uniform",
) -> TrainingConfig:
    networks = {"generator": {"base_width": 8, "depth": 4, "decoder": decoder}, "discriminator": {"base_width": 8}}
    return training_config(
        {}, {"steps": 9, "patch_size": patch_size, "seed": seed, "sampling": {"placement": placement}, **networks}
    )


def test_validation_default_is_that_of_the_command_line() -> None:
    assert VALIDATION_FRACTION == DEFAULT_VALIDATION_FRACTION


def test_settings_of_the_form() -> None:
    settings = config(patch_size=48)
    assert (settings.generator.base_width, settings.discriminator.base_width, settings.generator.depth) == (8, 8, 4)
    assert (settings.steps, settings.patch_size, settings.generator.norm) == (9, 48, "batch-renorm")
    with pytest.raises(SettingsError, match="not a multiple of 16"):
        config(patch_size=40)


def test_resumed_settings_are_those_of_the_folder_with_another_length(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(to_toml(config(seed=5)), encoding="utf-8")
    resumed = resumed_config(tmp_path, {"minutes": 2.0}, 3)
    assert (resumed.seed, resumed.steps, resumed.minutes, resumed.patience) == (5, None, 2.0, 3)
    (tmp_path / "config.toml").write_text("nonsense = = 1", encoding="utf-8")
    with pytest.raises(CheckpointError, match="cannot be read"):
        resumed_config(tmp_path, {"steps": 1}, 0)


@pytest.mark.parametrize(
    ("height", "width", "stride", "size"),
    [
        (1024, 1024, 32, 256),
        (512, 512, 32, 128),
        (300, 400, 32, 128),
        (64, 90, 32, 32),
        (2000, 2000, 256, 256),
        (100, 700, 32, 64),
    ],
)
def test_suggested_patch_size(height: int, width: int, stride: int, size: int) -> None:
    assert suggested_patch_size(height, width, stride) == size


def test_free_run_folder(tmp_path: Path) -> None:
    (tmp_path / "run-1").mkdir()
    assert free_run_folder(tmp_path) == tmp_path / "run-2"
    assert free_run_folder(tmp_path / "none") == tmp_path / "none" / "run-1"


@pytest.mark.parametrize(
    ("taken", "following"), [("run-1", "run-2"), ("cells", "cells-2"), ("run-9", "run-11"), ("a-b", "a-b-2")]
)
def test_run_folder_after_one_that_is_taken(tmp_path: Path, taken: str, following: str) -> None:
    for name in (taken, "run-10"):
        (tmp_path / name).mkdir()
    assert next_run_folder(tmp_path / taken) == tmp_path / following


def test_preview_colours() -> None:
    grey = as_rgb(np.array([[[-1.0, 1.0, 3.0]]]))
    assert grey.tolist() == [[[0, 0, 0], [255, 255, 255], [255, 255, 255]]]
    two = as_rgb(np.array([[[1.0, -1.0]], [[-1.0, 1.0]]]))
    assert two.tolist() == [[[0, 255, 255], [255, 0, 255]]]
    three = as_rgb(np.array([[[1.0]], [[-1.0]], [[0.0]]]))
    assert three.tolist() == [[[255, 0, 128]]]


def test_of_a_source_of_two_planes_the_preview_is_the_first_in_grey() -> None:
    """Both were added in cyan and magenta, which looked like a stain."""
    source, target = torch.tensor([[[1.0, -1.0]], [[-1.0, 1.0]]]), torch.zeros(1, 1, 2)
    preview = _preview(PreviewReady(step=1, source=source, output=target, target=target, path=None), {})
    assert preview.images["source"].tolist() == [[[255, 255, 255], [0, 0, 0]]]
    assert preview.titles == {"source": "source, 1st of 2"}


def test_previews_of_classes_have_the_colours_of_the_viewer_or_of_their_file() -> None:
    """They were in invented ones."""
    plain = CategoryMapping(dtype="uint8", values=((0,), (7,)))
    half_red = np.array([[0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.5]])
    colors = class_colors(plain, lambda labels: half_red[(labels == 7).astype(int)])
    assert colors is not None
    assert colors.tolist() == [[0, 0, 0], [128, 0, 0]]
    own = replace(plain, colors=((1, 2, 3), (4, 5, 6)))
    of_file = class_colors(own, lambda _: half_red)
    assert of_file is not None
    assert of_file.tolist() == [[1, 2, 3], [4, 5, 6]]
    shown = as_rgb(np.array([[[0.2, -0.9, -1.0]], [[0.1, -0.8, -1.0]]]), np.array(own.colors, np.uint8))
    assert shown.tolist() == [[[1, 2, 3], [4, 5, 6], [0, 0, 0]]]
    assert class_colors(model_for(1, 1).target.mapping, lambda _: half_red) is None


def test_history_of_a_long_run_is_drawn_as_means() -> None:
    history = History()
    for step in range(1, 2502):
        history.add(step, {"a": float(step)})
    steps, values = history.curve("a")
    assert len(steps) == 834
    assert steps[0] == values[0] == 2
    assert steps[-1] == values[-1] == 2500.5


def test_history_leaves_gaps() -> None:
    history = History()
    history.add(1, {"a": 1.0})
    history.add(2, {"b": None, "a": float("inf")})
    assert np.isnan(history.curve("a")[1]).tolist() == [False, True]
    assert np.isnan(history.curve("b")[1]).tolist() == [True, True]
    assert history.curve("none")[0].size == 0


def test_time_left() -> None:
    def step(number: int, fraction: float, seconds: float) -> StepDone:
        return StepDone(step=number, epoch=0, fraction=fraction, seconds=seconds, losses={})

    first = step(10, 0.5, 100)  # of a resumed run
    assert time_left(first, first) == ""
    assert time_left(first, step(12, 0.6, 120)) == ", 80 s left"
    assert time_left(first, step(12, 0.51, 120)) == ", 16 min left"


def test_commands() -> None:
    command = translate_command(Path("m.safetensors"), [Path("/data/cells 1.tif")], {"statistics": "image"})
    assert shlex.split(command)[2:4] == ["/data/cells 1.tif", "--model"]
    assert command.endswith("--out 'cells 1-translated.tif' --statistics image")
    command = translate_command(Path("m.safetensors"), [Path("a.tif")], {"match_pixel_size": True, "alpha": None})
    assert command.endswith(" --match-pixel-size")
    words = train_command([Path("a")], [Path("b")], Path("run"), config(), {"device": "cpu", "init": None})
    expected = "train --source a --target b --out run --preset seamless --steps 9 --base-width 8 --depth 4 --device cpu"
    assert words == f"napari-pix2pix {expected}"
    changed = config(decoder="pixel-shuffle", placement="content")
    assert "--patch-size" not in words
    usual = preset("seamless")
    for depth, expected in ((7, "--patch-size 128"), (6, "--patch-size 128 --depth 6")):
        other = replace(usual, patch_size=128, generator=replace(usual.generator, depth=depth))
        words = train_command([Path("a")], [Path("b")], Path("run"), other, {})
        assert words.endswith(f"--preset seamless {expected}")
    words = train_command([Path("a")], [Path("b")], Path("run"), changed, {})
    words = train_command([Path("a")], [Path("b")], Path("run"), changed, {"z_context": 2})
    assert words.endswith(" --base-width 8 --depth 4 --decoder pixel-shuffle --sampling content --z-context 2")


def test_model_card() -> None:
    card = card_of(model_for(1, 2, "uint16"), Path("m.safetensors"))
    rows = dict(card.rows())
    assert rows["Network"] == "U-Net, depth 3, width 4"
    assert rows["Source"] == "1 channel, uint16"
    assert rows["Target"] == "2 channels, uint8"
    image = MemorySource(np.zeros((3, 8, 8), np.uint8))
    assert fit_problem(card, image) == (
        "array has 3 channels, the model expects 1; choose them with “Channels”, such as “Channels” 0."
    )
    assert fit_problem(card, image, {"channels": (1,)}) is not None  # of another type
    assert fit_problem(card, image, {"channels": (1,), "convert_values": "type"}) is None
    grey = MemorySource(np.zeros((8, 8), np.uint8))
    problem = fit_problem(card, grey)
    assert problem is not None
    assert problem.startswith("array has uint8 pixels, the model was trained on uint16; give images of that type, or")
    assert "choose with “Values of another type”" in problem
    assert fit_problem(card, grey, {"convert_values": "type"}) is None
    assert fit_warnings(card, grey, ImageMetadata()) == []


def test_model_card_has_the_unit_of_the_curve_and_of_classes_their_overlap() -> None:
    model = replace(model_for(1, 1, "uint16"), metrics={"mae": 0.5, "ssim": 0.25, "iou": None})
    rows = dict(card_of(model, Path("m")).rows())
    assert rows["Validation"] == "mean difference 63.75 in units of the target, SSIM 0.25"
    for mapping, words in (
        (CategoryMapping(dtype="uint8", values=((0,), (7,))), "2 channels, uint8, 2 classes"),
        (CategoryMapping(dtype="uint8", values=((0,), (1,)), foreground=True), "2 channels, uint8, labelled or not"),
    ):
        classes = replace(model, target=replace(model.target, mapping=mapping), metrics={"mae": 0.5, "iou": 0.75})
        rows = dict(card_of(classes, Path("m")).rows())
        assert rows["Target"].endswith(words.removeprefix("2 channels"))
        assert rows["Validation"] == "IoU 0.75"
    traits = ErrorTraits(
        config=replace(model.generator_config, norm="batch"), coverage=0.9, factors=(1.0,), images=2, measured=0.894
    )
    promising = replace(card_of(model, Path("m")), errors=traits)
    assert dict(promising.rows())["Error map"] == "intervals for 90 % of pixels; measured 89.4\N{NO-BREAK SPACE}%"
    assert "from 2 held-out images" in promising.details  # which would be five lines of the form
    unscored = card_of(replace(model, metrics={}), Path("m"))
    assert dict(unscored.rows())["Validation"] == "none; Evaluate says how good it is"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a: 1, not 2; --match-pixel-size is for it", "a: 1, not 2; “rescale to the model's pixel size” is for it"),
        ("no room; a smaller --max-memory, or a smaller --tile", "no room; a smaller “Memory”, or a smaller “Tile”"),
        ("a: channel 3 is alpha; --alpha keep if it is a channel", "a: channel 3 is alpha"),
        ("a exists; choose another name or allow overwriting (--overwrite)", "a exists; choose another name"),
        (
            "no room; allow more memory (--max-memory), or a folder (--scratch)",
            "no room; allow more memory (“Memory”), or a folder (“Scratch folder”)",
        ),
        ("a line without options; two clauses", "a line without options; two clauses"),
    ],
)
def test_options_are_fields_in_the_words_of_a_form(line: str, expected: str) -> None:
    assert in_form_words(line) == expected


def test_options_in_form_words_are_fields_of_a_form(translate: Any, train: Any) -> None:
    """So that no field is named that is not there."""
    from qtpy.QtWidgets import QCheckBox, QComboBox, QLabel, QPushButton

    kinds = (QLabel, QPushButton, QCheckBox)
    shown = {part.text() for widget in (translate, train) for kind in kinds for part in widget.findChildren(kind)}
    lists = [part for widget in (translate, train) for part in widget.findChildren(QComboBox)]
    offered = {part.itemText(row) for part in lists for row in range(part.count())}
    for words in form_words._FIELDS.values():
        field, _, value = words.partition(": ")
        assert field in shown
        assert not value or value in offered


def test_another_pixel_size_is_noticed_across_units() -> None:
    from dataclasses import replace

    model = model_for(1, 1)
    card = card_of(replace(model, source=replace(model.source, pixel_size=(0.5, 0.5), unit="µm")), Path("m"))
    image = MemorySource(np.zeros((8, 8), np.uint8))
    assert fit_warnings(card, image, ImageMetadata(pixel_size=(500.0, 500.0), unit="nm")) == []
    large = ImageMetadata(pixel_size=(1.0, 2.0), unit="µm")
    (warning,) = fit_warnings(card, image, large)
    assert warning.startswith("Pixels are 1 x 2 µm, the model was trained on 0.5 µm.")
    assert rescaling(card, large) == (2, 4)
    assert rescaling(card, ImageMetadata()) is None
    assert rescaling(replace(card, source=replace(card.source, unit="px")), large) is None
