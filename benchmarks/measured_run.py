"""One contender over one image in a process of its own: seconds, and growth of the resident memory.

Started by ``translation.py``, with a job as JSON in the first argument and the measurement as JSON on the last line of
the output. Linux only, as it reads and resets the peak of the resident set in ``/proc``.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch

from benchmarks.contenders import (
    EXACT_HALO,
    Prepared,
    Variant,
    monai_windows,
    tiled,
    translated,
    translator_of,
    whole,
)
from napari_pix2pix.translation.plan import Plan
from napari_pix2pix.translation.settings import TranslationSettings
from pix2pix_training.array_source import AnyArray
from pix2pix_training.choices import Statistics
from pix2pix_training.model_file import Model, load_model
from pix2pix_training.regions import Region

_WARM_UP_PX = 512

MODEL_FILE, IMAGE_FILE = "model.safetensors", "image.npy"

FOREIGN: Mapping[str, Callable[[Model, Statistics, Variant], Prepared]] = {
    "whole": whole,
    "halo": partial(tiled, tile=1024, halo=EXACT_HALO),
    "monai-256-25": partial(monai_windows, window=256, overlap=0.25),
    "monai-256-50": partial(monai_windows, window=256, overlap=0.5),
    "monai-512-25": partial(monai_windows, window=512, overlap=0.25),
    "monai-512-50": partial(monai_windows, window=512, overlap=0.5),
}
"""Contenders that run a network over tensors; "exact" and "blend" are this project's."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to run.

    Attributes
    ----------
    contender : "exact", "blend", or a key of `FOREIGN`.
    folder : holds model and image.
    size : side of the upper left part of the image that is translated.
    max_memory : of "exact" and "blend", in bytes.
    output : file that takes the output, float32 of shape (C, size, size).
    """

    contender: str
    statistics: Statistics
    folder: str
    size: int
    threads: int
    variant: Variant
    max_memory: int
    output: str


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """`memory_bytes` is the growth of the peak resident set over that with the network loaded and warm.

    `cores` are those that the process had on average; fewer than its threads tell of other work on the machine. `plan`
    is that of "exact" and "blend".
    """

    seconds: float
    cpu_seconds: float
    memory_bytes: int
    load: float
    plan: dict[str, Any] | None

    @property
    def cores(self) -> float:
        return self.cpu_seconds / self.seconds


def measure(job: Job) -> Measurement:
    torch.set_num_threads(job.threads)
    folder = Path(job.folder)
    model = load_model(folder / MODEL_FILE)
    image = np.load(folder / IMAGE_FILE)[:, : job.size, : job.size]
    run, plan = _prepared(job, model)
    load = os.getloadavg()[0]
    with torch.inference_mode(), _PlainFile(Path(job.output), image.shape) as output:
        for _ in run(image[:, :_WARM_UP_PX, :_WARM_UP_PX]):
            pass
        _forget_peak_memory()
        before = _memory_bytes("VmRSS")
        started, cpu_started = time.perf_counter(), time.process_time()
        for region, pixels in run(image):
            output.write(region, pixels)
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    return Measurement(
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        memory_bytes=_memory_bytes("VmHWM") - before,
        load=load,
        plan=None if plan is None else {**asdict(plan), "planes_on_disk": plan.planes_on_disk},
    )


def _prepared(job: Job, model: Model) -> tuple[Prepared, Plan | None]:
    if job.contender in FOREIGN:
        return FOREIGN[job.contender](model, job.statistics, job.variant), None
    settings = TranslationSettings(
        scheme="exact" if job.contender == "exact" else "blend",
        tile=None if job.contender == "exact" else 512,
        statistics=job.statistics,
        max_memory=job.max_memory,
    )
    translator = translator_of(model, settings)
    return translated(translator), translator.plan((job.size, job.size))


class _PlainFile:
    """Takes tiles of a (C, Y, X) float32 output by ordinary file access, so that the output takes no memory here."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self._file = path.open("wb")
        self._shape = shape

    def write(self, region: Region, pixels: AnyArray) -> None:
        _, height, width = self._shape
        for channel, plane in enumerate(pixels):
            for y, row in enumerate(plane, region.y0):
                self._file.seek(((channel * height + y) * width + region.x0) * 4)
                self._file.write(np.ascontiguousarray(row, np.float32).data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _forget_peak_memory() -> None:
    """Give back what the warm-up left, and start the peak anew."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _memory_bytes(field: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def main() -> None:
    fields = json.loads(sys.argv[1])
    print(json.dumps(asdict(measure(Job(**{**fields, "variant": Variant(**fields["variant"])})))))


if __name__ == "__main__":
    main()
