"""Seconds, memory and seam error of ways to translate one large image, with the paper's U-Net-256 on the CPU.

    python benchmarks/translation.py --out FOLDER [--size 4096] [--repeats 3] [--threads N]
        [--max-memory 2GB ...] [--only exact monai-512-50 ...] [--statistics running image]

Contenders: the plain forward pass over the whole image; this project's exact scheme, once for each --max-memory, and
its blend; tiles with the full halo; MONAI's sliding window (``pip install monai``) of 256 and 512 px at 25 % and 50 %
overlap. The network has random weights, norm parameters and running statistics, so that no error hides.

Each run has a process of its own; memory is the growth of its peak resident set once the network is loaded and warm.
All run in float32 on the same number of threads, and each uses the memory format, and number of windows per call, that
was fastest for it on a small image beforehand. The contenders take turns, --repeats times; seconds are medians, ratios
are medians of the ratios within a turn. Linux only. Writes FOLDER/translation.json and FOLDER/translation.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.arguments import size_argument
from benchmarks.contenders import Variant, randomized_model
from benchmarks.measured_run import FOREIGN, IMAGE_FILE, MODEL_FILE, Job, Measurement
from benchmarks.results import give_results
from pix2pix_training.choices import Statistics
from pix2pix_training.model_file import save_model
from pix2pix_training.network_config import GeneratorConfig

CHANNELS = 3
TUNING_PX = 1024
TRIALS = 2
"""Runs of each variant on an image of TUNING_PX, in turns, of which the fastest counts."""
CONTENDERS = ("whole", "exact", "blend", *(name for name in FOREIGN if name != "whole"))
LABELS = {
    "whole": "whole image",
    "exact": "exact (ours)",
    "blend": "blend (ours), 512 px, 25 % overlap",
    "halo": "tiles of 1024 px with a halo of 512 px",
    **{f"monai-{px}-{share}": f"MONAI, {px} px, {share} % overlap" for px in (256, 512) for share in (25, 50)},
}
VARIANTS = {
    "whole": [Variant(channels_last=last) for last in (True, False)],
    "halo": [Variant(channels_last=last) for last in (True, False)],
    **{
        name: [Variant(channels_last=last, batch=batch) for last in (True, False) for batch in (1, 4)]
        for name in FOREIGN
        if name.startswith("monai")
    },
}
"""What is tried; this project's own schemes always run channels_last, tile by tile."""


@dataclass(frozen=True)
class SeamError:
    """Difference from the whole image in [-1, 1], and the share of pixels that differ once they have 8 bits."""

    maximum: float
    mean: float
    changed_pixels: float


@dataclass
class Entry:
    """One row of the table and what was measured for it, a measurement per turn."""

    contender: str
    statistics: Statistics
    max_memory: int
    variant: Variant
    runs: list[Measurement] = field(default_factory=list)
    error: SeamError | None = None

    @property
    def label(self) -> str:
        name = LABELS[self.contender]
        return f"{name}, {self.max_memory / 1e9:g} GB" if self.contender == "exact" else name

    @property
    def plan(self) -> dict[str, Any]:
        plan = self.runs[0].plan
        assert plan is not None
        return plan


def benchmark(arguments: argparse.Namespace, folder: Path) -> list[Entry]:
    entries = _entries(arguments)
    _make_inputs(folder, arguments.size, arguments.base_width)
    for entry in entries:
        entry.variant = _fastest_variant(entry, folder, arguments.threads, min(TUNING_PX, arguments.size))
    for turn in range(arguments.repeats):
        for entry in entries:
            run = _measured(entry, folder, entry.variant, arguments.threads, arguments.size)
            entry.runs.append(run)
            print(f"{turn + 1}: {entry.label}, {entry.statistics}: {_said(run, arguments.size)}", flush=True)
            if turn == 0:
                entry.error = _seam_error(_output(folder, "whole", entry.statistics), _output_of(folder, entry))
                if entry.contender != "whole":
                    _output_of(folder, entry).unlink()
    return entries


def _entries(arguments: argparse.Namespace) -> list[Entry]:
    """The whole image first, as the others are held against it; foreign windows with running statistics only."""
    chosen = [name for name in CONTENDERS if name == "whole" or name in arguments.only]
    return [
        Entry(name, statistics, memory, Variant())
        for statistics in arguments.statistics
        for name in chosen
        if statistics == "running" or name in ("whole", "exact")
        for memory in (arguments.max_memory if name == "exact" else arguments.max_memory[:1])
    ]


def _make_inputs(folder: Path, size: int, base_width: int) -> None:
    config = GeneratorConfig(source_channels=CHANNELS, target_channels=CHANNELS, base_width=base_width, depth=8)
    save_model(randomized_model(config), folder / MODEL_FILE)
    np.save(folder / IMAGE_FILE, _image(size))


def _image(size: int) -> NDArray[np.uint8]:
    """Noise on a gradient, so that parts of it differ in their statistics."""
    ramp = np.linspace(0, 127, size)[:, None] * np.linspace(0.2, 1, size)[None]
    noise = np.random.default_rng(0).integers(0, 128, (CHANNELS, size, size), np.uint8)
    return noise + ramp.astype(np.uint8)


def _fastest_variant(entry: Entry, folder: Path, threads: int, size: int) -> Variant:
    variants = VARIANTS.get(entry.contender, [Variant()])
    if len(variants) == 1:
        return variants[0]
    turns = [[_measured(entry, folder, v, threads, size).seconds for v in variants] for _ in range(TRIALS)]
    seconds = np.min(turns, axis=0)
    best = variants[int(np.argmin(seconds))]
    print(f"{entry.label}, {entry.statistics}: {best} of {[round(float(s), 2) for s in seconds]} s", flush=True)
    return best


def _measured(entry: Entry, folder: Path, variant: Variant, threads: int, size: int) -> Measurement:
    job = Job(
        contender=entry.contender,
        statistics=entry.statistics,
        folder=str(folder),
        size=size,
        threads=threads,
        variant=variant,
        max_memory=entry.max_memory,
        output=str(_output_of(folder, entry)),
    )
    command = [sys.executable, "-m", "benchmarks.measured_run", json.dumps(asdict(job))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Measurement(**json.loads(done.stdout.splitlines()[-1]))


def _output_of(folder: Path, entry: Entry) -> Path:
    return _output(folder, entry.contender, entry.statistics)


def _output(folder: Path, contender: str, statistics: Statistics) -> Path:
    return folder / f"{contender}-{statistics}.float32"


def _seam_error(expected: Path, found: Path) -> SeamError:
    """Compares two raw files of float32 in [-1, 1], a band of rows of all channels at a time."""
    values = [np.memmap(path, np.float32, "r").reshape(CHANNELS, -1) for path in (expected, found)]
    pixels = values[0].shape[1]
    maximum, total, changed = 0.0, 0.0, 0
    for start in range(0, pixels, 1 << 20):
        right, ours = (v[:, start : start + (1 << 20)] for v in values)
        difference = np.abs(right - ours)
        maximum = max(maximum, float(difference.max()))
        total += float(difference.sum(dtype=np.float64))
        changed += int((_eight_bits(right) != _eight_bits(ours)).any(axis=0).sum())
    return SeamError(maximum, total / (CHANNELS * pixels), changed / pixels)


def _eight_bits(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    eight_bits: NDArray[np.uint8] = np.rint((values + 1) * 127.5).astype(np.uint8)
    return eight_bits


def _said(run: Measurement, size: int) -> str:
    return (
        f"{run.seconds / _megapixels(size):.2f} s/Mpx, {run.memory_bytes / 2**20:.0f} MiB, "
        f"{run.cores:.2f} cores, load {run.load:.1f}"
    )


def _megapixels(size: int) -> float:
    return size**2 / 1e6


def comparison_table(entries: Sequence[Entry], size: int) -> str:
    """Times, memory and errors of all contenders; ratios to the whole image on the same statistics."""
    lines = [
        f"| scheme, {size} x {size} px | statistics | s / Mpx | x whole | peak memory, MiB | x whole | largest error "
        "| mean error | 8-bit pixels changed | CPU s / Mpx | cores used |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for entry in entries:
        reference = _whole_of(entries, entry.statistics)
        error = entry.error
        assert error is not None
        lines.append(
            f"| {entry.label} | {entry.statistics} | {_seconds(entry) / _megapixels(size):.2f} "
            f"| {_time_ratio(entry, reference):.2f} | {_memory(entry) / 2**20:.0f} "
            f"| {_memory(entry) / _memory(reference):.2f} | {error.maximum:.1e} | {error.mean:.1e} "
            f"| {error.changed_pixels:.4%} | {median(run.cpu_seconds for run in entry.runs) / _megapixels(size):.2f} "
            f"| {median(run.cores for run in entry.runs):.2f} |"
        )
    return "\n".join(lines)


def cost_table(entries: Sequence[Entry], size: int) -> str:
    """What the planner predicted for the exact scheme, against what was measured."""
    lines = [
        f"| `--max-memory`, {size} x {size} px | statistics | plan | memory, MiB: predicted | measured "
        "| arithmetic: predicted | time: measured |",
        "|---|---|---|---|---|---|---|",
    ]
    for entry in entries:
        if entry.contender == "exact":
            reference = _whole_of(entries, entry.statistics)
            lines.append(
                f"| {entry.max_memory / 1e9:g} GB | {entry.statistics} | {_plan_in_words(entry.plan)} "
                f"| {entry.plan['working_set_bytes'] / 2**20:.0f} | {_memory(entry) / 2**20:.0f} "
                f"| {entry.plan['mac_overhead']:.3f} x | {_time_ratio(entry, reference):.2f} x |"
            )
    return "\n".join(lines)


def _plan_in_words(plan: dict[str, Any]) -> str:
    levels = ", ".join(str(split["stop"]) for split in plan["splits"])
    disk = f", {plan['plane_bytes'] / 2**20:.0f} MiB of planes on disk too" if plan["planes_on_disk"] else ""
    return f"tile {plan['tile']}, split at {levels}{disk}"


def _whole_of(entries: Sequence[Entry], statistics: Statistics) -> Entry:
    return next(e for e in entries if e.contender == "whole" and e.statistics == statistics)


def _seconds(entry: Entry) -> float:
    return median(run.seconds for run in entry.runs)


def _memory(entry: Entry) -> float:
    return median(run.memory_bytes for run in entry.runs)


def _time_ratio(entry: Entry, reference: Entry) -> float:
    return median(a.seconds / b.seconds for a, b in zip(entry.runs, reference.runs, strict=True))


def _ratio_lines(entries: Sequence[Entry]) -> str:
    """How much longer the others take than the exact scheme on running statistics."""
    ours = next((e for e in entries if e.contender == "exact" and e.statistics == "running"), None)
    others = [e for e in entries if e.contender not in ("exact", "whole")] if ours is not None else []
    return "\n".join(f"- {e.label}: {_time_ratio(e, ours):.2f} x the time of the exact scheme" for e in others if ours)


def _as_dict(entries: Sequence[Entry], arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "size": arguments.size,
        "base_width": arguments.base_width,
        "threads": arguments.threads,
        "torch": torch.__version__,
        "processor_cores": os.cpu_count(),
        "entries": [{"label": entry.label, **asdict(entry)} for entry in entries],
    }


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--base-width", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--max-memory", type=size_argument, nargs="+", default=[size_argument("2GB")])
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--statistics", nargs="+", choices=["running", "image"], default=["running", "image"])
    arguments = parser.parse_args()
    if arguments.size % 256 or arguments.size <= 0:
        parser.error("--size must be a multiple of 256, so that no contender pads")
    if any(name.startswith("monai") for name in arguments.only) and importlib.util.find_spec("monai") is None:
        parser.error("MONAI is not installed; pip install monai, or leave it out with --only")
    return arguments


def main() -> None:
    arguments = _parsed()
    with TemporaryDirectory() as folder:
        entries = benchmark(arguments, Path(folder))
    tables = (comparison_table(entries, arguments.size), _ratio_lines(entries), cost_table(entries, arguments.size))
    text = "\n\n".join(table for table in tables if table)
    give_results(arguments.out, "translation", _as_dict(entries, arguments), text)


if __name__ == "__main__":
    main()
