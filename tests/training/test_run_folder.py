"""A run writes into its own folder alone, replaces only what a run wrote, and shares the folder with no other run."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pix2pix_training.choices import Keep
from pix2pix_training.errors import OutputError, Pix2PixError
from pix2pix_training.events import CheckpointSaved, StepDone, Validated
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.locks import locked
from pix2pix_training.model_file import saved_model_step
from pix2pix_training.run_folder import RunFolder
from pix2pix_training.settings_tables import to_toml
from pix2pix_training.training import train
from tests.training.runs import TINY, data_of, striped, trained, usual_data


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def users_files(folder: Path) -> None:
    for name in ("notes.txt", "tensorboard/log.txt", "previews/step_0000001.png", "previews/mine.png", "config.toml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"mine: {name}")


FOREIGN: dict[str, Callable[[Path], None]] = {
    "files of a user": users_files,
    "one file": lambda folder: (folder / "data.csv").write_text("1"),  # type: ignore[dict-item]
    "a hidden folder": lambda folder: (folder / ".git").mkdir(),
    "settings alone": lambda folder: (folder / "config.toml").write_text(to_toml(TINY)),  # type: ignore[dict-item]
    "weights of others": lambda folder: (folder / "last.pt").write_bytes(b"PK weights"),  # type: ignore[dict-item]
    "a model of others": lambda folder: torch.save({"epoch": 3, "model": {}}, folder / "last.pt"),
    "a table": lambda folder: (folder / "metrics.csv").write_text("step,loss\n1,2\n"),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN.keys())
@pytest.mark.parametrize("option", ["plain", "overwrite", "resume"])
def test_a_folder_that_is_not_a_run_is_left_as_it_is(make: Callable[[Path], None], option: str, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    make(out)
    before = everything(out)
    with pytest.raises(OutputError, match=r"is not the folder of a training run, so it is left as it is; give a new"):
        trained(out, overwrite=option == "overwrite", resume=option == "resume")
    assert everything(out) == before


def test_a_run_that_ended_as_it_began_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "run" / "previews").mkdir(parents=True)
    trained(tmp_path / "run")
    assert (tmp_path / "run" / "last.pt").exists()


def test_a_folder_that_cannot_be_prepared_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: RunFolder, _: object) -> None:
        raise Pix2PixError("the disk is full")

    monkeypatch.setattr(RunFolder, "write_config", full)
    with pytest.raises(Pix2PixError, match="the disk is full"):
        trained(tmp_path / "new" / "run")
    assert list(tmp_path.iterdir()) == []


def test_empty_folders_and_what_file_managers_leave_are_no_obstacle(tmp_path: Path) -> None:
    out = tmp_path / "new"
    out.mkdir()
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (out / name).write_text("x")
    trained(out, steps=1)
    assert (out / "model.safetensors").exists()
    assert (out / "Thumbs.db").read_text() == "x"


def test_overwriting_replaces_only_what_a_run_wrote(tmp_path: Path) -> None:
    out = tmp_path / "run"
    trained(out)
    (out / "notes.txt").write_text("mine")
    (out / "previews" / "best one.png").write_text("mine")
    (out / "tensorboard").mkdir()
    (out / "tensorboard" / "events.out.tfevents.1.host.2.0").write_text("ours")
    (out / "tensorboard" / "notes.txt").write_text("mine")
    trained(out, steps=1, overwrite=True)
    assert (out / "notes.txt").read_text() == "mine"
    assert sorted(p.name for p in (out / "previews").iterdir()) == ["best one.png", "step_0000001.png"]
    assert [p.name for p in (out / "tensorboard").iterdir()] == ["notes.txt"]
    assert saved_model_step(out / "model.safetensors") == 1


def test_a_refused_run_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="patience"):
        trained(tmp_path / "deep" / "run", data_of([striped("a", 0)]), patience=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keep", ["best", "last"])
def test_resuming_without_the_checkpoint_is_refused_in_words(keep: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    trained(out, keep=keep)
    (out / "last.pt").unlink()
    before = everything(out)
    with pytest.raises(
        OutputError, match=r"without its checkpoint last\.pt, so it cannot be resumed; restore last\.pt"
    ):
        trained(out, keep=keep, resume=True)
    (out / "model.safetensors").unlink()
    with pytest.raises(OutputError, match=r"holds a run \(metrics\.csv\) without its checkpoint"):
        trained(out, keep=keep, resume=True)
    before.pop("last.pt", None)
    before.pop("model.safetensors")
    assert everything(out) == before


def test_resuming_a_run_that_never_had_a_checkpoint_starts_it(tmp_path: Path) -> None:
    out = tmp_path / "run"
    run = train(TINY, usual_data(), out)
    next(run)
    run.close()
    assert not (out / "last.pt").exists()
    assert trained(out, resume=True)[-1].steps == 4  # type: ignore[union-attr]
    assert trained(tmp_path / "new", resume=True)[-1].steps == 4  # type: ignore[union-attr]


def test_there_is_never_a_model_without_its_checkpoint(tmp_path: Path) -> None:
    """Also where the first validation comes before the first checkpoint is due."""
    out = tmp_path / "run"
    for event in train(TINY, usual_data(), out):
        assert (out / "last.pt").exists() or not (out / "model.safetensors").exists()
        if isinstance(event, Validated):
            break
    late = tmp_path / "late"
    events = trained(late, checkpoint_every=100)
    assert [e.step for e in events if isinstance(e, CheckpointSaved)] == [2, 4]
    assert saved_model_step(late / "model.safetensors") in (2, 4)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_model_that_was_not_written_before_a_kill_is_written_on_resuming(keep: Keep, tmp_path: Path) -> None:
    out = tmp_path / "run"
    config = replace(TINY, keep=keep)
    run = train(config, usual_data(), out)
    for event in run:
        if isinstance(event, StepDone) and event.step == 2:
            run.close()
    model = (out / "model.safetensors").read_bytes()
    (out / "model.safetensors").unlink()
    again = train(config, usual_data(), out, resume=True)
    next(again)
    assert (out / "model.safetensors").read_bytes() == model
    again.close()


def test_a_best_model_that_was_removed_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = tmp_path / "run"
    config = replace(TINY, learning_rate=1e-300, inference=InferenceConfig(statistics="image"), checkpoint_every=5)
    trained(out, config=config, steps=5)  # the first validation is the best
    (out / "model.safetensors").unlink()
    trained(out, config=config, steps=8, resume=True)
    assert (
        "model.safetensors is gone, which was the best model, of step 2; that of step 5 takes its place" in caplog.text
    )
    assert saved_model_step(out / "model.safetensors") in (6, 8)


def test_a_complete_run_whose_model_was_removed_has_one_again(tmp_path: Path) -> None:
    out = tmp_path / "run"
    trained(out, learning_rate=1e-300)
    (out / "model.safetensors").unlink()
    events = trained(out, learning_rate=1e-300, resume=True)
    assert saved_model_step(out / "model.safetensors") == events[-1].model_step  # type: ignore[union-attr]


def test_two_runs_in_one_folder_are_refused_at_once(tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = train(TINY, usual_data(), out)
    next(first)
    before = everything(out)
    started = time.monotonic()
    for resume, overwrite in ((False, False), (True, False), (False, True)):
        with pytest.raises(OutputError, match=r"run is being written by another process"):
            trained(out, resume=resume, overwrite=overwrite)
    assert time.monotonic() - started < 3
    assert everything(out) == before
    list(first)
    assert trained(out, resume=True)[-1].steps == 4  # type: ignore[union-attr]


def test_another_process_that_trains_there_is_noticed_and_its_end_frees_the_folder(tmp_path: Path) -> None:
    out = tmp_path / "run"
    script = textwrap.dedent(f"""
        import sys, time
        from pathlib import Path
        from pix2pix_training.locks import locked
        with locked(Path({str(out)!r}) / ".pix2pix-run.lock", Path({str(out)!r})):
            print("locked", flush=True)
            time.sleep(60)
    """)
    other = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=os.environ)
    assert other.stdout is not None
    try:
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(OutputError, match="another process"):
            trained(out, steps=1)
    finally:
        other.kill()
        other.wait()
    trained(out, steps=1)
    assert not (out / ".pix2pix-run.lock").exists()


def test_a_run_holds_its_folder_while_it_is_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The images may take minutes to look at."""
    out = tmp_path / "run"
    monkeypatch.setattr("pix2pix_training.preparation._SECONDS_BETWEEN_WORDS", 0.0)
    run = train(TINY, usual_data(), out)
    assert type(next(run)).__name__ == "Preparing"
    with pytest.raises(OutputError, match="another process"), locked(out / ".pix2pix-run.lock", out):
        pass
    run.close()
    assert not out.exists()
