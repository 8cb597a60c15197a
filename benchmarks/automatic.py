"""Whether ``--backend auto`` is about as fast as the faster of PyTorch and OpenVINO, on the CPU, file to file.

    python -m benchmarks.automatic --folder /scratch [--sizes 1024 4096 8192] [--memory 1GB 2GB 8GB] [--base-width 64]
        [--turns 1] [--out FOLDER]

Translates a grey image of each size with the paper's U-Net (random weights, running statistics) under each --max-memory
through the command line: with PyTorch, with OpenVINO, and with auto, each as a first image (nothing in the cache) and
as a second one; with --turns N all of that N times over, in turns, of which medians count. Seconds are those of the
whole command. Prints auto relative to the better of the others, the first image to their first, the second to their
second. With --out writes FOLDER/automatic.json and FOLDER/automatic.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from benchmarks.gigapixel import write_model, write_source
from benchmarks.results import give_results

BACKENDS = ("torch", "openvino", "auto")
IMAGES = ("first", "second")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One command; `load` is the machine's before it."""

    size: int
    memory: str
    backend: str
    image: str
    seconds: float
    ran: str
    reason: str
    load: float


def measured(folder: Path, size: int, memory: str, backend: str) -> Iterator[Entry]:
    """A first image and a second one."""
    cache = folder / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    command = [sys.executable, "-m", "napari_pix2pix", "translate", str(folder / f"source_{size}.tif"), "--overwrite"]
    command += [
        "--model",
        str(folder / "model.safetensors"),
        "--out",
        str(folder / "translated.tif"),
        "--device",
        "cpu",
    ]
    command += ["--max-memory", memory, "--backend", backend, "--json"]
    for image in IMAGES:
        load, started = os.getloadavg()[0], time.perf_counter()
        done = subprocess.run(
            command, env={**os.environ, "XDG_CACHE_HOME": str(cache)}, check=True, stdout=subprocess.PIPE, text=True
        )
        seconds, report = time.perf_counter() - started, json.loads(done.stdout.splitlines()[-1])
        yield Entry(
            size=size,
            memory=memory,
            backend=backend,
            image=image,
            seconds=seconds,
            ran=report["backend"],
            reason=report["backend_reason"],
            load=load,
        )


def table(entries: list[Entry]) -> Iterator[str]:
    yield "| size | memory | image | PyTorch, s | OpenVINO, s | auto, s | auto relative to the better | auto took |"
    yield "|---|---|---|---|---|---|---|---|"
    for size, memory, image in dict.fromkeys((entry.size, entry.memory, entry.image) for entry in entries):
        alike = [entry for entry in entries if (entry.size, entry.memory, entry.image) == (size, memory, image)]
        plain, compiled, auto = (median(e.seconds for e in alike if e.backend == backend) for backend in BACKENDS)
        times = " | ".join(f"{seconds:.1f}" for seconds in (plain, compiled, auto))
        took = " or ".join(dict.fromkeys(f"{e.ran}: {e.reason}" for e in alike if e.backend == "auto"))
        yield f"| {size} | {memory} | {image} | {times} | {auto / min(plain, compiled):.2f} | {took} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for images and caches")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 4096, 8192], help="sides in pixels")
    parser.add_argument("--memory", nargs="+", default=["1GB", "2GB", "8GB"])
    parser.add_argument("--base-width", type=int, default=64)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--out", type=Path, help="for the results")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    write_model(options.folder / "model.safetensors", options.base_width, "running", 8)
    entries: list[Entry] = []
    for size in options.sizes:
        write_source(options.folder / f"source_{size}.tif", size)
        for memory in options.memory:
            for backend in BACKENDS * options.turns:
                entries += measured(options.folder, size, memory, backend)
                print(
                    *(f"{e.size} {e.memory} {e.backend} {e.image}: {e.seconds:.1f} s" for e in entries[-2:]), sep="\n"
                )
    give_results(options.out, "automatic", [asdict(entry) for entry in entries], "\n".join(table(entries)))


if __name__ == "__main__":
    main()
