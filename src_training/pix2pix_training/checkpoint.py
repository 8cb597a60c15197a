"""The full state of a training run, written atomically, so that a resumed run continues as if never interrupted."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pix2pix_training.atomic import atomic_write
from pix2pix_training.config import TrainingConfig
from pix2pix_training.device import is_out_of_memory
from pix2pix_training.errors import CheckpointError, SettingsError
from pix2pix_training.validated import from_dict

log = logging.getLogger(__name__)

CHECKPOINT_VERSION = 1
MAY_CHANGE_ON_RESUME = (
    "epochs",
    "steps",
    "minutes",
    "checkpoint_every",
    "validate_every",
    "patience",
    "best_by",
    "coverage",
    "compile",
    "credits",
)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """`networks` is the state of a `TrainingStep`, `average` that of a `WeightAverage` where there is one.

    `best` and `latest` are validations, with their step and scores; `stale_validations` counts those since the best.

    `random_state` holds torch's CPU state and, where there is one, the GPU's. Patches need none: they are functions of
    the seed and their number. `data` is the fingerprint of the pairs, to notice other ones. `threads` is recorded
    because float32 sums depend on it: only with the same number is a resumed run bit-identical. `patches` is how many
    were trained on, in the steps of `processes` with the batch of the settings each; None: of one process. Fields with
    a default came later than the others, so a file may lack them.
    """

    config: TrainingConfig
    data: Mapping[str, Any]
    step: int
    seconds: float
    networks: Mapping[str, Any]
    random_state: Mapping[str, Tensor]
    best: Mapping[str, Any] | None
    threads: int
    latest: Mapping[str, Any] | None = None
    stale_validations: int = 0
    average: Mapping[str, Tensor] | None = None
    patches: int | None = None
    processes: int = 1


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    content = io.BytesIO()
    plain = {f.name: getattr(checkpoint, f.name) for f in fields(Checkpoint)}
    torch.save({"version": CHECKPOINT_VERSION, **plain, "config": asdict(checkpoint.config)}, content)
    with atomic_write(path) as partial:
        partial.write_bytes(content.getbuffer())


def is_checkpoint(path: Path) -> bool:
    """Whether a file is a checkpoint of a run of ours; reads little of it, and executes no code from it."""
    if not path.is_file():
        return False
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # what is damaged, or something else, raises anything
        return False
    return isinstance(saved, dict) and {"version", "config", "networks", "step"} <= saved.keys()


def load_checkpoint(path: Path) -> Checkpoint:
    """The state saved at `path`; settings that are newer than the file have their defaults. Executes no code from it.

    Raises `CheckpointError`.
    """
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: does not exist; there is nothing to resume") from error
    except Exception as error:  # what is damaged raises anything
        reason = str(error).splitlines()[0].split(". ")[0] if str(error) else type(error).__name__
        raise _damaged(path, reason) from error
    if not isinstance(saved, dict) or not isinstance(saved.get("version"), int):
        raise CheckpointError(f"{path}: not a checkpoint of a training run")
    if saved["version"] > CHECKPOINT_VERSION:
        raise CheckpointError(f"{path}: written by a newer version of napari-pix2pix; update it to resume")
    missing = [f.name for f in fields(Checkpoint) if f.default is MISSING and f.name not in saved]
    if missing:
        raise CheckpointError(
            f"{path}: the checkpoint lacks {', '.join(missing)}; restore it, or start again with --overwrite"
        )
    known = {f.name: saved[f.name] for f in fields(Checkpoint) if f.name in saved}
    try:
        config = from_dict(TrainingConfig, saved["config"])
    except SettingsError as error:
        raise CheckpointError(
            f"{path}: the settings in the checkpoint cannot be used ({error}); it may come from another version of "
            "napari-pix2pix"
        ) from error
    checkpoint = Checkpoint(**{**known, "config": config})
    if (wrong := _wrong_entry(checkpoint)) is not None:
        raise _damaged(path, f"{wrong} is not what it should be")
    return checkpoint


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path}: the checkpoint is damaged ({reason}); restore it, or start again with --overwrite")


def _wrong_entry(checkpoint: Checkpoint) -> str | None:
    """The name of an entry that is of another type than it must be."""
    counts = ("step", "threads", "stale_validations")
    for name in counts:
        value = getattr(checkpoint, name)
        if type(value) is not int or value < 0:
            return name
    if not isinstance(checkpoint.seconds, int | float) or not 0 <= checkpoint.seconds < math.inf:
        return "seconds"
    for name in ("data", "networks", "random_state"):
        if not isinstance(getattr(checkpoint, name), Mapping):
            return name
    if type(checkpoint.processes) is not int or checkpoint.processes < 1:
        return "processes"
    if checkpoint.patches is not None and (type(checkpoint.patches) is not int or checkpoint.patches < 0):
        return "patches"
    for name in ("best", "latest"):
        validation = getattr(checkpoint, name)
        if validation is not None and not _is_validation(validation):
            return name
    return None


def _is_validation(value: Any) -> bool:
    if not isinstance(value, Mapping) or type(value.get("step")) is not int:
        return False
    scores = value.get("scores")
    if not isinstance(scores, Mapping) or not isinstance(scores.get("mae"), float):
        return False
    return all(score is None or isinstance(score, float) for score in scores.values())


@contextmanager
def states_from(path: Path) -> Iterator[None]:
    """Within it, a state that does not fit where it is loaded is one of a damaged checkpoint."""
    try:
        yield
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _damaged(path, f"its state does not fit the networks: {reason:.100}") from error


def check_same_run(saved: Checkpoint, config: TrainingConfig, path: Path, processes: int = 1) -> None:
    """Refuse to continue a run under other settings; its length may change, and how its steps are spread."""
    allowed = {name: getattr(config, name) for name in MAY_CHANGE_ON_RESUME}
    before, now = saved.processes * saved.config.batch_size, processes * config.batch_size
    if now == before:
        allowed["batch_size"] = config.batch_size
    elif processes != saved.processes and config.batch_size == saved.config.batch_size:
        log.warning(
            "the steps of the run were of %d patches, of %d processes; from here on they are of %d, of %d",
            before,
            saved.processes,
            now,
            processes,
        )
    for name, before, now in _differences(asdict(replace(saved.config, **allowed)), asdict(config)):
        raise CheckpointError(
            f"{path}: the run was started with {name} = {before!r}, now it is {now!r}; resume with the same settings, "
            "or start a new run"
        )


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Entries of nested tables of the same form that differ: dotted name, and the values."""
    for name, value in before.items():
        if isinstance(value, Mapping):
            yield from _differences(value, now[name], f"{prefix}{name}.")
        elif value != now[name]:
            yield f"{prefix}{name}", value, now[name]


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The state of torch's random numbers on the CPU and, for a run on a GPU, there."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
