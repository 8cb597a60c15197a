"""One training of the screening with all that is measured of it: plain settings in, plain numbers out.

A training leaves its result in its folder; where one is there already, it is read instead. Values are in the network's
units: targets are mapped to [-1, 1], so MAE is in these units, and PSNR and SSIM have a data range of 2.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.real_data import RIGHT, labelfree_pair
from napari_pix2pix.formats import open_image
from napari_pix2pix.training_data import DataRequest, load_training_data
from pix2pix_training.array_source import MemorySource, plane_size, whole_plane
from pix2pix_training.atomic import atomic_write
from pix2pix_training.choices import Decoder, Norm, Precision, Preset, Statistics
from pix2pix_training.config import TrainingConfig
from pix2pix_training.errors import InputError
from pix2pix_training.events import Finished, StepDone
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.intensity import resolved, to_tensor
from pix2pix_training.invalid_pixels import FilledSource
from pix2pix_training.metrics import Scores, grid_ratio, mean_scores, score
from pix2pix_training.model_file import Model, load_model
from pix2pix_training.networks import Generator, norm_layers, pad_to_stride
from pix2pix_training.pairs import Pair, Split, split_fraction, split_region
from pix2pix_training.presets import preset
from pix2pix_training.regions import Region
from pix2pix_training.training import TrainingData, train

DATA_SETS = ("facades", "em_membranes", "labelfree")
"""Those of the first screenings, which chose depth, norm and rate."""
MORE_DATA_SETS = (*DATA_SETS, "denoising", "widefield")
PATCH = 256
DATA_RANGE = 2.0
RESULT = "result.json"
_VALIDATIONS = 10
_LEFT = Region(0, 1024, 0, 256)
_DENOISING_HELD_OUT = 0.25
_PHOTONS, _READ_NOISE = 20.0, 2.0
_HIDDEN = 0.5
_CALIBRATING_PATCHES = 100


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A preset, or a candidate for the network of `seamless`.

    A preset is trained as it is but for what is given of the fields after it; `changes` are settings as table, name and
    value, `pairs` is how many of the pairs are trained on, drawn anew for each seed. With `images_first` the generator
    has learnt to fill in what is hidden of the sources of all pairs before, for as many steps. A candidate has the
    depth and norm given, and is trained at the rate of the paper, which falls to zero over the second half, without an
    average of weights and without jitter.
    """

    depth: int = 8
    norm: Norm = "batch"
    preset: Preset | None = None
    learning_rate: float | None = None
    intensity_jitter: float | None = None
    decoder: Decoder | None = None
    precision: Precision | None = None
    changes: tuple[tuple[str, str, float | str], ...] = ()
    pairs: int | None = None
    images_first: bool = False

    @property
    def name(self) -> str:
        parts = [self.preset or f"{self.norm}-{self.depth}"]
        if self.learning_rate is not None:
            parts.append(f"rate-{self.learning_rate:g}")
        if self.intensity_jitter is not None:
            parts.append(f"jitter-{self.intensity_jitter:g}")
        if self.decoder is not None:
            parts.append(self.decoder)
        if self.precision is not None:
            parts.append(self.precision)
        parts += [f"{name}-{value}" for _, name, value in self.changes]
        if self.pairs is not None:
            parts.append(f"{self.pairs}pairs")
        if self.images_first:
            parts.append("images-first")
        return "-".join(parts)

    @property
    def inferences(self) -> tuple[InferenceConfig, ...]:
        """The functions that a training gives models for, the one that it is validated by first."""
        if self.preset is not None:
            return (preset(self.preset).inference,)
        kinds: tuple[Statistics, ...] = ("image",) if self.norm == "instance" else ("running", "image")
        return tuple(InferenceConfig(statistics=kind) for kind in kinds)


PAPER = Variant(preset="paper")
SEAMLESS = Variant(preset="seamless")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One training; `out` is where those of the whole screening are.

    `inner` holds out other images, of those that are trained on otherwise: what is chosen by them is not chosen by the
    images that it is judged by in the end.
    """

    variant: Variant
    data_set: str
    seed: int
    steps: int
    base_width: int
    data: Path
    out: Path
    inner: bool = False

    @property
    def folder(self) -> Path:
        split = "-inner" if self.inner else ""
        return self.out / self.data_set / f"{self.variant.name}-w{self.base_width}-{self.steps}-seed{self.seed}{split}"

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
    grid : for each period in pixels, median of `grid_index` of the results over that of the targets.
    """

    statistics: Statistics
    scores: Scores
    tile_mismatch: float
    training_mae: float
    grid: Mapping[str, float] = field(default_factory=dict)

    @property
    def disparity(self) -> float:
        """By how much MAE grows from training mode to the function that the model stands for."""
        return self.scores.mae - self.training_mae


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """`cpu_seconds_per_step` is processor time of this process: it does not grow when others use the machine.

    `calibrated` are the scores with running statistics measured anew at the end; None where they are not used.
    """

    measured: tuple[Measured, ...]
    seconds_per_step: float
    cpu_seconds_per_step: float
    calibrated: Scores | None = None


def load_data(name: str, folder: Path, *, inner: bool = False) -> TrainingData:
    """350 / 50 pairs of facades, 20 / 4 of em_membranes; of the fields of labelfree and widefield the right quarter is
    held out; of the fields of nuclei with noise a quarter.

    What is trained on there ends one patch before. With `inner`, as many of the 350 and of the 20 pairs are held out in
    their place, and of the field the left quarter.
    """
    if name in _FIELDS:
        pair, left, right = _FIELDS[name]
        return TrainingData(split=split_region(pair(folder), left if inner else right, patch_size=PATCH))
    if name == "denoising":
        split = split_fraction(denoising_pairs(folder), _DENOISING_HELD_OUT, patch_size=PATCH, seed=0)
        return TrainingData(split=_inner(split, len(split.validation)) if inner else split)
    source, target, held_out, pairs = {
        "facades": ("label", "photo", 50, 400),
        "em_membranes": ("image", "membrane", 4, 24),
    }[name]
    root = folder / name
    request = DataRequest(sources=(root / source,), targets=(root / target,), validation=held_out / pairs)
    data = load_training_data(request, patch_size=PATCH, seed=0)
    return replace(data, split=_inner(data.split, held_out)) if inner else data


def denoising_pairs(folder: Path) -> list[Pair]:
    """Fields of nuclei as targets; as sources the same with the noise of a dim exposure, from a fixed seed.

    Poisson noise of 20 photons at the brightest value of the field, then Gaussian noise of 2 grey levels.
    """
    pairs = []
    for number, path in enumerate(sorted((folder / "nuclei" / "image").iterdir())):
        with open_image(path) as image:
            clean = image.read(whole_plane(image))
        random = np.random.default_rng(number)
        photons = _PHOTONS / max(float(clean.max()), 1.0)
        noisy = random.poisson(clean * photons) / photons + random.normal(0, _READ_NOISE, clean.shape)
        source = np.clip(np.round(noisy), 0, 255).astype(np.uint8)
        pairs.append(Pair(MemorySource(source, name=path.name), MemorySource(clean, name=path.name), path.stem))
    return pairs


def widefield_pair(folder: Path) -> Pair:
    """Nuclei (DAPI) and neurites (TUJ1) of one field."""
    root = folder / "widefield"
    return Pair(open_image(root / "DAPI.png"), open_image(root / "TUJ1.png"), "widefield")


_FIELDS: dict[str, tuple[Callable[[Path], Pair], Region, Region]] = {
    "labelfree": (labelfree_pair, _LEFT, RIGHT),
    "widefield": (widefield_pair, Region(0, 2175, 0, 720), Region(0, 2175, 2162, 2882)),
}
"""Data sets of a single field: the pair, and its left and its right quarter."""


def _inner(split: Split, held_out: int) -> Split:
    return split_fraction(split.training, held_out / len(split.training), patch_size=PATCH, seed=1)


def training_config(trial: Trial) -> TrainingConfig:
    """The last model is kept, as the best by MAE would be an early, blurred one. Membranes are intensities."""
    variant = trial.variant
    config = _changed_preset(variant, preset(variant.preset)) if variant.preset else _of_candidate(variant)
    return replace(
        config,
        generator=replace(config.generator, base_width=trial.base_width),
        discriminator=replace(config.discriminator, base_width=trial.base_width),
        steps=trial.steps,
        patch_size=PATCH,
        batch_size=1,
        seed=trial.seed,
        keep="last",
        target_values="dtype" if trial.data_set == "em_membranes" else config.target_values,
        validate_every=max(1, trial.steps // _VALIDATIONS),
        checkpoint_every=max(1, trial.steps // _VALIDATIONS),
    )


def _changed_preset(variant: Variant, config: TrainingConfig) -> TrainingConfig:
    if variant.learning_rate is not None:
        config = replace(config, learning_rate=variant.learning_rate)
    if variant.decoder is not None:
        config = replace(config, generator=replace(config.generator, decoder=variant.decoder))
    if variant.precision is not None:
        config = replace(config, precision=variant.precision)
    for table, name, value in variant.changes:
        config = replace(config, **{table: replace(getattr(config, table), **{name: value})})
    return config if variant.intensity_jitter is None else _with_jitter(config, variant.intensity_jitter)


def _with_jitter(config: TrainingConfig, jitter: float) -> TrainingConfig:
    return replace(config, augmentation=replace(config.augmentation, intensity_jitter=jitter))


def _of_candidate(variant: Variant) -> TrainingConfig:
    config = _with_jitter(preset("seamless"), 0.0)
    return replace(
        config,
        generator=replace(config.generator, depth=variant.depth, norm=variant.norm, decoder="transposed"),
        discriminator=replace(config.discriminator, norm="instance" if variant.norm == "instance" else "batch"),
        inference=variant.inferences[0],
        learning_rate=preset("paper").learning_rate,
        schedule="linear",
        ema_decay=0.0,
    )


def run_trial(trial: Trial) -> TrialResult:
    """Train, or go on training, and measure; what is finished is read from its folder."""
    path = trial.folder / RESULT
    if path.exists():
        return read_result(path)
    everything = load_data(trial.data_set, trial.data, inner=trial.inner)
    init = _learnt_from_images(trial, everything) if trial.variant.images_first else None
    data = _of_so_many_pairs(trial, everything)
    seconds, cpu_seconds = _trained(trial, data, init)
    model = load_model(trial.folder / "model.safetensors")
    sources_and_targets = list(held_out_images(model, data))
    inference = trial.variant.inferences[0]
    result = TrialResult(
        measured=tuple(measure(model, each, sources_and_targets) for each in trial.variant.inferences),
        seconds_per_step=seconds,
        cpu_seconds_per_step=cpu_seconds,
        calibrated=measure(_calibrated(model, data), inference, sources_and_targets).scores
        if inference.statistics == "running"
        else None,
    )
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(asdict(result), indent=2), encoding="utf-8")
    return result


def _of_so_many_pairs(trial: Trial, data: TrainingData) -> TrainingData:
    """As many of the pairs as the variant says; fewer are among those of more."""
    if trial.variant.pairs is None:
        return data
    training = data.split.training
    order = np.random.default_rng([trial.seed, 2]).permutation(len(training))
    chosen = tuple(training[i] for i in sorted(order[: trial.variant.pairs]))
    return replace(data, split=replace(data.split, training=chosen))


def read_result(path: Path) -> TrialResult:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        measured = tuple(Measured(**{**m, "scores": Scores(**m["scores"])}) for m in content.pop("measured"))
        calibrated = content.pop("calibrated", None)
        return TrialResult(measured=measured, calibrated=calibrated and Scores(**calibrated), **content)
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} is damaged ({error!r}); remove it and run again") from error


def _learnt_from_images(trial: Trial, data: TrainingData) -> Model:
    """A generator that fills in what is hidden of sources, and knows no target."""
    config = training_config(trial)
    config = replace(
        config,
        objective=replace(config.objective, gan_mode="none"),
        augmentation=replace(config.augmentation, hidden=_HIDDEN),
    )
    pairs = tuple(replace(pair, target=pair.source) for pair in data.split.training)
    folder = trial.folder.with_name(f"{trial.folder.name}-before")
    for _ in train(config, TrainingData(split=Split(pairs, ())), folder, device="cpu", resume=True):
        pass
    return load_model(folder / "model.safetensors")


def _trained(trial: Trial, data: TrainingData, init: Model | None) -> tuple[float, float]:
    """Seconds and processor seconds per step of what was trained now."""
    cpu_before, steps = time.process_time(), 0
    for event in train(training_config(trial), data, trial.folder, device="cpu", resume=True, init=init):
        if isinstance(event, StepDone):
            steps += 1
        elif isinstance(event, Finished):
            seconds = event.new_seconds
    steps = max(steps, 1)
    return seconds / steps, (time.process_time() - cpu_before) / steps


@torch.no_grad()
def _calibrated(model: Model, data: TrainingData) -> Model:
    """The model with the mean statistics of some patches, as they are, in the place of those that training left."""
    network, random = model.generator(), np.random.default_rng(0)
    for norm in norm_layers(network):
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.zero_()  # batch renorm then takes the plain mean of the first hundred
    network.train()
    for _ in range(_CALIBRATING_PATCHES):
        source = data.split.training[random.integers(len(data.split.training))].source
        y0, x0 = (int(random.integers(side - PATCH + 1)) for side in plane_size(source))
        patch = to_tensor(FilledSource(source).read(Region.at(y0, x0, PATCH, PATCH)))[None]
        network(resolved(model.source.mapping, source).to_network(patch))
    return replace(model, weights=network.state_dict())


def held_out_images(model: Model, data: TrainingData) -> Iterator[tuple[Tensor, Tensor]]:
    """Source and target of each held-out pair as a whole, (1, C, H, W) in [-1, 1]."""
    for pair in data.split.validation:
        source, target = (
            to_tensor(FilledSource(image).read(whole_plane(image)))[None] for image in (pair.source, pair.target)
        )
        yield resolved(model.source.mapping, pair.source).to_network(source), model.target.mapping.to_network(target)


@torch.inference_mode()
def measure(model: Model, inference: InferenceConfig, images: Sequence[tuple[Tensor, Tensor]]) -> Measured:
    network = model.generator(inference)
    results = [whole(network, x)[0].numpy() for x, _ in images]
    targets = [y[0].numpy() for _, y in images]
    scores = [score(result, target, DATA_RANGE) for result, target in zip(results, targets, strict=True)]
    large = _laid_together([x for x, _ in images])
    mismatch = [float((whole(network, x) - tiled(network, x)).abs().mean()) for x in large]
    in_training = [float((_in_training_mode(network, x) - y).abs().mean()) for x, y in images]
    return Measured(
        statistics=inference.statistics,
        scores=mean_scores(scores),
        tile_mismatch=float(np.mean(mismatch)),
        training_mae=float(np.mean(in_training)),
        grid={str(period): ratio for period, ratio in (grid_ratio(results, targets) or {}).items()},
    )


def whole(network: Generator, x: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    output: Tensor = network(pad_to_stride(x, network.config.stride))[..., :height, :width]
    return output


def tiled(network: Generator, x: Tensor) -> Tensor:
    """Every tile of `PATCH` pixels translated as if there were no others."""
    output = x.new_empty(len(x), network.config.target_channels, *x.shape[-2:])
    for region in Region.whole(x.shape[-2], x.shape[-1]).tiles(PATCH):
        output[..., *region.slices] = whole(network, x[..., *region.slices])
    return output


def _in_training_mode(network: Generator, x: Tensor) -> Tensor:
    """Patch by patch, each on the running averages that training ended with; dropout from a fixed seed."""
    training = copy.deepcopy(network).train()
    torch.manual_seed(0)
    output = x.new_empty(len(x), network.config.target_channels, *x.shape[-2:])
    for region in Region.whole(x.shape[-2], x.shape[-1]).tiles(PATCH):
        training.load_state_dict(network.state_dict())
        output[..., *region.slices] = whole(training, x[..., *region.slices])
    return output


def _laid_together(images: list[Tensor]) -> list[Tensor]:
    """Images larger than a tile as they are; of smaller ones each four next to each other, as one."""
    if any(max(x.shape[-2:]) > PATCH for x in images):
        return images
    fours = [images[i : i + 4] for i in range(0, len(images) - 3, 4)]
    return [torch.cat([torch.cat(four[:2], -1), torch.cat(four[2:], -1)], -2) for four in fours]
