"""`train` in several processes, as torchrun starts them: what is said, by whom, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from napari_pix2pix.cli.application import run
from pix2pix_training.distributed import Group, joined
from pix2pix_training.errors import SettingsError
from pix2pix_training.remarks import remarks
from pix2pix_training.training import train
from tests.training.runs import TINY, usual_data

TINY_OPTIONS = ["--patch-size", "32", "--base-width", "4", "--depth", "3"]
SECONDS = 30


@pytest.fixture
def first_of_two(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process is the first of two that torchrun has started, with the store that it keeps for them."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    counts = {"RANK": "0", "LOCAL_RANK": "0", "TORCHELASTIC_RUN_ID": "a", "TORCHELASTIC_RESTART_COUNT": "0"}
    place["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    for name, value in {**place, **counts}.items():
        monkeypatch.setenv(name, value)
    yield
    del store


@pytest.mark.parametrize(
    "arguments", [["info", "model.safetensors"], ["train", "--out", "o", "--compare-presets=5min"]]
)
@pytest.mark.usefixtures("first_of_two")
def test_what_processes_cannot_share_is_refused_once(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The process that ends first says why; those that end after it say nothing."""
    assert run(arguments) == 2
    first = capsys.readouterr().err
    assert first.startswith("error: ")
    assert first.count("\n") == 1
    assert "without torchrun" in first
    assert run(arguments) == 2
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("device", ["cuda:0", "mps", "tpu"])
@pytest.mark.usefixtures("first_of_two")
def test_a_device_that_not_every_process_can_have_is_refused(device: str) -> None:
    with pytest.raises(SettingsError, match="each takes a GPU of its own"), joined(device):
        pass


@pytest.mark.usefixtures("first_of_two")
def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(SettingsError, match="2 processes on this machine and 1 CUDA GPUs"), joined("auto"):
        pass


@pytest.mark.usefixtures("first_of_two")
def test_cores_that_processes_leave_idle_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun gives each process one thread."""
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(os, "cpu_count", lambda: 1000)
    threads = torch.get_num_threads()
    with remarks() as said, joined("auto" if not torch.cuda.is_available() else "cpu") as (group, device):
        assert (group, device) == (Group(rank=0, size=1), "cpu")
    assert said == [
        f"each of 1 processes computes with {threads} threads, and there are 1000 cores; torchrun sets OMP_NUM_THREADS "
        "to 1 unless it is set, for example to 1000"
    ]


def test_compiled_networks_are_for_one_process(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="compile is for a run of one process"):
        next(train(replace(TINY, compile=True), usual_data(), tmp_path / "run", group=Group(rank=0, size=2)))
    assert not (tmp_path / "run").exists()


def command(folders: tuple[Path, Path], out: Path, *more: str, processes: int = 2) -> list[str]:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    inputs = ["--source", str(folders[0]), "--target", str(folders[1]), "--out", str(out)]
    program = ["-m", "napari_pix2pix", "train", *inputs, *TINY_OPTIONS, *more]
    return [sys.executable, *(torchrun if processes > 1 else []), *program]


@contextmanager
def running(folders: tuple[Path, Path], out: Path) -> Iterator[tuple[subprocess.Popen[str], dict[int, psutil.Process]]]:
    """torchrun with a long run that has a checkpoint, and its processes by their number."""
    arguments = command(folders, out, "--steps", "100000", "--checkpoint-every", "3")
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 300
            while not (out / "last.pt").exists():
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.1)
            children = psutil.Process(process.pid).children()
            yield process, {int(child.environ()["RANK"]): child for child in children}
        finally:
            process.kill()


def said_by_us(stderr: str) -> list[str]:
    """Lines after the run has begun, without those of progress and of torchrun."""
    lines = stderr[stderr.index("training for ") :].splitlines()[1:]
    ours = ("error: ", "warning: ", "step ", "model of ", "stopping")
    return [line for line in lines if line.startswith(ours)]


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_run_with_one_line(folders: tuple[Path, Path], tmp_path: Path, rank: int) -> None:
    """And one process goes on from the checkpoint."""
    out = tmp_path / "run"
    with running(folders, out) as (torchrun, processes):
        started = time.monotonic()
        processes[rank].kill()
        stdout, stderr = torchrun.communicate(timeout=2 * SECONDS)
        assert time.monotonic() - started < SECONDS
    assert torchrun.returncode == 1
    assert stdout == ""
    (line,) = said_by_us(stderr)
    assert line.startswith("error: another process of this run has ended or cannot be reached")
    assert ("; the checkpoint of step" in line) == (rank == 1)
    step = torch.load(out / "last.pt")["step"]
    more = ("--steps", str(step + 1), "--checkpoint-every", "3", "--resume", "--json")
    resumed = subprocess.run(command(folders, out, *more, processes=1), capture_output=True, text=True, timeout=300)
    result = json.loads(resumed.stdout)
    assert (result["resumed_from_step"], result["steps"]) == (step, step + 1)
    assert result["warnings"][0].startswith("the steps of the run were of 2 patches, of 2 processes")


@pytest.mark.slow
def test_ctrl_c_stops_all_processes_with_the_state_saved(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """torchrun passes it on; the first process decides, and the last line is its own."""
    out = tmp_path / "run"
    with running(folders, out) as (torchrun, _):
        started = time.monotonic()
        torchrun.send_signal(signal.SIGINT)
        stderr = torchrun.communicate(timeout=2 * SECONDS)[1]
        assert time.monotonic() - started < SECONDS
    step = torch.load(out / "last.pt")["step"]
    assert said_by_us(stderr) == [
        f"error: interrupted; the state of step {step} is kept, --resume goes on from it",
    ]


@pytest.mark.slow
def test_one_process_speaks_and_writes(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """One JSON object and one line of each kind; an output that is taken is refused once."""
    arguments = command(folders, tmp_path / "run", "--steps", "4", "--validate-every", "2", "--json")
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0
    assert json.loads(done.stdout)["steps"] == 4
    assert [line.split()[0] for line in said_by_us(done.stderr)] == ["step", "step", "model"]
    refused = subprocess.run(arguments, capture_output=True, text=True, timeout=300)
    assert refused.returncode == 1
    assert [line for line in refused.stderr.splitlines() if line.startswith("error: ")] == [
        f"error: {tmp_path / 'run'} holds a training run already (last.pt); choose another folder, continue it with "
        "--resume, or replace it with --overwrite"
    ]
    assert json.loads(refused.stdout)["code"] == 2


def test_outside_of_torchrun_its_variables_mean_nothing(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clusters set some of them for other programs."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert "TORCHELASTIC_RUN_ID" not in os.environ
    inputs = ["--source", str(folders[0]), "--target", str(folders[1])]
    assert run(["train", *inputs, "--out", str(tmp_path / "run"), "--steps", "1", *TINY_OPTIONS]) == 0
    assert (tmp_path / "run" / "model.safetensors").exists()
