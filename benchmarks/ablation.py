"""The ablations of the pix2pix paper: objective, generator, receptive field of the discriminator, in one command.

    python -m benchmarks.ablation --data FACADES --out FOLDER [--minutes 45] [--jobs 1] [--tables objective ...]

FACADES holds ``label`` and ``photo``, images of the same names; label -> photo is learnt on all but --held-out of the
pairs. The translations of those are scored by a segmentation network that is trained here on the real photos (the
paper's "FCN score"), and their colours compared with those of real photos. The table `labels` learns photo -> label
instead. Configurations that stand in several tables are trained once. All trainings do the same number of
steps: as many as fit into --minutes by a measurement beforehand, or --steps.

Run again with the same --out to go on after an interruption, or to add tables or seeds: what is finished is kept, the
number of steps too. Writes ``ablation.json``, ``ablation.md`` and ``ablation.png`` there. The paper's own size:

    python -m benchmarks.ablation --data FACADES --out FOLDER --size 256 --base-width 64 --steps 70000
        --scorer-width 64 --scorer-steps 20000 --seeds 3
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.ablation_configurations import TABLES, Configuration, Table, distinct_configurations
from benchmarks.ablation_plan import (
    RESERVE,
    SCORER_SHARE,
    Plan,
    affordable_steps,
    load_plan,
    require_agreement,
    save_plan,
)
from benchmarks.ablation_report import Findings, Found, write_report
from benchmarks.ablation_training import (
    ScorerJob,
    Trial,
    TrialResult,
    finished,
    load_scorer,
    outputs_of,
    run_scorer,
    run_trial,
    scorer_seconds_per_step,
    seconds_per_step,
)
from benchmarks.fcn_score import (
    FcnScores,
    ScorerConfig,
    confusion_matrices,
    fcn_scores,
    mean_scores,
    predicted_classes,
)
from benchmarks.labelled_photos import (
    LabelledPhotos,
    load_labelled_photos,
    nearest_classes,
    read_labelled_photos,
    save_labelled_photos,
)
from pix2pix_training.errors import Pix2PixError

SMALLEST_SIZE = 128
"""Below, the discriminator of 286 pixels has no logit left."""

Measure = Callable[[NDArray[np.uint8]], FcnScores]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for; `steps` and `scorer_steps` are found from `minutes` where they are None."""

    data: Path
    out: Path
    tables: tuple[Table, ...] = TABLES
    minutes: float = 45.0
    steps: int | None = None
    base_width: int = 16
    size: int = 128
    seeds: int = 1
    held_out: int = 50
    scorer_steps: int | None = None
    scorer_width: int = 16
    jobs: int = 1
    threads: int = 1
    device: str = "auto"


def run(request: Request, pool: Executor) -> str:
    """Train, score and report; returns the text of ``ablation.md``.

    Parameters
    ----------
    pool : where the trainings run, `jobs` at once.

    Raises
    ------
    Pix2PixError
        Images or settings cannot be used, or a training failed; what was finished is kept.
    """
    started = time.monotonic()
    data = prepared(request)
    plan = planned(request, pool, started)
    scorer = _scorer_job(request, plan.scorer)
    print(f"every training: {plan.steps} steps; scorer: {plan.scorer.steps} steps", flush=True)
    pool.submit(run_scorer, scorer).result()
    trials = [
        _trial(request, configuration, seed, plan.steps)
        for seed in range(request.seeds)
        for configuration in distinct_configurations(request.tables)
    ]
    results = _trained(trials, pool)
    findings = _findings(request, plan, data, scorer, results)
    return write_report(findings, request.out)


def prepared(request: Request) -> LabelledPhotos:
    """The images at the size asked for, kept in the output folder for every process to read."""
    path = _data_path(request)
    if not path.exists():
        save_labelled_photos(read_labelled_photos(request.data, size=request.size, held_out=request.held_out), path)
    return load_labelled_photos(path)


def _data_path(request: Request) -> Path:
    return request.out / f"data-{request.size}-{request.held_out}.npz"


def planned(request: Request, pool: Executor, started: float) -> Plan:
    """The plan by which the output folder was begun, else a new one; `started` is when its time began to count."""
    path = request.out / "plan.json"
    if path.exists():
        plan = load_plan(path)
        asked = ("size", "base_width", "held_out", "steps", "scorer_steps", "scorer_width")
        require_agreement(plan, {name: getattr(request, name) for name in asked}, request.out)
        return plan
    seconds = 60 * request.minutes * (1 - RESERVE)
    config = ScorerConfig(steps=request.scorer_steps or 1, base_width=request.scorer_width)
    if request.scorer_steps is None or request.steps is None:
        # a length beyond what is measured, so that the rate does not fall to zero
        pace = pool.submit(scorer_seconds_per_step, _scorer_job(request, replace(config, steps=1000))).result()
        if request.scorer_steps is None:
            config = replace(config, steps=affordable_steps(seconds * SCORER_SHARE, [pace], jobs=1))
        seconds -= config.steps * pace
    steps = request.steps
    if steps is None:
        paces = _paces(request, pool) * request.seeds
        steps = affordable_steps(seconds - (time.monotonic() - started), paces, request.jobs)
    plan = Plan(size=request.size, base_width=request.base_width, held_out=request.held_out, steps=steps, scorer=config)
    save_plan(plan, path)
    return plan


def _paces(request: Request, pool: Executor) -> list[float]:
    """Seconds per step of each configuration, measured as they will run: in the pool, `jobs` at once."""
    configurations = distinct_configurations(request.tables)
    measured = pool.map(seconds_per_step, [_trial(request, c, seed=0, steps=1) for c in configurations])
    paces = []
    for configuration, pace in zip(configurations, measured, strict=True):
        print(f"{configuration.caption}: {pace:.3f} s a step, load {os.getloadavg()[0]:.1f}", flush=True)
        paces.append(pace)
    return paces


def _trial(request: Request, configuration: Configuration, seed: int, steps: int) -> Trial:
    return Trial(
        configuration=configuration,
        seed=seed,
        base_width=request.base_width,
        size=request.size,
        steps=steps,
        data=_data_path(request),
        folder=request.out / f"{configuration.name}-seed{seed}",
        device=request.device,
    )


def _scorer_job(request: Request, config: ScorerConfig) -> ScorerJob:
    return ScorerJob(config=config, data=_data_path(request), folder=request.out / "scorer", device=request.device)


def _trained(trials: Sequence[Trial], pool: Executor) -> dict[Trial, TrialResult]:
    done = sum(finished(trial.folder) for trial in trials)
    print(f"{len(trials)} trainings, {done} of them finished", flush=True)
    futures = {pool.submit(run_trial, trial): trial for trial in trials}
    results = {}
    for future in as_completed(futures):
        trial, result = futures[future], future.result()
        results[trial] = result
        print(f"{trial.caption}: {result.seconds:.0f} s, losses {_said(result.losses)}", flush=True)
    return {trial: results[trial] for trial in trials}


def _said(losses: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.3g}" for name, value in losses.items())


def _findings(
    request: Request, plan: Plan, data: LabelledPhotos, job: ScorerJob, results: dict[Trial, TrialResult]
) -> Findings:
    class_count = len(data.palette)
    scorer, truth = load_scorer(job, class_count), data.classes[data.evaluation]

    def measured(photos: NDArray[np.uint8]) -> FcnScores:
        return fcn_scores(confusion_matrices(predicted_classes(scorer, photos), truth, class_count))

    def measured_labels(labels: NDArray[np.uint8]) -> FcnScores:
        return fcn_scores(confusion_matrices(nearest_classes(labels, data.palette), truth, class_count))

    found = {}
    for configuration in distinct_configurations(request.tables):
        trainings = {t.seed: r for t, r in results.items() if t.configuration == configuration}
        folders = {t.seed: t.folder for t in results if t.configuration == configuration}
        measure = measured_labels if configuration.from_photos else measured
        seeds = {seed: measure(outputs_of(folder)) for seed, folder in folders.items()}
        found[configuration] = Found(
            configuration=configuration,
            scores=mean_scores(list(seeds.values())),
            seeds=seeds,
            trainings=trainings,
            outputs=outputs_of(folders[0]),
        )
    return Findings(
        plan=plan,
        tables=request.tables,
        found=found,
        references=_references(data, measured, truth),
        data=data,
        facts={"torch": torch.__version__, "threads": request.threads, "jobs": request.jobs, "device": request.device},
    )


def _references(data: LabelledPhotos, measured: Measure, truth: NDArray[np.uint8]) -> dict[str, FcnScores]:
    """The scorer's ceiling, and floors of it; the last without any scorer."""
    real = data.photos[data.evaluation]
    mean_color = data.photos[data.training].mean(axis=(0, 2, 3)).round().astype(np.uint8)
    constant = np.broadcast_to(mean_color[:, None, None], real.shape).copy()
    class_count = len(data.palette)
    commonest = np.bincount(data.classes[data.training].ravel(), minlength=class_count).argmax()
    always = np.full_like(truth, commonest)
    return {
        "real photos (ceiling)": measured(real),
        "the real photo of another label (floor)": measured(np.roll(real, 1, axis=0)),
        "mean colour of the photos (floor)": measured(constant),
        "always the commonest class, without a scorer": fcn_scores(confusion_matrices(always, truth, class_count)),
    }


def processes(jobs: int, threads: int) -> ProcessPoolExecutor:
    """A pool in which every task has a fresh process with `threads` threads for PyTorch."""
    return ProcessPoolExecutor(
        jobs,
        mp_context=get_context("spawn"),
        initializer=torch.set_num_threads,
        initargs=(threads,),
        max_tasks_per_child=1,
    )


def parsed(arguments: Sequence[str] | None = None) -> Request:
    defaults = Request(data=Path(), out=Path())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with label and photo")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tables", nargs="+", choices=[table.name for table in TABLES], help="default: all")
    parser.add_argument("--minutes", type=float, default=defaults.minutes, help="for everything")
    parser.add_argument("--steps", type=int, help="of every training, instead of what fits into --minutes")
    parser.add_argument("--base-width", type=int, default=defaults.base_width)
    parser.add_argument("--size", type=int, default=defaults.size, help="pixels; 128, 256, 512, ...")
    parser.add_argument("--seeds", type=int, default=defaults.seeds, help="trainings of each configuration")
    parser.add_argument("--held-out", type=int, default=defaults.held_out)
    parser.add_argument("--scorer-steps", type=int)
    parser.add_argument("--scorer-width", type=int, default=defaults.scorer_width)
    parser.add_argument("--jobs", type=int, default=defaults.jobs, help="trainings at once")
    parser.add_argument("--threads", type=int, help="of each training; default: the cores divided by --jobs")
    parser.add_argument("--device", default=defaults.device)
    values = vars(parser.parse_args(arguments))
    if values["size"] < SMALLEST_SIZE or values["size"].bit_count() != 1:
        parser.error(f"--size must be a power of two, at least {SMALLEST_SIZE}")
    for name in ("minutes", "steps", "seeds", "jobs", "threads", "scorer_steps"):
        if values[name] is not None and values[name] <= 0:
            parser.error(f"--{name.replace('_', '-')} must be above 0")
    values["tables"] = tuple(table for table in TABLES if values["tables"] is None or table.name in values["tables"])
    values["threads"] = values["threads"] or max(1, (os.cpu_count() or 1) // values["jobs"])
    return Request(**values)


def main() -> None:
    request = parsed()
    torch.set_num_threads(request.threads)
    try:
        with processes(request.jobs, request.threads) as pool:
            print(run(request, pool))
    except Pix2PixError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
