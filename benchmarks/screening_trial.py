"""One training of the screening with all that is measured of it: plain settings in, plain numbers out.

A training leaves its result in its folder; where one is there already, it is read instead. Values are in the network's
units: targets are mapped to [-1, 1], so MAE is in these units, and PSNR and SSIM have a data range of 2.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.real_data import RIGHT, labelfree_pair
from napari_pix2pix.training_data import DataRequest, load_training_data
from pix2pix_training.array_source import regions_of
from pix2pix_training.atomic import atomic_write
from pix2pix_training.config import InferenceConfig, Norm, Statistics, TrainingConfig, preset
from pix2pix_training.errors import InputError
from pix2pix_training.events import Finished, StepDone
from pix2pix_training.mapped_data import validation_images
from pix2pix_training.metrics import Scores, mean_scores, score
from pix2pix_training.model_file import Model, load_model
from pix2pix_training.networks import Generator
from pix2pix_training.padding import pad_to_stride
from pix2pix_training.pairs import split_region
from pix2pix_training.training import TrainingData, train

DATA_SETS = ("facades", "em_membranes", "labelfree")
PATCH = 256
DATA_RANGE = 2.0
RESULT = "result.json"
_VALIDATIONS = 10
_LARGEST_PX = 2**20


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A generator of the screening: `seamless` with another depth and norm, or the preset `paper` as it is.

    `averaged` is whether it is trained at a constant rate and its weights are averaged over steps, as in the preset
    `seamless`; else the rate falls to zero over the second half.
    """

    depth: int = 8
    norm: Norm = "batch"
    paper: bool = False
    averaged: bool = False

    @property
    def name(self) -> str:
        return "paper" if self.paper else f"{self.norm}-{self.depth}{'-averaged' if self.averaged else ''}"

    @property
    def inferences(self) -> tuple[InferenceConfig, ...]:
        """The functions that a training gives models for, the one that it is validated by first."""
        if self.paper:
            return (preset("paper").inference,)
        kinds: tuple[Statistics, ...] = ("image",) if self.norm == "instance" else ("running", "image")
        return tuple(InferenceConfig(statistics=kind) for kind in kinds)


PAPER = Variant(paper=True)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One training; `out` is where those of the whole screening are."""

    variant: Variant
    data_set: str
    seed: int
    steps: int
    base_width: int
    data: Path
    out: Path

    @property
    def folder(self) -> Path:
        return self.out / self.data_set / f"{self.variant.name}-w{self.base_width}-{self.steps}-seed{self.seed}"

    @property
    def caption(self) -> str:
        return f"{self.data_set}, {self.variant.name}, {self.steps} steps, seed {self.seed}"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one function of a trained model does with the held-out images.

    Attributes
    ----------
    scores : means over the images, each translated as a whole.
    tile_mismatch : mean absolute difference between the result of the whole image and that of independent tiles of
        `PATCH` pixels. Images no larger than that are laid together, two by two, beforehand.
    training_mae : MAE in training mode, patch by patch: norms on the patch's statistics as in training, dropout on.
    """

    statistics: Statistics
    scores: Scores
    tile_mismatch: float
    training_mae: float

    @property
    def disparity(self) -> float:
        """By how much MAE grows from training mode to the function that the model stands for."""
        return self.scores.mae - self.training_mae


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """`cpu_seconds_per_step` is processor time of this process: it does not grow when others use the machine."""

    measured: tuple[Measured, ...]
    seconds_per_step: float
    cpu_seconds_per_step: float


def load_data(name: str, folder: Path) -> TrainingData:
    """350 / 50 pairs of facades, 20 / 4 of em_membranes; of the field of labelfree the right quarter is held out.

    What is trained on there ends one patch before.
    """
    if name == "labelfree":
        return TrainingData(split=split_region(labelfree_pair(folder), RIGHT, patch_size=PATCH))
    source, target, held_out = {
        "facades": ("label", "photo", 50 / 400),
        "em_membranes": ("image", "membrane", 4 / 24),
    }[name]
    root = folder / name
    request = DataRequest(sources=(root / source,), targets=(root / target,), validation=held_out)
    return load_training_data(request, patch_size=PATCH, seed=0)


def training_config(trial: Trial) -> TrainingConfig:
    """The last model is kept, as the best by MAE would be an early, blurred one."""
    variant = trial.variant
    config = preset("paper" if variant.paper else "seamless")
    generator, discriminator = config.generator, config.discriminator
    if not variant.paper:
        generator = replace(generator, depth=variant.depth, norm=variant.norm)
        discriminator = replace(discriminator, norm="instance" if variant.norm == "instance" else "batch")
        if not variant.averaged:  # as all candidates were before averages had been tried
            config = replace(config, ema_decay=0.0, schedule="linear")
    return replace(
        config,
        generator=replace(generator, base_width=trial.base_width),
        discriminator=replace(discriminator, base_width=trial.base_width),
        inference=variant.inferences[0],
        steps=trial.steps,
        patch_size=PATCH,
        batch_size=1,
        seed=trial.seed,
        keep="last",
        validate_every=max(1, trial.steps // _VALIDATIONS),
        checkpoint_every=max(1, trial.steps // _VALIDATIONS),
    )


def run_trial(trial: Trial) -> TrialResult:
    """Train, or go on training, and measure; what is finished is read from its folder."""
    path = trial.folder / RESULT
    if path.exists():
        return read_result(path)
    data = load_data(trial.data_set, trial.data)
    seconds, cpu_seconds = _trained(trial, data)
    model = load_model(trial.folder / "model.safetensors")
    sources_and_targets = list(held_out_images(model, data))
    result = TrialResult(
        measured=tuple(measure(model, inference, sources_and_targets) for inference in trial.variant.inferences),
        seconds_per_step=seconds,
        cpu_seconds_per_step=cpu_seconds,
    )
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(asdict(result), indent=2), encoding="utf-8")
    return result


def read_result(path: Path) -> TrialResult:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        measured = tuple(Measured(**{**m, "scores": Scores(**m["scores"])}) for m in content.pop("measured"))
        return TrialResult(measured=measured, **content)
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} is damaged ({error!r}); remove it and run again") from error


def _trained(trial: Trial, data: TrainingData) -> tuple[float, float]:
    """Seconds and processor seconds per step of what was trained now."""
    cpu_before, steps = time.process_time(), 0
    for event in train(training_config(trial), data, trial.folder, device="cpu", resume=True):
        if isinstance(event, StepDone):
            steps += 1
        elif isinstance(event, Finished):
            seconds = event.new_seconds
    steps = max(steps, 1)
    return seconds / steps, (time.process_time() - cpu_before) / steps


def held_out_images(model: Model, data: TrainingData) -> Iterator[tuple[Tensor, Tensor]]:
    """Source and target of each held-out pair as a whole, (1, C, H, W) in [-1, 1]."""
    device = torch.device("cpu")
    return validation_images(data.split.validation, model.source.mapping, model.target.mapping, _LARGEST_PX, device)


@torch.inference_mode()
def measure(model: Model, inference: InferenceConfig, images: Sequence[tuple[Tensor, Tensor]]) -> Measured:
    network = model.generator(inference)
    scores = [score(whole(network, x)[0].numpy(), y[0].numpy(), DATA_RANGE) for x, y in images]
    large = _laid_together([x for x, _ in images])
    mismatch = [float((whole(network, x) - tiled(network, x)).abs().mean()) for x in large]
    in_training = [float((_in_training_mode(network, x) - y).abs().mean()) for x, y in images]
    return Measured(
        statistics=inference.statistics,
        scores=mean_scores(scores),
        tile_mismatch=float(np.mean(mismatch)),
        training_mae=float(np.mean(in_training)),
    )


def whole(network: Generator, x: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    output: Tensor = network(pad_to_stride(x, network.config.stride))[..., :height, :width]
    return output


def tiled(network: Generator, x: Tensor) -> Tensor:
    """Every tile of `PATCH` pixels translated as if there were no others."""
    output = x.new_empty(len(x), network.config.target_channels, *x.shape[-2:])
    for region in regions_of(x.shape[-2], x.shape[-1], PATCH):
        output[..., *region.slices] = whole(network, x[..., *region.slices])
    return output


def _in_training_mode(network: Generator, x: Tensor) -> Tensor:
    """Patch by patch, each on the running averages that training ended with; dropout from a fixed seed."""
    training = copy.deepcopy(network).train()
    torch.manual_seed(0)
    output = x.new_empty(len(x), network.config.target_channels, *x.shape[-2:])
    for region in regions_of(x.shape[-2], x.shape[-1], PATCH):
        training.load_state_dict(network.state_dict())
        output[..., *region.slices] = whole(training, x[..., *region.slices])
    return output


def _laid_together(images: list[Tensor]) -> list[Tensor]:
    """Images larger than a tile as they are; of smaller ones each four next to each other, as one."""
    if any(max(x.shape[-2:]) > PATCH for x in images):
        return images
    fours = [images[i : i + 4] for i in range(0, len(images) - 3, 4)]
    return [torch.cat([torch.cat(four[:2], -1), torch.cat(four[2:], -1)], -2) for four in fours]
