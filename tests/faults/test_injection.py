"""Each failure of the disk or of memory, at each point of each command: one line, nothing lost, nothing half-written.

A failure comes at the k-th open, read, write, flush, rename, making or removing of a file, once or for good; files stop
growing at a length; or the process is killed before a call. Afterwards the same command completes the same output. A
few failures are tried at once, all of them by ``-m slow``.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
import torch

from pix2pix_training import atomic
from tests.faults.injection import Fault, Kill, Kind, changes, injected, no_file_longer_than
from tests.faults.scenarios import (
    SCENARIOS,
    SLOW_SCENARIOS,
    Content,
    Scenario,
    command,
    content,
    tree,
    write_inputs,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds out what is open, and kills, as Linux does")

_ERRORS: dict[Kind, tuple[tuple[int | None, bool], ...]] = {
    "open": ((errno.ENOSPC, True), (errno.EACCES, False), (errno.EIO, False), (None, False)),
    "read": ((errno.EIO, False), (errno.EACCES, True), (None, False)),
    "write": ((errno.ENOSPC, True), (errno.ENOSPC, False), (errno.EIO, False), (None, False)),
    "flush": ((errno.EIO, False), (errno.ENOSPC, True)),
    "rename": ((errno.EACCES, False), (errno.ENOSPC, True), (errno.EIO, False)),
    "make": ((errno.ENOSPC, True), (errno.EACCES, False), (None, False)),
    "remove": ((errno.EACCES, True), (errno.EIO, False)),
}
_AT_ONCE = 4
"""Failures of a scenario that every run of the tests tries."""
_SEVERAL = ("run", "o", "engines")
"""Outputs that are folders of outputs."""

Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Golden:
    """Where a scenario's outputs lie, and what they hold: before, and after an undisturbed run."""

    root: Path
    inputs: dict[str, bytes | None]
    old: Content
    new: Content
    calls: dict[Kind, int]


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("faults")
    write_inputs(root / "in")
    return root


def undisturbed(scenario: Scenario, root: Path) -> Golden:
    """The run that nothing happens to."""
    _prepare(scenario, root)
    old = _content(scenario, root)
    with injected(root, None) as calls:
        code, errors = command(scenario.command(root / "in", root / "out"), root / "tmp")
    assert code == 0, errors
    golden = Golden(root, tree(root / "in"), old, _content(scenario, root), dict(calls.counts))
    assert temporary_files(root) == []
    return golden


def _prepare(scenario: Scenario, root: Path) -> None:
    """Empty folders for output and temporary files; an older output where it is to be replaced."""
    for name in ("out", "tmp"):
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir()
    if not scenario.replaces:
        return
    kept = root / f"old {scenario.name}"
    if not kept.exists():
        arguments = scenario.command(root / "in", kept)
        if "--steps" in arguments:
            arguments[arguments.index("--steps") + 1] = "1"
        image = root / "in" / "image.tif"
        arguments = [str(root / "in" / "source" / "0.tif") if text == str(image) else text for text in arguments]
        assert command(arguments, root / "tmp")[0] == 0
    shutil.copytree(kept, root / "out", dirs_exist_ok=True)


def _content(scenario: Scenario, root: Path) -> Content:
    return None if scenario.output is None else content(root / "out" / scenario.output)


def temporary_files(root: Path) -> list[str]:
    """Those of this program; PyTorch leaves a folder of its own."""
    return [path.name for path in (root / "tmp").iterdir() if "torchinductor" not in path.name]


def _name(scenario: Scenario) -> str:
    return scenario.name


def faults(golden: Golden) -> Iterator[Fault]:
    for kind, errors in _ERRORS.items():
        for number in range(1, golden.calls.get(kind, 0) + 1):
            for error, persistent in errors:
                yield Fault(kind, number, error, persistent)


def require_no_harm(scenario: Scenario, golden: Golden, fault: Fault) -> None:
    """Let a failure happen; check what is said, what is left, and that it can be gone on with."""
    root = golden.root
    _prepare(scenario, root)
    before = tree(root / "out")
    with injected(root, fault) as calls:
        code, lines = command(scenario.command(root / "in", root / "out"), root / "tmp")
    assert calls.is_hit, "the run took another way"
    cannot_remove = fault.kind == "remove" or (fault.kind == "read" and fault.persistent)  # folders are read for it
    if code == 2 and not cannot_remove:
        assert tree(root / "out") == before, "something was started"
    _require_one_line(code, lines)
    _require_whole(scenario, golden, code, is_clean=not cannot_remove)


def require_no_harm_of_a_kill(scenario: Scenario, golden: Golden, kill: Kill) -> None:
    """The same for a process that is killed."""
    root = golden.root
    _prepare(scenario, root)
    forked = os.fork()
    if not forked:
        torch.set_num_threads(1)  # a pool of threads does not outlive the fork
        with injected(root, kill):
            code, _ = command(scenario.command(root / "in", root / "out"), root / "tmp")
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == -signal.SIGKILL, "the run took another way"
    shutil.rmtree(root / "tmp")
    (root / "tmp").mkdir()
    _require_whole(scenario, golden, 1, is_clean=True)


def require_no_harm_of_a_limit(scenario: Scenario, golden: Golden, length: int) -> None:
    """The same where no file can grow beyond a length."""
    root = golden.root
    _prepare(scenario, root)
    with no_file_longer_than(length):
        code, lines = command(scenario.command(root / "in", root / "out"), root / "tmp")
    assert code == 1, lines
    _require_one_line(code, lines)
    _require_whole(scenario, golden, code, is_clean=True)


def _require_one_line(code: int, lines: list[str]) -> None:
    errors = [line for line in lines if line.startswith("error: ")]
    assert code in (0, 1, 2)
    assert len(errors) == (code != 0), lines
    assert not any("Traceback" in line for line in lines)
    if code:
        assert lines[-1] == errors[0]


def _require_whole(scenario: Scenario, golden: Golden, code: int, *, is_clean: bool) -> None:
    """Inputs are as they were, the output is the old one or the new one, and a second try completes it.

    A folder of several outputs, or a run, is somewhere between. `is_clean` means that what is unfinished is removed.
    """
    root = golden.root
    assert tree(root / "in") == golden.inputs
    left = _content(scenario, root)
    if code == 0:
        assert left == golden.new
    elif scenario.output not in _SEVERAL:
        assert left in (golden.old, golden.new)
    if is_clean:
        assert temporary_files(root) == []
    shutil.rmtree(root / "tmp")
    (root / "tmp").mkdir()
    code, lines = command(scenario.command(root / "in", root / "out", *_second_try(scenario, root, left)), root / "tmp")
    assert code == 0, lines
    assert _content(scenario, root) == golden.new
    assert atomic._unfinished == {}
    if is_clean:
        endings = (".pix2pix", ".partial", ".state")
        assert [path.name for path in (root / "out").rglob("*") if path.name.endswith(endings)] == []


def _second_try(scenario: Scenario, root: Path, left: Content) -> list[str]:
    """Options of a command that is given again."""
    if scenario.output == "run":
        if (root / "out" / "run" / "last.pt").exists() and not scenario.replaces:
            return ["--resume"]
        return ["--overwrite"] if left else []
    if left is not None and not scenario.again and "--resume" not in scenario.arguments:
        return ["--overwrite"]
    return list(scenario.again)


def _few(things: Sequence[Thing], count: int = _AT_ONCE) -> Sequence[Thing]:
    return things[:: max(1, len(things) // count)][:count]


def _all_kills(golden: Golden) -> list[Kill]:
    return [Kill(number) for number in range(1, changes(golden.calls) + 1)]


def _all_limits(golden: Golden) -> list[int]:
    """Lengths that are too small for some file of the output."""
    longest = max(path.stat().st_size for path in (golden.root / "out").rglob("*") if path.is_file())
    return sorted({0, 1, longest // 10, longest // 2, longest - 1})


def _try(require: Callable[[Scenario, Golden, Thing], None], scenario: Scenario, golden: Golden, what: Thing) -> None:
    try:
        require(scenario, golden, what)
    except BaseException as error:
        error.add_note(f"{scenario.name}: {what}")
        raise


@pytest.mark.parametrize("scenario", SCENARIOS, ids=_name)
def test_a_few_failures(scenario: Scenario, inputs: Path) -> None:
    golden = undisturbed(scenario, inputs)
    lengths = _all_limits(golden) if scenario.output is not None else []
    for fault in _few(list(faults(golden))):
        _try(require_no_harm, scenario, golden, fault)
    if scenario.output is not None:
        _try(require_no_harm_of_a_limit, scenario, golden, lengths[-2])
        for kill in _few(_all_kills(golden), 2):
            _try(require_no_harm_of_a_kill, scenario, golden, kill)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", [*SCENARIOS, *SLOW_SCENARIOS], ids=_name)
def test_each_failure(scenario: Scenario, inputs: Path) -> None:
    golden = undisturbed(scenario, inputs)
    for fault in faults(golden):
        _try(require_no_harm, scenario, golden, fault)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", [s for s in (*SCENARIOS, *SLOW_SCENARIOS) if s.output is not None], ids=_name)
def test_each_kill_and_limit(scenario: Scenario, inputs: Path) -> None:
    golden = undisturbed(scenario, inputs)
    for length in _all_limits(golden):
        _try(require_no_harm_of_a_limit, scenario, golden, length)
    for kill in _all_kills(golden):
        _try(require_no_harm_of_a_kill, scenario, golden, kill)
