"""Several processes, started by torchrun with gloo, learn what one process learns from the patches of all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from pix2pix_training.distributed import ALONE
from pix2pix_training.errors import CheckpointError
from pix2pix_training.remarks import remarks
from tests.training import run_in_processes
from tests.training.runs import trained
from tests.training.steps_in_processes import CONFIGS
from tests.training.steps_in_processes import trained as stepped

ROOT = Path(__file__).parents[2]


def in_processes(script: str, *arguments: object) -> None:
    """Run a script of the tests in two processes."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*torchrun, f"tests.training.{script}", *map(str, arguments)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=600)


@pytest.mark.parametrize("steps", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_steps_of_two_processes_are_those_of_one(tmp_path: Path, steps: int) -> None:
    """Losses, weights and running statistics, for each norm and each term of the loss; and on both processes."""
    in_processes("steps_in_processes", tmp_path, steps)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for name in CONFIGS:
        losses, state = stepped(name, ALONE, steps)
        for own_losses, own_state in (each[name] for each in found):
            for own, expected in zip(own_losses, losses, strict=True):
                assert own == pytest.approx(expected, rel=1e-6), name
            assert own_state.keys() == state.keys()
            for key, value in state.items():
                torch.testing.assert_close(own_state[key], value, rtol=1e-9, atol=1e-11, msg=f"{name} {key}")
        first, second = (each[name][1] for each in found)
        assert all(torch.equal(first[key], second[key]) for key in state), name


@pytest.mark.slow
def test_a_run_of_two_processes_is_that_of_one_and_goes_on_in_any_number(tmp_path: Path) -> None:
    """In float32, with dropout, augmentation, validations and an average of the weights: 2 -> 1 -> 2 processes."""
    whole, spread, mixed = (tmp_path / name for name in ("whole", "spread", "mixed"))
    torch.set_num_threads(1)
    run_in_processes.go_on(whole, 4, run_in_processes.STEPS)
    in_processes("run_in_processes", spread, 2, run_in_processes.STEPS)
    in_processes("run_in_processes", mixed, 2, 7)
    run_in_processes.go_on(mixed, 4, 13)
    in_processes("run_in_processes", mixed, 2, run_in_processes.STEPS)
    expected, saved = losses_of(whole), torch.load(whole / "last.pt")
    for out in (spread, mixed):
        for found, wanted in zip(losses_of(out), expected, strict=True):
            assert found == pytest.approx(wanted, rel=1e-5)
        other = torch.load(out / "last.pt")
        assert other["patches"] == saved["patches"] == 4 * run_in_processes.STEPS
        assert other["best"]["scores"] == pytest.approx(saved["best"]["scores"], rel=1e-4)
        assert torch.equal(other["random_state"]["cpu"], saved["random_state"]["cpu"])
        for part in ("networks", "average"):
            weights = saved["average"] if part == "average" else saved["networks"]["generator"]
            others = other["average"] if part == "average" else other["networks"]["generator"]
            for name, value in weights.items():
                torch.testing.assert_close(others[name], value, rtol=1e-4, atol=1e-5, msg=f"{part} {name}")
        assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in whole.iterdir())


def losses_of(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in out.with_suffix(".jsonl").read_text().splitlines()]


def spread_before(out: Path, **changes: Any) -> None:
    """A checkpoint in `out` as if it came from a run of several processes."""
    trained(out, steps=2)
    saved = torch.load(out / "last.pt")
    torch.save({**saved, **changes}, out / "last.pt")


def test_patches_are_counted_over_all_processes(tmp_path: Path) -> None:
    """Two steps of three processes were trained on six patches, and the length in epochs counts them."""
    spread_before(tmp_path / "run", patches=6, processes=3)
    with remarks() as said:
        trained(tmp_path / "run", steps=4, resume=True)
    assert said == ["the steps of the run were of 3 patches, of 3 processes; from here on they are of 1, of 1"]
    saved = torch.load(tmp_path / "run" / "last.pt")
    assert (saved["step"], saved["patches"], saved["processes"]) == (4, 8, 1)


def test_a_run_keeps_its_steps_with_fewer_processes_and_larger_batches(tmp_path: Path) -> None:
    spread_before(tmp_path / "run", patches=4, processes=2)
    with remarks() as said:
        trained(tmp_path / "run", steps=4, batch_size=2, resume=True)
    assert said == []
    assert torch.load(tmp_path / "run" / "last.pt")["patches"] == 8
    with pytest.raises(CheckpointError, match="batch_size = 2, now it is 3"):
        trained(tmp_path / "run", steps=4, batch_size=3, resume=True)


@pytest.mark.parametrize("changes", [{"patches": -1}, {"patches": "6"}, {"processes": 0}, {"processes": None}])
def test_damaged_counts_of_a_checkpoint_are_named(tmp_path: Path, changes: dict[str, Any]) -> None:
    spread_before(tmp_path / "run", **changes)
    with pytest.raises(CheckpointError, match=f"{next(iter(changes))} is not what it should be"):
        trained(tmp_path / "run", steps=4, resume=True)


def test_a_checkpoint_from_before_several_processes_was_of_one(tmp_path: Path) -> None:
    trained(tmp_path / "run", steps=2, batch_size=2)
    saved = torch.load(tmp_path / "run" / "last.pt")
    torch.save({k: v for k, v in saved.items() if k not in ("patches", "processes")}, tmp_path / "run" / "last.pt")
    trained(tmp_path / "run", steps=4, batch_size=2, resume=True)
    assert torch.load(tmp_path / "run" / "last.pt")["patches"] == 8
