"""A run that is killed at random moments and resumed ends as the run that nothing happened to, bit by bit."""

from __future__ import annotations

import csv
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from pix2pix_training.model_file import load_model
from tests.training.killable_run import VALIDATE_EVERY

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")

_PROGRAM = Path(__file__).with_name("killable_run.py")
_STEPS_PER_KILL = 12
_LINES_TO_FIRST_STEP = 450
_LINES_TO_THIRD_SAVE = 1440


def start(out: Path, steps: int, *options: str) -> subprocess.Popen[str]:
    arguments = [sys.executable, str(_PROGRAM), str(out), str(steps), *options]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def complete(out: Path, steps: int) -> None:
    process = start(out, steps)
    _, errors = process.communicate()
    assert process.returncode == 0, errors


def kill_after_steps(out: Path, steps: int, done: int, delay: float) -> None:
    """SIGKILL from outside, `delay` seconds after `done` further steps."""
    process = start(out, steps)
    assert process.stdout is not None
    for _ in range(done):
        assert process.stdout.readline().strip().isdecimal()
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def kill_at_line(out: Path, steps: int, line: int) -> None:
    """SIGKILL before the modules that keep the state execute their line number `line`."""
    process = start(out, steps, str(line))
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors


def equal(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, Mapping):
        return first.keys() == second.keys() and all(equal(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(equal, first, second))
    return bool(first == second)


def state(run: Path) -> dict[str, Any]:
    """All of the checkpoint but the time taken."""
    saved: dict[str, Any] = torch.load(run / "last.pt", weights_only=True)
    return {name: value for name, value in saved.items() if name != "seconds"}


def metrics(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def files(run: Path) -> list[str]:
    return sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())


def previews(run: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((run / "previews").iterdir())]


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, kills: int) -> None:
    whole, killed, steps = tmp_path / "whole", tmp_path / "killed", _STEPS_PER_KILL * kills
    rng = random.Random(kills)
    complete(whole, steps)
    for number in range(kills):
        match number % 3:
            case 0:
                kill_after_steps(killed, steps, rng.randint(1, _STEPS_PER_KILL), rng.uniform(0, 0.03))
            case 1:
                kill_at_line(killed, steps, rng.randint(1, _LINES_TO_FIRST_STEP))
            case _:
                kill_at_line(killed, steps, rng.randint(_LINES_TO_FIRST_STEP, _LINES_TO_THIRD_SAVE))
        assert not (killed / "last.pt").exists() or state(killed)["step"] < steps
    complete(killed, steps)

    expected, found = state(whole), state(killed)
    assert expected["average"]
    assert set(expected["networks"]) == {"generator", "discriminator", "optimizer_g", "optimizer_d", "scaler"}
    for name in expected:
        assert equal(found[name], expected[name]), name
    assert metrics(killed) == metrics(whole)
    assert [int(row["step"]) for row in metrics(killed)] == list(range(VALIDATE_EVERY, steps + 1, VALIDATE_EVERY))
    assert files(killed) == files(whole)
    assert previews(killed) == previews(whole)
    models = [load_model(run / "model.safetensors") for run in (killed, whole)]
    assert equal(models[0].weights, models[1].weights)
    assert models[0].metrics == models[1].metrics == expected["best"]["scores"]
    assert models[0].training["step"] == models[1].training["step"] == expected["best"]["step"]
