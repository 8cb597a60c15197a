"""The screening of depth and norm: what is measured of a model, and how candidates are ranked by it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.screening import (
    PRESETS,
    RECIPES,
    VARIANTS,
    augmentation_trials,
    finalists,
    long_trials,
    losses_trials,
    pairs_trials,
    parsed,
    precision_trials,
    preset_trials,
    ranking,
    recipe_trials,
    short_trials,
)
from benchmarks.screening_report import write_report
from benchmarks.screening_trial import (
    PAPER,
    PATCH,
    Measured,
    Trial,
    TrialResult,
    Variant,
    _of_so_many_pairs,
    measure,
    tiled,
    training_config,
    whole,
)
from pix2pix_training.choices import Statistics
from pix2pix_training.config import TrainingConfig
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.metrics import Scores
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.pairs import Split
from pix2pix_training.patch_config import AugmentationConfig
from pix2pix_training.presets import preset
from pix2pix_training.training import TrainingData
from tests.product.translation.conftest import random_model
from tests.training.runs import striped

REQUEST = parsed(["--data", "data", "--out", "out", "--data-sets", "facades", "labelfree"])


def result(mae: float, ssim: float, *statistics: Statistics) -> TrialResult:
    """The first statistics have the scores given, others are worse."""
    measured = tuple(
        Measured(
            statistics=kind,
            scores=Scores(mae=mae + 0.5 * i, psnr=10.0, ssim=ssim - 0.5 * i, pearson=0.5),
            tile_mismatch=0.01,
            training_mae=0.2,
            grid={"2": 1.5, "4": 1.0, "8": 0.9},
        )
        for i, kind in enumerate(statistics)
    )
    return TrialResult(measured=measured, seconds_per_step=1.0, cpu_seconds_per_step=0.5)


def results() -> dict[Trial, TrialResult]:
    """Every variant is the better the earlier it stands in `VARIANTS`, by both scores."""
    return {
        trial: result(
            0.1 + 0.01 * VARIANTS.index(trial.variant),
            0.9 - 0.01 * VARIANTS.index(trial.variant),
            *(inference.statistics for inference in trial.variant.inferences),
        )
        for trial in short_trials(REQUEST)
    }


def test_candidates_are_ranked_over_all_data_sets() -> None:
    candidates = ranking(results())
    assert [c.variant for c in candidates[:6]] == list(VARIANTS)
    assert [c.mean_rank for c in candidates] == list(range(1, 11))


def test_one_bad_data_set_costs_places() -> None:
    found = results()
    first = next(trial for trial in found if trial.variant == VARIANTS[0] and trial.data_set == "labelfree")
    found[first] = replace(found[first], measured=result(9.0, -1.0, "running", "image").measured)
    best = next(c for c in ranking(found) if c.variant == VARIANTS[0])
    assert best.mean_rank == pytest.approx((1 + 1 + 9 + 9) / 4)


def test_finalists_are_different_networks() -> None:
    candidates = ranking(results())
    doubled = [candidates[0], replace(candidates[0], statistics="image"), *candidates[1:]]
    assert [c.variant for c in finalists(doubled)] == list(VARIANTS[:2])


def test_no_two_trainings_share_a_folder() -> None:
    phases = [
        long_trials(REQUEST, VARIANTS[:2]),
        recipe_trials(REQUEST),
        preset_trials(REQUEST),
        pairs_trials(REQUEST),
        precision_trials(REQUEST),
        losses_trials(REQUEST),
        augmentation_trials(REQUEST),
    ]
    assert [len(trials) for trials in phases] == [
        2 * 2 * 2,
        5 * 2,
        3 * 2 * 2,
        (6 + 4 + 4) * 2,
        4 * 2 * 2,
        7 * 2 * 2,
        8 * 2 * 2,
    ]
    trainings = {trial for trials in phases for trial in trials}  # two of them begin with the same ones
    folders = [trial.folder for trial in trainings]
    assert len(set(folders)) == len(folders)


def test_recipes_are_judged_by_other_images_than_the_presets() -> None:
    assert all(trial.inner for trial in recipe_trials(REQUEST))
    assert not any(trial.inner for trial in preset_trials(REQUEST))
    assert {trial.variant for trial in recipe_trials(REQUEST)} == {*RECIPES, PAPER}


def test_few_pairs_are_among_more_and_other_seeds_draw_others() -> None:
    pairs = tuple(striped(str(number), number) for number in range(40))
    data = TrainingData(split=Split(pairs[:30], pairs[30:]))
    chosen = {}
    for trial in pairs_trials(REQUEST):
        split = _of_so_many_pairs(trial, data).split
        assert split.validation == data.split.validation
        chosen[trial.variant.pairs, trial.seed] = {pair.name for pair in split.training}
    assert [len(chosen[count, 0]) for count in (5, 10, 20, 50)] == [5, 10, 20, 30]
    assert chosen[5, 0] < chosen[10, 0] < chosen[20, 0]
    assert chosen[10, 0] != chosen[10, 1]


def _sizes(config: TrainingConfig) -> dict[str, Any]:
    names = ("generator", "discriminator", "steps", "patch_size", "batch_size", "seed", "keep")
    return {name: getattr(config, name) for name in (*names, "validate_every", "checkpoint_every")}


def test_settings_of_later_phases_reach_the_training() -> None:
    configs = [training_config(trial) for trial in precision_trials(REQUEST)[:4]]
    assert [(c.preset, c.precision) for c in configs] == [
        (preset, precision) for preset in ("seamless", "faithful") for precision in ("fp32", "bf16")
    ]
    assert {training_config(trial).augmentation.adaptive for trial in pairs_trials(REQUEST)} == {0.0, 0.6}
    for trials in (losses_trials(REQUEST), augmentation_trials(REQUEST)):
        plain, *changed = [training_config(trial) for trial in trials if (trial.seed, trial.data_set) == (0, "facades")]
        assert plain == replace(preset("seamless"), **_sizes(plain))
        assert all(
            sum(getattr(config, table) != getattr(plain, table) for table in ("objective", "augmentation")) == 1
            for config in changed
        )


def test_an_incomplete_phase_has_no_ranking() -> None:
    found = results()
    found.popitem()
    assert ranking(found) == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_candidates_are_trained_alike_but_for_what_is_compared(variant: Variant) -> None:
    config = training_config(replace(short_trials(REQUEST)[0], variant=variant))
    assert (config.steps, config.patch_size, config.batch_size, config.keep) == (250, PATCH, 1, "last")
    assert config.generator.base_width == config.discriminator.base_width == 16
    assert (config.generator.depth, config.generator.norm) == (variant.depth, variant.norm)
    assert (config.learning_rate, config.schedule, config.ema_decay) == (2e-4, "linear", 0.0)
    assert config.augmentation == AugmentationConfig()


@pytest.mark.parametrize("variant", [*PRESETS, RECIPES[-1]])
def test_presets_are_trained_as_they_are_at_the_same_width_and_steps(variant: Variant) -> None:
    assert variant.preset is not None
    usual = preset(variant.preset)
    config = training_config(replace(preset_trials(REQUEST)[0], variant=variant))
    assert (config.steps, config.patch_size, config.batch_size, config.keep) == (1500, PATCH, 1, "last")
    assert config.generator == replace(usual.generator, base_width=16)
    assert (config.objective, config.inference) == (usual.objective, usual.inference)
    if variant.intensity_jitter is None:
        assert config.augmentation == usual.augmentation
    else:
        assert config.augmentation == replace(usual.augmentation, intensity_jitter=variant.intensity_jitter)
    assert (config.schedule, config.ema_decay) == (usual.schedule, usual.ema_decay)
    assert config.learning_rate == (variant.learning_rate or usual.learning_rate)


def test_what_is_measured_of_a_model() -> None:
    inference = InferenceConfig(statistics="image")
    config = GeneratorConfig(source_channels=1, target_channels=1, base_width=2, depth=3, norm="instance")
    model = random_model(config, inference)
    x, y = torch.rand(2, 1, 1, PATCH, PATCH) * 2 - 1
    network = model.generator(inference)
    with torch.inference_mode():
        measured = measure(model, inference, [(x, y)] * 4)
        assert measured.scores.mae == pytest.approx(float((whole(network, x) - y).abs().mean()), rel=1e-5)
        # instance norm in training is the same function on a patch as at inference on an image of its size
        assert measured.disparity == pytest.approx(0, abs=1e-6)
        together = torch.cat([torch.cat([x, x], -1)] * 2, -2)
        mismatch = float((whole(network, together) - tiled(network, together)).abs().mean())
    assert measured.tile_mismatch == pytest.approx(mismatch, rel=1e-5)
    assert mismatch > 1e-3


def test_the_report_has_a_row_for_each_candidate(tmp_path: Path) -> None:
    found = {replace(trial, out=tmp_path): r for trial, r in results().items()}
    for trial in found:
        trial.folder.mkdir(parents=True)
        (trial.folder / "metrics.csv").write_text("step,mae\n25,0.5\n50,0.4\n")
    renormed = next(trial for trial in found if trial.variant.name == "batch-renorm-8")
    again = replace(found[renormed].measured[0].scores, mae=0.0123)
    found[renormed] = replace(found[renormed], calibrated=again)
    ranks = {(c.variant, c.statistics): c.mean_rank for c in ranking(found)}
    text = write_report({"Short": found}, ranks, tmp_path)
    assert text == (tmp_path / "screening.md").read_text()
    assert text.count("| batch-renorm-8 | image |") == 3
    scores = "0.1200 | 10.00 | 0.8800 | 0.500 | 0.0100 | -0.0800 | 1.50 / 1.00 / 0.90"
    assert f"| instance-5 | image | 1 | {scores} |  | 0.50 |" in text
    assert text.count("0.0123") == 1
    assert (tmp_path / "screening_short_facades.png").stat().st_size > 1000
    assert np.isfinite(list(ranks.values())).all()


def test_presets_are_compared_by_all_scores_and_the_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.screening_report._draw", lambda results, out: None)
    found = {replace(trial, out=tmp_path): result(0.1, 0.9, "running") for trial in preset_trials(REQUEST)}
    for trial in found:
        trial.folder.mkdir(parents=True)
        (trial.folder / "metrics.csv").write_text("step,mae\n25,0.5\n")
    text = write_report({"Preset": found}, {}, tmp_path)
    assert "| data | score | seamless | paper | faithful |" in text
    for row in ("mae | 0.1000", "psnr | 10.00", "ssim | 0.9000", "pearson | 0.500", "grid 2 px | 1.50"):
        assert f"| facades | {row} |" in text
