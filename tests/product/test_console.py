"""What the commands say without a terminal: progress in a log file, results and errors on stdout."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from napari_pix2pix.cli import console
from napari_pix2pix.cli.application import run
from napari_pix2pix.cli.console import ProgressBar, ProgressLines, progress_bar
from tests.product.test_cli_errors import training

Said = Callable[..., list[str]]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """The lines of progress, given the second and the fraction and units that are done then."""

    def lines(*updates: tuple[float, float, int]) -> list[str]:
        times = iter([0.0, *(second for second, _, _ in updates)])
        progress = ProgressLines("training", "steps", lambda: next(times))
        for _, fraction, done in updates:
            progress.update(fraction, done, "L1 3")
        return capsys.readouterr().err.splitlines()

    return lines


def test_a_line_now_and_then(said: Said) -> None:
    lines = said(*((second / 10, second / 3000, second) for second in range(3000)))
    assert [line.split(",")[0] for line in lines] == [
        f"training: {percent}%" for percent in (0, 1, 2, 3, 10, 20, 40, 60, 80)
    ]


def test_a_line_has_rate_and_time_left(said: Said) -> None:
    assert said((0.5, 0.0, 0), (2.5, 0.5, 5)) == ["training: 50%, 2.00 steps/s, 0:02 left, L1 3"]


def test_there_is_no_rate_of_nothing(said: Said) -> None:
    assert said((5, 0.0, 0)) == ["training: 0%, L1 3"]


def test_a_bar_has_no_rate_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=120)
    monkeypatch.setattr(console, "Console", lambda **_: terminal)
    with progress_bar("training", "steps") as bar:
        assert isinstance(bar, ProgressBar)
        bar.update(0.1, 0)
        bar._progress.refresh()
        assert "steps/s" not in screen.getvalue()
        bar.update(0.2, 9)
        bar._progress.refresh()
        assert "steps/s" in screen.getvalue()


def test_progress_is_not_on_stdout(
    tmp_path: Path, folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_FIRST_LINES_S", (0.0, 1e-9))
    assert run([str(part) for part in (*training(folders, tmp_path / "run"), "--json")]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["steps"] == 1
    assert "training: 100%" in captured.err
    assert "\x1b" not in captured.err + captured.out


def outcome(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = run(list(arguments))
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.parametrize(
    "arguments",
    [
        ("info", "none.tif", "--json"),
        ("translate", "none.tif", "--model", "none", "--out", "o.tif", "--json"),
        ("translate", "--no-such-option", "--json"),
        ("evaluate", "--json"),
    ],
)
def test_an_error_is_an_object_too(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    code = run(list(arguments))
    captured = capsys.readouterr()
    found = json.loads(captured.out.splitlines()[-1])
    assert (found["code"], found["warnings"]) == (code, []) == (2, [])
    assert captured.err.splitlines()[-1] == f"error: {found['error']}"


def test_without_json_an_error_leaves_stdout_empty(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["info", "none.tif"]) == 2
    assert capsys.readouterr().out == ""


def test_an_error_is_said_where_stdout_is_closed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    assert run(["info", "none.tif", "--json"]) == 2
    assert capsys.readouterr().err == "error: none.tif does not exist\n"


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("export", "m", "--format", "onnx", "--out", ""), "--out is empty"),
        (("translate", "a.tif", "--model=", "--out", "o"), "--model is empty"),
        (("info", ""), "an argument is empty"),
    ],
)
def test_an_empty_value_is_refused(arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty path would be the current folder."""
    assert run(list(arguments)) == 2
    assert words in capsys.readouterr().err
