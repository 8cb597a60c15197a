"""The training loop of pix2pix, in the order of the paper, as a generator of events.

Knows no file format, no command line and no window. Closing the generator stops the run at a step boundary and saves
its state.
"""

from __future__ import annotations

import logging
import math
import platform
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, assert_never

import torch
from torch import Tensor

from pix2pix_training.checkpoint import (
    Checkpoint,
    check_same_run,
    load_checkpoint,
    random_state,
    save_checkpoint,
    set_random_state,
    states_from,
)
from pix2pix_training.config import DEFAULT_EPOCHS, TrainingConfig
from pix2pix_training.descriptions import describe_mapping
from pix2pix_training.device import is_out_of_memory, resolve_device, resolve_precision
from pix2pix_training.diagnosis import (
    DiscriminatorWatch,
    advice_on_size,
    collapse,
    memory_errors_in_words,
    size_that_fits,
)
from pix2pix_training.errors import CheckpointError, TrainingError
from pix2pix_training.events import (
    CheckpointSaved,
    Event,
    Finished,
    PreviewReady,
    Started,
    StepDone,
    Validated,
    Validating,
    Warned,
)
from pix2pix_training.mapped_data import mapped_pairs
from pix2pix_training.metrics import Scores, mean_scores
from pix2pix_training.model_file import ImageDescription, ImageTraits, Model, save_model, saved_model_step
from pix2pix_training.networks import Generator as GeneratorNetwork
from pix2pix_training.pairs import Split
from pix2pix_training.preparation import PreparedData, changed_image, prepare, require_usable
from pix2pix_training.registration import misalignment_warning
from pix2pix_training.run_folder import RunFolder
from pix2pix_training.training_step import TrainingStep
from pix2pix_training.validation import Validation
from pix2pix_training.warm_start import start_from
from pix2pix_training.weight_average import WeightAverage

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LOSSES = 0.2


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Pairs to train on and to validate on, and what is known of the images besides their pixels."""

    split: Split
    source_traits: ImageTraits = field(default_factory=ImageTraits)
    target_traits: ImageTraits = field(default_factory=ImageTraits)


def train(
    config: TrainingConfig,
    data: TrainingData,
    out: str | Path,
    *,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    init: Model | None = None,
) -> Generator[Event, None, None]:
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
        Losses or weights are no longer finite, or the device is out of memory; the last checkpoint is kept.
    """
    folder, place = RunFolder(Path(out)), resolve_device(device)
    with memory_errors_in_words(place), folder.claimed(resume=resume, overwrite=overwrite):
        require_usable(config, data.split)
        saved = load_checkpoint(folder.checkpoint) if resume and folder.checkpoint.exists() else None
        start = None if init is None else (init.source.mapping, init.target.mapping)
        prepared = yield from prepare(data.split, config, start, z_context=data.source_traits.z_context)
        run = _Run(config, data, prepared, folder, place, resume=resume, saved=saved, init=init)
        try:
            yield from run.events()
        except GeneratorExit:  # raised at a `yield`, so never in the middle of a step
            run.save_if_ahead()
            raise
        finally:
            run.patches.close()


class _Run:
    """State of one run: networks, optimisers, and how far it is."""

    def __init__(
        self,
        config: TrainingConfig,
        data: TrainingData,
        prepared: PreparedData,
        folder: RunFolder,
        device: torch.device,
        *,
        resume: bool,
        saved: Checkpoint | None,
        init: Model | None,
    ) -> None:
        self.folder = folder
        self.device = device
        self.prepared = prepared
        self.source = ImageDescription(mapping=self.prepared.source_mapping, **asdict(data.source_traits))
        self.target = ImageDescription(mapping=self.prepared.target_mapping, **asdict(data.target_traits))
        self.config = _completed(config, self.prepared)
        self.data = data
        if saved is not None:
            self._check_same(saved)
        self.patches, patches_per_epoch = mapped_pairs(self.config, self.prepared, self.device)
        self.steps_per_epoch = math.ceil(patches_per_epoch / config.batch_size)
        self.total_steps = self._total_steps()
        self.validation = Validation(self.config, self.prepared, self.device)
        dtype = resolve_precision(config.precision, self.device, training=True)
        self.networks = TrainingStep(self.config, self.device, dtype)
        if init is not None:
            start_from(init, self.networks, self.config)
        self.average = WeightAverage(self.networks.generator, config.ema_decay) if config.ema_decay else None
        folder.prepare(resume=resume)
        self.step = self.saved_step = 0
        self.seconds = 0.0
        self.best: Mapping[str, Any] | None = None
        self.latest: Mapping[str, Any] | None = None
        self.stale_validations = 0
        if saved is not None:
            self._restore(saved)
        folder.drop_metrics_after(self.step)
        self.resumed_from_seconds = self.seconds
        self.seconds_of_losses = -math.inf
        self.discriminator_watch = DiscriminatorWatch(config.objective.gan_mode)

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
            training_pairs=len(self.prepared.training),
            validation_pairs=len(self.prepared.validation),
            device=str(self.device),
            source=describe_mapping(self.source.mapping),
            target=describe_mapping(self.target.mapping),
        )
        if self.step == 0 and (trouble := misalignment_warning([p.pair for p in self.prepared.training])):
            yield Warned(step=0, message=trouble)
        started = time.monotonic() - self.seconds
        while (fraction := self._fraction_done()) < 1 and not self._is_out_of_patience():
            self._set_learning_rate(fraction)
            losses = self._run_step()
            self.step += 1
            if self.average is not None:
                self.average.update(self.step)
            self.seconds = time.monotonic() - started
            is_last = self._fraction_done() >= 1
            validates = self.step % self.config.validate_every == 0 or is_last
            saves = self.step % self.config.checkpoint_every == 0 or is_last
            numbers = self._read(losses) if validates or saves or self._shows_losses() else None
            if numbers is not None and (trouble := self.discriminator_watch.warning(self.step, numbers)):
                yield Warned(step=self.step, message=trouble)
            if numbers is not None and validates:
                yield from self._validate(numbers)
            if saves or self._is_out_of_patience():
                is_told = self.saved_step == self.step
                saved = self._save()
                if not is_told:
                    yield saved
            yield StepDone(
                step=self.step,
                epoch=(self.step - 1) // self.steps_per_epoch,
                fraction=self._fraction_done(),
                seconds=self.seconds,
                losses=numbers,
            )
        yield self._finished()

    def _run_step(self) -> dict[str, Tensor]:
        try:
            return self.networks.run(*self.patches.batch(self.step, self.config.batch_size))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        raise self._out_of_memory()  # here, where no traceback holds on to the memory of the failed step

    def _out_of_memory(self) -> TrainingError:
        """Tries smaller steps on the device as it is now, which spoils the networks."""
        config = self.config
        fitting = size_that_fits(config, self._run_on_noise)
        return TrainingError(
            f"{self.device} is out of memory in step {self.step + 1} with batch_size {config.batch_size} and "
            f"patch_size {config.patch_size}; {advice_on_size(fitting)}{self._kept_checkpoint()}"
        )

    def _run_on_noise(self, batch_size: int, patch_size: int) -> None:
        """Two steps, as only the second has the moments of the optimisers beside its activations."""
        channels = (self.config.generator.source_channels, self.config.generator.target_channels)
        for _ in range(2):
            source, target = (
                torch.rand(batch_size, count, patch_size, patch_size, device=self.device) * 2 - 1 for count in channels
            )
            self.networks.run(source, target)

    def _fraction_done(self) -> float:
        if self.total_steps is not None:
            return min(1.0, self.step / self.total_steps)
        assert self.config.minutes is not None
        return min(1.0, self.seconds / (60 * self.config.minutes))

    def _is_out_of_patience(self) -> bool:
        return 0 < self.config.patience <= self.stale_validations

    def _set_learning_rate(self, fraction: float) -> None:
        """Constant, or constant for the first half and linear to zero over the second (reference)."""
        match self.config.schedule:
            case "constant":
                self.networks.set_learning_rate(1.0)
            case "linear":
                self.networks.set_learning_rate(min(1.0, 2 * (1 - fraction)))
            case _:
                assert_never(self.config.schedule)

    def _shows_losses(self) -> bool:
        """Whether it is time to read the losses again, for which the host waits until the device has done the step."""
        return self.seconds - self.seconds_of_losses >= _SECONDS_BETWEEN_LOSSES

    def _read(self, losses: Mapping[str, Tensor]) -> dict[str, float]:
        """The losses as numbers, which must be finite. A step that breaks down spoils the losses of all later ones."""
        self.seconds_of_losses = self.seconds
        numbers = dict(zip(losses, torch.stack(list(losses.values())).tolist(), strict=True))
        bad = [name for name, value in numbers.items() if not math.isfinite(value)]
        if bad:
            raise self._broken_down(f"{', '.join(bad)} is no longer finite")
        return numbers

    def _require_finite_weights(self) -> None:
        if (name := self.networks.first_non_finite()) is not None:
            raise self._broken_down(f"the weights {name} are no longer finite")

    def _broken_down(self, what: str) -> TrainingError:
        return TrainingError(
            f"training broke down by step {self.step}: {what}{self._kept_checkpoint()}. Try a lower --learning-rate, "
            "--precision fp32, or another --gan-mode"
        )

    def _kept_checkpoint(self) -> str:
        return f"; the checkpoint of step {self.saved_step} is kept" if self.saved_step else ""

    @property
    def _generator(self) -> GeneratorNetwork:
        """The generator that is validated and saved."""
        return self.networks.generator if self.average is None else self.average.generator

    @property
    def _keeps_best(self) -> bool:
        """Whether the model that is saved is that of the best validation, not the last."""
        match self.config.keep:
            case "best":
                return True
            case "last":
                return False
            case _:
                assert_never(self.config.keep)

    def _validate(self, losses: Mapping[str, float]) -> Iterator[Event]:
        self._require_finite_weights()
        remaining, scores = self.validation.scores(self._generator), list[Scores]()
        is_noted = False
        try:
            for done in range(self.validation.image_count):
                yield Validating(step=self.step, done=done, total=self.validation.image_count)
                scores.append(next(remaining))
            validated, is_noted = self._note_validation(losses, scores), True
            if self.saved_step == self.step:
                yield CheckpointSaved(step=self.step, path=self.folder.checkpoint)
        except GeneratorExit:  # a stopped run keeps its last validation
            if not is_noted:
                self._note_validation(losses, [*scores, *remaining])
            self._preview()
            raise
        preview = self._preview()  # before anything is told, as the run may be stopped then
        if validated is not None:
            yield validated
        if trouble := collapse(preview.output, preview.target):
            yield Warned(step=self.step, message=trouble)
        yield preview

    def _preview(self) -> PreviewReady:
        seen, output, target = self.validation.preview(self._generator)
        source = seen[self.source.own_channels]
        path = self.folder.write_preview(self.step, (source, output, target))
        return PreviewReady(step=self.step, source=source, output=output, target=target, path=path)

    def _note_validation(self, losses: Mapping[str, float], scores: Sequence[Scores]) -> Validated | None:
        """Write the means of the images' scores to the run folder, and the model where it is the best so far."""
        mean = mean_scores(scores)
        values = mean.as_dict() if scores else {}
        self.folder.append_metrics(self.step, (self.step - 1) // self.steps_per_epoch, self.seconds, losses, values)
        if not scores:
            return None
        self.latest = {"step": self.step, "scores": values}
        is_best = self.best is None or mean.mae < self.best["scores"]["mae"]
        self.stale_validations = 0 if is_best else self.stale_validations + 1
        if is_best:
            self.best = self.latest
            if self._keeps_best:
                if not self.saved_step:
                    self._save_checkpoint()  # first, so that there is never a model without it; see `_restore`
                self._save_model()
        return Validated(step=self.step, scores=values, is_best=is_best)

    @property
    def _saves_present_model(self) -> bool:
        """Whether the model to keep is that of the present step, for want of a better one."""
        return self.best is None or not self._keeps_best

    def _save_model(self) -> None:
        save_model(self._model(), self.folder.model)

    def _model(self) -> Model:
        return Model(
            generator_config=self.config.generator,
            weights=self._generator.state_dict(),
            source=self.source,
            target=self.target,
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
            "training_pairs": len(self.prepared.training),
            "validation_pairs": len(self.prepared.validation),
            "config": asdict(self.config),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "device": str(self.device),
        }

    def _save(self) -> CheckpointSaved:
        self._require_finite_weights()
        if self._saves_present_model and self.saved_step:
            self._save_model()
        if self.saved_step < self.step:
            is_first = not self.saved_step
            self._save_checkpoint()
            if is_first and self._saves_present_model:
                self._save_model()
        return CheckpointSaved(step=self.step, path=self.folder.checkpoint)

    def _save_checkpoint(self) -> None:
        checkpoint = Checkpoint(
            config=self.config,
            data=self.prepared.fingerprint,
            step=self.step,
            seconds=self.seconds,
            networks=self.networks.state(),
            random_state=random_state(self.device),
            best=self.best,
            latest=self.latest,
            stale_validations=self.stale_validations,
            average=self.average.state() if self.average is not None else None,
            threads=torch.get_num_threads(),
        )
        save_checkpoint(checkpoint, self.folder.checkpoint)
        self.saved_step = self.step

    def save_if_ahead(self) -> None:
        """Save the steps done since the last checkpoint."""
        if self.step > self.saved_step:
            self._save()

    def _check_same(self, saved: Checkpoint) -> None:
        """Refuse to go on from a state of other images or settings."""
        path = self.folder.checkpoint
        if (change := changed_image(saved.data, self.prepared, self.data.split)) is not None:
            raise CheckpointError(
                f"{path}: the run was started on other images or another validation split ({change}); start a new run"
            )
        check_same_run(saved, self.config, path)

    def _restore(self, saved: Checkpoint) -> None:
        if self.device.type == "cpu" and saved.threads != torch.get_num_threads():
            log.warning(
                "the run was started with %d threads and goes on with %d, so it will not be bit-identical to an "
                "uninterrupted one",
                saved.threads,
                torch.get_num_threads(),
            )
        with states_from(self.folder.checkpoint):
            self.networks.load_state(saved.networks)
            if self.average is not None:
                self.average.load_state(saved.average or {})
            set_random_state(saved.random_state, self.device)
        self.step = self.saved_step = saved.step
        self.seconds = saved.seconds
        self.best, self.latest = saved.best, saved.latest
        self.stale_validations = saved.stale_validations
        self._require_model()

    def _require_model(self) -> None:
        """See that the model to keep is there: a run may be killed just before it is written, or a user remove it."""
        kept = self.best if self._keeps_best else None
        step = self.step if kept is None else kept["step"]
        if saved_model_step(self.folder.model) is not None and step < self.step:
            return
        if step == self.step:
            if saved_model_step(self.folder.model) != step:
                self._save_model()
            return
        log.warning(
            "%s is gone, which was the best model, of step %d; the best of the validations to come takes its place",
            self.folder.model,
            step,
        )
        self.best, self.stale_validations = None, 0

    def _finished(self) -> Finished:
        kept = self.best if self._keeps_best else self.latest
        return Finished(
            steps=self.step,
            seconds=self.seconds,
            new_seconds=self.seconds - self.resumed_from_seconds,
            skipped_patches=self.patches.skipped,
            model=self.folder.model,
            model_step=kept["step"] if kept else self.step,
            scores=kept["scores"] if kept else {},
            early_stop=self._early_stop(),
        )

    def _early_stop(self) -> str | None:
        if not self._is_out_of_patience() or self._fraction_done() >= 1:
            return None
        assert self.best is not None  # only later validations are stale
        return (
            f"stopped early at step {self.step}: {self.stale_validations} validations in a row were not better than "
            f"that of step {self.best['step']} (MAE {self.best['scores']['mae']:.4f})"
        )


def _completed(config: TrainingConfig, data: PreparedData) -> TrainingConfig:
    """The settings with what the data decides: channel counts, and a length where none is given."""
    generator = replace(
        config.generator,
        source_channels=data.source_mapping.network_channels,
        target_channels=data.target_mapping.network_channels,
    )
    has_length = any(v is not None for v in (config.epochs, config.steps, config.minutes))
    return replace(config, generator=generator, epochs=config.epochs if has_length else DEFAULT_EPOCHS)
