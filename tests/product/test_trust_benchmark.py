"""The benchmark of what a translation can be believed for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from benchmarks.trust import main, table
from benchmarks.trust_costs import Cost, cost_table
from benchmarks.trust_coverage import ause, covered, rank_correlation
from benchmarks.trust_novelty import Row, auroc


def test_auroc_counts_pairs_in_order_and_half_of_the_ties() -> None:
    assert auroc(np.array([0.0, 1.0]), np.array([2.0, 3.0])) == 1
    assert auroc(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 0
    assert auroc(np.array([0.0, 2.0]), np.array([1.0, 2.0])) == (1 + 0 + 1 + 0.5) / 4


def test_the_table_has_means_over_the_seeds() -> None:
    rows = [
        Row(data_set=name, change=change, auroc=value, warned=0.5, mean_share=0.25)
        for value in (0.9, 1.0)
        for name, change in (("b", "none"), ("b", "blur"), ("a", "none"))
    ]
    assert table(rows)[2:] == [
        "| b | none | 0.950 | 50 % | 25.0 % |",
        "| b | blur | 0.950 | 50 % | 25.0 % |",
        "| a | none | 0.950 | 50 % | 25.0 % |",
    ]


def test_area_between_sparsification_curves() -> None:
    true = np.array([4.0, 0.0, 2.0, 2.0])
    assert ause(true, true) == 0
    assert ause(np.exp(true), true) == 0
    oracle = np.mean([0, 1, 4 / 3, 2])
    assert ause(np.zeros(4), true) == pytest.approx((2 - oracle) / 2)  # a constant leaves the mean error as it is
    assert ause(-true, true) > ause(np.zeros(4), true)


def test_rank_correlation_takes_ties_as_they_are() -> None:
    assert rank_correlation(np.array([1.0, 5.0, 9.0]), np.array([0.0, 0.1, 7.0])) == pytest.approx(1)
    assert rank_correlation(np.ones(3), np.arange(3.0)) == 0


def test_coverage_is_drawn_anew() -> None:
    """Pixels of one image need factors of 0 to 1, those of the other of 0 to 2: either may calibrate."""
    images = [np.linspace(0, most, 101)[None] for most in (1.0, 2.0)]
    shares = covered(images, 1, 0.9)
    assert sorted(set(np.round(shares, 2))) == [0.46, 1.0]
    assert covered([images[0]] * 4, 3, 0.9) == pytest.approx([91 / 101] * 200)


def test_costs_are_compared_turn_by_turn() -> None:
    found = [
        Cost(what="translate", than=None, seconds=[2.0, 4.0, 1.0], loads=[0.0] * 3),
        Cost(what="translate --error-map", than="translate", seconds=[2.2, 4.0, 1.5], loads=[0.5] * 3),
    ]
    assert (
        cost_table(found)[-1] == "| translate --error-map | 2.2, 4.0, 1.5 | 0.5, 0.5, 0.5 | 1.10 (1.00 to 1.50) | 1.2 |"
    )


@pytest.mark.slow
def test_costs_are_measured_in_turns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--width", "2", "--steps", "1", "--size", "256", "--turns", "1"]
    main(["costs", "--folder", str(tmp_path / "costs"), *small])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == [
        "| train --coverage 0",
        "| train",
        "| translate",
        "| translate --error-map",
        "| translate --novelty-map",
    ]


def test_a_data_set_is_told_from_changed_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for name in ("facades/label", "em_membranes/image", "em_membranes/membrane", "nuclei/image"):
        (tmp_path / name).mkdir(parents=True)
        for number in range(12 if name.startswith("em") else 1):
            pixels = 128 + 60 * gaussian_filter(rng.normal(size=(256, 256)), 1)
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(tmp_path / name / f"{number}.png")
    (tmp_path / "labelfree").mkdir()
    for name in ("phase_z00", "DAPI", "MAP2", "NFH"):
        pixels = rng.integers(0, 60_000, (1024, 1024)).astype(np.uint16)
        Image.fromarray(pixels).save(tmp_path / "labelfree" / f"{name}.png")
    main(["novelty", "--data", str(tmp_path), "--data-sets", "em_membranes", "--seeds", "1"])
    found = {line.split(" | ")[1]: line.split(" | ")[2] for line in capsys.readouterr().out.splitlines()[2:]}
    assert found["none"] == "0.500"
    assert found["blur 4 px"] == found["brighter by half the range"] == found["data set labelfree"] == "1.000"
