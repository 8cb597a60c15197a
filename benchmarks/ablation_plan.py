"""How an ablation divides its time: equal steps for all trainings, from the measured seconds of a step of each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.fcn_score import ScorerConfig
from pix2pix_training.atomic import atomic_write
from pix2pix_training.errors import InputError, SettingsError
from pix2pix_training.validated import from_dict, validated

SCORER_SHARE = 0.15
"""Of the time, for the scorer."""
RESERVE = 0.1
"""Of the time, for starting processes, translating and scoring."""


@validated
class Plan:
    """What decides the results, and stays as it is while trainings are added to an output folder."""

    size: int
    base_width: int
    held_out: int
    steps: int
    scorer: ScorerConfig


def makespan(durations: Sequence[float], jobs: int) -> float:
    """Time until all are done, `jobs` at once, the longest started first."""
    busy = [0.0] * jobs
    for duration in sorted(durations, reverse=True):
        busy[busy.index(min(busy))] += duration
    return max(busy)


def affordable_steps(seconds: float, seconds_per_step: Sequence[float], jobs: int) -> int:
    """The equal number of steps that trainings of the given paces can all do within `seconds`, `jobs` at once.

    Raises `SettingsError` where that is none.
    """
    steps = int(seconds / makespan(seconds_per_step, jobs))
    if steps < 1:
        raise SettingsError(
            "the time is too short for a single step of every training; give more --minutes, a smaller --base-width or "
            "--size, or --steps"
        )
    return steps


def save_plan(plan: Plan, path: Path) -> None:
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(asdict(plan), indent=2), encoding="utf-8")


def load_plan(path: Path) -> Plan:
    """The plan of an output folder; `InputError` where the file is damaged."""
    try:
        return from_dict(Plan, json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, InputError) as error:
        raise InputError(f"{path} is damaged ({error}); choose another output folder") from error


def require_agreement(plan: Plan, asked: Mapping[str, int | None], folder: Path) -> None:
    """Refuse settings by which `folder` was not begun; those that are None were not asked for."""
    begun = {**asdict(plan), "scorer_steps": plan.scorer.steps, "scorer_width": plan.scorer.base_width}
    for name, value in asked.items():
        if value is not None and begun[name] != value:
            raise SettingsError(
                f"{folder} was begun with {name} {begun[name]}, now it is {value}; go on with the same, or choose "
                "another output folder"
            )
