"""Seconds per megapixel of the backends on the CPU, in one run, with the paper's U-Net-256.

    python benchmarks/backends.py --out FOLDER [--size 4096] [--repeats 3] [--threads N] [--max-memory 8GB]
        [--statistics running image] [--only NAME ...] [--files]

The measure of all is plain PyTorch: float32, NCHW, the whole image in one call, which takes several GB at 4096 x 4096
pixels. The others are this project's exact scheme in PyTorch and in OpenVINO, in float32, bfloat16 and int8 (found on
the image, whatever it costs with these random weights); --max-memory is theirs, by default about what the plain network
takes. All run first on a small image, in which OpenVINO compiles, into
an empty cache. Then they take turns. The first turn is not counted: memory that a process has not had before is slow to
get on some machines, and OpenVINO keeps what it once had. Seconds are medians over the other turns. The share of the
peak is that of a matrix product measured in each turn. Writes FOLDER/backends.json and backends.md.

With --files each turn reads a tiled TIFF and writes one, uncompressed, in this process; without, images are arrays.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import tifffile
import torch

from benchmarks.arguments import size_argument
from benchmarks.contenders import randomized_model, with_float_output
from benchmarks.results import give_results
from napari_pix2pix.translation.cost import unet_macs
from napari_pix2pix.translation.int8_calibration import with_int8
from napari_pix2pix.translation.pipeline import translate_file
from napari_pix2pix.translation.progress import ended
from napari_pix2pix.translation.settings import Backend, TranslationSettings
from napari_pix2pix.translation.translator import Translator
from pix2pix_training.array_source import AnyArray, MemorySource
from pix2pix_training.choices import Statistics, TranslationPrecision
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.model_file import Model
from pix2pix_training.network_config import GeneratorConfig

CHANNELS = 3
SMALL_PX = 512
TILE_PX = 256
PLAIN = "torch, plain, whole image, fp32"
INT8 = "openvino, exact, int8"
OURS: dict[str, tuple[Backend, TranslationPrecision]] = {
    **{
        f"{backend}, exact, {precision}": (backend, precision)
        for precision in ("fp32", "bf16")
        for backend in ("torch", "openvino")
    },
    INT8: ("openvino", "int8"),
}

Image = AnyArray | Path
Run = Callable[[Any], Image]
"""Of an image, or of the file of one, which gives the file of the result."""


@dataclass
class Entry:
    """One row of the table; `seconds`, `peak_flops` and `load` have a value per turn that counts.

    `first_seconds` is the turn before these.
    """

    name: str
    statistics: Statistics
    compile_seconds: float = 0.0
    mac_overhead: float = 1.0
    largest_difference: float = 0.0
    first_seconds: float = 0.0
    seconds: list[float] = field(default_factory=list)
    peak_flops: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)


def benchmark(model: Model, pixels: AnyArray, arguments: argparse.Namespace, folder: Path) -> list[Entry]:
    entries = []
    image = _given(pixels, folder, "image", arguments)
    small = _given(pixels[:, :SMALL_PX, :SMALL_PX], folder, "small", arguments)
    for statistics in arguments.statistics:
        runs: dict[str, tuple[Entry, Run]] = {}
        for name in arguments.only:
            if name == INT8 and statistics != "running":
                continue
            entry = Entry(name, statistics)
            run = _plain(model, statistics) if name == PLAIN else _ours(entry, model, pixels, arguments)
            runs[name] = (entry, _prepared(entry, run, small))
        expected: AnyArray | None = None
        for entry, run in runs.values():
            entry.first_seconds, given = _timed(entry, run, image)
            result = tifffile.imread(given).astype(np.float32) / 127.5 - 1 if isinstance(given, Path) else given
            expected = result if expected is None else expected
            entry.largest_difference = float(np.abs(result - expected).max())
        for _ in range(arguments.repeats):
            for entry, run in runs.values():
                entry.peak_flops.append(matmul_flops())
                entry.load.append(os.getloadavg()[0])
                entry.seconds.append(_timed(entry, run, image)[0])
        entries += [entry for entry, _ in runs.values()]
    return entries


def _given(pixels: AnyArray, folder: Path, name: str, arguments: argparse.Namespace) -> Image:
    if not arguments.files:
        return pixels
    path = folder / f"{name}.tif"
    _write(path, np.moveaxis(pixels, 0, -1))
    return path


def _write(path: Path, image: AnyArray) -> None:
    tifffile.imwrite(path, image, tile=(TILE_PX, TILE_PX), photometric="rgb")


def _timed(entry: Entry, run: Run, image: Image) -> tuple[float, Image]:
    started = time.perf_counter()
    result = run(image)
    seconds = time.perf_counter() - started
    print(f"{entry.name}, {entry.statistics}: {seconds:.1f} s, load {os.getloadavg()[0]:.1f}", flush=True)
    return seconds, result


def _prepared(entry: Entry, run: Run, small: Image) -> Run:
    """Ready to run, warm, and compiled; how long compiling took is noted."""
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        run(small)
        seconds.append(time.perf_counter() - started)
    if "openvino" in entry.name:
        entry.compile_seconds = seconds[0] - seconds[1]
    return run


def _plain(model: Model, statistics: Statistics) -> Run:
    network = model.generator(InferenceConfig(statistics=statistics))

    def run(image: Image) -> Image:
        pixels = np.moveaxis(tifffile.imread(image), -1, 0).copy() if isinstance(image, Path) else image
        x = torch.from_numpy(pixels[None]).float() / 127.5 - 1
        result = network(x)[0]
        if not isinstance(image, Path):
            return cast(AnyArray, result.numpy())
        out = image.with_name("plain.tif")
        _write(out, ((result + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy())
        return out

    return run


def _ours(entry: Entry, model: Model, pixels: AnyArray, arguments: argparse.Namespace) -> Run:
    backend, precision = OURS[entry.name]
    settings = TranslationSettings(
        scheme="exact",
        statistics=entry.statistics,
        backend=backend,
        precision=precision,
        device="cpu",
        max_memory=arguments.max_memory,
    )
    translator = Translator(model if arguments.files else with_float_output(model), settings)
    plan = translator.plan(pixels.shape[1:])  # that of the whole image also for the small one: the same stages
    entry.mac_overhead = plan.mac_overhead

    def run(image: Image) -> Image:
        if isinstance(image, Path):
            out = image.with_name("ours.tif")
            translate_file(image, translator, out, overwrite=True)
            return out
        result: AnyArray = np.empty(image.shape, np.float32)
        for _, region, pixels in translator.tiles(MemorySource(image), plan=plan):
            result[:, *region.slices] = pixels
        return result

    return run


def matmul_flops(side: int = 2048, repeats: int = 8) -> float:
    """Floating point operations per second of the fastest of some float32 matrix products."""
    a, b = torch.randn(side, side), torch.randn(side, side)
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - started)
    return 2 * side**3 / min(seconds)


def table(entries: list[Entry], config: GeneratorConfig, pixels: int) -> str:
    lines = [
        "| backend | statistics | s / Mpx | x plain PyTorch | share of peak | arithmetic | largest difference "
        "| compiling, s | first turn, s / Mpx | load |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for entry in entries:
        first = next(e for e in entries if e.statistics == entry.statistics)
        speed = median(a / b for a, b in zip(first.seconds, entry.seconds, strict=True))
        operations = 2 * unet_macs(config) * pixels
        share = median(operations / s / peak for s, peak in zip(entry.seconds, entry.peak_flops, strict=True))
        lines.append(
            f"| {entry.name} | {entry.statistics} | {median(entry.seconds) / pixels * 1e6:.2f} | {speed:.2f} "
            f"| {share:.0%} | {entry.mac_overhead:.3f} x | {entry.largest_difference:.1e} "
            f"| {entry.compile_seconds:.1f} | {entry.first_seconds / pixels * 1e6:.2f} | {median(entry.load):.1f} |"
        )
    return "\n".join(lines)


def _parsed(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [PLAIN, *OURS]
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--base-width", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--max-memory", type=size_argument, default=size_argument("8GB"))
    parser.add_argument("--statistics", nargs="+", choices=["running", "image"], default=["running", "image"])
    parser.add_argument("--files", action="store_true", help="from file to file")
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="the first is the measure of the rest")
    arguments = parser.parse_args(words)
    if arguments.size % 256 or arguments.size <= 0:
        parser.error("--size must be a multiple of 256, so that the plain network takes it")
    return arguments


def main(words: Sequence[str] | None = None) -> None:
    arguments = _parsed(words)
    torch.set_num_threads(arguments.threads)
    config = GeneratorConfig(
        source_channels=CHANNELS, target_channels=CHANNELS, base_width=arguments.base_width, depth=8
    )
    image = np.random.default_rng(0).integers(0, 256, (CHANNELS, arguments.size, arguments.size), np.uint8)
    with TemporaryDirectory() as cache, TemporaryDirectory() as folder, torch.inference_mode():
        os.environ["XDG_CACHE_HOME"] = cache  # so that compiling is measured, not reading what an earlier run left
        model = randomized_model(config)
        if INT8 in arguments.only:
            sample = MemorySource(image[:, : 4 * SMALL_PX, : 4 * SMALL_PX])
            model = ended(with_int8(model, [sample], most_deviation=1.0))
        entries = benchmark(model, image, arguments, Path(folder))
    facts: dict[str, Any] = {
        "size": arguments.size,
        "base_width": arguments.base_width,
        "threads": arguments.threads,
        "files": arguments.files,
        "torch": torch.__version__,
        "entries": [asdict(entry) for entry in entries],
    }
    give_results(arguments.out, "backends", facts, table(entries, config, arguments.size**2))


if __name__ == "__main__":
    main()
