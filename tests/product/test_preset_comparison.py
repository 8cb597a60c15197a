"""Presets are trained on the same split, and said to be best for what their models score best in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from napari_pix2pix.cli.application import run
from napari_pix2pix.preset_comparison import PresetScores, best_for, configs_of_presets, minutes_of, table
from pix2pix_training.errors import SettingsError
from pix2pix_training.run_folder import RunFolder
from tests.product.test_cli import result_of

SMALL = {"generator": {"base_width": 2, "depth": 3}, "discriminator": {"base_width": 2, "layers": 1}}


def scores(mae: float, psnr: float | None, grid: tuple[float, ...] | None) -> PresetScores:
    periods = None if grid is None else dict(zip((2, 4, 8), grid, strict=True))
    return PresetScores(scores={"mae": mae, "psnr": psnr}, grid=periods)


FOUND = {
    "seamless": scores(0.2, 20.0, (0.1, 1.0, 1.4)),
    "paper": scores(0.3, 21.0, (17.0, 4.0, 2.0)),
    "faithful": scores(0.1, None, (1.0, 1.0, 1.0)),
}


@pytest.mark.parametrize(
    ("text", "minutes"), [("5min", 5), ("5", 5), ("0.5 min", 0.5), ("90s", 1.5), ("2h", 120), (" 3 ", 3)]
)
def test_a_time_is_read(text: str, minutes: float) -> None:
    assert minutes_of(text) == minutes


@pytest.mark.parametrize("text", ["", "min", "0min", "-5", "5 days", "1e3"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="give a time such as 5min"):
        minutes_of(text)


def test_the_best_by_each_score() -> None:
    assert best_for(FOUND) == {"mae": ["faithful"], "psnr": ["paper"], "grid": ["seamless", "faithful"]}
    classes = {"seamless": PresetScores(scores={"iou": 0.5}, grid=None), "paper": scores(0.1, 1.0, None)}
    assert best_for(classes) == {"iou": ["seamless"], "mae": ["paper"], "psnr": ["paper"]}


def test_the_table_has_a_row_for_each_preset() -> None:
    lines = list(table(FOUND))
    assert lines[0].split() == ["preset", "MAE", "PSNR", "grid", "2/4/8", "px"]
    assert lines[2].split() == ["paper", "0.3000", "21.0000", "17.00/4.00/2.00"]
    assert lines[4:] == ["seamless is best for nothing alone", "paper is best for PSNR", "faithful is best for MAE"]


def test_presets_differ_in_what_is_theirs(caplog: pytest.LogCaptureFixture) -> None:
    configs = configs_of_presets(2.0, ({}, {}, {**SMALL, "seed": 7}), 64)
    assert list(configs) == ["seamless", "paper", "faithful"]
    assert all((c.minutes, c.patch_size, c.seed) == (2.0, 64, 7) for c, _ in configs.values())
    assert [c.objective.is_adversarial for c, _ in configs.values()] == [True, True, False]
    assert all(("patch_size",) in given and ("batch_size",) not in given for _, given in configs.values())
    assert not caplog.text
    assert list(configs_of_presets(2.0, ({}, {}), 128)) == ["seamless", "faithful"]
    assert "the preset paper is left out of the comparison: patch_size 128 is not a multiple of 256" in caplog.text


@pytest.mark.parametrize("said", [{"preset": "paper"}, {"steps": 9}])
def test_what_the_comparison_decides_cannot_be_said(said: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=f"leave {next(iter(said))} out"):
        configs_of_presets(2.0, ({}, said), 256)


@pytest.mark.parametrize("minutes", [1e-4, 1e7])
def test_a_time_that_no_run_can_have_is_refused(minutes: float, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SettingsError, match=r"minutes is .* must lie between"):
        configs_of_presets(minutes, ({}, {}), 256)
    assert not caplog.text


def test_what_is_compared_is_checked_before_images_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "--source", "none", "--target", "none", "--out", "x", "--compare-presets", "soon"]) == 2
    assert "compare_presets is 'soon'; give a time" in capsys.readouterr().err


def test_a_comparison_leaves_runs_and_says_what_is_best(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command: list[str | Path] = ["train", "--source", folders[0], "--target", folders[1], "--validation", "0.5"]
    command += ["--out", tmp_path / "out", "--compare-presets", "1s", "--patch-size", "32", "--depth", "3"]
    command += ["--base-width", "2", "--batch-size", "1", "--discriminator-layers", "1"]
    result = result_of(command, capsys)
    assert list(result["presets"]) == ["seamless", "paper", "faithful"]
    for name, scored in result["presets"].items():
        assert Path(scored["model"]) == tmp_path / "out" / name / "model.safetensors"
        assert {"mae", "psnr", "ssim", "pearson", "grid", "steps"} <= scored.keys()
        settings = RunFolder(tmp_path / "out" / name).settings()
        assert settings is not None
        assert (settings.preset, settings.minutes) == (name, 1 / 60)
    maes = {name: scored["mae"] for name, scored in result["presets"].items()}
    assert result["best"]["mae"] == [name for name in maes if maes[name] == min(maes.values())]
    again = result_of([*command, "--resume"], capsys)
    assert [again["presets"][name]["mae"] for name in maes] == list(maes.values())


def test_a_comparison_needs_images_that_are_held_out(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "--source", folders[0], "--target", folders[1], "--out", tmp_path / "out"]
    command += ["--compare-presets", "1s", "--patch-size", "32", "--validation", "0"]
    assert run([str(word) for word in command]) == 2
    assert "compare_presets needs images that are held out" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
