"""How much of a model's quality a student keeps that is so many times as fast: teachers on real images, and `compress`.

    python -m benchmarks.students --data FOLDER --out FOLDER [--data-sets em_membranes ...] [--speeds 2 4 8]
        [--precision int8]

Trains a teacher on each data set, has it teach a student for each speed, on the same images and their targets, and
prints the scores of both with the targets that were held out, in Markdown. Runs that are in --out are not made again;
speeds are measured again, side by side, at the end.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from napari_pix2pix.compression import times_as_fast
from napari_pix2pix.formats.pairing import pairs_from_paths
from pix2pix_training.model_file import Model, load_model
from pix2pix_training.pairs import Pair
from pix2pix_training.student_record import student_record_of

_PHASE = tuple(f"phase_z{plane}.png" for plane in ("00", "04", "06", "08", "12"))
_STAINS = ("DAPI.png", "MAP2.png", "NFH.png")
DATA_SETS = {
    "em_membranes": (("image",), ("membrane",), ("--target-values", "dtype")),
    "facades": (("label",), ("photo",), ("--source-values", "dtype")),
    "labelfree": (_PHASE, _STAINS, ()),
}
"""Sources and targets below a folder of that name, and options of the teacher's training."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data-sets", nargs="+", choices=tuple(DATA_SETS), default=tuple(DATA_SETS))
    parser.add_argument("--speeds", nargs="+", type=float, default=[2, 4, 8])
    parser.add_argument("--precision", choices=("fp32", "bf16", "int8"), default="fp32", help="of the students")
    parser.add_argument("--base-width", type=int, default=32, help="of the teachers")
    parser.add_argument("--steps", type=int, default=1500, help="of the teachers")
    parser.add_argument("--student-steps", type=int, help="by default twice those of the teachers")
    chosen = parser.parse_args(arguments)
    for name in chosen.data_sets:
        make(name, chosen)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print("| data set | | base width | times as fast | PSNR | SSIM | MAE |")
    print("|---|---|---|---|---|---|---|")
    for name in chosen.data_sets:
        for line in rows(name, chosen):
            print(line, flush=True)


def make(name: str, chosen: argparse.Namespace) -> None:
    """The runs of a data set that are not there yet."""
    sources, targets, values = DATA_SETS[name]
    images = [word for part in sources for word in ("--source", str(chosen.data / name / part))]
    images += [word for part in targets for word in ("--target", str(chosen.data / name / part))]
    teacher = chosen.out / name / "teacher"
    size = ["--base-width", str(chosen.base_width), "--patch-size", "256", "--coverage", "0"]
    run("train", *images, *values, *size, "--steps", str(chosen.steps), folder=teacher)
    for speed in chosen.speeds:
        steps = chosen.student_steps or 2 * chosen.steps
        options = [*images, "--target-speed", f"{speed:g}x", "--precision", chosen.precision, "--steps", str(steps)]
        run("compress", str(teacher / "model.safetensors"), *options, folder=student_folder(name, speed, chosen))


def student_folder(name: str, speed: float, chosen: argparse.Namespace) -> Path:
    folder: Path = chosen.out / name / f"{speed:g}x"
    return folder if chosen.precision == "fp32" else folder.with_name(f"{folder.name}-{chosen.precision}")


def run(*words: str, folder: Path) -> None:
    model = folder / "model.safetensors"
    if model.exists() and (words[0] == "train" or student_record_of(load_model(model).training) is not None):
        return
    command = [sys.executable, "-m", "napari_pix2pix", *words, "--out", str(folder), "--resume"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def rows(name: str, chosen: argparse.Namespace) -> list[str]:
    folder = chosen.out / name
    teacher = load_model(folder / "teacher" / "model.safetensors")
    pair = a_pair(name, chosen.data)
    lines: list[str] = []
    for speed in chosen.speeds:
        student = load_model(student_folder(name, speed, chosen) / "model.safetensors")
        record = student_record_of(student.training)
        assert record is not None
        if not lines:
            lines.append(row(name, "teacher", teacher, 1.0, record.teacher_scores))
        fast = times_as_fast(student, teacher, pair.source, "cpu", record.precision)
        lines.append(row(name, f"{speed:g}x asked, {record.precision}", student, fast, record.student_scores))
    return lines


def a_pair(name: str, data: Path) -> Pair:
    sources, targets, _ = DATA_SETS[name]
    return pairs_from_paths([data / name / part for part in sources], [data / name / part for part in targets])[0]


def row(name: str, what: str, model: Model, fast: float, scores: dict[str, float | None]) -> str:
    values = " | ".join(
        "-" if (value := scores[score]) is None else f"{value:.4g}" for score in ("psnr", "ssim", "mae")
    )
    return f"| {name} | {what} | {model.generator_config.base_width} | {fast:.2f} | {values} |"


if __name__ == "__main__":
    main()
