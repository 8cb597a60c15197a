"""What must hold of a command whatever may have happened to it, measured by the run that nothing happens to."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from pix2pix_training import atomic
from tests.faults.injection import Kill, Kind, changes, injected
from tests.faults.scenarios import Content, Scenario, command, content, placed, tree

_SEVERAL = ("run", "o", "engines", "demo")
"""Outputs that are folders of outputs."""
_OWN_FILES = ("notes.txt", ".notes.pix2pix.txt", "o.txt")
"""Those of a user, beside the output."""


@dataclass(frozen=True)
class Golden:
    """Where a scenario's outputs lie, and what they hold: before, and after an undisturbed run."""

    root: Path
    inputs: dict[str, bytes | None]
    old: Content
    new: Content
    calls: dict[Kind, int]

    @property
    def changes(self) -> int:
        """Number of calls that change something."""
        return changes(self.calls)


def undisturbed(scenario: Scenario, root: Path) -> Golden:
    """The run that nothing happens to."""
    prepare(scenario, root)
    old = content_of(scenario, root)
    with injected(root, None) as calls:
        code, errors = command(scenario.command(root / "in", root / "out"), root / "tmp")
    assert code == 0, errors
    golden = Golden(root, tree(root / "in"), old, content_of(scenario, root), dict(calls.counts))
    assert temporary_files(root) == []
    assert unfinished(root) == []
    return golden


def prepare(scenario: Scenario, root: Path) -> None:
    """Folders for output and temporary files, with what an earlier command has left, and a user's own files."""
    for name in ("out", "tmp"):
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir()
    if scenario.earlier:
        kept = root / f"before {scenario.name}"
        if not kept.exists():
            _give_earlier(scenario, root)
            shutil.copytree(root / "out", kept)
        shutil.copytree(kept, root / "out", dirs_exist_ok=True)
    for name in _OWN_FILES:
        (root / "out" / name).write_text("mine")


def _give_earlier(scenario: Scenario, root: Path) -> None:
    arguments = placed(scenario.earlier, root / "in", root / "out")
    kill = None
    if scenario.is_halfway:
        with injected(root, None) as calls:
            assert command(arguments, root / "tmp")[0] == 0
        kill = Kill(changes(calls.counts) // 2)
        shutil.rmtree(root / "out")
        (root / "out").mkdir()
        assert in_a_fork(lambda: killed_run(arguments, root, kill)) == -signal.SIGKILL
    else:
        assert command(arguments, root / "tmp")[0] == 0


def killed_run(arguments: list[str], root: Path, kill: Kill) -> int:
    with injected(root, kill):
        return command(arguments, root / "tmp")[0]


def in_a_fork(work: Callable[[], int]) -> int:
    """Exit code of `work` in a process of its own; the negative number of a signal that ended it."""
    forked = os.fork()
    if not forked:
        torch.set_num_threads(1)  # a pool of threads does not outlive the fork
        os._exit(work())
    return os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1])


def content_of(scenario: Scenario, root: Path) -> Content:
    return None if scenario.output is None else content(root / "out" / scenario.output)


def temporary_files(root: Path) -> list[str]:
    """Those of this program; PyTorch leaves a folder of its own."""
    return [path.name for path in (root / "tmp").iterdir() if "torchinductor" not in path.name]


def clear_temporary(root: Path) -> None:
    shutil.rmtree(root / "tmp")
    (root / "tmp").mkdir()


def unfinished(root: Path) -> list[str]:
    """What is there only while an output is made."""
    endings = (".pix2pix", ".partial", ".state")
    return [path.name for path in (root / "out").rglob("*") if path.name.endswith(endings)]


def require_one_line(code: int, lines: list[str]) -> None:
    errors = [line for line in lines if line.startswith("error: ")]
    assert code in (0, 1, 2, 130)
    assert len(errors) == (code != 0), lines
    assert not any("Traceback" in line for line in lines), lines
    if code:
        assert lines[-1] == errors[0]


def require_whole(scenario: Scenario, golden: Golden, code: int, *, is_clean: bool = True) -> None:
    """Inputs are as they were, the output is the old one or the new one, and a second try completes it.

    A folder of several outputs, or a run, is somewhere between. `is_clean` means that what is unfinished is removed.
    """
    root = golden.root
    require_nothing_lost(scenario, golden, code)
    left = content_of(scenario, root)
    if is_clean:
        assert temporary_files(root) == []
    clear_temporary(root)
    code, lines = command(scenario.command(root / "in", root / "out", *_second_try(scenario, root, left)), root / "tmp")
    assert code == 0, lines
    assert content_of(scenario, root) == golden.new
    assert atomic._unfinished == {}
    if is_clean:
        assert unfinished(root) == []


def require_nothing_lost(scenario: Scenario, golden: Golden, code: int) -> None:
    """Whatever is a user's own is as it was, and under the name of the output stands the old one or the new one."""
    root = golden.root
    assert tree(root / "in") == golden.inputs
    assert [(root / "out" / name).read_text() for name in _OWN_FILES] == ["mine"] * len(_OWN_FILES)
    left = content_of(scenario, root)
    if scenario.output in _SEVERAL and (code or scenario.skips):
        return
    assert left in ((golden.new,) if code == 0 else (golden.old, golden.new))


def _second_try(scenario: Scenario, root: Path, left: Content) -> list[str]:
    """Options of a command that is given again."""
    if scenario.output == "run":
        if scenario.earlier:
            return []
        return ["--resume"] if (root / "out" / "run" / "last.pt").exists() else ["--overwrite"]
    if left is not None and not scenario.again and not {"--resume", "--shard", "--overwrite"} & {*scenario.arguments}:
        return ["--overwrite"]
    return list(scenario.again) if left is not None or "--overwrite" not in scenario.again else []
