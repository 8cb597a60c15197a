"""Which preset is best for what on a user's own pairs: settings of the runs, and scores of their models."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_pix2pix.evaluation import evaluate_pairs, translations
from napari_pix2pix.training_data import DataRequest, load_training_data
from napari_pix2pix.translation.progress import ended
from napari_pix2pix.translation.settings import TranslationSettings
from napari_pix2pix.translation.translator import Translator
from pix2pix_training.atomic import temporary_folder
from pix2pix_training.cancel import Cancel
from pix2pix_training.choices import BestBy, Preset
from pix2pix_training.config import TrainingConfig
from pix2pix_training.errors import SettingsError
from pix2pix_training.machine import scratch_folder
from pix2pix_training.metrics import GRID_PERIODS
from pix2pix_training.model_file import load_model
from pix2pix_training.pairs import Pair
from pix2pix_training.setting_options import Place, places_of, training_config
from pix2pix_training.validated import choices, labels

logger = logging.getLogger(__name__)

PRESETS: tuple[Preset, ...] = choices(Preset)
_UNITS = {"s": 1 / 60, "min": 1.0, "h": 60.0}
_DECIDED: tuple[Place, ...] = (("preset",), ("epochs",), ("steps",), ("minutes",))
_NO_GRID = 1.5
_TITLES = {**labels(BestBy), "iou": "IoU", "dice": "Dice"}
_LOWER_IS_BETTER = ("mae", "grid")


def minutes_of(text: str) -> float:
    """ "5min", "5" or "300s" -> 5.0, "2h" -> 120.0."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|h)?", text.strip())
    if match is None or not float(match[1]):
        raise SettingsError(f"compare_presets is {text!r}; give a time such as 5min, 90s or 1h")
    return float(match[1]) * _UNITS[match[2] or "min"]


def configs_of_presets(
    minutes: float, layers: Sequence[Mapping[str, Any]], patch_size: int
) -> dict[Preset, tuple[TrainingConfig, set[Place]]]:
    """Settings for each preset, and which of them are given; all have the same patches, which decide the split.

    A preset that cannot have what is asked for is left out, and said.

    Raises
    ------
    SettingsError
        The `layers` of `training_config` name a preset or a length, no run can take so long, or fewer than two presets
        are left.
    """
    if said := [place[0] for place in _DECIDED if place in places_of(*layers)]:
        raise SettingsError(f"compare_presets decides presets and their time; leave {', '.join(said)} out")
    training_config({}, {"minutes": minutes})
    found: dict[Preset, tuple[TrainingConfig, set[Place]]] = {}
    for preset in PRESETS:
        own = (*layers, {"preset": preset, "minutes": minutes, "patch_size": patch_size})
        try:
            found[preset] = training_config(*own), places_of(*own)
        except SettingsError as error:
            logger.warning("the preset %s is left out of the comparison: %s", preset, error)
    if len(found) < 2:
        raise SettingsError("fewer than two presets can have these settings, so there is nothing to compare")
    return found


def load_held_out(request: DataRequest, *, patch_size: int, seed: int) -> tuple[Pair, ...]:
    """The pairs to score, without neighbouring planes; `SettingsError` where there are none."""
    held_out = load_training_data(replace(request, z_context=0), patch_size=patch_size, seed=seed).split.validation
    if not held_out:
        raise SettingsError("compare_presets needs images that are held out, and there are none; hold some out")
    return held_out


@dataclass(frozen=True, kw_only=True)
class PresetScores:
    """Of the model of one preset on the held-out images: mean scores, and the grid by its period in pixels.

    `grid` is relative to the targets (`grid_ratio`), None of images that are too small for it, and of classes.
    """

    scores: Mapping[str, float | None]
    grid: Mapping[int, float] | None

    def as_dict(self) -> dict[str, Any]:
        return {**self.scores, "grid": self.grid}


def scored(model: Path, pairs: Sequence[Pair], device: str, cancel: Cancel) -> PresetScores:
    """Translate the sources of `pairs` (without neighbouring planes) and compare them with the targets."""
    translator = Translator(load_model(model), TranslationSettings(device=device))
    with temporary_folder(scratch_folder()) as folder:
        with translator.interruptible(cancel):
            made = ended(translations(pairs, translator, folder)).pairs
        result = evaluate_pairs(made, mapping=translator.model.target.mapping, progress=lambda *_: cancel.check())
    mean = result.mean.as_dict() if result.classes is None else result.classes.mean.as_dict()
    return PresetScores(scores=mean, grid=None if result.spectrum is None else result.spectrum.grid)


def best_for(results: Mapping[str, PresetScores]) -> dict[str, list[str]]:
    """The presets that are best by each score, as far as it is defined.

    By the grid all are best whose index is below 1.5 at every period, else that whose largest index is the smallest.
    """
    best: dict[str, list[str]] = {}
    for score in [*dict.fromkeys(name for result in results.values() for name in result.scores), "grid"]:
        values = {name: value for name, result in results.items() if (value := _value(result, score)) is not None}
        if values:
            top = min(values.values()) if score in _LOWER_IS_BETTER else max(values.values())
            best[score] = [name for name, value in values.items() if value == top]
    return best


def _value(result: PresetScores, score: str) -> float | None:
    if score == "grid":
        return None if result.grid is None else max(_NO_GRID, *result.grid.values())
    value = result.scores.get(score)
    return value if value is not None and math.isfinite(value) else None


def table(results: Mapping[str, PresetScores]) -> Iterator[str]:
    """The scores as lines of equal columns, and for each preset what it is best for."""
    names = list(dict.fromkeys(name for result in results.values() for name in result.scores))
    header = ["preset", *(_TITLES.get(name, name) for name in names), f"grid {'/'.join(map(str, GRID_PERIODS))} px"]
    rows = [header]
    for preset, result in results.items():
        grid = "-" if result.grid is None else "/".join(f"{value:.2f}" for value in result.grid.values())
        values = [result.scores.get(name) for name in names]
        rows.append([preset, *("-" if value is None else f"{value:.4f}" for value in values), grid])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    best = best_for(results)
    for preset in results:
        what = [_TITLES.get(score, score) for score, presets in best.items() if presets == [preset]]
        yield f"{preset} is best for {', '.join(what)}" if what else f"{preset} is best for nothing alone"
