"""How fast a teacher and its students translate a large image, in float32 and in 8 bits, beside plain PyTorch.

    python -m benchmarks.student_speeds --teacher RUN/model.safetensors --students STUDENT/model.safetensors ...
        --source FOLDER ... [--size 4096] [--repeats 3] --out FOLDER

The image is made of those of --source, side by side, as often as it takes; several sources are its channels. The
measure of all is the teacher in plain PyTorch: float32, NCHW, the whole image in one call. The others are arrays to
arrays with this project: the teacher and each student in float32 (PyTorch), and each student in 8 bits (OpenVINO), from
one translator each, after two turns that do not count. Seconds are medians of turns. Models that are not ready for 8
bits are made so on the image itself. Scores are those of the students' cards: of held-out images, in the precision that
the student was compared in. Writes FOLDER/student_speeds.json and .md.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks.results import give_results
from napari_pix2pix.formats.source import open_image
from napari_pix2pix.translation.int8_calibration import with_int8
from napari_pix2pix.translation.progress import ended
from napari_pix2pix.translation.settings import Backend, TranslationSettings
from napari_pix2pix.translation.translator import Translator
from pix2pix_training.array_source import AnyArray, MemorySource, whole_plane
from pix2pix_training.choices import TranslationPrecision
from pix2pix_training.intensity import resolved
from pix2pix_training.model_file import Model, load_model
from pix2pix_training.student_record import student_record_of


@dataclass
class Row:
    """A way to translate the image; `seconds` has a value per turn that counts, scores are of the card."""

    name: str
    base_width: int
    psnr: float | None = None
    ssim: float | None = None
    seconds: list[float] = field(default_factory=list)


def main(words: Sequence[str] | None = None) -> None:
    arguments = _parsed(words)
    image = np.concatenate([mosaic(source, arguments.size) for source in arguments.source])
    teacher = load_model(arguments.teacher)
    students = [load_model(path) for path in arguments.students]
    with torch.inference_mode():
        runs = _runs(teacher, students, image)
        for turn in range(2 + arguments.repeats):
            for row, run in runs:
                started = time.perf_counter()
                run()
                seconds = time.perf_counter() - started
                row.seconds += [seconds] if turn >= 2 else []
                print(f"{row.name}, width {row.base_width}: {seconds:.2f} s, load {os.getloadavg()[0]:.1f}", flush=True)
    rows = [row for row, _ in runs]
    facts = {"size": arguments.size, "load": os.getloadavg()[0], "rows": [asdict(row) for row in rows]}
    give_results(arguments.out, "student_speeds", facts, table(rows, arguments.size**2))


def _runs(teacher: Model, students: list[Model], image: AnyArray) -> list[tuple[Row, Callable[[], object]]]:
    records = [student_record_of(student.training) for student in students]
    of_teacher = records[0].teacher_scores if records[0] else {}
    width = teacher.generator_config.base_width
    scores = of_teacher.get("psnr"), of_teacher.get("ssim")
    runs: list[tuple[Row, Callable[[], object]]] = [
        (Row("teacher, plain PyTorch", width, *scores), _plain(teacher, image)),
        (Row("teacher", width, *scores), _ours(teacher, image, "fp32")),
    ]
    for student, record in zip(students, records, strict=True):
        own = record.student_scores if record else {}
        precisions: tuple[TranslationPrecision, ...] = ("fp32", "int8")
        for precision in precisions:
            name = "student" if precision == "fp32" else "student, int8"
            known = own if record and record.precision == precision else {}
            row = Row(name, student.generator_config.base_width, known.get("psnr"), known.get("ssim"))
            runs.append((row, _ours(student, image, precision)))
    return runs


def _plain(model: Model, image: AnyArray) -> Callable[[], object]:
    network = model.generator()
    mapping = resolved(model.source.mapping, MemorySource(image))
    return lambda: network(mapping.to_network(torch.from_numpy(image[None])))


def _ours(model: Model, image: AnyArray, precision: TranslationPrecision) -> Callable[[], object]:
    if precision == "int8" and model.int8 is None:
        model = ended(with_int8(model, [MemorySource(image)], most_deviation=1.0))
    backend: Backend = "openvino" if precision == "int8" else "torch"
    settings = TranslationSettings(backend=backend, precision=precision, device="cpu")
    translator, source = Translator(model, settings), MemorySource(image)
    return lambda: [region for _, region, _ in translator.tiles(source)]


def mosaic(folder: Path, size: int) -> AnyArray:
    """The images of a folder side by side, shape (C, size, size)."""
    images = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else [folder]:
        with open_image(path) as source:
            images.append(source.read(whole_plane(source)))
    height, width = np.min([image.shape[1:] for image in images], axis=0)
    places = -(-size // height), -(-size // width)
    cut = [image[:, :height, :width] for image in images]
    rows = [
        np.concatenate([cut[(y * places[1] + x) % len(cut)] for x in range(places[1])], axis=2)
        for y in range(places[0])
    ]
    return np.ascontiguousarray(np.concatenate(rows, axis=1)[:, :size, :size])


def table(rows: list[Row], pixels: int) -> str:
    lines = ["| | base width | s / Mpx | times as fast | PSNR | SSIM |", "|---|---|---|---|---|---|"]
    for row in rows:
        fast = median(plain / own for plain, own in zip(rows[0].seconds, row.seconds, strict=True))
        scores = " | ".join("-" if score is None else f"{score:.4g}" for score in (row.psnr, row.ssim))
        seconds = median(row.seconds) / pixels * 1e6
        lines.append(f"| {row.name} | {row.base_width} | {seconds:.3f} | {fast:.1f} | {scores} |")
    return "\n".join(lines)


def _parsed(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--students", type=Path, nargs="+", required=True)
    parser.add_argument("--source", type=Path, nargs="+", required=True, help="a folder of images, or one image")
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
