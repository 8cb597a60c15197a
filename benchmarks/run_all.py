"""Measures the speed of this version, and writes it into docs/measurements/runs/ and docs/measurements/speed.md.

    python -m benchmarks.run_all --quick               # about five minutes on two cores
    python -m benchmarks.run_all --full                # hours; needs MONAI, napari and a display (or xvfb-run)
    python -m benchmarks.run_all --full --only training

Run it on a machine that does nothing else. What others take of the processors before a benchmark starts stands beside
its figures, and so do the load, the versions, the processor and its peak before and after: the rate of a matrix product
and of a sum. A benchmark that was measured replaces its earlier entry in ``quick.json`` or ``full.json``. --tiny, which
needs --out, only tries out whether everything runs. Benchmarks that need data sets and hours of training have commands
of their own. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import torch

from benchmarks.backends import matmul_flops
from benchmarks.kept_runs import BENCHMARKS, ROOT, RUNS, SCRATCH, Entry, code_of, current_releases, kept
from benchmarks.results import processor
from benchmarks.speed_page import write_page
from benchmarks.training import memory_rate
from pix2pix_training.atomic import atomic_write

PACKAGES = ("napari-pix2pix", "torch", "numpy", "openvino", "monai", "napari")


def measured(name: str, kind: str) -> Entry:
    """Run a benchmark: what it found, on what, and how busy that was."""
    benchmark = BENCHMARKS[name]
    before = _state()
    with TemporaryDirectory() as results, TemporaryDirectory() as scratch:
        options = [scratch if option == SCRATCH else option for option in benchmark.options[kind]]
        command = [sys.executable, "-m", f"benchmarks.{name}", *options, "--out", results]
        if benchmark.needs_display and not {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ):
            command = ["xvfb-run", "-a", "-s", "-screen 0 1920x1080x24", *command]
        print(f"{name}: {' '.join(command)}", flush=True)
        started = time.perf_counter()
        if subprocess.run(command, check=False, cwd=ROOT).returncode:
            sys.exit(f"{name} failed; what was measured before it is kept")
        seconds = time.perf_counter() - started
        figures = json.loads((Path(results) / f"{name}.json").read_text(encoding="utf-8"))
        table = (Path(results) / f"{name}.md").read_text(encoding="utf-8").splitlines()
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "release": current_releases()[0],
        "commit": _commit(),
        "versions": {"python": platform.python_version(), **dict(_versions())},
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": psutil.virtual_memory().total,
        "options": list(benchmark.options[kind]),
        "code": code_of(name),
        "seconds": seconds,
        "before": before,
        "after": _state(),
        "table": table,
        "figures": figures,
    }


def _state() -> dict[str, float]:
    """Of the machine; `busy` is the share of all processors that others take."""
    return {
        "load": os.getloadavg()[0],
        "busy": psutil.cpu_percent(interval=3) / 100,
        "matrix_product_flops": matmul_flops(),
        "sum_bytes_per_second": memory_rate(torch.device("cpu")),
    }


def _versions() -> Iterator[tuple[str, str]]:
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            yield name, version(name)


def _commit() -> str:
    """Empty where this is no clone."""
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_mutually_exclusive_group(required=True)
    for kind in ("quick", "full", "tiny"):
        kinds.add_argument(f"--{kind}", dest="kind", action="store_const", const=kind)
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS)
    parser.add_argument("--out", type=Path, default=RUNS, help="for the figures; the page is written with the default")
    arguments = parser.parse_args()
    if arguments.kind == "tiny" and arguments.out == RUNS:
        parser.error("--tiny measures nothing; try it out with --out FOLDER")
    arguments.only = [name for name in arguments.only or BENCHMARKS if arguments.kind in BENCHMARKS[name].options]
    return arguments


def main() -> None:
    arguments = _parsed()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.only:
        entries = kept(arguments.kind, arguments.out) | {name: measured(name, arguments.kind)}
        with atomic_write(arguments.out / f"{arguments.kind}.json") as partial:
            partial.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    if arguments.out == RUNS:
        write_page()


if __name__ == "__main__":
    main()
