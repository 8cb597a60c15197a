"""Processor time of the ways through the regions of one image: one process, shards, Dask workers, stopped and resumed.

    python -m benchmarks.regions --folder /scratch --size 4096 --region 1024 [--out FOLDER]

Makes a grey image of SIZE x SIZE bytes and the paper's U-Net (random weights, running statistics), translates it in
each way through the command line, and prints the processor time of all processes of a way together, relative to that of
one process; then the arithmetic at the default size of regions. Shards run one after the other. Exits with 1 where the
outputs are not the same, byte by byte. With --out writes FOLDER/regions.json and FOLDER/regions.md.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from filecmp import dircmp
from pathlib import Path

from benchmarks.arguments import size_argument
from benchmarks.gigapixel import write_model, write_source
from benchmarks.results import give_results
from napari_pix2pix.formats.output_state import OutputState
from napari_pix2pix.translation.settings import TranslationSettings
from napari_pix2pix.translation.translator import Translator
from pix2pix_training.model_file import load_model

OUTPUT = "translated.ome.zarr"
SHARDS = 4
STOPPED_AT = 0.9
LARGE_SIDES = (16384, 32768, 100_000)


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Seconds of a command: of all processors, its children's too, and of the clock."""

    cpu: float
    wall: float

    def __add__(self, other: Spent) -> Spent:
        return Spent(cpu=self.cpu + other.cpu, wall=self.wall + other.wall)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What all ways have alike."""

    folder: Path
    model: Path
    source: Path
    region: int
    max_memory: int

    def output(self, way: str) -> Path:
        """Where a way writes to; outputs hold their names, so all have the same."""
        return self.folder / way / OUTPUT

    def run(self, way: str, *options: str, stop_at: int | None = None) -> Spent:
        """Run the command; with `stop_at` interrupt it when so many regions are recorded."""
        command = [sys.executable, "-m", "napari_pix2pix", "translate", str(self.source), "--model", str(self.model)]
        command += ["--out", str(self.output(way)), "--region", str(self.region), "--device", "cpu"]
        command += ["--max-memory", str(self.max_memory), "--backend", "torch", *options]
        started = time.perf_counter()
        process = subprocess.Popen(command, stderr=subprocess.PIPE if stop_at is not None else None)
        while stop_at is not None and process.poll() is None:
            if OutputState(self.output(way)).regions_done >= stop_at:
                process.send_signal(signal.SIGINT)
                break
            time.sleep(0.01)
        _, status, usage = os.wait4(process.pid, 0)
        if os.waitstatus_to_exitcode(status) != (0 if stop_at is None else 130):
            sys.exit(f"failed: {' '.join(command)}")
        return Spent(cpu=usage.ru_utime + usage.ru_stime, wall=time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=4096, help="side of the image in pixels")
    parser.add_argument("--region", type=int, default=1024, help="side of a region in pixels")
    parser.add_argument("--folder", type=Path, required=True, help="is emptied of what an earlier run has left")
    parser.add_argument("--out", type=Path, help="for the results")
    parser.add_argument("--max-memory", type=size_argument, default="2GB")
    parser.add_argument("--base-width", type=int, default=64)
    parser.add_argument("--depth", type=int, default=8)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    setup = Setup(
        folder=options.folder,
        model=options.folder / "model.safetensors",
        source=options.folder / f"source_{options.size}.tif",
        region=options.region,
        max_memory=options.max_memory,
    )
    write_model(setup.model, options.base_width, "running", options.depth)
    write_source(setup.source, options.size)
    found = dict(measured(setup, math.ceil(options.size / options.region) ** 2))
    same = {way: _is_same(setup.output("one process"), setup.output(way)) for way in found}
    figures = {way: {**asdict(spent), "same": same[way]} for way, spent in found.items()}
    give_results(options.out, "regions", figures, "\n".join([*table(found, same), "", *arithmetic(setup)]))
    if not all(same.values()):
        sys.exit(1)


def table(found: Mapping[str, Spent], same: Mapping[str, bool]) -> Iterator[str]:
    one = found["one process"]
    yield "| way | processor time, s | relative to one process | wall, s | output |"
    yield "|---|---|---|---|---|"
    for way, spent in found.items():
        verdict = "the same" if same[way] else "**differs**"
        yield f"| {way} | {spent.cpu:.1f} | {spent.cpu / one.cpu:.2f} | {spent.wall:.1f} | {verdict} |"


def measured(setup: Setup, regions: int) -> Iterator[tuple[str, Spent]]:
    for way in ("one process", f"{SHARDS} shards", "Dask local:2", "resumed"):
        shutil.rmtree(setup.folder / way, ignore_errors=True)
    yield "one process", setup.run("one process")
    shards = [setup.run(f"{SHARDS} shards", "--shard", f"{index}/{SHARDS}") for index in range(1, SHARDS + 1)]
    yield f"{SHARDS} shards", sum(shards, Spent(cpu=0, wall=0))
    yield "Dask local:2", setup.run("Dask local:2", "--dask", "local:2")
    setup.run("resumed", stop_at=math.floor(STOPPED_AT * regions))
    print(f"stopped when {OutputState(setup.output('resumed')).regions_done} of {regions} regions were done")
    yield "resumed", setup.run("resumed", "--resume")


def arithmetic(setup: Setup) -> Iterator[str]:
    """At the default size of regions, on images that have several."""
    translator = Translator(load_model(setup.model), TranslationSettings(device="cpu", max_memory=setup.max_memory))
    yield "| image | regions | arithmetic relative to the image at once |"
    yield "|---|---|---|"
    for side in LARGE_SIDES:
        plan = translator.plan((side, side))
        regions = f"{plan.regions} of {plan.region[0]} x {plan.region[1]}"
        yield f"| {side} x {side} | {regions} | {plan.mac_overhead:.3f} |"


def _is_same(left: Path, right: Path) -> bool:
    def same(found: dircmp[str]) -> bool:
        alone = found.left_only or found.right_only or found.funny_files
        equal = all(Path(found.left, f).read_bytes() == Path(found.right, f).read_bytes() for f in found.common_files)
        return not alone and equal and all(map(same, found.subdirs.values()))

    return same(dircmp(left, right))


if __name__ == "__main__":
    main()
