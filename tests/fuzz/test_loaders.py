"""Damaged files of every kind: one line of the program's own, in time, in little memory, and nothing elsewhere.

A hundred inputs of each kind at once, ten thousand by ``-m slow``. The same inputs are drawn every time; for others:
``python tests/fuzz/fuzzing.py FOLDER COUNT SEED LOADER``. A failure prints the damage, which goes to `FOUND` below.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pix2pix_training.errors import Pix2PixError
from tests.fuzz.loaders import LOADERS
from tests.fuzz.mutation import Edit, NodeEdit

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")

_PROGRAM = Path(__file__).with_name("fuzzing.py")
_ROOT = Path(__file__).parents[2]
_SEED = 1
FOUND: tuple[tuple[str, Any], ...] = (
    ("reference weights", [Edit(kind="set", at=300, value=0)]),
    ("model header", [NodeEdit(kind="set", at=6, value=None)]),
    ("gif", [Edit(kind="number", at=6, value=0), Edit(kind="insert", at=6, value=128, width=16)]),
    ("settings", [NodeEdit(kind="set", at=10, value=10**400)]),
    ("checkpoint file", [Edit(kind="flip", at=0)]),
    ("pairs.csv", [Edit(kind="insert", at=14, value=1, width=100)] * 3),
    ("output state", ("o.tif.partial.state/request.json", "tree", [NodeEdit(kind="set", at=0, value=None)])),
    ("output state", ("o.tif.partial", "bytes", [Edit(kind="number", at=195, value=2**31 - 1, width=4)])),
    ("metrics.csv", [Edit(kind="number", at=138, value=0)]),
    ("geotiff", [Edit(kind="number", at=91, value=2**31 - 1, width=4, big=True)]),
    ("ome-zarr", (1, "0/1.0.0", "bytes", [Edit(kind="flip", at=7, value=6)])),
)
"""Damage that a loader did not withstand once."""


def fuzzed(folder: Path, count: int, *names: str) -> dict[str, dict[str, Any]]:
    """What became of the loaders, by name; run in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, str(_PROGRAM), str(folder / "files"), str(count), str(_SEED), *names],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=30 + count * len(names),
    )
    results = {result["loader"]: result for result in map(json.loads, done.stdout.splitlines())}
    last = folder / "files.input"
    assert done.returncode == 0, f"ended by {last.read_text() if last.exists() else 'nothing'}: {done.stderr[-2000:]}"
    return results


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    return fuzzed(tmp_path_factory.mktemp("fuzz"), 100, *LOADERS)


def require_no_violation(result: dict[str, Any], count: int) -> None:
    assert result["violation"] is None, result["violation"] + "\n" + result["traceback"]
    assert result["inputs"] >= count // 2, "hypothesis drew too few different inputs"
    assert result["refused"] < result["inputs"] or count < 1000, "no input got past the first look"


@pytest.mark.parametrize("name", LOADERS)
def test_damaged_files(name: str, results: dict[str, dict[str, Any]]) -> None:
    require_no_violation(results[name], 100)


@pytest.mark.slow
@pytest.mark.parametrize("name", LOADERS)
def test_ten_thousand_damaged_files(name: str, tmp_path: Path) -> None:
    require_no_violation(fuzzed(tmp_path, 10_000, name)[name], 10_000)


@pytest.mark.parametrize("name, damage", FOUND)
def test_damage_that_was_found(name: str, damage: Any, tmp_path: Path) -> None:
    try:
        LOADERS[name].load(tmp_path, damage)
    except Pix2PixError as error:
        assert "\n" not in str(error)
