"""The comparison with the paper's settings: which trainings it has, what it measures, what it says."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from benchmarks.ten_minutes import parsed, run, shares_of_cores, trials
from benchmarks.ten_minutes_report import write_report
from benchmarks.ten_minutes_trial import (
    CONTENDERS,
    PAPER,
    RESULT,
    Trial,
    TrialResult,
    read_pairs,
    read_result,
    run_trial,
    write_images,
)

RESULT_OF_PAPER = TrialResult(
    base_width=64,
    patch_size=256,
    batch_size=1,
    steps=100,
    seconds=600.0,
    wall_seconds=620.0,
    cpu_seconds=1100.0,
    cores=2,
    load=(1.0, 2.0),
    scores={"mae": 40.0, "psnr": 13.0, "ssim": 0.25, "pearson": 0.4},
    constant={"mae": 50.0, "psnr": 10.0, "ssim": 0.1, "pearson": None},
    grid={"2": 9.0, "4": 4.0, "8": 2.0},
    detail=0.5,
    segmentation={"per-pixel accuracy": 0.5, "class IoU": 0.2},
    machine="a machine",
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Eight pairs, of which two are held out."""
    random = np.random.default_rng(0)
    for side, shape in (("source", (256, 256)), ("target", (256, 256, 3))):
        folder = tmp_path / "data" / "mine" / side
        folder.mkdir(parents=True)
        for number in range(8):
            tifffile.imwrite(folder / f"{number}.tif", random.integers(0, 255, shape, dtype=np.uint8))
    return tmp_path / "data"


def request_of(data: Path, *more: str) -> list[str]:
    return ["--data", str(data), "--out", str(data.parent / "out"), "--data-sets", "mine", "--seeds", "1", *more]


def test_ours_stands_next_to_the_paper() -> None:
    chosen = trials(parsed(["--data", "d", "--out", "o"]))
    assert [(t.data_set, t.contender) for t in chosen[:2]] == [("facades", "seamless"), ("facades", PAPER)]
    assert {t.length.name for t in chosen} == {"10min"}
    assert len({t.folder for t in chosen}) == len(chosen) == 2 * (5 * len(CONTENDERS) + 3)


def test_lengths_have_folders_of_their_own() -> None:
    names = {
        parsed(["--data", "d", "--out", "o", *options]).length.name
        for options in (["--minutes", "2.5"], ["--steps", "1500", "--base-width", "16"], ["--steps", "1500"])
    }
    assert names == {"2.5min", "1500steps-w16", "1500steps-w64"}


def test_cores_are_shared() -> None:
    assert shares_of_cores([0, 1, 2, 3, 4], 2) == [(0, 1), (2, 3)]
    assert shares_of_cores([4, 7], 1) == [(4, 7)]
    assert shares_of_cores([0, 1], 3) == [(0,), (1,), (0,)]


def test_images_are_written_as_they_are(data: Path, tmp_path: Path) -> None:
    write_images(data, tmp_path, "mine")
    parts = [read_pairs(tmp_path / "images" / "mine" / part) for part in ("training", "held-out")]
    assert [len(pairs) for pairs in parts] == [6, 2]
    stored = {tifffile.imread(path).tobytes() for path in (data / "mine" / "target").iterdir()}
    written = [np.moveaxis(target, 0, -1).tobytes() for pairs in parts for _, target in pairs]
    assert set(written) == stored and len(written) == 8


def test_a_finished_training_is_read(data: Path) -> None:
    request = parsed(request_of(data, "--steps", "1", "--base-width", "1", "--contenders", PAPER))
    (trial,) = trials(request)
    write_images(data, request.out, "mine")
    result = run_trial(trial, None)
    assert (result.steps, result.base_width, result.segmentation) == (1, 1, {})
    assert result.scores["mae"] is not None and result.scores["mae"] > 10
    assert set(result.grid) == {"2", "4", "8"}
    changed = replace(result, steps=7)
    (trial.folder / RESULT).write_text((trial.folder / RESULT).read_text().replace('"steps": 1', '"steps": 7'))
    assert run_trial(trial, None) == read_result(trial.folder / RESULT) == changed


def test_what_is_not_better_is_said(tmp_path: Path) -> None:
    request = parsed(["--data", "d", "--out", str(tmp_path), "--data-sets", "mine"])
    better = {"mae": 30.0, "psnr": 14.0, "ssim": 0.3, "pearson": 0.35}
    results: dict[Trial, TrialResult] = {
        trial: replace(RESULT_OF_PAPER, scores=better) if trial.contender == "seamless" else RESULT_OF_PAPER
        for trial in trials(request)
        if trial.seed == 1  # pictures are of seed 0, and there are no images here
    }
    text = write_report(results, tmp_path)
    assert "| mine | seamless | +10 | +1.00 | +0.0500 | **not better** (-0.050) | **not better** (0.000) | 9.00" in text
    rows = list(csv.DictReader((tmp_path / "ten_minutes.csv").open()))
    assert [row["contender"] for row in rows] == list(CONTENDERS)
    assert rows[0]["scores pearson"] == "0.35" and rows[0]["grid 2"] == "9.0"


@pytest.mark.slow
def test_all_contenders_run(data: Path) -> None:
    request = parsed(request_of(data, "--steps", "2", "--base-width", "1", "--at-once", "2"))
    text = run(request)
    assert all(f"| {name} | 1 |" in text for name in CONTENDERS)
    folder = request.out / "2steps-w1"
    assert (folder / "ten_minutes_mine.png").exists()
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/*/result.json")}
    assert len(before) == len(CONTENDERS)
    assert run(replace(request, report=True)) == text
    assert {path: path.stat().st_mtime_ns for path in before} == before
