"""Ctrl-C, SIGTERM and SIGHUP, once and twice: one line, exit code 130, nothing left behind, at every point."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_pix2pix.cli.application import run
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.model_file import save_model
from pix2pix_training.network_config import GeneratorConfig
from tests.product.translation.conftest import random_model

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals for other processes")

_PROGRAM = Path(__file__).with_name("interrupted_run.py")
_SIDE = 600


@pytest.fixture(autouse=True)
def a_terminal_may_close() -> Iterator[None]:
    """As if the tests themselves were not run with nohup, which programs inherit and respect."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images and a model."""
    folder = tmp_path_factory.mktemp("material")
    rng = np.random.default_rng(0)
    for kind in ("source", "target"):
        (folder / kind).mkdir()
        for number in range(2):
            tifffile.imwrite(folder / kind / f"{number}.tif", rng.integers(0, 256, (64, 64), np.uint8))
    tifffile.imwrite(folder / "image.tif", rng.integers(0, 256, (_SIDE, _SIDE), np.uint8))
    config = GeneratorConfig(base_width=4, depth=5, source_channels=1, target_channels=1)
    save_model(random_model(config, InferenceConfig()), folder / "model.safetensors")
    return folder


def commands(material: Path, out: Path) -> dict[str, list[str]]:
    """Arguments of each command; those that can take long do."""
    tiny = ["--patch-size", "32", "--base-width", "4", "--depth", "3"]
    model, image = str(material / "model.safetensors"), str(material / "image.tif")
    pairs = ["--source", str(material / "source"), "--target", str(material / "target")]
    return {
        "train": ["train", *pairs, "--out", str(out / "run"), "--steps", "1000000", "--validate-every", "9", *tiny],
        "translate": ["translate", image, "--model", model, "--out", str(out / "o.tif"), "--tile", "64"],
        "evaluate": ["evaluate", "--model", model, "--source", image, "--target", image],
        "export": ["export", model, "--out", str(out / "m.onnx"), "--format", "onnx"],
        "export state": ["export", model, "--out", str(out / "m.pth"), "--format", "state-dict"],
        "import-weights": ["import-weights", str(material / "none.pth"), "--out", str(out / "m.safetensors")],
        "compile": ["compile", model, "--architectures", "sm86", "--out", str(out / "engines"), "--size", "256"],
        "demo": ["demo", "--out", str(out / "demo")],
        "doctor": ["doctor"],
        "info": ["info", model],
    }


def interrupted(moment: str, signals: str, arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command with temporary files in `folder`/tmp."""
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, str(_PROGRAM), moment, signals, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "TMPDIR": str(temporary)},
    )


def require_one_line(done: subprocess.CompletedProcess[str], folder: Path) -> str:
    """The last line; nothing else tells of trouble, and nothing unfinished is left."""
    lines = done.stderr.splitlines()
    assert done.returncode == 130, done.stderr
    assert lines[-1].startswith("error: interrupted")
    assert "Traceback" not in done.stderr + done.stdout
    assert sum(line.startswith("error") for line in lines) == 1
    temporary = [path.name for path in (folder / "tmp").iterdir() if "torchinductor" not in path.name]
    assert temporary == []
    assert [path for path in folder.rglob("*") if path.name.endswith(".pix2pix")] == []
    return lines[-1]


@pytest.mark.parametrize(
    "command, moment, words",
    [
        ("doctor", "import torch.nn", "error: interrupted"),
        ("info", "import numpy", "error: interrupted"),
        ("train", "import typer.main", "error: interrupted"),
        ("export state", "call pix2pix_training.model_file:load_model", "error: interrupted; nothing was written"),
        ("evaluate", "call pix2pix_training.atomic:_publish", "error: interrupted"),
    ],
)
@pytest.mark.parametrize("signals", ["SIGINT,SIGINT", "SIGTERM"])
def test_a_command_ends_at_once_with_one_line(
    command: str, moment: str, words: str, signals: str, material: Path, tmp_path: Path
) -> None:
    done = interrupted(moment, signals, commands(material, tmp_path)[command], tmp_path)
    assert require_one_line(done, tmp_path) == words


@pytest.mark.parametrize("signals", ["SIGINT", "SIGHUP,SIGHUP", "SIGTERM"])
def test_training_that_is_asked_to_stop_keeps_its_state(signals: str, material: Path, tmp_path: Path) -> None:
    arguments = commands(material, tmp_path)["train"]
    done = interrupted("call pix2pix_training.run_folder:RunFolder.write_preview", signals, arguments, tmp_path)
    assert "the state of step 9 is kept, --resume goes on from it" in require_one_line(done, tmp_path)
    assert "stopping; press Ctrl-C again to stop at once" in done.stderr
    assert (tmp_path / "run" / "last.pt").exists()


def test_training_that_is_stopped_at_once_says_what_is_kept(material: Path, tmp_path: Path) -> None:
    arguments = commands(material, tmp_path)["train"]
    done = interrupted("call pix2pix_training.training_step:TrainingStep.run", "SIGINT,SIGINT", arguments, tmp_path)
    assert "nothing was trained" in require_one_line(done, tmp_path)
    assert not (tmp_path / "run" / "last.pt").exists()


@pytest.mark.parametrize(
    ("moment", "signals", "regions"),
    [
        ("begin", "SIGINT,SIGINT", 0),
        ("record", "SIGINT", 1),
        ("record", "SIGTERM", 1),
        ("finish", "SIGINT,SIGINT", 4),
    ],
)
def test_translation_that_is_stopped_says_what_is_kept_and_goes_on(
    moment: str, signals: str, regions: int, material: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*commands(material, tmp_path)["translate"], "--scheme", "exact", "--region", "512", "--json"]
    done = interrupted(
        f"call napari_pix2pix.formats.partial_output:PartialOutput.{moment}", signals, arguments, tmp_path
    )
    kept = f"{regions} of 4 regions of {tmp_path / 'o.tif'} are done; --resume goes on from there"
    words = f"interrupted; {kept if regions else 'nothing was written'}"
    assert require_one_line(done, tmp_path) == f"error: {words}"
    assert json.loads(done.stdout) == {"error": words, "code": 130, "warnings": []}
    assert not (tmp_path / "o.tif").exists()
    assert run([*arguments, "--resume"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (report["tiles_reused"] > 0) == (regions > 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.tif", "tmp"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100))
def test_signals_at_random_moments(seed: int, material: Path, tmp_path: Path) -> None:
    rng = random.Random(seed)
    arguments = rng.choice([*commands(material, tmp_path).items()])[1]
    signals = rng.choice(["SIGINT", "SIGINT,SIGINT", "SIGTERM", "SIGTERM,SIGINT", "SIGHUP", "SIGTERM,SIGTERM"])
    done = interrupted(f"after {rng.uniform(0.05, 8)}", signals, arguments, tmp_path)
    if done.returncode in (0, 2):  # it was over before
        return
    require_one_line(done, tmp_path)


def child(program: str, folder: Path, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """A program that says "ready" when it is to be interrupted."""
    lines = "from napari_pix2pix.cli import interrupts\nimport os, pathlib, signal, sys, threading, time\n"
    return subprocess.Popen(
        [sys.executable, "-c", lines + textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, **(environment or {})},
    )


def when_ready(process: subprocess.Popen[str], *signals: signal.Signals) -> tuple[int, str]:
    """Exit code and stderr after signals, a moment apart."""
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    for number in signals:
        time.sleep(0.1)
        process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    return process.returncode, errors


def test_a_second_signal_ends_work_that_no_signal_reaches(tmp_path: Path) -> None:
    """The main thread computes for minutes in a library, and unfinished files are there."""
    program = """
        import hashlib
        from pix2pix_training.atomic import atomic_write, temporary_folder
        with interrupts.heard(), interrupts.stoppable(lambda line: print(line, file=sys.stderr)):
            interrupts.keeps("7 of 9 are kept")
            with atomic_write(pathlib.Path("out.bin")) as partial, temporary_folder(pathlib.Path.cwd()):
                partial.touch()
                print("ready", flush=True)
                hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
    """
    code, errors = when_ready(child(program, tmp_path), signal.SIGINT, signal.SIGINT)
    assert code == 130
    assert errors.splitlines() == [
        "stopping; press Ctrl-C again to stop at once",
        "error: interrupted; 7 of 9 are kept",
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_terminal_that_closes_twice_asks_once(tmp_path: Path) -> None:
    program = """
        with interrupts.heard(), interrupts.stoppable(str) as cancel:
            print("ready", flush=True)
            assert cancel.wait(20)
            time.sleep(0.5)
        interrupts.leave(3)
    """
    assert when_ready(child(program, tmp_path), signal.SIGHUP, signal.SIGHUP) == (3, "")


def test_nohup_is_respected(tmp_path: Path) -> None:
    program = """
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with interrupts.heard():
            print("ready", flush=True)
            time.sleep(0.5)
    """
    assert when_ready(child(program, tmp_path), signal.SIGHUP) == (0, "")


def test_a_signal_to_a_forked_child_is_not_its_parents(tmp_path: Path) -> None:
    program = """
        with interrupts.heard():
            forked = os.fork()
            if not forked:
                time.sleep(20)
            os.kill(forked, signal.SIGTERM)
            assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == -signal.SIGTERM
            time.sleep(0.2)
            print("ready", flush=True)
    """
    assert when_ready(child(program, tmp_path)) == (0, "")


def test_a_thread_that_is_still_at_work_does_not_hold_an_interrupted_program(tmp_path: Path) -> None:
    program = """
        with interrupts.heard():
            threading.Thread(target=time.sleep, args=(60,)).start()
            print("ready", flush=True)
        interrupts.leave(130)
    """
    assert when_ready(child(program, tmp_path)) == (130, "")


def test_a_program_that_ends_at_once_says_so_in_an_object(tmp_path: Path) -> None:
    program = """
        interrupts.begin(as_json=True)
        with interrupts.heard():
            interrupts.keeps("7 of 9 are kept")
            print("ready", flush=True)
            time.sleep(20)
    """
    process = child(program, tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    words, errors = process.communicate(timeout=30)
    assert json.loads(words) == {"error": "interrupted; 7 of 9 are kept", "code": 130, "warnings": []}
    assert errors == "error: interrupted; 7 of 9 are kept\n"
