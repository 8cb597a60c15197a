"""A result judged by true targets, and a model exported, from the form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_pix2pix import load_model
from napari_pix2pix.evaluation import evaluate_pairs
from pix2pix_training.array_source import MemorySource
from pix2pix_training.pairs import Pair
from tests.widgets.conftest import WaitUntil


def test_evaluating_on_true_targets(
    viewer: Any,
    translate: Any,
    run: Any,
    grey_model: Path,
    tmp_path: Path,
    rng: np.random.Generator,
    wait_until: WaitUntil,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from qtpy.QtWidgets import QFileDialog

    actions = translate.model_actions
    source = viewer.add_image(rng.integers(0, 256, (40, 48), np.uint8), name="phase")
    truth = viewer.add_image(rng.integers(0, 256, (40, 48), np.uint8), name="truth")
    assert not actions.evaluate_button.isEnabled()
    (output,) = run(grey_model, [source])
    actions.targets.choose([truth])
    assert actions.evaluate_button.isEnabled()
    actions.evaluate_button.click()
    wait_until(lambda: not translate.is_running)
    pair = Pair(MemorySource(output.data[None]), MemorySource(truth.data[None]), "phase")
    expected = evaluate_pairs([pair], mapping=load_model(grey_model).target.mapping)
    assert actions.scores.text().startswith(
        f"mean difference in units of the target: {expected.mean.mae:.4g} (a single value everywhere: "
    )
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "report.json"), ""))
    actions.report_button.click()
    wait_until(lambda: not translate.is_running)
    assert translate.state.text() == f"saved as {tmp_path / 'report.json'}"
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["mean"]["mae"] == expected.mean.mae
    assert (report["model"], report["target"]) == (str(grey_model), "truth")
    translate.kind.choose("folder")
    assert (actions.scores.text(), actions.report_button.isEnabled()) == ("", False)  # they are of no folder
    translate.kind.choose("layers")
    actions.targets.choose([viewer.add_image(np.zeros((8, 8), np.uint8), name="small")])
    actions.evaluate_button.click()
    wait_until(lambda: not translate.is_running)
    assert translate.state.kind == "error"


def test_layers_called_like_channels_of_the_model_are_ticked(
    viewer: Any, translate: Any, wait_until: WaitUntil, tmp_path: Path
) -> None:
    from dataclasses import replace

    from pix2pix_training.model_file import save_model
    from tests.product.conftest import model_for

    model = model_for(1, 2)
    path = tmp_path / "model.safetensors"
    source, target = (
        replace(image, channel_names=names)
        for image, names in ((model.source, ("phase",)), (model.target, ("nuclei", "membrane")))
    )
    save_model(replace(model, source=source, target=target), path)
    for name in ("membrane", "phase", "nuclei"):
        viewer.add_image(np.zeros((40, 48), np.uint8), name=name)
    assert [layer.name for layer in translate.picker.layers] == ["membrane"]  # nothing says yet what is to be seen
    translate.set_model(path)
    targets = translate.model_actions.targets
    wait_until(lambda: {layer.name for layer in targets.layers} == {"nuclei", "membrane"})
    assert [layer.name for layer in translate.picker.layers] == ["phase"]
    translate.picker.choose([viewer.layers["nuclei"]])
    translate.set_model(path.parent)
    wait_until(lambda: translate.model.card is not None)
    assert [layer.name for layer in translate.picker.layers] == ["nuclei"]  # which somebody has chosen


def test_export_as_onnx(translate: Any, grey_model: Path, tmp_path: Path, wait_until: WaitUntil) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    translate.set_model(grey_model)
    wait_until(translate.model_actions.export_button.isEnabled)
    translate.model_actions.wants_export.emit(tmp_path / "model.onnx")
    wait_until(lambda: not translate.is_running)
    assert translate.state.text() == f"saved as {tmp_path / 'model.onnx'}"
    onnx.checker.check_model(str(tmp_path / "model.onnx"))


def test_export_asks_for_author_and_licence_in_words_of_the_form(
    viewer: Any, translate: Any, grey_model: Path, tmp_path: Path, wait_until: WaitUntil
) -> None:
    viewer.add_image(np.zeros((40, 48), np.uint8))
    translate.set_model(grey_model)
    wait_until(translate.model_actions.export_button.isEnabled)
    for name, said in (("model.zip", "fill in both fields"), ("model.txt", "ends in .onnx or .zip")):
        translate.model_actions.wants_export.emit(tmp_path / name)
        wait_until(lambda: not translate.is_running)
        assert said in translate.state.text()
        assert "--" not in translate.state.text()
    assert not (tmp_path / "model.zip").exists()


def test_export_for_the_model_zoo(
    viewer: Any, translate: Any, grey_model: Path, tmp_path: Path, wait_until: WaitUntil, rng: np.random.Generator
) -> None:
    import zipfile

    pytest.importorskip("onnxscript")
    viewer.add_image(rng.integers(0, 256, (300, 300), np.uint8))
    translate.set_model(grey_model)
    actions = translate.model_actions
    wait_until(actions.export_button.isEnabled)
    actions.author.setText("A. Author, B. Author")
    actions.license.setText("CC-BY-4.0")
    actions.wants_export.emit(tmp_path / "cells of mine.zip")
    wait_until(lambda: not translate.is_running)
    assert translate.state.text() == f"saved as {tmp_path / 'cells of mine.zip'}", translate.state.text()
    with zipfile.ZipFile(tmp_path / "cells of mine.zip") as package:
        assert b"B. Author" in package.read(next(n for n in package.namelist() if n.endswith(".yaml")))


def test_of_an_image_that_was_trained_on_the_held_out_part_is_scored(
    viewer: Any, train: Any, pair: list[Any], tmp_path: Path, translate: Any, run: Any, wait_until: WaitUntil
) -> None:
    """Scores of pixels that were trained on were shown as if they were those of a new image."""
    train.settings.length.setValue(1)
    train.train_button.click()
    wait_until(lambda: not train.is_running)
    model = tmp_path / "run" / "model.safetensors"
    (output,) = run(model, pair[:1])
    actions = translate.model_actions
    actions.targets.choose(pair[1:])
    actions.evaluate_button.click()
    wait_until(lambda: not translate.is_running)
    (held_out,) = load_model(model).training["images"]["held_out"]
    y0, y1, x0, x1 = held_out["region"]
    assert "which was held out; most else was trained on" in actions.scores.text()
    predicted, wanted = (MemorySource(layer.data[None, y0:y1, x0:x1]) for layer in (output, pair[1]))
    expected = evaluate_pairs([Pair(predicted, wanted, "")], mapping=load_model(model).target.mapping)
    assert f"mean difference in units of the target: {expected.mean.mae:.4g} " in actions.scores.text()
    actions.wants_report.emit(tmp_path / "report.html")
    wait_until(lambda: not translate.is_running)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "1 of 1 images were held out in training" in page
    assert "fit of each pixel" in page
    for layer in list(viewer.layers):
        viewer.layers.remove(layer)
    assert not actions.report_button.isEnabled()
