"""What a run writes for TensorBoard, read back by TensorBoard itself."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pix2pix_training.errors import SettingsError
from pix2pix_training.events import CheckpointSaved, StepDone, Validated
from pix2pix_training.pairs import Split
from pix2pix_training.tensorboard_log import with_tensorboard
from pix2pix_training.training import TrainingData, train
from tests.training.test_training import TINY, striped


@pytest.fixture
def data() -> TrainingData:
    return TrainingData(split=Split((striped("a", 0),), (striped("b", 1),)))


def logged(run: Path) -> Any:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator").EventAccumulator
    return accumulator(str(run / "tensorboard")).Reload()


def scalars(log: Any, tag: str) -> dict[int, float]:
    return {point.step: point.value for point in log.Scalars(tag)}


def test_losses_scores_and_previews_are_logged(data: TrainingData, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run = tmp_path / "run"
    events = list(with_tensorboard(train(TINY, data, run), run))
    log = logged(run)
    losses = {e.step: e.losses["G_L1"] for e in events if isinstance(e, StepDone) and e.losses}
    assert scalars(log, "loss/G_L1") == pytest.approx(losses)
    scores = {e.step: e.scores["mae"] for e in events if isinstance(e, Validated)}
    assert scalars(log, "validation/mae") == pytest.approx(scores)
    (tag,) = log.Tags()["images"]
    images = log.Images(tag)
    assert [(image.step, image.height, image.width) for image in images] == [(5, 48, 144), (10, 48, 144)]


def test_closing_it_saves_the_run_and_resuming_hides_what_is_done_again(data: TrainingData, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run = tmp_path / "run"
    events = with_tensorboard(train(replace(TINY, validate_every=1), data, run), run)
    for event in events:
        if isinstance(event, StepDone) and event.step == 6:
            events.close()  # type: ignore[attr-defined]
    stopped_at_6 = (run / "last.pt").read_bytes()
    resumed = list(with_tensorboard(train(replace(TINY, validate_every=1), data, run, resume=True), run))
    assert [e.step for e in resumed if isinstance(e, CheckpointSaved)] == [8, 10]
    (run / "last.pt").write_bytes(stopped_at_6)
    list(with_tensorboard(train(replace(TINY, validate_every=1), data, run, resume=True), run))
    assert [point.step for point in logged(run).Scalars("validation/mae")] == list(range(1, 11))


def test_overwriting_a_run_forgets_its_log(data: TrainingData, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run = tmp_path / "run"
    list(with_tensorboard(train(TINY, data, run), run))
    list(train(replace(TINY, steps=1), data, run, overwrite=True))
    assert not (run / "tensorboard").exists()


def test_a_missing_tensorboard_is_one_line_before_anything_starts(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(SettingsError, match=r"pip install \"napari-pix2pix\[tensorboard\]\""):
        next(iter(with_tensorboard(train(TINY, data, tmp_path / "run"), tmp_path / "run")))
    assert not (tmp_path / "run").exists()
