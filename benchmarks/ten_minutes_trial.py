"""One training of `benchmarks.ten_minutes`: its images as files, the run, and what is measured of it.

A finished training leaves its result in its folder; where one is there already, it is read instead.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tifffile
import torch

from benchmarks.ablation_training import ScorerJob, load_scorer, run_scorer
from benchmarks.fcn_score import SCORE_NAMES, ScorerConfig, confusion_matrices, fcn_scores, predicted_classes
from benchmarks.labelled_photos import labelled_photos, load_labelled_photos, resized, save_labelled_photos
from benchmarks.results import processor
from benchmarks.screening_trial import PATCH, load_data
from benchmarks.textbook_run import TextbookRun
from napari_pix2pix.evaluation import default_range, evaluate_pairs
from napari_pix2pix.formats import open_image
from napari_pix2pix.formats.pairing import pairs_from_paths
from napari_pix2pix.training_data import DataRequest, load_training_data
from napari_pix2pix.translation.pipeline import translate_array
from pix2pix_training.array_source import AnyArray, ArraySource, MemorySource, whole_plane
from pix2pix_training.atomic import atomic_write
from pix2pix_training.errors import InputError, TrainingError
from pix2pix_training.metrics import detail_ratio, grid_ratio
from pix2pix_training.model_file import load_model
from pix2pix_training.pairs import Pair, Split, split_fraction

DATA_SETS = ("facades", "em_membranes", "labelfree", "nuclei", "widefield", "denoising")
PAPER = "paper"
OURS: Mapping[str, Mapping[str, str]] = {
    "seamless": {},
    "faithful": {"preset": "faithful"},
    "before": {
        "decoder": "transposed",
        "best-by": "mae",
        "base-width": "64",
        "patch-size": str(PATCH),
        "batch-size": "1",
    },
}
"""Options of `train` for each contender but the plain program: the default preset, the one for measuring, and the
default as it was before it had a decoder without a grid and sizes that fit the time."""
CONTENDERS = ("seamless", PAPER, "faithful", "before")
RESULT, OUTPUTS = "result.json", "outputs.npz"
SEG_PX = 128
_HELD_OUT = 0.25
_OPTIONS: Mapping[str, Mapping[str, str]] = {
    "em_membranes": {"target-values": "dtype"},
    "nuclei": {"target-values": "dtype"},
    "labelfree": {"validation": "0"},
    "widefield": {"validation": "0"},
}
"""Masks are learnt as intensities, as the plain program does; of a single field all that is given is trained on."""


@dataclass(frozen=True, kw_only=True)
class Length:
    """Of a run: minutes, or steps at one base width, patches of 256 pixels and batch 1."""

    minutes: float | None = None
    steps: int | None = None
    base_width: int = 64

    @property
    def name(self) -> str:
        return f"{self.minutes:g}min" if self.minutes is not None else f"{self.steps}steps-w{self.base_width}"

    @property
    def options(self) -> dict[str, str]:
        """Of `train`."""
        if self.minutes is not None:
            return {"minutes": f"{self.minutes:g}"}
        sizes = {"base-width": str(self.base_width), "patch-size": str(PATCH), "batch-size": "1"}
        return {"steps": str(self.steps), **sizes}


@dataclass(frozen=True, kw_only=True)
class Trial:
    data_set: str
    contender: str
    seed: int
    length: Length
    out: Path

    @property
    def folder(self) -> Path:
        return self.out / self.length.name / self.data_set / f"{self.contender}-seed{self.seed}"

    @property
    def images(self) -> Path:
        return images_folder(self.out, self.data_set)


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """What a training did and how its results score; scores are means over the held-out images.

    Attributes
    ----------
    seconds : of the training; `wall_seconds` and `cpu_seconds` are of the whole command, with what comes before.
    scores : MAE in stored values, PSNR and SSIM over the range of the targets, Pearson.
    constant : the same of the best constant images.
    grid : for each period in pixels, relative to the targets; empty where an image is too small.
    detail : median of `detail_ratio`, the sharpness; 1 is right.
    segmentation : of facades, how well a network that segments photos reads the results.
    machine : where it ran.
    """

    base_width: int
    patch_size: int
    batch_size: int
    steps: int
    seconds: float
    wall_seconds: float
    cpu_seconds: float
    cores: int
    load: tuple[float, float]
    scores: Mapping[str, float | None]
    constant: Mapping[str, float | None]
    grid: Mapping[str, float]
    detail: float | None
    segmentation: Mapping[str, float]
    machine: str


def images_folder(out: Path, data_set: str) -> Path:
    return out / "images" / data_set


def write_images(data: Path, out: Path, data_set: str) -> None:
    """The set as files in ``training`` and ``held-out``, each with ``source`` and ``target``, unless they are there."""
    final = images_folder(out, data_set)
    if final.exists():
        return
    partial = final.with_suffix(".partial")
    split = _split(data, data_set)
    for part, pairs in (("training", split.training), ("held-out", split.validation)):
        for side in ("source", "target"):
            folder = partial / part / side
            folder.mkdir(parents=True, exist_ok=True)
            for number, pair in enumerate(pairs):
                _write(folder, f"{number:04}", getattr(pair, side))
    partial.rename(final)


def _split(data: Path, data_set: str) -> Split:
    root = data / data_set
    if (root / "source").is_dir():
        request = DataRequest(sources=(root / "source",), targets=(root / "target",), validation=_HELD_OUT)
        return load_training_data(request, patch_size=PATCH, seed=0).split
    if data_set == "nuclei":
        return split_fraction(_nuclei_pairs(root), _HELD_OUT, patch_size=PATCH, seed=0)
    return load_data(data_set, data).split


def _nuclei_pairs(root: Path) -> list[Pair]:
    """Fields of nuclei, and where nuclei are: 255, else 0."""
    pairs = []
    for pair in pairs_from_paths([root / "image"], [root / "label"]):
        labels = _read(pair.target)
        mask = np.where(labels.any(0, keepdims=True), np.uint8(255), np.uint8(0))
        pairs.append(Pair(pair.source, MemorySource(mask, name=pair.target.name), pair.name))
    return pairs


def _write(folder: Path, name: str, image: ArraySource) -> None:
    pixels = _read(image)
    if len(pixels) == 1:
        tifffile.imwrite(folder / f"{name}.tif", pixels[0], photometric="minisblack")
    elif len(pixels) == 3 and pixels.dtype == np.uint8:
        tifffile.imwrite(folder / f"{name}.tif", np.moveaxis(pixels, 0, -1), photometric="rgb")
    else:
        tifffile.imwrite(folder / f"{name}.ome.tif", pixels, photometric="minisblack", metadata={"axes": "CYX"})


def _read(image: ArraySource) -> AnyArray:
    return image.read(whole_plane(image))


def read_pairs(folder: Path) -> list[tuple[AnyArray, AnyArray]]:
    """Sources and targets (C, Y, X) of ``training`` or ``held-out``."""
    images = []
    for side in ("source", "target"):
        opened = [open_image(path) for path in sorted((folder / side).iterdir())]
        images.append([_read(image) for image in opened])
        for image in opened:
            image.close()
    return list(zip(*images, strict=True))


def scorer_job(out: Path, steps: int) -> ScorerJob:
    """The segmentation network of the facades, at 128 pixels."""
    config = ScorerConfig(steps=steps)
    return ScorerJob(config=config, data=out / "photos.npz", folder=out / f"scorer-{steps}", device="cpu")


def prepare_scorer(job: ScorerJob, out: Path) -> None:
    """Train it on the photos that generators are trained on, unless it is there."""
    if not job.data.exists():
        root = images_folder(out, "facades")
        parts = [
            pairs_from_paths([root / part / "source"], [root / part / "target"]) for part in ("training", "held-out")
        ]
        data = labelled_photos([*parts[0], *parts[1]], size=SEG_PX, held_out=len(parts[1]))
        save_labelled_photos(data, job.data)
    run_scorer(job)


def run_trial(trial: Trial, scorer: ScorerJob | None) -> TrialResult:
    """Train, translate the held-out images and score them, on the cores that this process has."""
    path = trial.folder / RESULT
    if path.exists():
        return read_result(path)
    trial.folder.mkdir(parents=True, exist_ok=True)
    held_out = read_pairs(trial.images / "held-out")
    load, started, cpu = os.getloadavg()[0], time.monotonic(), _cpu_seconds()
    facts, results = _of_paper(trial, held_out) if trial.contender == PAPER else _of_ours(trial, held_out)
    targets = [target for _, target in held_out]
    with atomic_write(trial.folder / OUTPUTS) as partial, partial.open("wb") as file:
        np.savez(file, *results)
    result = TrialResult(
        **facts,
        wall_seconds=time.monotonic() - started,
        cpu_seconds=_cpu_seconds() - cpu,
        cores=len(os.sched_getaffinity(0)),
        load=(load, os.getloadavg()[0]),
        **_measured(results, targets),
        segmentation={} if scorer is None else _segmentation(results, scorer),
        machine=machine(),
    )
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(asdict(result), indent=2), encoding="utf-8")
    return result


def machine() -> str:
    return f"{processor()['name']}, {os.cpu_count()} cores, PyTorch {torch.__version__}"


def _cpu_seconds() -> float:
    """Of this process and of those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _of_paper(trial: Trial, held_out: Sequence[tuple[AnyArray, AnyArray]]) -> tuple[dict[str, Any], list[AnyArray]]:
    sources, targets = zip(*read_pairs(trial.images / "training"), strict=True)
    run = TextbookRun(sources, targets, base_width=trial.length.base_width, seed=trial.seed)
    steps, seconds = run.train(minutes=trial.length.minutes, steps=trial.length.steps)
    sizes = {"base_width": trial.length.base_width, "patch_size": PATCH, "batch_size": 1}
    return {**sizes, "steps": steps, "seconds": seconds}, [run.translate(source) for source, _ in held_out]


def _of_ours(trial: Trial, held_out: Sequence[tuple[AnyArray, AnyArray]]) -> tuple[dict[str, Any], list[AnyArray]]:
    """By the command line, as a user would."""
    images = trial.images / "training"
    options = {
        "source": str(images / "source"),
        "target": str(images / "target"),
        "out": str(trial.folder / "run"),
        "seed": str(trial.seed),
        "device": "cpu",
        **_OPTIONS.get(trial.data_set, {}),
        **OURS[trial.contender],
        **trial.length.options,
    }
    command = [sys.executable, "-m", "napari_pix2pix", "train", "--overwrite", "--json"]
    command += [part for name, value in options.items() for part in (f"--{name}", value)]
    with (trial.folder / "log.txt").open("w", encoding="utf-8") as log:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, text=True, check=False)
    if done.returncode:
        raise TrainingError(f"{' '.join(command)} ended with {done.returncode}; see {trial.folder / 'log.txt'}")
    said = json.loads(done.stdout.splitlines()[-1])
    model = load_model(Path(said["model"]))
    config = model.training["config"]
    facts = {
        "base_width": config["generator"]["base_width"],
        "patch_size": config["patch_size"],
        "batch_size": config["batch_size"],
        "steps": said["steps"],
        "seconds": said["seconds"],
    }
    return facts, [translate_array(source, model) for source, _ in held_out]


def _measured(results: Sequence[AnyArray], targets: Sequence[AnyArray]) -> dict[str, Any]:
    pairs = [
        Pair(MemorySource(result, name="result"), MemorySource(target, name="target"), str(number))
        for number, (result, target) in enumerate(zip(results, targets, strict=True))
    ]
    evaluation = evaluate_pairs(
        pairs, data_range=default_range([pair.target for pair in pairs]), target_values="intensities"
    )
    details = [d for pair in zip(results, targets, strict=True) if (d := detail_ratio(*pair)) is not None]
    return {
        "scores": evaluation.mean.as_dict(),
        "constant": evaluation.constant.as_dict(),
        "grid": {str(period): value for period, value in (grid_ratio(results, targets) or {}).items()},
        "detail": median(details) if details else None,
    }


def _segmentation(results: Sequence[AnyArray], job: ScorerJob) -> dict[str, float]:
    data = load_labelled_photos(job.data)
    photos = np.stack([resized(result, SEG_PX) for result in results])
    count = len(data.palette)
    predicted = predicted_classes(load_scorer(job, count), photos)
    scores = fcn_scores(confusion_matrices(predicted, data.classes[data.evaluation], count))
    return dict(zip(SCORE_NAMES, scores.values, strict=True))


def read_result(path: Path) -> TrialResult:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return TrialResult(**{**content, "load": tuple(content["load"])})
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} is damaged ({error!r}); remove it and run again") from error


def outputs_of(folder: Path) -> Iterator[AnyArray]:
    """Translations of the held-out images by a finished training, (C, Y, X)."""
    with np.load(folder / OUTPUTS, allow_pickle=False) as stored:
        yield from (stored[f"arr_{number}"] for number in range(len(stored.files)))
