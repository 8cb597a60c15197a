"""Figures of the documentation are those that were kept, and are of this version; see benchmarks/run_all.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import kept_runs, run_all, speed_page
from benchmarks.kept_runs import BENCHMARKS, code_of, current_releases, kept, stale
from benchmarks.speed_page import PAGE

KINDS = ("quick", "full")
STATE = {"load": 0.2, "busy": 0.01, "matrix_product_flops": 170e9, "sum_bytes_per_second": 14e9}


@pytest.fixture
def entry() -> dict[str, Any]:
    return {
        "when": "2026-11-30T12:00:00+00:00",
        "release": current_releases()[0],
        "commit": "abc1234",
        "versions": {"python": "3.11.7", "napari-pix2pix": "0.2.0", "torch": "2.14"},
        "processor": {"name": "Some processor", "bfloat16": []},
        "cores": 2,
        "threads": 2,
        "memory_bytes": 8e9,
        "options": list(BENCHMARKS["training"].options["quick"]),
        "code": code_of("training"),
        "seconds": 60,
        "before": STATE,
        "after": STATE,
        "table": ["| ours |", "|---|", "| 0.412 |"],
        "figures": {},
    }


def test_page_shows_what_was_kept() -> None:
    assert PAGE.read_text(encoding="utf-8") == speed_page.speed_page(), "run python -m benchmarks.speed_page"


@pytest.mark.parametrize("kind", KINDS)
def test_kept_figures_hold(kind: str) -> None:
    reasons = [f"{name}: {reason}" for name, entry in kept(kind).items() for reason in stale(name, kind, entry)]
    assert not reasons, f"run python -m benchmarks.run_all --{kind}"


def test_figures_of_an_earlier_release_other_options_or_another_benchmark_are_stale(entry: dict[str, Any]) -> None:
    assert not list(stale("training", "quick", entry))
    for change, said in (
        ({"release": "0.0.9"}, "of 0.0.9"),
        ({"options": ["--turns", "1"]}, "other options"),
        ({"code": code_of("backends")}, "has changed"),
    ):
        (reason,) = stale("training", "quick", entry | change)
        assert said in reason


def test_code_is_that_of_imported_modules_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_runs, "__file__", str(tmp_path / "kept_runs.py"))
    (tmp_path / "one.py").write_text("from benchmarks.two import x\n", encoding="utf-8")
    (tmp_path / "two.py").write_text("x = 1\n", encoding="utf-8")
    before = code_of("one")
    (tmp_path / "two.py").write_text("x = 2\n", encoding="utf-8")
    assert code_of("one") != before


def test_page_says_on_what_and_whether_it_was_busy(entry: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = _page_of(entry, monkeypatch)
    assert "| 0.412 |" in quiet
    assert "Some processor, 2 cores" in quiet
    assert "python -m benchmarks.training --precisions float32" in quiet
    assert "say little" not in quiet
    assert "Not measured yet: Translation: backends" in quiet
    busy = _page_of(entry | {"before": STATE | {"busy": 0.6}}, monkeypatch)
    assert "Other programs took 60% of the processors." in busy
    slowed = _page_of(entry | {"after": STATE | {"matrix_product_flops": 119e9}}, monkeypatch)
    assert "changed by -30% meanwhile" in slowed


def _page_of(entry: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(speed_page, "kept", lambda kind: {"training": entry} if kind == "quick" else {})
    return speed_page.speed_page()


def test_run_is_kept_with_what_was_measured_before(
    entry: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny.json").write_text(json.dumps({"backends": entry}), encoding="utf-8")
    monkeypatch.setattr(run_all, "measured", lambda name, kind: entry | {"commit": f"{name} {kind}"})
    monkeypatch.setattr(sys, "argv", ["run_all", "--tiny", "--only", "training", "--out", str(tmp_path)])
    run_all.main()
    found = kept("tiny", tmp_path)
    assert found["training"]["commit"] == "training tiny"
    assert found["backends"] == entry


def test_trial_is_not_kept_as_a_measurement(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["run_all", "--tiny"])
    with pytest.raises(SystemExit):
        run_all.main()
    assert "--tiny measures nothing" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, benchmark in BENCHMARKS.items() if not benchmark.needs_display])
def test_benchmark_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["run_all", "--tiny", "--only", name, "--out", str(tmp_path)])
    run_all.main()
    found = kept("tiny", tmp_path)[name]
    assert not list(stale(name, "tiny", found))
    assert found["table"][1].startswith("|---")
    assert found["before"]["matrix_product_flops"] > 1e9
