"""Train on three real data sets, translate a mosaic of at least 4096 x 4096 made of each, score held-out images, draw.

    python benchmarks/real_data.py --data FOLDER --out FOLDER [--minutes 10] [--base-width 32] [--only NAME]

FOLDER holds `em_membranes`, `facades` and `labelfree` (see docs/measurements/results.md for where they come from).
Finished training runs in --out are reused. Prints the machine's load beside every time.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from napari_pix2pix.cli.train_command import show_training
from napari_pix2pix.demonstration import Panel, composite, contrast_limits, grey, write_figure
from napari_pix2pix.evaluation import evaluate_pairs, translations
from napari_pix2pix.formats import ImageMetadata, OutputSpec, open_image, write_image
from napari_pix2pix.formats.image_files import open_images
from napari_pix2pix.training_data import DataRequest, load_training_data
from napari_pix2pix.translation.pipeline import translate_array, translate_file
from napari_pix2pix.translation.progress import ended
from napari_pix2pix.translation.translator import Translator
from pix2pix_training.array_source import AnyArray, ArraySource, CroppedSource, whole_plane
from pix2pix_training.choices import Keep
from pix2pix_training.model_file import Model, load_model
from pix2pix_training.pairs import Pair, Split
from pix2pix_training.presets import preset
from pix2pix_training.regions import Region
from pix2pix_training.training import TrainingData, train

MOSAIC_PX = 4096
Drawing = Callable[[AnyArray, AnyArray, AnyArray], list[Panel]]


@dataclass(frozen=True)
class Task:
    """One data set: what to train on, which pairs to score, which arrays make the mosaic, how a row is drawn."""

    name: str
    data: Callable[[Path], TrainingData]
    held_out: Callable[[Path, TrainingData], Sequence[Pair]]
    drawn: Drawing
    keep: Keep = "best"


def em_membranes(folder: Path) -> TrainingData:
    root = folder / "em_membranes"
    return load_training_data(
        DataRequest(sources=(root / "image",), targets=(root / "membrane",)), patch_size=256, seed=0
    )


def facades(folder: Path) -> TrainingData:
    root = folder / "facades"
    return load_training_data(DataRequest(sources=(root / "label",), targets=(root / "photo",)), patch_size=256, seed=0)


PHASE = [f"phase_z{z}.png" for z in ("00", "04", "06", "08", "12")]
STAINS = ["DAPI.png", "MAP2.png", "NFH.png"]
LEFT, RIGHT = Region(0, 1024, 0, 768), Region(0, 1024, 768, 1024)


def labelfree_pair(folder: Path) -> Pair:
    root = folder / "labelfree"
    return Pair(
        open_images([root / name for name in PHASE]), open_images([root / name for name in STAINS]), "labelfree"
    )


def labelfree(folder: Path) -> TrainingData:
    """The left three quarters of the single field; nothing is held out of them."""
    return TrainingData(split=Split((labelfree_pair(folder).crop(LEFT),), ()))


def labelfree_right(folder: Path, _: TrainingData) -> Sequence[Pair]:
    return [labelfree_pair(folder).crop(RIGHT)]


def validation_pairs(_: Path, data: TrainingData) -> Sequence[Pair]:
    return data.split.validation


def draw_grey(source: AnyArray, result: AnyArray, target: AnyArray) -> list[Panel]:
    pictures = (grey(a[0], (0, 255)) for a in (source, result, target))
    return [Panel(c, p) for c, p in zip(("source", "translated", "target (held out)"), pictures, strict=True)]


def draw_rgb(source: AnyArray, result: AnyArray, target: AnyArray) -> list[Panel]:
    pictures = (np.moveaxis(a, 0, -1).copy() for a in (source, result, target))
    return [Panel(c, p) for c, p in zip(("label", "translated", "photo (held out)"), pictures, strict=True)]


def draw_stains(source: AnyArray, result: AnyArray, target: AnyArray) -> list[Panel]:
    limits = [contrast_limits(plane) for plane in target]
    colors = ((80, 120, 255), (60, 220, 90), (255, 80, 60))
    return [
        Panel("phase contrast, plane 3 of 5", grey(source[2], contrast_limits(source[2]))),
        Panel("translated: DAPI, MAP2, NFH", composite(result, limits, colors)),
        Panel("fluorescence (held out)", composite(target, limits, colors)),
    ]


TASKS = (
    Task("em_membranes", em_membranes, validation_pairs, draw_grey),
    Task("facades", facades, validation_pairs, draw_rgb, keep="last"),
    Task("labelfree", labelfree, labelfree_right, draw_stains),
)


def load() -> str:
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def trained(task: Task, data: TrainingData, out: Path, minutes: float, base_width: int) -> tuple[Model, dict[str, Any]]:
    config = preset("seamless")
    config = replace(
        config,
        generator=replace(config.generator, base_width=base_width),
        discriminator=replace(config.discriminator, base_width=base_width),
        minutes=minutes,
        keep=task.keep,
    )
    print(f"{task.name}: training {minutes:g} minutes, {load()}", flush=True)
    facts = show_training(train(config, data, out / task.name, resume=True))
    model = load_model(out / task.name / "model.safetensors")
    return model, {"steps": facts["steps"], "model_step": model.training["step"], "training_seconds": facts["seconds"]}


def mosaic(pairs: Sequence[Pair], path: Path) -> Path:
    """Sources side by side, every other one mirrored so that a lone image continues itself."""
    images = [read(pair.source) for pair in pairs]
    rows, columns = images[0].shape[1:]
    lines = []
    for i in range(-(-MOSAIC_PX // rows)):
        line = [
            images[(i * 31 + j) % len(images)][:, :: (-1) ** i, :: (-1) ** j] for j in range(-(-MOSAIC_PX // columns))
        ]
        lines.append(np.concatenate(line, axis=2))
    pixels = np.concatenate(lines, axis=1)
    spec = OutputSpec(
        axes="CYX", shape=pixels.shape, dtype=pixels.dtype, metadata=ImageMetadata(rgb=pixels.shape[0] == 3)
    )
    tile = ((), Region.whole(*pixels.shape[1:]), pixels)
    return write_image(path, spec, iter([tile]), file_format="tiff", overwrite=True)


def read(source: ArraySource) -> AnyArray:
    return source.read(whole_plane(source))


def run(task: Task, folder: Path, out: Path, pictures: Path, minutes: float, base_width: int) -> dict[str, Any]:
    data = task.data(folder)
    model, facts = trained(task, data, out, minutes, base_width)
    held_out = task.held_out(folder, data)
    with TemporaryDirectory() as temporary:
        scored = evaluate_pairs(ended(translations(held_out, Translator(model), Path(temporary))).pairs)
    large = mosaic([*data.split.training, *data.split.validation][:256], out / f"{task.name}_mosaic.tif")
    translated = out / f"{task.name}_mosaic_translated.tif"
    print(f"{task.name}: translating the mosaic, {load()}", flush=True)
    started = time.perf_counter()
    report = translate_file(large, model, translated, overwrite=True)
    seconds = time.perf_counter() - started
    rows = [task.drawn(read(p.source), translate_array(read(p.source), model), read(p.target)) for p in held_out[:3]]
    write_figure(rows, pictures / f"{task.name}.jpg")
    with open_image(translated) as image:
        height, width = image.shape[-2:]
        corner = Region.whole(min(height, 2048), min(width, 2048))
        first = read(CroppedSource(image, corner))
    with open_image(large) as image:
        source = read(CroppedSource(image, corner))
    write_figure([task.drawn(source, first, first)[:2]], pictures / f"{task.name}_mosaic.jpg")
    return {
        **facts,
        "held_out": len(held_out),
        "scores": scored.mean.as_dict(),
        "best_constant": scored.constant.as_dict(),
        "data_range": scored.data_range,
        "mosaic": [height, width],
        "scheme": report.scheme,
        "seconds": seconds,
        "seconds_per_megapixel": seconds / (height * width / 1e6),
        "peak_memory_bytes": report.peak_memory_bytes,
        "load": load(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, default=Path("docs/images"))
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--base-width", type=int, default=32)
    parser.add_argument("--only", choices=[task.name for task in TASKS])
    arguments = parser.parse_args()
    results = {
        task.name: run(task, arguments.data, arguments.out, arguments.pictures, arguments.minutes, arguments.base_width)
        for task in TASKS
        if arguments.only in (None, task.name)
    }
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
