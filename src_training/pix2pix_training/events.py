"""What a training run reports while it goes; the listeners are progress bars, plots and previews."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pix2pix_training.config import TrainingConfig

if TYPE_CHECKING:
    from torch import Tensor

    from pix2pix_training.intensity import Mapping as ValueMapping


@dataclass(frozen=True, kw_only=True)
class Preparing:
    """All images are looked at before the first step, and this `fraction` of them is done; told where it takes long.

    `aligns`: targets are laid on their sources, which follows.
    """

    fraction: float
    aligns: bool = False

    @property
    def words(self) -> str:
        return "aligning the targets" if self.aligns else "looking at the images"


@dataclass(frozen=True, kw_only=True)
class Started:
    """Everything is ready; `total_steps` is None where the length is a time. `config` has every default filled in.
    Of several `processes` each has a `device`, and takes its own batch in each step.

    `source` and `target` say in words how pixels of the images are mapped. `target_span` is by how much stored values
    of the target differ where those of the network differ by 2; None for classes, and where it is not one number.
    `mappings` are those of source and target. `held_out` says what is not trained on, see `Split.held_out`.
    `is_over`: the run that is resumed is as long as was asked for, so no step follows.
    """

    config: TrainingConfig
    resumed_from_step: int
    total_steps: int | None
    steps_per_epoch: int
    training_pairs: int
    validation_pairs: int
    device: str
    processes: int = 1
    source: str = ""
    target: str = ""
    target_span: float | None = None
    target_is_classes: bool = False
    mappings: tuple[ValueMapping, ValueMapping] | None = None
    held_out: str = "nothing"
    is_over: bool = False


@dataclass(frozen=True, kw_only=True)
class StepDone:
    """One step; `fraction` of the run is done.

    `losses` are those of `TrainingStep.run`. They are None after most of several steps within a fraction of a second,
    because reading them makes the device wait.
    """

    step: int
    epoch: int
    fraction: float
    seconds: float
    losses: Mapping[str, float] | None


@dataclass(frozen=True, kw_only=True)
class Validating:
    """Before each validation image that is scored after step `step`: how many are `done`, of `total`."""

    step: int
    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Validated:
    """Mean scores of the validation images in [-1, 1] (data range 2)."""

    step: int
    scores: Mapping[str, float | None]
    is_best: bool


@dataclass(frozen=True, kw_only=True)
class PreviewReady:
    """One validation image (or training patch): (C, H, W) each, in [-1, 1], on the CPU.

    `path` is its picture in the run folder; None for one between validations, see `preview_seconds` of `train`.
    """

    step: int
    source: Tensor
    output: Tensor
    target: Tensor
    path: Path | None


@dataclass(frozen=True, kw_only=True)
class LearningErrors:
    """After the last step, `step`: the error map of the model is learnt, and this `fraction` of it is done."""

    step: int
    fraction: float


@dataclass(frozen=True, kw_only=True)
class MeasuringInt8:
    """After the last step, `step`: what the model needs for 8 bits is measured, and this `fraction` of it is done."""

    step: int
    fraction: float


@dataclass(frozen=True, kw_only=True)
class CheckpointSaved:
    step: int
    path: Path


@dataclass(frozen=True, kw_only=True)
class Warned:
    """The run goes on, but something looks wrong; `message` says what, and what to try. `step` 0: before the first."""

    step: int
    message: str

    @property
    def words(self) -> str:
        """The message, after the step where there was one."""
        return f"step {self.step}: {self.message}" if self.step else self.message


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The run is complete; `model` is the best of the validations, or the last (`keep`, or no validation).

    `early_stop` says why the run ended before its length, None where it did not.
    `seconds` counts all sessions of the run; `new_seconds` this one, as `skipped_patches` does: those drawn that were
    constant or nearly all invalid, and so not trained on. `coverage` is the share of pixels that the error map of the
    model is meant for, None where it has none.
    """

    steps: int
    seconds: float
    new_seconds: float
    skipped_patches: int
    model: Path
    model_step: int
    scores: Mapping[str, float | None]
    early_stop: str | None
    coverage: float | None


Event = (
    Preparing
    | Started
    | StepDone
    | Validating
    | Validated
    | PreviewReady
    | CheckpointSaved
    | Warned
    | MeasuringInt8
    | LearningErrors
    | Finished
)
