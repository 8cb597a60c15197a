"""The training loop of pix2pix, in the order of the paper, as a generator of events.

Knows no file format, no command line and no window. Closing the generator stops the run at a step boundary and saves
its state.
"""

from __future__ import annotations

import logging
import math
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pix2pix_training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from pix2pix_training.config import DEFAULT_EPOCHS, TrainingConfig
from pix2pix_training.device import resolve_device, resolve_precision
from pix2pix_training.errors import CheckpointError, TrainingError
from pix2pix_training.events import CheckpointSaved, Event, Finished, PreviewReady, Started, StepDone, Validated
from pix2pix_training.intensity import Mapping as IntensityMapping
from pix2pix_training.mapped_data import MappedPairs, fit_mapping, validation_images
from pix2pix_training.metrics import Scores, mean_scores, score
from pix2pix_training.model_file import ImageDescription, ImageTraits, Model, save_model
from pix2pix_training.networks import set_inference_mode
from pix2pix_training.padding import pad_to_stride
from pix2pix_training.pairs import Split, check_consistent
from pix2pix_training.patches import PatchSampler
from pix2pix_training.run_folder import RunFolder
from pix2pix_training.training_step import TrainingStep
from pix2pix_training.warm_start import start_from

log = logging.getLogger(__name__)

_COLLAPSED_SPREAD = 1e-3


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Pairs to train on and to validate on, and what is known of the images besides their pixels."""

    split: Split
    source_traits: ImageTraits = field(default_factory=ImageTraits)
    target_traits: ImageTraits = field(default_factory=ImageTraits)


def train(
    config: TrainingConfig,
    data: TrainingData,
    out: Path,
    *,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    init: Model | None = None,
) -> Iterator[Event]:
    """Train a generator and write the run folder `out`, yielding what happens.

    Parameters
    ----------
    config : settings; the channel counts of its generator are replaced by those of the data.
    data : pairs of (C, H, W) images, any dtypes.
    out : run folder: ``config.toml``, ``metrics.csv``, ``previews``, ``last.pt``, ``model.safetensors``.
    device : "auto", "cpu", "cuda", "cuda:N" or "mps".
    resume : continue from ``last.pt`` where there is one. On one machine, in float32 on the CPU with the same number of
        threads, the result is bit-identical to that of an uninterrupted run.
    overwrite : replace a run that is there already.
    init : model to start from: its generator, and its discriminator where the file carries one.

    Raises
    ------
    InputError
        Before the first step: settings, data or output cannot be used.
    TrainingError
        Losses or weights are no longer finite; the last checkpoint is kept.
    """
    run = _Run(config, data, RunFolder(out), device, resume=resume, overwrite=overwrite, init=init)
    try:
        yield from run.events()
    except GeneratorExit:  # raised at a `yield`, so never in the middle of a step
        run.save_if_ahead()
        raise


class _Run:
    """State of one run: networks, optimisers, and how far it is."""

    def __init__(
        self,
        config: TrainingConfig,
        data: TrainingData,
        folder: RunFolder,
        device: str,
        *,
        resume: bool,
        overwrite: bool,
        init: Model | None,
    ) -> None:
        self.folder = folder
        self.device = resolve_device(device)
        dtype = resolve_precision(config.precision, self.device)
        check_consistent([*data.split.training, *data.split.validation])
        self.source_mapping = fit_mapping([p.source for p in data.split.training], config.source_values, "source")
        self.target_mapping = fit_mapping([p.target for p in data.split.training], config.target_values, "target")
        self.config = _completed(config, self.source_mapping, self.target_mapping)
        self.data = data
        self.sampler = PatchSampler(
            data.split.training,
            patch_size=config.patch_size,
            augmentation=config.augmentation,
            sampling=config.sampling,
            target_mapping=self.target_mapping,
            seed=config.seed,
        )
        self.patches = MappedPairs(
            data.split.training, self.sampler, self.source_mapping, self.target_mapping, config.patch_size, self.device
        )
        self.steps_per_epoch = math.ceil(self.sampler.patches_per_epoch / config.batch_size)
        self.total_steps = self._total_steps()
        self.networks = TrainingStep(self.config, self.device, dtype)
        if init is not None:
            start_from(init, self.networks, self.config)
        folder.prepare(resume=resume, overwrite=overwrite)
        self.step = self.saved_step = 0
        self.seconds = 0.0
        self.best: dict[str, Any] | None = None
        self.latest: dict[str, Any] | None = None
        if resume and folder.checkpoint.exists():
            self._restore()
        folder.drop_metrics_after(self.step)
        self.resumed_from_seconds = self.seconds

    def _total_steps(self) -> int | None:
        config = self.config
        if config.minutes is not None:
            return None
        if config.steps is not None:
            return config.steps
        return (config.epochs or DEFAULT_EPOCHS) * self.steps_per_epoch

    def events(self) -> Iterator[Event]:
        self.folder.write_config(self.config)
        yield Started(
            config=self.config,
            resumed_from_step=self.step,
            total_steps=self.total_steps,
            steps_per_epoch=self.steps_per_epoch,
            training_pairs=len(self.data.split.training),
            validation_pairs=len(self.data.split.validation),
            device=str(self.device),
        )
        self.preview_pair = next(self._validation_pairs(limit=1))
        started = time.monotonic() - self.seconds
        while (fraction := self._fraction_done()) < 1:
            self._set_learning_rate(fraction)
            losses = self.networks.run(*self.patches.batch(self.step, self.config.batch_size))
            self.step += 1
            self.seconds = time.monotonic() - started
            is_last = self._fraction_done() >= 1
            numbers = {name: float(value) for name, value in losses.items()}
            self._require_finite(numbers)
            if self.step % self.config.validate_every == 0 or is_last:
                yield from self._validate(numbers)
            if self.step % self.config.checkpoint_every == 0 or is_last:
                yield self._save()
            yield StepDone(
                step=self.step,
                epoch=(self.step - 1) // self.steps_per_epoch,
                fraction=self._fraction_done(),
                seconds=self.seconds,
                losses=numbers,
            )
        yield self._finished()

    def _fraction_done(self) -> float:
        if self.total_steps is not None:
            return min(1.0, self.step / self.total_steps)
        assert self.config.minutes is not None
        return min(1.0, self.seconds / (60 * self.config.minutes))

    def _set_learning_rate(self, fraction: float) -> None:
        """Constant, or constant for the first half and linear to zero over the second (reference)."""
        self.networks.set_learning_rate(min(1.0, 2 * (1 - fraction)) if self.config.schedule == "linear" else 1.0)

    def _require_finite(self, losses: Mapping[str, float]) -> None:
        bad = [name for name, value in losses.items() if not math.isfinite(value)]
        if bad:
            kept = f"; the checkpoint of step {self.saved_step} is kept" if self.saved_step else ""
            raise TrainingError(
                f"training broke down at step {self.step}: {', '.join(bad)} is no longer finite{kept}. Try a lower "
                "learning rate, precision fp32, or another GAN mode"
            )

    @torch.no_grad()
    def _translate(self, source: Tensor) -> Tensor:
        """(1, C, H, W) of any size, by the function that the model will stand for."""
        generator = self.networks.generator
        set_inference_mode(generator, self.config.inference)
        height, width = source.shape[-2:]
        output: Tensor = generator(pad_to_stride(source, self.config.generator.stride))[..., :height, :width]
        generator.train()
        return output.float()

    def _validation_pairs(self, limit: int) -> Iterator[tuple[Tensor, Tensor]]:
        pairs = self.data.split.validation or self.data.split.training
        return validation_images(
            pairs[:limit], self.source_mapping, self.target_mapping, self.config.validation_size, self.device
        )

    def _validate(self, losses: Mapping[str, float]) -> Iterator[Event]:
        scores = self._scores() if self.data.split.validation else None
        values = scores.as_dict() if scores else {}
        self.folder.append_metrics(self.step, (self.step - 1) // self.steps_per_epoch, self.seconds, losses, values)
        if scores is not None:
            is_best = self.best is None or scores.mae < self.best["scores"]["mae"]
            self.latest = {"step": self.step, "scores": values}
            if is_best:
                self.best = self.latest
                if self.config.keep == "best":
                    self._save_model()
            yield Validated(step=self.step, scores=values, is_best=is_best)
        source, target = self.preview_pair
        output = self._translate(source)
        if float(output.std()) < _COLLAPSED_SPREAD < float(target.std()):
            log.warning(
                "step %d: the output is almost constant; if this stays so, try a lower learning rate or another GAN "
                "mode, or check that source and target belong together",
                self.step,
            )
        images = (source[0].cpu(), output[0].cpu(), target[0].cpu())
        path = self.folder.write_preview(self.step, images)
        yield PreviewReady(step=self.step, source=images[0], output=images[1], target=images[2], path=path)

    def _scores(self) -> Scores:
        results = []
        for source, target in self._validation_pairs(limit=self.config.validation_images):
            output = self._translate(source)
            results.append(score(output[0].cpu().numpy(), target[0].cpu().numpy(), data_range=2.0))
        return mean_scores(results)

    def _save_model(self) -> None:
        save_model(self._model(), self.folder.model)

    def _model(self) -> Model:
        return Model(
            generator_config=self.config.generator,
            weights=self.networks.generator.state_dict(),
            source=ImageDescription(mapping=self.source_mapping, **asdict(self.data.source_traits)),
            target=ImageDescription(mapping=self.target_mapping, **asdict(self.data.target_traits)),
            inference=self.config.inference,
            training=self._provenance(),
            metrics=dict(self.latest["scores"]) if self.latest and self.latest["step"] == self.step else {},
            credits=self.config.credits,
        )

    def _provenance(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "epochs": self.step / self.steps_per_epoch,
            "seconds": round(self.seconds, 1),
            "training_pairs": len(self.data.split.training),
            "validation_pairs": len(self.data.split.validation),
            "config": asdict(self.config),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "device": str(self.device),
        }

    def _save(self) -> CheckpointSaved:
        if (name := self.networks.first_non_finite()) is not None:
            raise TrainingError(f"training broke down at step {self.step}: the weights {name} are no longer finite")
        if self.best is None or self.config.keep == "last":
            self._save_model()
        checkpoint = Checkpoint(
            config=self.config,
            data=self._fingerprint(),
            step=self.step,
            seconds=self.seconds,
            networks=self.networks.state(),
            random_state=_random_state(self.device),
            best=self.best,
            threads=torch.get_num_threads(),
        )
        save_checkpoint(checkpoint, self.folder.checkpoint)
        self.saved_step = self.step
        return CheckpointSaved(step=self.step, path=self.folder.checkpoint)

    def save_if_ahead(self) -> None:
        """Save the steps done since the last checkpoint."""
        if self.step > self.saved_step:
            self._save()

    def _fingerprint(self) -> dict[str, Any]:
        def described(pairs: Sequence[Any]) -> list[list[Any]]:
            return [[p.name, list(p.source.shape), list(p.target.shape)] for p in pairs]

        return {"training": described(self.data.split.training), "validation": described(self.data.split.validation)}

    def _restore(self) -> None:
        path = self.folder.checkpoint
        saved = load_checkpoint(path)
        _check_same_run(saved, self.config, self._fingerprint(), path)
        if self.device.type == "cpu" and saved["threads"] != torch.get_num_threads():
            log.warning(
                "the run was started with %d threads and goes on with %d, so it will not be bit-identical to an "
                "uninterrupted one",
                saved["threads"],
                torch.get_num_threads(),
            )
        self.networks.load_state(saved["networks"])
        _set_random_state(saved["random_state"], self.device)
        self.step = self.saved_step = saved["step"]
        self.seconds = saved["seconds"]
        self.best = saved["best"]

    def _finished(self) -> Finished:
        kept = self.best if self.config.keep == "best" else self.latest
        return Finished(
            steps=self.step,
            seconds=self.seconds,
            new_seconds=self.seconds - self.resumed_from_seconds,
            skipped_patches=self.sampler.skipped,
            model=self.folder.model,
            model_step=kept["step"] if kept else self.step,
            scores=kept["scores"] if kept else {},
        )


def _completed(config: TrainingConfig, source: IntensityMapping, target: IntensityMapping) -> TrainingConfig:
    """The settings with what the data decides: channel counts, and a length where none is given."""
    generator = replace(
        config.generator, source_channels=source.network_channels, target_channels=target.network_channels
    )
    has_length = any(v is not None for v in (config.epochs, config.steps, config.minutes))
    return replace(config, generator=generator, epochs=config.epochs if has_length else DEFAULT_EPOCHS)


_MAY_CHANGE_ON_RESUME = ("epochs", "steps", "minutes", "checkpoint_every", "validate_every", "credits")


def _check_same_run(saved: Mapping[str, Any], config: TrainingConfig, data: Mapping[str, Any], path: Path) -> None:
    """Refuse to continue a run under other settings or on other images; its length may change."""
    now = asdict(config)
    for name, value in saved["config"].items():
        if name in now and name not in _MAY_CHANGE_ON_RESUME and now[name] != value:
            raise CheckpointError(
                f"{path}: the run was started with {name} = {value!r}, now it is {now[name]!r}; resume with the same "
                "settings, or start a new run"
            )
    if saved["data"] != data:
        raise CheckpointError(
            f"{path}: the run was started on other images or another validation split; start a new run"
        )


def _random_state(device: torch.device) -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _set_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
