"""The trainings of an ablation, each a function of plain settings that can run in a process of its own.

A training leaves its result in its folder; where one is there already, it is read instead.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file
from safetensors.torch import save as serialize

from benchmarks.ablation_configurations import Configuration, training_config
from benchmarks.fcn_score import ScorerConfig, build_scorer, training_steps
from benchmarks.labelled_photos import LabelledPhotos, load_labelled_photos
from napari_pix2pix.translation.pipeline import translate_array
from napari_pix2pix.translation.settings import TranslationSettings
from pix2pix_training.array_source import MemorySource
from pix2pix_training.atomic import atomic_write
from pix2pix_training.device import resolve_device
from pix2pix_training.errors import InputError
from pix2pix_training.events import Finished, StepDone
from pix2pix_training.model_file import load_model
from pix2pix_training.networks import UNet
from pix2pix_training.pairs import Pair, Split
from pix2pix_training.training import TrainingData, train

RESULT, OUTPUTS, SCORER = "result.json", "outputs.npy", "scorer.safetensors"
_WARM_UP_STEPS = 2
_MEASURED_STEPS = 8


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One training of a generator; its result lies in `folder`."""

    configuration: Configuration
    seed: int
    base_width: int
    size: int
    steps: int
    data: Path
    folder: Path
    device: str

    @property
    def caption(self) -> str:
        return f"{self.configuration.caption}, seed {self.seed}"


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """What a finished training leaves besides its outputs; `losses` are means of those read in its last tenth."""

    steps: int
    seconds: float
    losses: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class ScorerJob:
    """The training of the scorer on the real photos; it lies in `folder`."""

    config: ScorerConfig
    data: Path
    folder: Path
    device: str


def finished(folder: Path) -> bool:
    return (folder / RESULT).exists()


def run_trial(trial: Trial) -> TrialResult:
    """Train a generator, going on where an interrupted run stopped, and translate what is held out."""
    if not finished(trial.folder):
        data = load_labelled_photos(trial.data)
        result = _trained(trial, data)
        _write_outputs(trial, data)
        with atomic_write(trial.folder / RESULT) as partial:
            partial.write_text(json.dumps(asdict(result), indent=2), encoding="utf-8")
        (trial.folder / "last.pt").unlink()  # 0.7 GB at the paper's width, and of no use any more
    return _read_result(trial.folder)


def outputs_of(folder: Path) -> NDArray[np.uint8]:
    """Translations of what is held out by a finished training: (N, 3, S, S)."""
    outputs: NDArray[np.uint8] = np.load(folder / OUTPUTS, allow_pickle=False)
    return outputs


def seconds_per_step(trial: Trial) -> float:
    """Mean over some first steps, after a warm-up; the trial's own folder is left alone."""
    data = load_labelled_photos(trial.data)
    with TemporaryDirectory() as folder:
        config = training_config(
            trial.configuration,
            base_width=trial.base_width,
            size=trial.size,
            steps=_WARM_UP_STEPS + _MEASURED_STEPS + 1,  # the last one saves, too
            seed=trial.seed,
        )
        events = train(config, _training_data(data, trial.configuration), Path(folder) / "run", device=trial.device)
        return _pace(event.seconds for event in events if isinstance(event, StepDone))


def _pace(seconds: Iterator[float]) -> float:
    """Seconds per step from the times at which steps are done."""
    times = list(islice(seconds, _WARM_UP_STEPS + _MEASURED_STEPS))
    return (times[-1] - times[_WARM_UP_STEPS - 1]) / _MEASURED_STEPS


def _trained(trial: Trial, data: LabelledPhotos) -> TrialResult:
    config = training_config(
        trial.configuration, base_width=trial.base_width, size=trial.size, steps=trial.steps, seed=trial.seed
    )
    losses: list[dict[str, float]] = []
    seconds = 0.0
    goes_on = (trial.folder / "last.pt").exists()  # removed when a training is finished
    data_of_run = _training_data(data, trial.configuration)
    for event in train(config, data_of_run, trial.folder, device=trial.device, resume=goes_on, overwrite=not goes_on):
        if isinstance(event, StepDone) and event.losses is not None and event.fraction > 0.9:
            losses.append(dict(event.losses))
        elif isinstance(event, Finished):
            seconds = event.seconds
    means = {name: float(np.mean([entry[name] for entry in losses])) for name in (losses[-1] if losses else ())}
    return TrialResult(steps=trial.steps, seconds=seconds, losses=means)


def _training_data(data: LabelledPhotos, configuration: Configuration) -> TrainingData:
    labels, photos = data.label_images(data.training), data.photos[data.training]
    pairs = []
    for label, photo, name in zip(labels, photos, data.names[data.training], strict=True):
        images = MemorySource(label, name=f"label {name}"), MemorySource(photo, name=f"photo {name}")
        pairs.append(Pair(*(images[::-1] if configuration.from_photos else images), name))
    return TrainingData(split=Split(tuple(pairs), ()))


def _write_outputs(trial: Trial, data: LabelledPhotos) -> None:
    model = load_model(trial.folder / "model.safetensors")
    settings = TranslationSettings(device=trial.device)
    sources = data.photos[data.evaluation] if trial.configuration.from_photos else data.label_images(data.evaluation)
    outputs = np.stack([translate_array(source, model, settings) for source in sources])
    with atomic_write(trial.folder / OUTPUTS) as partial, partial.open("wb") as file:
        np.save(file, outputs)


def _read_result(folder: Path) -> TrialResult:
    try:
        return TrialResult(**json.loads((folder / RESULT).read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise InputError(f"{folder / RESULT} is damaged ({error}); remove {folder} and run again") from error


def run_scorer(job: ScorerJob) -> None:
    """Train the scorer on the photos that generators are trained on too, unless it is there."""
    path = job.folder / SCORER
    if path.exists():
        return
    for network in _scorer_steps(job):
        scorer = network
    weights = {name: tensor.cpu().contiguous() for name, tensor in scorer.state_dict().items()}
    with atomic_write(path) as partial:
        partial.write_bytes(serialize(weights))


def scorer_seconds_per_step(job: ScorerJob) -> float:
    """Like `seconds_per_step`, for the scorer."""
    return _pace(monotonic() for _ in _scorer_steps(job))


def _scorer_steps(job: ScorerJob) -> Iterator[UNet]:
    data = load_labelled_photos(job.data)
    part = data.training
    device = resolve_device(job.device)
    return training_steps(data.photos[part], data.classes[part], len(data.palette), job.config, device)


def load_scorer(job: ScorerJob, class_count: int) -> UNet:
    scorer = build_scorer(class_count, job.config)
    scorer.load_state_dict(load_file(job.folder / SCORER))
    return scorer.to(resolve_device(job.device)).eval()
