"""What `run_all` measures, what it has kept, and whether that still holds."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

ROOT = Path(__file__).parents[1]
RUNS = ROOT / "docs" / "measurements" / "runs"
SCRATCH = "SCRATCH"
"""Stands in options for a folder that is thrown away."""

Options = tuple[str, ...]
Entry = dict[str, Any]
"""A benchmark that was measured, as `benchmarks.run_all.measured` describes it."""
_FLOAT32 = ("torch, plain, whole image, fp32", "torch, exact, fp32", "openvino, exact, fp32")


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A module of this folder, which takes ``--out FOLDER``, and its options by kind of run."""

    title: str
    options: Mapping[str, Options]
    needs_display: bool = False


def _options(text: str, *more: str) -> Options:
    return (*text.split(), *more)


BENCHMARKS: Mapping[str, Benchmark] = {
    "backends": Benchmark(
        title="Translation: backends beside plain PyTorch",
        options={
            "quick": _options("--size 2048 --repeats 2 --statistics running --only", *_FLOAT32),
            "full": _options("--repeats 5 --statistics running --only", *_FLOAT32),
            "tiny": _options("--size 256 --base-width 4 --repeats 1 --statistics running --only", *_FLOAT32),
        },
    ),
    "translation": Benchmark(
        title="Translation: time, memory and error of schemes",
        options={
            "quick": _options("--size 2048 --repeats 1 --statistics running --only exact"),
            "full": _options("--size 4096 --repeats 3 --max-memory 2GB"),
            "tiny": _options("--size 256 --base-width 4 --repeats 1 --statistics running --only exact"),
        },
    ),
    "training": Benchmark(
        title="Training: a step beside a plain loop",
        options={
            "quick": _options("--precisions float32 --turns 2 --steps 3"),
            "full": _options("--turns 6 --steps 4"),
            "tiny": _options("--precisions float32 --turns 1 --steps 1 --base-width 4"),
        },
    ),
    "regions": Benchmark(
        title="Regions: one process, shards, Dask, stopped and resumed",
        options={
            "full": _options(f"--size 4096 --region 1024 --folder {SCRATCH}"),
            "tiny": _options(f"--size 1536 --region 256 --base-width 2 --depth 3 --folder {SCRATCH}"),
        },
    ),
    "gigapixel": Benchmark(
        title="A gigapixel",
        options={
            "full": _options(f"--size 32768 --folder {SCRATCH}"),
            "tiny": _options(f"--size 1024 --base-width 2 --folder {SCRATCH}"),
        },
    ),
    "event_loop": Benchmark(
        title="How long napari waits",
        options={
            "full": _options("--size 8192 --steps 80"),
            "tiny": _options("--size 256 --steps 5"),
        },
        needs_display=True,
    ),
}


def kept(kind: str, folder: Path = RUNS) -> dict[str, Entry]:
    """What was measured, by benchmark."""
    path = folder / f"{kind}.json"
    if not path.exists():
        return {}
    return cast(dict[str, Entry], json.loads(path.read_text(encoding="utf-8")))


def stale(name: str, kind: str, entry: Entry) -> Iterator[str]:
    """Why figures do not hold any more."""
    if entry["release"] not in current_releases():
        yield f"they are of {entry['release']}"
    if tuple(entry["options"]) != BENCHMARKS[name].options.get(kind):
        yield "they were measured with other options"
    if entry["code"] != code_of(name):
        yield "the benchmark has changed"


def current_releases() -> list[str]:
    """The first heading of the list of changes, and the newest release, which may be the same."""
    headings = re.findall(r"^## (\S+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    return [headings[0], next(heading for heading in headings if heading[0].isdigit())]


def code_of(name: str) -> str:
    """Hash of a benchmark and of what it imports of this folder, of which figures hold."""
    files = sorted(_with_imports(Path(__file__).with_name(f"{name}.py"), set()))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def _with_imports(file: Path, found: set[Path]) -> set[Path]:
    found.add(file)
    for name in re.findall(r"^\s*from benchmarks\.(\w+) import", file.read_text(encoding="utf-8"), re.MULTILINE):
        imported = file.with_name(f"{name}.py")
        if imported not in found:
            _with_imports(imported, found)
    return found
