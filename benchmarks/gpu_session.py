"""``gpu.py --all``: everything in ten minutes, on a machine that may be there only once.

Needs no image and no model: it makes both. What is found is written after each measurement, so that nothing is lost
where a later one fails; what is quick and sure comes first, and what has not begun when the time is up is named. A
rehearsal runs the same on the CPU, small, with PyTorch in the place of what needs a GPU.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
import tifffile
import torch
from torch import Tensor

from benchmarks import gpu
from benchmarks.contenders import randomized_model
from benchmarks.results import give_results
from napari_pix2pix.translation.pipeline import translate_array, translate_file
from napari_pix2pix.translation.settings import TranslationSettings
from pix2pix_training.array_source import AnyArray
from pix2pix_training.device import resolve_device
from pix2pix_training.model_file import Model
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import Generator

T = TypeVar("T")

_STAND_IN = ", stand-in"
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass
class Found:
    """What was measured so far."""

    machine: Mapping[str, object]
    window: int
    size: int
    seconds: float = 0.0
    ways: list[gpu.Way] = field(default_factory=list)
    translations: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def run_session(options: argparse.Namespace) -> Found:
    """Measure all, and write ``gpu.json`` and ``gpu.md`` into `options.out` after each figure."""
    device = resolve_device(options.device)
    begun = time.monotonic()
    found = Found(machine=gpu.machine(device), window=options.window, size=options.size)
    _write(found, options.out)  # an error now, not after the first figures

    def note(rows: list[Any], row: Any) -> None:
        rows.append(row)
        found.seconds = time.monotonic() - begun
        _write(found, options.out)

    def is_over(name: str) -> bool:
        if time.monotonic() - begun < 60 * options.minutes:
            return False
        note(found.left_out, name)
        return True

    network = gpu.papers_network(options.base_width).to(device)
    x = torch.rand(1, 3, options.window, options.window, device=device) * 2 - 1
    measure = gpu.window_measurement(network, x, options)
    with TemporaryDirectory() as folder:
        for name, step in _steps(options, measure, Path(folder)):
            if not is_over(name):
                kind, row = step()
                note(found.ways if kind == "window" else found.translations, row)
    print(table(found))
    return found


Step = Callable[[], tuple[str, Any]]


def _steps(
    options: argparse.Namespace, measure: Callable[[str, gpu.Preparation], gpu.Way], folder: Path
) -> Iterator[tuple[str, Step]]:
    """Quick ones first: PyTorch, then TensorRT-RTX, then TensorRT, then the compiler of PyTorch."""
    ways = dict(sorted(_ways(options).items(), key=lambda way: _slowness(way[0])))
    of_pytorch = [name for name in ways if _slowness(name) == 0]
    for name in of_pytorch:
        yield name, partial(_window, measure, name, ways[name])
    translation = _Translation(options, folder)
    for name, settings in sorted(gpu.FILE_TO_FILE.items(), key=lambda way: _slowness(way[0])):
        yield f"translation, {name}", partial(translation, name, settings)
    for name in ways:
        if name not in of_pytorch:
            yield name, partial(_window, measure, name, ways[name])


def _slowness(name: str) -> int:
    order = ("torch ", "tensorrt-rtx", "tensorrt ", "torch.compile")
    return next(number for number, start in enumerate(order) if name.startswith(start))


def _window(measure: Callable[[str, gpu.Preparation], gpu.Way], name: str, way: gpu.Preparation) -> tuple[str, gpu.Way]:
    return "window", measure(name, way)


def _ways(options: argparse.Namespace) -> dict[str, gpu.Preparation]:
    known = gpu.ways()
    if not options.rehearse:
        return known
    return dict(_standing_in(name, way) for name, way in known.items())


def _standing_in(name: str, way: gpu.Preparation) -> tuple[str, gpu.Preparation]:
    """PyTorch in the same precision, in the place of engines, CUDA graphs and its compiler."""
    if way.flavour is None and "graph" not in name and "compile" not in name:
        return name, way
    precision = next(word for word in _DTYPES if word in name)

    def make(network: Generator, _: Tensor) -> gpu.Run:
        return gpu.channels_last(network, _DTYPES[precision])

    return f"{name}{_STAND_IN}", gpu.Preparation(make=make)


class _Translation:
    """Translates an image of random pixels with a random model, from array to array and from file to file."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self._options = options
        self._folder = folder
        self._expected: AnyArray | None = None

    def __call__(self, name: str, settings: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
        row: dict[str, Any] = {"name": name}
        if self._options.rehearse and settings["backend"] != "torch":
            settings = {"backend": "torch", "precision": "bf16" if settings["precision"] == "fp16" else "fp32"}
            row["name"] += _STAND_IN
        try:
            row |= self._measured(settings)
        except Exception as error:  # of any package; the others are still to be measured
            row["error"] = gpu.one_line(error)
        print(row, flush=True)
        return "translation", row

    def _measured(self, choices: Mapping[str, str]) -> dict[str, Any]:
        image, model, path = self._image, self._model, self._folder / "image.tif"
        if not path.exists():
            tifffile.imwrite(path, image, photometric="rgb", tile=(256, 256), compression="zlib", predictor=True)
        settings = TranslationSettings(device=self._options.device, **choices)  # type: ignore[arg-type]
        result, first = _timed(lambda: translate_array(image, model, settings, axes="YXC"))
        _, in_memory = _timed(lambda: translate_array(image, model, settings, axes="YXC"))
        out = self._folder / "out.tif"
        report, in_files = _timed(lambda: translate_file(path, model, out, settings))
        out.unlink()
        self._expected = result if self._expected is None else self._expected
        differences = np.abs(result.astype(np.int16) - self._expected)
        megapixels = image.shape[0] * image.shape[1] / 1e6
        return {
            "array_to_array": megapixels / in_memory,
            "file_to_file": megapixels / in_files,
            "seconds_of_the_first": first,
            "largest_difference": int(differences.max()),
            "share_that_differs": float((differences > 0).mean()),
            "backend": report.backend,
            "precision": report.precision,
            "scheme": report.scheme,
            "tile": report.tile,
        }

    @cached_property
    def _image(self) -> AnyArray:
        size = self._options.size
        return np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)

    @cached_property
    def _model(self) -> Model:
        return randomized_model(GeneratorConfig(base_width=self._options.base_width))


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started


def _write(found: Found, folder: Path) -> None:
    give_results(folder, "gpu", asdict(found), table(found), show=False)


def table(found: Found) -> str:
    """For the documentation: windows on the device, then whole translations; what failed has its reason."""
    name = found.machine.get("gpu", found.machine["device"])
    lines = [
        f"{name}, {found.seconds / 60:.1f} minutes; windows of {found.window} px on the device, the paper's network:",
        "",
        "| way | ms / Mpx | share of the floor | deviation from float32 | set-up, s |",
        "|---|---|---|---|---|",
    ]
    for way in found.ways:
        if way.ms_per_megapixel is None or way.share_of_floor is None or way.deviation is None:
            lines.append(f"| {way.name} | {way.error} | | | |")
        else:
            lines.append(
                f"| {way.name} | {way.ms_per_megapixel:.2f} | {way.share_of_floor:.0%} | {way.deviation:.1e} "
                f"| {way.seconds_setup:.1f} |"
            )
    lines += [
        "",
        f"{found.size} x {found.size} pixels, RGB, 8 bits:",
        "",
        "| backend | array to array, Mpx / s | file to file, Mpx / s | first time, s | largest difference of 255 |",
        "|---|---|---|---|---|",
    ]
    for row in found.translations:
        if "error" in row:
            lines.append(f"| {row['name']} | {row['error']} | | | |")
        else:
            lines.append(
                f"| {row['name']} | {row['array_to_array']:.1f} | {row['file_to_file']:.1f} "
                f"| {row['seconds_of_the_first']:.1f} | {row['largest_difference']} |"
            )
    if found.left_out:
        lines += ["", f"Not begun when the time was up: {', '.join(found.left_out)}."]
    return "\n".join(lines)
