"""The training loop of pix2pix, in the order of the paper, as a generator of events.

Knows no file format, no command line and no window. Closing the generator stops the run at a step boundary and saves
its state.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import assert_never

import torch
from torch import Tensor

from pix2pix_training.aligned_data import Moves, aligned
from pix2pix_training.augmentation import IntensityJitter, measured_jitter
from pix2pix_training.batches import Batches
from pix2pix_training.cancel import Interrupted
from pix2pix_training.channel_names import say_other_channels
from pix2pix_training.checkpoint import Checkpoint, check_same_run, load_checkpoint
from pix2pix_training.config import TrainingConfig
from pix2pix_training.dataset import PatchDataset, ResidentReader, fits_on_device
from pix2pix_training.device import is_out_of_memory, resolve_device, resolve_precision
from pix2pix_training.diagnosis import (
    DiscriminatorWatch,
    added_texture,
    advice_on_size,
    collapse,
    memory_errors_in_words,
    size_that_fits,
)
from pix2pix_training.distributed import ALONE, Group, ProcessLost
from pix2pix_training.error_training import MOST_STEPS, held_out_parts, with_error_map
from pix2pix_training.errors import SettingsError, TrainingError
from pix2pix_training.events import (
    CheckpointSaved,
    Event,
    Finished,
    MeasuringInt8,
    PreviewReady,
    Started,
    StepDone,
    Validating,
    Warned,
)
from pix2pix_training.image_description import ImageDescription, ImageTraits
from pix2pix_training.in_words import describe_mapping
from pix2pix_training.int8_measurement import LARGEST_PART, int8_of_run
from pix2pix_training.intensity import CategoryMapping
from pix2pix_training.intensity import Mapping as IntensityMapping
from pix2pix_training.metrics import Scores
from pix2pix_training.model_file import Model, load_model
from pix2pix_training.pairs import Split
from pix2pix_training.preparation import (
    PreparedData,
    _completed,
    prepare,
    require_usable,
    say_changed_pixels,
    stored_span,
)
from pix2pix_training.registration import misalignment_warning
from pix2pix_training.retelling import retold
from pix2pix_training.run_folder import RunFolder, UnwrittenRunFolder
from pix2pix_training.run_state import RunState, check_same_data
from pix2pix_training.training_step import TrainingStep
from pix2pix_training.validation import Validation

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LOSSES = 0.2
_STEPS_PER_ERROR_STEP = 8
"""So many steps of a run take about ten times as long as one of its error network, of small networks."""
_TRAINED_PER_MEASURED = 25
"""Pixels that are trained on for each on which the model is made ready for 8 bits: about 2 % of the time."""
_TRAINED_PER_PREVIEW = 20
"""So many times as long as a preview takes is trained before the next one that no validation asks for."""


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Pairs to train on and to validate on, and what is known of the images besides their pixels.

    `mappings` are those of source and target where they are known already; else they are fitted to the images.
    `held_out` says what is held out, where the split does not know: of copies of parts of images.
    """

    split: Split
    source_traits: ImageTraits = field(default_factory=ImageTraits)
    target_traits: ImageTraits = field(default_factory=ImageTraits)
    mappings: tuple[IntensityMapping, IntensityMapping] | None = None
    held_out: str | None = None


def train(
    config: TrainingConfig,
    data: TrainingData,
    out: str | Path,
    *,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    init: Model | None = None,
    workers: int | None = 0,
    preview_seconds: float | None = None,
    group: Group = ALONE,
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
    workers : processes that read images ahead, which import the program that trains; 0: a thread does. None: some where
        the device is a GPU and the images do not fit into memory.
    preview_seconds : yield a preview after the first step, and then so often, besides those of validations; less often
        where it would take more than a twentieth of the time. None for those of validations alone.
    group : processes that train together and call this alike. Only the first one writes; where it stops, the others
        raise `Interrupted`.

    Raises
    ------
    InputError
        Before the first step: settings, data or output cannot be used.
    TrainingError
        Losses or weights are no longer finite, the device is out of memory, or another process of the group has ended;
        the last checkpoint is kept.
    """
    if config.compile and group.size > 1:
        raise SettingsError("compile is for a run of one process; train without --compile, or without torchrun")
    folder, place = (RunFolder if group.is_first else UnwrittenRunFolder)(Path(out)), resolve_device(device)
    with memory_errors_in_words(place), folder.claimed(resume=resume, overwrite=overwrite):
        require_usable(config, data.split)
        saved = load_checkpoint(folder.checkpoint) if resume and folder.checkpoint.exists() else None
        start = None if init is None else (init.source.mapping, init.target.mapping)
        prepared = yield from prepare(
            data.split, config, start, z_context=data.source_traits.z_context, known=data.mappings
        )
        if saved is not None:
            check_same_data(saved, prepared, data.split, folder)
            check_same_run(saved, _completed(config, prepared), folder.checkpoint, group.size)
        looked_at = prepared
        prepared, moves = yield from aligned(prepared, config.align, folder, saved, group)
        run = _Run(
            config,
            data,
            prepared,
            folder,
            place,
            moves,
            resume=resume,
            saved=saved,
            init=init,
            workers=workers,
            preview_seconds=preview_seconds,
            group=group,
        )
        try:
            try:
                yield from run.events()
            except GeneratorExit:  # raised at a `yield`, so never in the middle of a step
                run.save_if_ahead()
                run.stop_others()
                raise
        except ProcessLost as error:
            raise TrainingError(f"{error}{run.kept_checkpoint() if group.is_first else ''}") from error
        finally:
            run.batches.close()
            if group.is_first:
                say_changed_pixels(looked_at)


class _Run:
    """State of one run: networks, optimisers, and how far it is."""

    def __init__(
        self,
        config: TrainingConfig,
        data: TrainingData,
        prepared: PreparedData,
        folder: RunFolder,
        device: torch.device,
        moves: Moves,
        *,
        resume: bool,
        saved: Checkpoint | None,
        init: Model | None,
        workers: int | None,
        preview_seconds: float | None,
        group: Group,
    ) -> None:
        self.group = group
        self.folder = folder
        self.device = device
        self.prepared = prepared
        self.held_out = data.held_out or data.split.held_out
        self.source = ImageDescription(mapping=self.prepared.source_mapping, **asdict(data.source_traits))
        self.target = ImageDescription(mapping=self.prepared.target_mapping, **asdict(data.target_traits))
        self.config = _completed(config, self.prepared)
        self.moves = moves
        step = 0 if saved is None else saved.step
        group.require_alike({"settings": self.config, "images": prepared.fingerprint, "checkpoint": step})
        pairs = [each.pair for each in prepared.training]
        is_resident = fits_on_device([image for pair in pairs for image in pair.images], device)
        dataset = PatchDataset(
            pairs,
            patch_size=config.patch_size,
            augmentation=config.augmentation,
            sampling=config.sampling,
            target_mapping=prepared.target_mapping,
            seed=config.seed,
            planes=[each.planes for each in prepared.training],
            reader=ResidentReader(pairs, device) if is_resident else None,
        )
        images = [(each.pair.source, each.planes, each.source_mapping) for each in prepared.training]
        targets = [(each.pair.target, each.planes, prepared.target_mapping) for each in prepared.training]
        jitter = measured_jitter(images, config.augmentation.intensity_jitter, targets)
        self.steps_per_epoch = math.ceil(len(dataset) / (group.size * config.batch_size))
        self.validation = Validation(self.config, self.prepared, self.device, group)
        dtype = resolve_precision(config.precision, self.device, training=True)
        self.networks = TrainingStep(self.config, self.device, dtype, group)
        if init is not None:
            self.networks.start_from(init)
            say_other_channels(self.source.channel_names, init.source.channel_names, "source")
            say_other_channels(self.target.channel_names, init.target.channel_names, "target")
        descriptions = (self.source, self.target)
        self.state = RunState(
            self.config,
            prepared,
            descriptions,
            folder,
            self.networks,
            device,
            group,
            self.steps_per_epoch,
            self._calibrating(dataset, jitter),
        )
        folder.prepare(resume=resume)
        if saved is not None:
            self.state.restore(saved)
        self.state.copy_first()
        folder.drop_metrics_after(self.state.step)
        self.batches = Batches(
            dataset,
            [each.source_mapping for each in prepared.training],
            device,
            jitter,
            batch_size=config.batch_size,
            first=self.state.patches + group.rank * config.batch_size,
            stride=self.state.patches_per_step,
            ahead=not is_resident,
            workers=workers,
        )
        self.resumed_from_seconds = self.state.seconds
        self.seconds_of_losses = -math.inf
        self.preview_seconds = preview_seconds
        self.next_preview = -math.inf if preview_seconds is not None else math.inf
        self.discriminator_watch = DiscriminatorWatch(config.objective)
        self.is_over = False

    def _calibrating(self, dataset: PatchDataset, jitter: IntensityJitter | None) -> list[Tensor]:
        """Sources of the first patches of the run, one by one, the same for all processes."""
        if not self.config.calibration:
            return []
        mappings = [each.source_mapping for each in self.prepared.training]
        batches = Batches(dataset, mappings, self.device, jitter, batch_size=1)
        try:
            return [source for source, _, _ in islice(batches, self.config.calibration)]
        finally:
            batches.close()

    def events(self) -> Iterator[Event]:
        self.folder.write_config(self.config)
        if self.moves and self.state.step == 0:
            self.folder.write_alignment(self.moves)
        yield Started(
            config=self.config,
            resumed_from_step=self.state.step,
            total_steps=self.state.total_steps,
            steps_per_epoch=self.steps_per_epoch,
            training_pairs=self.prepared.source_count,
            validation_pairs=len(self.prepared.validation),
            device=str(self.device),
            processes=self.group.size,
            source=describe_mapping(self.source.mapping),
            target=describe_mapping(self.target.mapping),
            target_span=stored_span(self.target.mapping),
            mappings=(self.source.mapping, self.target.mapping),
            target_is_classes=isinstance(self.target.mapping, CategoryMapping),
            held_out=self.held_out,
            is_over=self.state.fraction_done >= 1,
        )
        if self.state.step == 0 and (trouble := misalignment_warning([p.pair for p in self.prepared.training])):
            yield Warned(step=0, message=trouble)
        started = time.monotonic() - self.state.seconds
        while self._goes_on() and (fraction := self.state.fraction_done) < 1 and not self.state.is_out_of_patience:
            self._set_learning_rate(fraction)
            losses = self._run_step()
            self.state.note_step()
            self.state.seconds = self.group.agreed(time.monotonic() - started)
            is_last = self.state.fraction_done >= 1
            validates = self.state.step % self.config.validate_every == 0 or is_last
            saves = self.state.step % self.config.checkpoint_every == 0 or is_last
            numbers = self._read(losses) if validates or saves or self._shows_losses() else None
            if numbers is not None and (trouble := self.discriminator_watch.warning(self.state.step, numbers)):
                yield Warned(step=self.state.step, message=trouble)
            if numbers is not None and validates:
                yield from self._validate(numbers)
            if saves or self.state.is_out_of_patience:
                is_told = self.state.saved_step == self.state.step
                saved = self._saved()
                if not is_told:
                    yield saved
            yield StepDone(
                step=self.state.step,
                epoch=self.state.epoch,
                fraction=self.state.fraction_done,
                seconds=self.state.seconds,
                losses=numbers,
            )
            if time.monotonic() >= self.next_preview:
                yield self._preview(keep=False)
        self.is_over = True
        coverage = (yield from self._complete_model()) if self.group.is_first else None
        yield self._finished(coverage)

    def _complete_model(self) -> Generator[Event, None, float | None]:
        """Give the model that is kept its roundings for 8 bits and its error map; the coverage of that, or None."""
        kept = model = load_model(self.folder.model)
        if model.int8 is None:
            finding = int8_of_run(
                model,
                self.prepared,
                largest=min(LARGEST_PART, self.config.validation_size),
                pixels=self.state.patches * self.config.patch_size**2 // _TRAINED_PER_MEASURED,
                device=self.device,
            )
            int8 = yield from retold(finding, lambda done: MeasuringInt8(step=self.state.step, fraction=done))
            model = model if int8 is None else replace(model, int8=int8)
        model = yield from self._with_errors(model)
        if model is not kept:
            self.folder.write_model(model)
        return None if model.error is None else model.error.traits.coverage

    def _with_errors(self, model: Model) -> Generator[Event, None, Model]:
        """The model with an error map, where it has none of this coverage."""
        coverage, pairs = self.config.coverage, self.prepared.validation
        if not coverage or not pairs or isinstance(self.target.mapping, CategoryMapping):
            return model
        if model.error is not None and model.error.traits.coverage == coverage:
            return model
        choosing = self.config.validation_images if self.state.keeps_best else 0
        held_out = held_out_parts(pairs, size_px=self.config.validation_size, choosing=choosing)
        return (
            yield from with_error_map(
                model,
                self.batches,
                held_out,
                patch_size=self.config.patch_size,
                coverage=coverage,
                steps=max(1, min(MOST_STEPS, self.state.step // _STEPS_PER_ERROR_STEP)),
                seed=self.config.seed,
                device=self.device,
                after_step=self.state.step,
            )
        )

    def _goes_on(self) -> bool:
        """True; raises `Interrupted` where the first process has stopped instead of coming here."""
        if self.group.agreed(1.0):
            return True
        raise Interrupted

    def stop_others(self) -> None:
        """Tell the others, which are on their way to the next step, that the run stops here."""
        if self.group.is_first and not self.is_over:
            self.group.agreed(0.0)

    def _run_step(self) -> dict[str, Tensor]:
        try:
            return self.networks.run(*next(self.batches))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        raise self._out_of_memory()  # here, where no traceback holds on to the memory of the failed step

    def _out_of_memory(self) -> TrainingError:
        """Tries smaller steps on the device as it is now, which spoils the networks."""
        config = self.config
        alone = self.group.size == 1  # others would wait
        advice = advice_on_size(size_that_fits(config, self._run_on_noise)) if alone else "try a smaller --batch-size"
        return TrainingError(
            f"{self.device} is out of memory in step {self.state.step + 1} with batch_size {config.batch_size} and "
            f"patch_size {config.patch_size}; {advice}{self.kept_checkpoint()}"
        )

    def _run_on_noise(self, batch_size: int, patch_size: int) -> None:
        """Two steps, as only the second has the moments of the optimisers beside its activations."""
        for _ in range(2):
            self.networks.run_on_noise(batch_size, patch_size)

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
        return self.state.seconds - self.seconds_of_losses >= _SECONDS_BETWEEN_LOSSES

    def _read(self, losses: Mapping[str, Tensor]) -> dict[str, float]:
        """The losses as numbers, which must be finite. A step that breaks down spoils the losses of all later ones."""
        self.seconds_of_losses = self.state.seconds
        values = torch.stack(list(losses.values()))
        self.group.mean_([values])
        numbers = dict(zip(losses, values.tolist(), strict=True))
        bad = [name for name, value in numbers.items() if not math.isfinite(value)]
        if bad:
            raise self._broken_down(f"{', '.join(bad)} is no longer finite")
        return numbers

    def _require_finite_weights(self) -> None:
        if (name := self.networks.first_non_finite()) is not None:
            raise self._broken_down(f"the weights {name} are no longer finite")

    def _broken_down(self, what: str) -> TrainingError:
        return TrainingError(
            f"training broke down by step {self.state.step}: {what}{self.kept_checkpoint()}. Try a lower "
            "--learning-rate, --precision fp32, or another --gan-mode"
        )

    def kept_checkpoint(self) -> str:
        return f"; the checkpoint of step {self.state.saved_step} is kept" if self.state.saved_step else ""

    def _validate(self, losses: Mapping[str, float]) -> Iterator[Event]:
        self._require_finite_weights()
        remaining, scores = self.validation.scores(self.state.generator), list[Scores]()
        is_noted = False
        try:
            for done in range(0, self.validation.image_count, self.group.size):
                yield Validating(step=self.state.step, done=done, total=self.validation.image_count)
                scores.extend(islice(remaining, 1))
            scores = self.validation.of_all(scores)
            validated, is_noted = self.state.note_validation(losses, scores), True
            if self.state.saved_step == self.state.step:
                yield CheckpointSaved(step=self.state.step, path=self.folder.checkpoint)
        except GeneratorExit:  # a stopped run keeps its last validation
            if not is_noted:
                self.state.note_validation(losses, self.validation.of_all([*scores, *remaining]))
            self._preview()
            raise
        preview = self._preview()  # before anything is told, as the run may be stopped then
        if validated is not None:
            yield validated
        ends = self.state.fraction_done >= 1 or self.state.is_out_of_patience
        troubles = [collapse(preview.output, preview.target)]
        troubles += [added_texture(self.validation.detail, self.config.objective)] if ends else []
        for trouble in filter(None, troubles):
            yield Warned(step=self.state.step, message=trouble)
        yield preview

    def _preview(self, *, keep: bool = True) -> PreviewReady:
        begun = time.monotonic()
        seen, output, target = self.validation.preview(self.state.generator)
        source = seen[self.source.own_channels]
        path = self.folder.write_preview(self.state.step, (source, output, target)) if keep else None
        if self.preview_seconds is not None:
            now = time.monotonic()
            self.next_preview = now + max(self.preview_seconds, _TRAINED_PER_PREVIEW * (now - begun))
        return PreviewReady(step=self.state.step, source=source, output=output, target=target, path=path)

    def _saved(self) -> CheckpointSaved:
        self._require_finite_weights()
        return self.state.save()

    def save_if_ahead(self) -> None:
        """Save the steps done since the last checkpoint."""
        if self.state.step > self.state.saved_step:
            self._saved()

    def _finished(self, coverage: float | None) -> Finished:
        kept = self.state.best if self.state.keeps_best else self.state.latest
        return Finished(
            steps=self.state.step,
            seconds=self.state.seconds,
            new_seconds=self.state.seconds - self.resumed_from_seconds,
            skipped_patches=sum(self.group.together(self.batches.skipped)),
            model=self.folder.model,
            model_step=kept["step"] if kept else self.state.step,
            scores=kept["scores"] if kept else {},
            early_stop=self.state.early_stop,
            coverage=coverage,
        )
