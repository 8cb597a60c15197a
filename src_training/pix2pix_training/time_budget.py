"""How large networks, patches and batches are where a run has a time and its user has not said it."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch

from pix2pix_training.array_source import channel_count, plane_size
from pix2pix_training.config import TrainingConfig
from pix2pix_training.device import is_out_of_memory, resolve_device, resolve_precision
from pix2pix_training.distributed import ALONE, Group
from pix2pix_training.errors import SettingsError
from pix2pix_training.machine import default_budget_bytes
from pix2pix_training.networks import build_generator
from pix2pix_training.pairs import Split
from pix2pix_training.presets import usual_depth
from pix2pix_training.run_folder import RunFolder
from pix2pix_training.setting_options import FITTED_TO_TIME, Place
from pix2pix_training.training import TrainingData
from pix2pix_training.training_step import TrainingStep

log = logging.getLogger(__name__)

_SIZES = ((16, 128), (16, 256), (32, 256), (64, 256))
"""Base width and patch, from little work to much."""
_BATCH = 4
_FREE_BATCH = 1.5
"""A batch is taken whose step takes at most so many times as long as that of a single patch: the device has room."""
_ENOUGH_STEPS = 1500
"""A larger network pays only where it gets so many; that of the screening in docs/measurements/quality.md."""
_TIMED_STEPS = 3
_BYTES_PER_WEIGHT = 24
"""Weights, gradients, two moments and the average, and about as much for features and the discriminator."""
_WIDTH, _PATCH, _BATCH_SIZE = FITTED_TO_TIME
_DISCRIMINATOR_WIDTH, _DEPTH = ("discriminator", "base_width"), ("generator", "depth")


class Loader(Protocol):
    def __call__(self, *, patch_size: int) -> TrainingData: ...


@dataclass(frozen=True)
class _Timed:
    config: TrainingConfig
    seconds_per_step: float

    def steps(self) -> float:
        assert self.config.minutes is not None
        return 60 * self.config.minutes / self.seconds_per_step


def sized_run(
    config: TrainingConfig,
    given: Collection[Place],
    load: Loader,
    out: Path,
    *,
    resume: bool,
    device: str,
    group: Group = ALONE,
) -> tuple[TrainingConfig, TrainingData]:
    """Settings with the sizes that fit the time of the run, and its images; what is picked is said.

    A run that is resumed keeps its sizes. Where the length is no time, the sizes are those of `config`.

    Parameters
    ----------
    given : settings that the user has said, which stay as they are; see `places_of`.
    load : called with `patch_size`, on which the split of the images may depend.
    group : processes of the run, which all take the sizes that the first one finds.
    """
    recorded = RunFolder(out).settings() if resume else None
    if recorded is not None:
        config = _sized(
            config,
            given,
            width=recorded.generator.base_width,
            patch=recorded.patch_size,
            batch=recorded.batch_size,
        )
        return config, load(patch_size=config.patch_size)
    data = load(patch_size=config.patch_size)
    if config.minutes is None:
        return config, data
    fitted = group.broadcast(_fitted(config, given, data.split, resolve_device(device)))
    return fitted, data if fitted.patch_size == config.patch_size else load(patch_size=fitted.patch_size)


def _fitted(config: TrainingConfig, given: Collection[Place], split: Split, device: torch.device) -> TrainingConfig:
    picked: _Timed | None = None
    for candidate in _candidates(config, given, split):
        timed = _timed(candidate, split, device)
        if timed is None or (picked is not None and timed.steps() < _ENOUGH_STEPS):
            break
        picked = timed
    if picked is None:
        return config
    if _BATCH_SIZE not in given:
        batched = _timed(replace(picked.config, batch_size=_BATCH), split, device)
        if batched is not None and batched.seconds_per_step <= _FREE_BATCH * picked.seconds_per_step:
            picked = batched
    fitted = picked.config
    log.warning(
        "for %g min on %s: base width %d, patches of %d px, batch %d, about %d steps of %.3g s; a size that "
        "you give yourself is kept",
        config.minutes,
        device,
        fitted.generator.base_width,
        fitted.patch_size,
        fitted.batch_size,
        picked.steps(),
        picked.seconds_per_step,
    )
    return fitted


def _candidates(config: TrainingConfig, given: Collection[Place], split: Split) -> Iterator[TrainingConfig]:
    """Settings from little work to much, whose patches are no larger than the images."""
    if set(FITTED_TO_TIME) <= set(given):
        return
    room = min(min(plane_size(pair.source)) for pair in split.training)
    tried: list[TrainingConfig] = []
    for width, patch in _SIZES:
        try:
            candidate = _sized(config, given, width=width, patch=patch, batch=1)
        except SettingsError:  # the networks that are asked for need another patch
            continue
        if candidate.patch_size <= room and candidate not in tried:
            tried.append(candidate)
            yield candidate


def _sized(config: TrainingConfig, given: Collection[Place], *, width: int, patch: int, batch: int) -> TrainingConfig:
    """`config` of another size where that is not given; the depth and the other width follow as they do for options."""
    generator, discriminator = config.generator, config.discriminator
    if _WIDTH not in given:
        generator = replace(generator, base_width=width)
        if _DISCRIMINATOR_WIDTH not in given:
            discriminator = replace(discriminator, base_width=width)
    if _PATCH not in given and _DEPTH not in given:
        generator = replace(generator, depth=usual_depth(config.preset, patch))
    return replace(
        config,
        generator=generator,
        discriminator=discriminator,
        patch_size=config.patch_size if _PATCH in given else patch,
        batch_size=config.batch_size if _BATCH_SIZE in given else batch,
    )


def _timed(config: TrainingConfig, split: Split, device: torch.device) -> _Timed | None:
    """A few steps on noise; None where memory does not suffice."""
    pair = split.training[0]
    channels = channel_count(pair.source), channel_count(pair.target)
    generator = replace(config.generator, source_channels=channels[0], target_channels=channels[1])
    with torch.device("meta"):
        weights = sum(weight.numel() for weight in build_generator(generator).parameters())
    if weights * _BYTES_PER_WEIGHT > default_budget_bytes(device):
        return None
    measured = replace(config, generator=generator, compile=False)
    try:
        step = TrainingStep(measured, device, resolve_precision(config.precision, device, training=True))
        _run(step, config)  # kernels are chosen, memory is taken
        started = time.perf_counter()
        for _ in range(_TIMED_STEPS):
            _run(step, config)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            return None
        raise
    return _Timed(config, (time.perf_counter() - started) / _TIMED_STEPS)


def _run(step: TrainingStep, config: TrainingConfig) -> None:
    step.run_on_noise(config.batch_size, config.patch_size)["G_L1"].item()  # waits for the device
