"""Memory and time of translating one very large image, through the command line, to OME-Zarr and to OME-TIFF.

    python -m benchmarks.gigapixel --size 32768 --folder /scratch [--precision int8] [--parts] [--out FOLDER]

Makes a BigTIFF of SIZE x SIZE bytes tile by tile, translates it twice with a small network of random weights, each time
in a process of its own with ``--max-memory 2GB``, prints the peak resident memory of these processes and the time, and
checks that both outputs hold the same pixels at every level that both have. Exits with 1 where something is wrong.
With --parts it then reads the source once more, and writes each output once more from its pixels, and prints what share
of the processor time of the translation that is; the network and what belongs to it has the rest.
With --out writes FOLDER/gigapixel.json and FOLDER/gigapixel.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
import zarr
from numpy.typing import NDArray

from benchmarks.results import give_results
from napari_pix2pix.formats import open_image
from napari_pix2pix.formats.source import ImageSource
from napari_pix2pix.formats.writing import OutputSpec, Tile, resolve_format, write_image
from napari_pix2pix.translation.int8_calibration import with_int8
from napari_pix2pix.translation.progress import ended
from pix2pix_training.array_source import MemorySource
from pix2pix_training.image_description import ImageDescription
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.intensity import dtype_mapping
from pix2pix_training.model_file import Model, load_model, save_model
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import build_generator, initialize_weights
from pix2pix_training.regions import Region

TILE = 512
PEAK_LIMIT_BYTES = 3_000_000_000
COMPARED_ROWS = 1024
_SAMPLE_PX = 2048


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=32768, help="side of the image in pixels")
    parser.add_argument("--folder", type=Path, required=True, help="needs about 4 bytes per pixel")
    parser.add_argument("--out", type=Path, help="for the results")
    parser.add_argument("--max-memory", default="2GB")
    parser.add_argument("--base-width", type=int, default=8)
    parser.add_argument("--statistics", choices=("image", "running"), default="image")
    parser.add_argument("--depth", type=int, default=5)
    parser.add_argument("--precision", choices=("fp32", "int8"), default="fp32", help="int8 with --statistics running")
    parser.add_argument("--parts", action="store_true", help="measure reading and encoding by themselves")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    model, source = options.folder / "model.safetensors", options.folder / f"source_{options.size}.tif"
    write_model(model, options.base_width, options.statistics, options.depth)
    write_source(source, options.size)
    if options.precision == "int8":
        make_ready_for_int8(model, source)
    outputs = [options.folder / f"translated_{options.size}{suffix}" for suffix in (".ome.zarr", ".ome.tif")]
    reports = [translated(source, model, out, options.max_memory, options.precision) for out in outputs]
    differing = differing_levels(*outputs)
    said = [f"levels that differ between OME-Zarr and OME-TIFF: {differing or 'none'}"]
    if options.parts:
        reading = seconds_of_reading(source)
        for out, report in zip(outputs, reports, strict=True):
            report |= {"reading": reading, "encoding": seconds_of_encoding(out)}
            shares = (f"{part} {report[part] / report['cpu']:.1%}" for part in ("reading", "encoding"))
            said.append(f"{out.name}: {', '.join(shares)} of {report['cpu']:.0f} s of processor time")
    figures = {"differing_levels": differing, "outputs": reports}
    give_results(options.out, "gigapixel", figures, "\n".join([*table(outputs, reports), "", *said]))
    if differing or any(report["peak"] > PEAK_LIMIT_BYTES for report in reports):
        sys.exit(1)


def write_model(path: Path, base_width: int, statistics: Any, depth: int = 5) -> None:
    torch.manual_seed(0)
    config = GeneratorConfig(
        source_channels=1,
        target_channels=1,
        base_width=base_width,
        depth=depth,
        norm="instance" if statistics == "image" else "batch",
    )
    network = build_generator(config)
    initialize_weights(network)
    description = ImageDescription(mapping=dtype_mapping(np.dtype("uint8"), 1))
    inference = InferenceConfig(statistics=statistics)
    save_model(
        Model(
            generator_config=config,
            weights=network.state_dict(),
            source=description,
            target=description,
            inference=inference,
        ),
        path,
    )


def write_source(path: Path, size: int) -> None:
    """Clouds of several sizes with grain, made tile by tile."""
    random = np.random.default_rng(0)
    clouds = [(cell, random.random((size // cell + 2,) * 2, np.float32)) for cell in (1024, 128, 16)]
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        tif.write(_source_tiles(size, clouds), shape=(size, size), dtype=np.uint8, tile=(TILE, TILE),
                  compression="zstd", predictor=True, photometric="minisblack")  # fmt: skip


def _source_tiles(size: int, clouds: list[tuple[int, NDArray[np.float32]]]) -> Iterator[NDArray[np.uint8]]:
    for y in range(0, size, TILE):
        for x in range(0, size, TILE):
            grain = np.random.default_rng((y, x)).normal(0, 6, (TILE, TILE))
            values = sum(70 * _interpolated(grid, cell, y, x) for cell, grid in clouds) + grain
            yield np.clip(values, 0, 255).astype(np.uint8)


def _interpolated(grid: NDArray[np.float32], cell: int, y0: int, x0: int) -> NDArray[np.float32]:
    """A tile of the grid enlarged by `cell`, bilinear."""
    (rows, dy), (columns, dx) = (_positions(start, cell, len(grid)) for start in (y0, x0))
    above, below = grid[rows][:, [columns, columns + 1]], grid[rows + 1][:, [columns, columns + 1]]
    mixed = above + (below - above) * dy[:, None, None]
    result: NDArray[np.float32] = mixed[:, 0] + (mixed[:, 1] - mixed[:, 0]) * dx
    return result


def _positions(start: int, cell: int, cells: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    position = np.arange(start, start + TILE) / cell
    index = np.minimum(position.astype(np.intp), cells - 2)
    return index, (position - index).astype(np.float32)


def make_ready_for_int8(model: Path, source: Path) -> None:
    """Whatever it costs with random weights, found on a corner of the image."""
    with open_image(source) as image:
        sample = MemorySource(image.read(Region.whole(*(min(n, _SAMPLE_PX) for n in image.shape[-2:]))))
        save_model(ended(with_int8(load_model(model), [sample], most_deviation=1.0)), model)


def seconds_of_reading(source: Path) -> float:
    """Processor seconds of reading an image once, in squares."""
    with open_image(source) as image:
        started = time.process_time()
        for region in Region.whole(*image.shape[-2:]).tiles(2 * TILE):
            image.read(region)
        return time.process_time() - started


def seconds_of_encoding(out: Path) -> float:
    """Processor seconds of writing an output from its pixels, without those of reading them."""
    reading = 0.0

    def tiles(image: ImageSource) -> Iterator[Tile]:
        nonlocal reading
        for region in Region.whole(*image.shape[-2:]).tiles(2 * TILE):
            started = time.process_time()
            pixels = image.read(region)
            reading += time.process_time() - started
            yield (), region, pixels

    with open_image(out) as image:
        spec = OutputSpec(axes=image.axes, shape=image.shape, dtype=image.dtype, metadata=image.metadata)
        again = out.with_name(f"again-{out.name}")
        file_format = resolve_format(again, "same", image)
        started = time.process_time()
        write_image(again, spec, tiles(image), file_format=file_format, overwrite=True)
        return time.process_time() - started - reading


def translated(source: Path, model: Path, out: Path, max_memory: str, precision: str) -> dict[str, Any]:
    """The command's own report, with `peak`, the largest resident set of the process, `cpu` and `wall`, its seconds."""
    command = [sys.executable, "-m", "napari_pix2pix", "translate", str(source), "--model", str(model)]
    command += ["--out", str(out), "--max-memory", max_memory, "--device", "cpu", "--overwrite", "--json"]
    command += ["--precision", precision]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"failed: {' '.join(command)}")
    unit = 1 if sys.platform == "darwin" else 1024
    report: dict[str, Any] = json.loads(output.splitlines()[-1])
    cpu = usage.ru_utime + usage.ru_stime
    return report | {"peak": usage.ru_maxrss * unit, "cpu": cpu, "wall": time.perf_counter() - started}


def table(outputs: list[Path], reports: list[dict[str, Any]]) -> Iterator[str]:
    yield "| output | scheme, tile, split level | tiles | seconds | s/Mpx | peak resident |"
    yield "|---|---|---|---|---|---|"
    for out, report in zip(outputs, reports, strict=True):
        seconds_per_megapixel = report["wall"] / report["pixels"] * 1e6
        plan = f"{report['scheme']}, {report['tile']}, {report['split_level']}"
        yield (
            f"| {out.name} | {plan} | {report['tiles']} | {report['wall']:.0f} | {seconds_per_megapixel:.3f} "
            f"| {report['peak'] / 1e9:.2f} GB |"
        )


def differing_levels(ome_zarr: Path, ome_tiff: Path) -> list[int]:
    """Levels that both files have and whose pixels are not equal, read strip by strip."""
    group = zarr.open_group(ome_zarr, mode="r")
    with tifffile.TiffFile(ome_tiff) as tif:
        series = tif.series[0]
        count = min(len(series.levels), sum(1 for _ in group.array_keys()))
        return [level for level in range(count) if not _equal(group[str(level)], series.aszarr(level=level))]


def _equal(left: Any, store: Any) -> bool:
    right: Any = zarr.open_array(store, mode="r")
    height = left.shape[-2]
    if left.shape[-2:] != right.shape[-2:]:
        return False
    rows = (slice(y, min(y + COMPARED_ROWS, height)) for y in range(0, height, COMPARED_ROWS))
    return all(bool((np.squeeze(left[..., r, :]) == np.squeeze(right[..., r, :])).all()) for r in rows)


if __name__ == "__main__":
    main()
