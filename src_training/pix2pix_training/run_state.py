"""How far a run is, and what it keeps of that in its folder: checkpoint, model and metrics, also across kills."""

from __future__ import annotations

import logging
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any, assert_never

import torch
from torch import Tensor

from pix2pix_training.calibration import calibrated
from pix2pix_training.checkpoint import (
    Checkpoint,
    random_state,
    set_random_state,
    states_from,
)
from pix2pix_training.config import TrainingConfig
from pix2pix_training.distributed import Group
from pix2pix_training.errors import CheckpointError
from pix2pix_training.events import CheckpointSaved, Validated
from pix2pix_training.image_description import ImageDescription
from pix2pix_training.metrics import Scores, mean_scores
from pix2pix_training.model_file import Model, saved_model_step
from pix2pix_training.networks import Generator
from pix2pix_training.novelty import NoveltyMeasure
from pix2pix_training.novelty_survey import novelty_of_run
from pix2pix_training.pairs import Split
from pix2pix_training.preparation import PreparedData, changed_image
from pix2pix_training.presets import DEFAULT_EPOCHS
from pix2pix_training.run_folder import RunFolder
from pix2pix_training.seen_parts import seen_parts
from pix2pix_training.training_step import TrainingStep, WeightAverage

log = logging.getLogger(__name__)


class RunState:
    """Step, time and validations of a run, with the networks that they belong to.

    `calibrating` are sources that the statistics of the generator that is saved are measured on (`calibrated`).

    There is never a model in the folder without a checkpoint to go on from.

    Attributes
    ----------
    patches : how many were trained on, by all processes of `group`.
    saved_step : of the last checkpoint, 0 where there is none.
    best, latest : validations with their step and scores; `stale_validations` counts those since the best.
    """

    def __init__(
        self,
        config: TrainingConfig,
        data: PreparedData,
        descriptions: tuple[ImageDescription, ImageDescription],
        folder: RunFolder,
        networks: TrainingStep,
        device: torch.device,
        group: Group,
        steps_per_epoch: int,
        calibrating: Sequence[Tensor] = (),
    ) -> None:
        self.config = config
        self.prepared = data
        self.source, self.target = descriptions
        self.folder = folder
        self.networks = networks
        self.device = device
        self.group = group
        self.patches_per_step = group.size * config.batch_size
        self.patches_per_epoch = steps_per_epoch * self.patches_per_step
        self.average = WeightAverage(networks.generator, config.ema_decay) if config.ema_decay else None
        self._calibrating = calibrating
        self._calibrated: tuple[int, Generator] | None = None
        self.step = self.saved_step = self.patches = 0
        self.seconds = 0.0
        self.best: Mapping[str, Any] | None = None
        self.latest: Mapping[str, Any] | None = None
        self.stale_validations = 0

    @property
    def total_steps(self) -> int | None:
        """Steps of the whole run, None where its length is a time."""
        if self.config.minutes is not None:
            return None
        if self.config.steps is not None:
            return self.config.steps
        patches = (self.config.epochs or DEFAULT_EPOCHS) * self.patches_per_epoch
        return self.step + max(0, math.ceil((patches - self.patches) / self.patches_per_step))

    @property
    def fraction_done(self) -> float:
        if (steps := self.total_steps) is not None:
            return min(1.0, self.step / steps)
        assert self.config.minutes is not None
        return min(1.0, self.seconds / (60 * self.config.minutes))

    @property
    def is_out_of_patience(self) -> bool:
        return 0 < self.config.patience <= self.stale_validations

    @property
    def early_stop(self) -> str | None:
        """Why the run ends before its length, in words; None where it does not."""
        if not self.is_out_of_patience or self.fraction_done >= 1:
            return None
        return f"stopped early at step {self.step}: {self._in_vain}"

    @property
    def epoch(self) -> int:
        """Of the present step, from 0."""
        return (self.patches - 1) // self.patches_per_epoch

    @property
    def generator(self) -> Generator:
        """The generator that is validated and saved: a function of the weights of the present step."""
        if not self._calibrating:
            return self._uncalibrated
        if self._calibrated is None or self._calibrated[0] != self.step:
            self._calibrated = self.step, calibrated(self._uncalibrated, self._calibrating)
        return self._calibrated[1]

    @property
    def _uncalibrated(self) -> Generator:
        return self.networks.generator if self.average is None else self.average.generator

    @property
    def keeps_best(self) -> bool:
        """Whether the model that is saved is that of the best validation, not the last."""
        match self.config.keep:
            case "best":
                return True
            case "last":
                return False
            case _:
                assert_never(self.config.keep)

    def copy_first(self) -> None:
        """Have all processes begin with the weights of the first, to the last bit."""
        networks = [self.networks.generator, self.networks.discriminator, self._uncalibrated]
        self.group.copy_first_([value for each in networks if each is not None for value in each.state_dict().values()])
        self._calibrated = None

    def note_step(self) -> None:
        """The networks have made a step."""
        self.step += 1
        self.patches += self.patches_per_step
        if self.average is not None:
            self.average.update(self.step)

    def note_validation(self, losses: Mapping[str, float], scores: Sequence[Scores]) -> Validated | None:
        """Write the means of the images' scores to the run folder, and the model where it is the best so far."""
        mean = mean_scores(scores)
        values = mean.as_dict() if scores else {}
        self.folder.append_metrics(self.step, self.epoch, self.seconds, losses, values)
        if not scores:
            return None
        self.latest = {"step": self.step, "scores": values}
        is_best = math.isfinite(mean.mae) and (
            self.best is None or self._rank(values) > self._rank(self.best["scores"])
        )
        self.stale_validations = 0 if is_best or self.best is None else self.stale_validations + 1
        if is_best:
            self.best = self.latest
            if self.keeps_best:
                if not self.saved_step:
                    self._save_checkpoint()  # first, so that there is never a model without it; see `restore`
                self._save_model()
        return Validated(step=self.step, scores=values, is_best=is_best)

    def _rank(self, scores: Mapping[str, float | None]) -> tuple[float, float]:
        """Larger for better scores; MAE decides between equal ones, and where the one that counts is undefined."""
        assert scores["mae"] is not None
        value = None if self.config.best_by == "mae" else scores.get(self.config.best_by)
        return -math.inf if value is None else value, -scores["mae"]

    @property
    def _in_vain(self) -> str:
        """The validations since the best one, in words."""
        assert self.best is not None  # only later validations are stale
        name = self.config.best_by
        score = self.best["scores"].get(name)
        value = "" if score is None else f" ({name} {score:.4f})"
        step = self.best["step"]
        return f"{self.stale_validations} validations in a row were not better than that of step {step}{value}"

    @property
    def _saves_present_model(self) -> bool:
        """Whether the model to keep is that of the present step, for want of a better one."""
        return self.best is None or not self.keeps_best

    def _save_model(self) -> None:
        self.folder.write_model(self._model())

    def _model(self) -> Model:
        return Model(
            generator_config=self.config.generator,
            weights=self.generator.state_dict(),
            source=self.source,
            target=self.target,
            inference=self.config.inference,
            training=self._provenance(),
            metrics=dict(self.latest["scores"]) if self.latest and self.latest["step"] == self.step else {},
            credits=self.config.credits,
            discriminator=self.networks.trained_discriminator(),
            novelty=self._novelty,
        )

    @cached_property
    def _novelty(self) -> NoveltyMeasure | None:
        """Of the images alone, so that of all models of a run it is the same."""
        return novelty_of_run(self.prepared)

    def _provenance(self) -> dict[str, Any]:
        seen = seen_parts(self.prepared)
        return {
            "step": self.step,
            "epochs": self.patches / self.patches_per_epoch,
            "seconds": round(self.seconds, 1),
            "training_pairs": self.prepared.source_count,
            "validation_pairs": len(self.prepared.validation),
            "config": asdict(self.config),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "device": str(self.device),
            **({} if seen is None else {"images": seen}),
            **({"processes": self.group.size} if self.group.size > 1 else {}),
        }

    def save(self) -> CheckpointSaved:
        """Write the checkpoint of the present step, and the model where it is the one to keep."""
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
            patches=self.patches,
            processes=self.group.size,
        )
        self.folder.write_checkpoint(checkpoint)
        self.saved_step = self.step

    def restore(self, saved: Checkpoint) -> None:
        """Go on from a checkpoint of the same settings and images."""
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
        before = saved.step * saved.config.batch_size
        self.patches = before if saved.patches is None else saved.patches
        self.seconds = saved.seconds
        self.best, self.latest = saved.best, saved.latest
        self.stale_validations = saved.stale_validations
        self._require_model()
        self.best, self.stale_validations = self.group.broadcast((self.best, self.stale_validations))

    def _require_model(self) -> None:
        """See that the model to keep is there: a run may be killed just before it is written, or a user remove it."""
        kept = self.best if self.keeps_best else None
        step = self.step if kept is None else kept["step"]
        found = saved_model_step(self.folder.model)
        if step < self.step and found is None:
            log.warning(
                "%s is gone, which was the best model, of step %d; that of step %d takes its place until a validation",
                self.folder.model,
                step,
                self.step,
            )
            self.best, self.stale_validations, step = None, 0, self.step
        if step == self.step and (found is None or found < step):
            self._save_model()


def check_same_data(saved: Checkpoint, data: PreparedData, split: Split, folder: RunFolder) -> None:
    """Refuse to go on from a state of other images."""
    if (change := changed_image(saved.data, data, split)) is not None:
        raise CheckpointError(
            f"{folder.checkpoint}: the run was started on other images or another validation split ({change}); start a "
            "new run"
        )
