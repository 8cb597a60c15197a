"""Which network the preset `seamless` should have, how to train it, and which of the presets is good for what.

    python -m benchmarks.screening --data FOLDER --out FOLDER [--phase PHASE] [--jobs 2]

FOLDER holds `em_membranes`, `facades` and `labelfree` (see docs/measurements/results.md for where they come from), and
`nuclei` and `widefield` for more data sets. Each training runs in a process of its own with one thread. Phase `short`
trains every combination of depth {5, 8} and norm {batch, batch renorm, instance}; phase `long` the two best of it with
more steps and seeds; phase `recipe` the preset `seamless` at other rates and with other jitter of brightness, and
`paper`, judged by images that are trained on in most other phases; phase `decoder` the preset `seamless` with each
decoder; phase `preset` all presets as they are; phase `pairs` the preset `seamless` on 5 to 350 of the pairs, of few
also with adaptive augmentation, and after learning from all sources alone; phase `precision` the presets `seamless` and
`faithful` in float32 and bfloat16; phases `losses` and `augmentation` change one setting of `seamless` at a time,
judged as in `recipe`. What is finished is kept, and what was begun goes on from its last checkpoint. `screening.json`,
`screening.md` and the pictures are written of what there is when a phase ends.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from benchmarks.ablation import processes
from benchmarks.screening_report import write_report
from benchmarks.screening_trial import (
    DATA_SETS,
    MORE_DATA_SETS,
    PAPER,
    RESULT,
    SEAMLESS,
    Measured,
    Trial,
    TrialResult,
    Variant,
    read_result,
    run_trial,
)
from pix2pix_training.atomic import atomic_write
from pix2pix_training.choices import Decoder, Norm, Preset, Statistics
from pix2pix_training.errors import Pix2PixError
from pix2pix_training.validated import choices

Phase = Literal[
    "short", "long", "recipe", "decoder", "preset", "pairs", "precision", "losses", "augmentation", "report", "all"
]
DEPTHS = (5, 8)
NORMS: tuple[Norm, ...] = ("batch", "batch-renorm", "instance")
VARIANTS = tuple(Variant(depth=depth, norm=norm) for depth, norm in product(DEPTHS, NORMS))
DECODERS = tuple(replace(SEAMLESS, decoder=decoder) for decoder in choices(Decoder))
PRESETS = tuple(Variant(preset=name) for name in choices(Preset))
PAIR_COUNTS = (5, 10, 20, 50, 100, 350)
PAIRS_OF = {"facades": 350, "denoising": 112, "em_membranes": 20}
"""Data sets of several pairs, and how many are trained on at most."""
_FEW_PAIRS = 50
ADAPTIVE = (("augmentation", "adaptive", 0.6),)
LOSSES = (
    SEAMLESS,
    *(
        replace(SEAMLESS, changes=(("objective", name, value),))
        for name, value in (
            ("pyramid_weight", 50.0),
            ("ssim_weight", 10.0),
            ("l1_focus", 1.0),
            ("feature_matching_weight", 10.0),
            ("gan_weight", 0.3),
            ("gan_weight", 0.0),
        )
    ),
)
AUGMENTATIONS = (
    SEAMLESS,
    *(
        replace(SEAMLESS, changes=(("augmentation", name, value),))
        for name, value in (
            ("flips", "both"),
            ("rotation", 180.0),
            ("elastic", 8.0),
            ("scale_jitter", 1.1171875),
            ("channel_jitter", 0.2),
            ("blur", 1.0),
            ("noise", 0.1),
        )
    ),
)
PRECISIONS = tuple(
    Variant(preset=name, precision=precision) for name in ("seamless", "faithful") for precision in ("fp32", "bf16")
)
FINALISTS = 2
RECIPES = tuple(
    replace(SEAMLESS, learning_rate=rate, intensity_jitter=jitter)
    for rate, jitter in ((2e-4, 0.0), (4e-4, 0.0), (4e-4, 1.25), (4e-4, 2.5))
)


@dataclass(frozen=True, kw_only=True)
class Request:
    data: Path
    out: Path
    phase: Phase = "all"
    data_sets: tuple[str, ...] = DATA_SETS
    steps: int = 250
    long_steps: int = 1500
    seeds: int = 2
    base_width: int = 16
    jobs: int = 2


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A function that a training gives: a variant with one choice of statistics.

    Attributes
    ----------
    mean_rank : over the data sets, of MAE and of SSIM among all candidates; 1 is the best.
    """

    variant: Variant
    statistics: Statistics
    mean_rank: float


def short_trials(request: Request) -> list[Trial]:
    return [_trial(request, v, d, seed=0, steps=request.steps) for v in VARIANTS for d in request.data_sets]


def long_trials(request: Request, finalists: Sequence[Variant]) -> list[Trial]:
    return _with_seeds(request, finalists)


def recipe_trials(request: Request) -> list[Trial]:
    variants = (*RECIPES, PAPER)
    trials = (_trial(request, v, d, seed=0, steps=request.long_steps) for v in variants for d in request.data_sets)
    return [replace(trial, inner=True) for trial in trials]


def decoder_trials(request: Request) -> list[Trial]:
    return _with_seeds(request, DECODERS)


def preset_trials(request: Request) -> list[Trial]:
    return _with_seeds(request, PRESETS)


def pairs_trials(request: Request) -> list[Trial]:
    trials = []
    for data_set in request.data_sets:
        counts = [count for count in PAIR_COUNTS if count <= PAIRS_OF.get(data_set, 0)]
        variants = [replace(SEAMLESS, pairs=count) for count in counts]
        for count in (count for count in counts if count <= _FEW_PAIRS):
            variants += [
                replace(SEAMLESS, pairs=count, changes=ADAPTIVE),
                replace(SEAMLESS, pairs=count, images_first=True),
            ]
        trials += _with_seeds(replace(request, data_sets=(data_set,)), variants)
    return trials


def losses_trials(request: Request) -> list[Trial]:
    return [replace(trial, inner=True) for trial in _with_seeds(request, LOSSES)]


def augmentation_trials(request: Request) -> list[Trial]:
    return [replace(trial, inner=True) for trial in _with_seeds(request, AUGMENTATIONS)]


def precision_trials(request: Request) -> list[Trial]:
    return _with_seeds(request, PRECISIONS)


def _with_seeds(request: Request, variants: Sequence[Variant]) -> list[Trial]:
    return [
        _trial(request, variant, data_set, seed=seed, steps=request.long_steps)
        for seed in range(request.seeds)
        for data_set in request.data_sets
        for variant in variants
    ]


_LATER_PHASES: Mapping[Phase, Callable[[Request], list[Trial]]] = {
    "recipe": recipe_trials,
    "decoder": decoder_trials,
    "preset": preset_trials,
    "pairs": pairs_trials,
    "precision": precision_trials,
    "losses": losses_trials,
    "augmentation": augmentation_trials,
}


def _trial(request: Request, variant: Variant, data_set: str, *, seed: int, steps: int) -> Trial:
    return Trial(
        variant=variant,
        data_set=data_set,
        seed=seed,
        steps=steps,
        base_width=request.base_width,
        data=request.data,
        out=request.out,
    )


def ranking(results: Mapping[Trial, TrialResult]) -> list[Candidate]:
    """All candidates by mean rank, the best first; empty unless every variant has a result for every data set."""
    data_sets = sorted({trial.data_set for trial in results})
    table: dict[tuple[Variant, Statistics], list[Measured]] = {}
    for trial, result in sorted(results.items(), key=lambda item: item[0].data_set):
        for measured in result.measured:
            table.setdefault((trial.variant, measured.statistics), []).append(measured)
    if {variant for variant, _ in table} != set(VARIANTS) or any(len(m) != len(data_sets) for m in table.values()):
        return []
    errors = np.array([[m.scores.mae for m in row] for row in table.values()])
    likeness = np.array([[m.scores.ssim for m in row] for row in table.values()], float)
    ranks = np.concatenate([_ranks(errors), _ranks(-likeness)], axis=1).mean(1)
    candidates = [
        Candidate(variant=variant, statistics=statistics, mean_rank=float(rank))
        for (variant, statistics), rank in zip(table, ranks, strict=True)
    ]
    return sorted(candidates, key=lambda candidate: candidate.mean_rank)


def _ranks(
    values: np.ndarray[tuple[int, int], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Place of each row within its column, from 1 for the smallest."""
    return values.argsort(0).argsort(0) + 1


def finalists(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The best candidates of different variants."""
    best: dict[Variant, Candidate] = {}
    for candidate in candidates:
        best.setdefault(candidate.variant, candidate)
    return list(best.values())[:FINALISTS]


def run(request: Request) -> str:
    """Train what is asked for and report what there is; returns the text of ``screening.md``.

    Raises
    ------
    Pix2PixError
        Images or settings cannot be used, or a training failed; what was finished is kept.
    """
    with processes(request.jobs, threads=1) as pool:
        if request.phase in ("short", "all"):
            _train(short_trials(request), pool)
            _report(request)
        if request.phase in ("long", "all"):
            best = finalists(ranking(_finished(short_trials(request))))
            if not best:
                raise Pix2PixError("the long phase takes the two best of the short one, which is not complete")
            _train(long_trials(request, [candidate.variant for candidate in best]), pool)
            _report(request)
        for phase, trials in _LATER_PHASES.items():
            if request.phase in (phase, "all"):
                _train(trials(request), pool)
                _report(request)
    return _report(request)


def _train(trials: Sequence[Trial], pool: Executor) -> None:
    print(f"{len(trials)} trainings, {len(_finished(trials))} of them finished", flush=True)
    futures = {pool.submit(run_trial, trial): trial for trial in trials}
    for future in as_completed(futures):
        result = future.result()
        scores = result.measured[0].scores
        print(
            f"{futures[future].caption}: MAE {scores.mae:.4f}, SSIM {scores.ssim:.4f}, "
            f"{result.cpu_seconds_per_step:.2f} CPU s a step, load {os.getloadavg()[0]:.1f}",
            flush=True,
        )


def _finished(trials: Sequence[Trial]) -> dict[Trial, TrialResult]:
    return {t: read_result(t.folder / RESULT) for t in trials if (t.folder / RESULT).exists()}


def _report(request: Request) -> str:
    short = _finished(short_trials(request))
    candidates = ranking(short)
    phases = {
        "Short": short,
        "Long": _finished(long_trials(request, [candidate.variant for candidate in finalists(candidates)])),
        **{phase.capitalize(): _finished(trials(request)) for phase, trials in _LATER_PHASES.items()},
    }
    settings = {name: getattr(request, name) for name in ("steps", "long_steps", "seeds", "base_width")}
    content = {
        "settings": settings,
        "ranking": [{**asdict(c), "variant": c.variant.name} for c in candidates],
        "trainings": [
            {
                "phase": phase,
                "variant": t.variant.name,
                "data_set": t.data_set,
                "steps": t.steps,
                "seed": t.seed,
                **asdict(result),
            }
            for phase, results in phases.items()
            for t, result in results.items()
        ],
    }
    with atomic_write(request.out / "screening.json") as partial:
        partial.write_text(json.dumps(content, indent=2), encoding="utf-8")
    ranks = {(c.variant, c.statistics): c.mean_rank for c in candidates}
    return write_report(phases, ranks, request.out)


def parsed(arguments: Sequence[str] | None = None) -> Request:
    defaults = Request(data=Path(), out=Path())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--phase", choices=get_args(Phase), default=defaults.phase)
    parser.add_argument("--data-sets", nargs="+", choices=MORE_DATA_SETS, default=DATA_SETS)
    parser.add_argument("--steps", type=int, default=defaults.steps, help="of each training of the short phase")
    parser.add_argument("--long-steps", type=int, default=defaults.long_steps)
    parser.add_argument("--seeds", type=int, default=defaults.seeds, help="of the long phase")
    parser.add_argument("--base-width", type=int, default=defaults.base_width)
    parser.add_argument("--jobs", type=int, default=defaults.jobs, help="trainings at once, of one thread each")
    values = vars(parser.parse_args(arguments))
    return Request(**{**values, "data_sets": tuple(values["data_sets"])})


def main() -> None:
    try:
        print(run(parsed()))
    except Pix2PixError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
