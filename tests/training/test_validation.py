"""Validation sees the held-out images and nothing else, once for each score; a stopped run keeps what it has seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image

from pix2pix_training.array_source import AnyArray, MemorySource, Opacity
from pix2pix_training.choices import Values
from pix2pix_training.events import CheckpointSaved, Event, Finished, PreviewReady, Validated, Validating
from pix2pix_training.image_survey import result_of
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.metrics import Scores, class_overlap
from pix2pix_training.metrics_table import read_metrics
from pix2pix_training.networks import build_generator
from pix2pix_training.pairs import Pair, Split
from pix2pix_training.preparation import prepare
from pix2pix_training.regions import Region
from pix2pix_training.training import TrainingData, train
from pix2pix_training.validation import Validation
from tests.training.runs import TINY, data_of, pair_of, striped, stripes, trained

CPU = torch.device("cpu")


class CountingSource(MemorySource):
    """Counts how many pixels are read."""

    pixels_read = 0

    def read_with_opacity(self, region: Region, plane: tuple[int, ...] = ()) -> tuple[AnyArray, Opacity | None]:
        self.pixels_read += region.height * region.width
        return super().read_with_opacity(region, plane)


@pytest.mark.parametrize("values", ["image", "auto"])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_validation_reads_what_it_shows(values: Any, dtype: Any) -> None:
    """Statistics of whole images were found before the first step."""
    rng = np.random.default_rng(0)
    images = [CountingSource((rng.random((1, 300, 300)) * 1000).astype(dtype), name=str(n)) for n in range(6)]
    pairs = [Pair(images[n], images[n + 1], str(n)) for n in (0, 2, 4)]
    config = replace(TINY, source_values=values, validation_size=32, validation_images=2)
    split = Split((pairs[0],), tuple(pairs[1:]))
    data = result_of(prepare(split, config))
    assert [image.pixels_read for image in images] == [300 * 300] * 6, "each image is looked at once"
    generator = build_generator(replace(config.generator, source_channels=1, target_channels=1))
    validation = Validation(config, data, CPU)
    list(validation.scores(generator))  # floats are looked at once more, for a part with valid pixels
    for image in images:
        image.pixels_read = 0
    for _ in range(5):
        assert len(list(validation.scores(generator))) == 2
        validation.preview(generator)
    assert [image.pixels_read for image in images] == [0, 0, *([10 * 32 * 32] * 2), *([5 * 32 * 32] * 2)]


TWO = data_of([striped("a", 0), striped("b", 1)], [striped("c", 2), striped("d", 3)])

STOPS: dict[str, Callable[[Event], bool]] = {
    "before the first image": lambda event: isinstance(event, Validating) and event.done == 0,
    "between images": lambda event: isinstance(event, Validating) and event.done == 1,
    "at the scores": lambda event: isinstance(event, Validated),
    "at the preview": lambda event: isinstance(event, PreviewReady),
    "at the checkpoint": lambda event: isinstance(event, CheckpointSaved) and event.step == 2,
}


@pytest.mark.parametrize("stops", STOPS.values(), ids=STOPS.keys())
def test_a_run_stopped_anywhere_in_a_validation_has_its_preview_and_scores(
    stops: Callable[[Event], bool], tmp_path: Path
) -> None:
    trained(tmp_path / "whole", TWO)
    run = train(TINY, TWO, tmp_path / "run")
    assert any(stops(event) for event in run)
    run.close()
    whole, found = (np.asarray(Image.open(tmp_path / n / "previews" / "step_0000002.png")) for n in ("whole", "run"))
    assert np.array_equal(found, whole)
    assert [row["step"] for row in read_metrics(tmp_path / "run" / "metrics.csv")] == [2]
    trained(tmp_path / "run", TWO, resume=True)
    scores = [[row["mae"] for row in read_metrics(tmp_path / n / "metrics.csv")] for n in ("whole", "run")]
    assert scores[0] == scores[1]


def test_the_part_that_is_validated_has_valid_pixels() -> None:
    image = np.full((1, 96, 96), np.nan, np.float32)
    image[:, 64:, 64:] = np.random.default_rng(0).random((1, 32, 32))
    pair = pair_of(image, image)
    config = replace(TINY, validation_size=32)
    validation = Validation(config, result_of(prepare(Split((pair,), (pair,)), config)), CPU)
    generator = build_generator(replace(config.generator, source_channels=1, target_channels=1))
    (scores,) = validation.scores(generator)
    assert np.isfinite(scores.mae)
    assert scores.pearson is not None


def masks_of(count: int) -> TrainingData:
    """Bright squares on noise, and masks of them."""
    rng = np.random.default_rng(0)
    pairs = []
    for number in range(count):
        mask = np.zeros((1, 64, 64), np.uint8)
        for y, x in rng.integers(0, 52, (5, 2)):
            mask[:, y : y + 12, x : x + 12] = 1
        source = (mask * 120 + rng.integers(0, 80, mask.shape)).astype(np.uint8)
        pairs.append(pair_of(source, mask, str(number)))
    return data_of(pairs[:-1], pairs[-1:])


LEARNING = replace(TINY, batch_size=4, learning_rate=2e-3, inference=InferenceConfig(statistics="image"))


@pytest.mark.parametrize("labels", ["0 and 1", "0 and 255", "numbered"])
def test_small_masks_are_learnt_and_scored_with_their_overlap(labels: str, tmp_path: Path) -> None:
    data = masks_of(5)
    for pair in [*data.split.training, *data.split.validation]:
        mask: AnyArray = pair.target._array  # type: ignore[attr-defined]
        mask *= 255 if labels == "0 and 255" else 1
        if labels == "numbered":
            mask[:] *= np.arange(1, 65, dtype=np.uint8)[:, None]
    values: Values = "foreground" if labels == "numbered" else "auto"
    config = replace(LEARNING, target_values=values, generator=replace(TINY.generator, base_width=8))
    events = trained(tmp_path / "run", data, config, steps=120, validate_every=120, checkpoint_every=120)
    overlap = events[-1].scores["iou"]  # type: ignore[union-attr]
    assert overlap is not None
    assert overlap > 0.7
    assert read_metrics(tmp_path / "run" / "metrics.csv")[-1]["iou"] == pytest.approx(overlap, rel=1e-4)


def test_overlap_of_classes() -> None:
    wanted = np.array([[0, 0, 1, 1]])
    assert class_overlap(np.array([[0, 1, 1, 1]]), wanted, 2) == 2 / 3
    assert class_overlap(np.array([[0, 1, 2, 1]]), wanted, 3) == pytest.approx((1 / 2 + 1 / 3 + 0) / 3)
    assert class_overlap(np.array([[0, 1, 1, 1]]), wanted, 2, np.array([[True, False, True, True]])) == 1
    assert class_overlap(np.zeros((2, 2)), np.zeros((2, 2)), 2) is None
    assert class_overlap(np.array([[1, 1]]), np.array([[1, -1]]), 2) == 1 / 2


def test_intensities_have_no_overlap(tmp_path: Path) -> None:
    events = trained(tmp_path / "run", data_of([striped("a", 0)], [striped("b", 1)]))
    assert "iou" not in events[-1].scores  # type: ignore[union-attr]
    assert stripes(0).dtype == np.uint8


@pytest.mark.parametrize("best_by", ["mae", "psnr", "ssim", "pearson"])
def test_the_best_model_is_that_of_the_score_that_counts(best_by: Any, tmp_path: Path) -> None:
    rows = {"mae": (0.1, 0.2, 0.3, 0.4), "psnr": (1.0, 9.0, 2.0, 3.0), "ssim": (0.1, 0.2, 0.9, 0.3)}
    rows["pearson"] = (0.1, 0.2, 0.3, 0.9)
    events = iter([Scores(**dict(zip(rows, values, strict=True))) for values in zip(*rows.values(), strict=True)])
    with mock.patch("pix2pix_training.validation.score", lambda *_, **__: next(events)):
        finished = trained(tmp_path / "run", steps=8, best_by=best_by)[-1]
    assert isinstance(finished, Finished)
    assert finished.model_step == {"mae": 2, "psnr": 4, "ssim": 6, "pearson": 8}[best_by]


def test_where_the_score_is_undefined_mae_decides(tmp_path: Path) -> None:
    events = iter([Scores(mae=mae, psnr=1.0, ssim=None, pearson=None) for mae in (0.3, 0.2, 0.1, 0.4)])
    with mock.patch("pix2pix_training.validation.score", lambda *_, **__: next(events)):
        finished = trained(tmp_path / "run", steps=8, best_by="ssim", patience=1)[-1]
    assert isinstance(finished, Finished)
    assert (finished.model_step, finished.early_stop) == (6, None)
    begun = trained(tmp_path / "run", steps=8, best_by="mae", patience=1, resume=True)[-1]
    assert isinstance(begun, Finished)
    assert begun.model_step == 6
