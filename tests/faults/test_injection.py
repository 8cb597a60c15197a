"""Each failure of the disk or of memory, at each point of each command: one line, nothing lost, nothing half-written.

A failure comes at the k-th open, read, write, flush, rename, making or removing of a file, once or for good; files stop
growing at a length; or the process is killed before a call. Afterwards the same command completes the same output. A
few failures are tried at once; ``-m slow -s`` tries each, or as many as the scenario says, drawn from all of them, and
prints how many there were.
"""

from __future__ import annotations

import errno
import random
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pytest
import torch

from tests.faults.injection import Fault, Kill, Kind, Limit, injected, no_file_longer_than
from tests.faults.outcomes import (
    Golden,
    clear_temporary,
    in_a_fork,
    killed_run,
    prepare,
    require_one_line,
    require_whole,
    undisturbed,
)
from tests.faults.scenarios import SCENARIOS, SLOW_SCENARIOS, Scenario, command, tree, write_inputs

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

Thing = TypeVar("Thing")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As in the forks that are killed; with another number of threads a run does not go on bit by bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("faults")
    write_inputs(root / "in")
    return root


def _name(scenario: Scenario) -> str:
    return scenario.name


def drawn(things: Sequence[Thing], most: int, seed: str) -> Sequence[Thing]:
    """All of them, or `most` in their order, the same ones every time."""
    if len(things) <= most:
        return things
    return [things[index] for index in sorted(random.Random(seed).sample(range(len(things)), most))]


def faults(golden: Golden, most: int, seed: str) -> list[Fault]:
    """Failures of every kind; as many of each, where not all are taken."""
    found: list[Fault] = []
    for kind, errors in _ERRORS.items():
        of_kind = [
            Fault(kind, number, error, persistent)
            for number in range(1, golden.calls.get(kind, 0) + 1)
            for error, persistent in errors
        ]
        found += drawn(of_kind, -(-most // len(_ERRORS)), seed)
    return found


def require_no_harm(scenario: Scenario, golden: Golden, fault: Fault) -> None:
    """Let a failure happen; check what is said, what is left, and that it can be gone on with."""
    root = golden.root
    prepare(scenario, root)
    before = tree(root / "out")
    with injected(root, fault) as calls:
        code, lines = command(scenario.command(root / "in", root / "out"), root / "tmp")
    assert calls.is_hit, "the run took another way"
    cannot_remove = fault.kind == "remove" or (fault.kind == "read" and fault.persistent)  # folders are read for it
    if code == 2 and not cannot_remove:
        assert tree(root / "out") == before, "something was started"
    require_one_line(code, lines)
    require_whole(scenario, golden, code, is_clean=not cannot_remove)


def require_no_harm_of_a_kill(scenario: Scenario, golden: Golden, kill: Kill) -> None:
    """The same for a process that is killed."""
    root = golden.root
    prepare(scenario, root)
    arguments = scenario.command(root / "in", root / "out")
    assert in_a_fork(lambda: killed_run(arguments, root, kill)) == -signal.SIGKILL, "the run took another way"
    clear_temporary(root)
    require_whole(scenario, golden, 1)


def require_no_harm_of_a_limit(scenario: Scenario, golden: Golden, limit: Limit) -> None:
    """The same where no file can grow beyond a length."""
    root = golden.root
    prepare(scenario, root)
    with no_file_longer_than(limit.length):
        code, lines = command(scenario.command(root / "in", root / "out"), root / "tmp")
    assert code == 1 or scenario.skips or scenario.earlier, lines  # what is left to write may be short
    require_one_line(code, lines)
    require_whole(scenario, golden, code)


def _all_kills(scenario: Scenario, golden: Golden) -> list[Kill]:
    """None where GDAL makes the file: its threads do not outlive the fork in which a kill happens."""
    if "GeoTIFF" in scenario.name:
        return []
    return [Kill(number) for number in range(1, golden.changes + 1)]


def _all_limits(scenario: Scenario, golden: Golden) -> list[Limit]:
    """Lengths that are too small for some file of the output."""
    assert scenario.output is not None
    made = golden.root / "out" / scenario.output
    files = [made] if made.is_file() else [path for path in made.rglob("*") if path.is_file()]
    longest = max(path.stat().st_size for path in files)
    return [Limit(length) for length in sorted({0, 1, longest // 10, longest // 2, longest - 1})]


def try_all(
    require: Callable[[Scenario, Golden, Thing], None], scenario: Scenario, golden: Golden, things: Sequence[Thing]
) -> None:
    """Let each happen; all that goes wrong is told together."""
    violations = []
    for thing in things:
        try:
            require(scenario, golden, thing)
        except Exception:
            violations.append(f"{scenario.name}: {thing}\n{traceback.format_exc(limit=-4)}")
    kinds = ", ".join(f"{count} {kind.__name__}" for kind, count in Counter(map(type, things)).items())
    print(f"\n{scenario.name}: {kinds}, {len(violations)} violations")  # noqa: T201
    assert not violations, "\n".join(violations)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=_name)
def test_a_few_failures(scenario: Scenario, inputs: Path) -> None:
    golden = undisturbed(scenario, inputs)
    try_all(require_no_harm, scenario, golden, drawn(faults(golden, 10**6, ""), _AT_ONCE, scenario.name))
    if scenario.output is not None:
        try_all(require_no_harm_of_a_limit, scenario, golden, _all_limits(scenario, golden)[-2:-1])
        try_all(require_no_harm_of_a_kill, scenario, golden, drawn(_all_kills(scenario, golden), 2, scenario.name))


@pytest.mark.slow
@pytest.mark.parametrize("scenario", [*SCENARIOS, *SLOW_SCENARIOS], ids=_name)
def test_each_failure(scenario: Scenario, inputs: Path) -> None:
    golden = undisturbed(scenario, inputs)
    try_all(require_no_harm, scenario, golden, faults(golden, scenario.most, scenario.name))


@pytest.mark.slow
@pytest.mark.parametrize("scenario", [s for s in (*SCENARIOS, *SLOW_SCENARIOS) if s.output is not None], ids=_name)
def test_each_kill_and_limit(scenario: Scenario, inputs: Path) -> None:
    golden = undisturbed(scenario, inputs)
    try_all(require_no_harm_of_a_limit, scenario, golden, _all_limits(scenario, golden))
    try_all(
        require_no_harm_of_a_kill,
        scenario,
        golden,
        drawn(_all_kills(scenario, golden), scenario.most // 3, scenario.name),
    )
