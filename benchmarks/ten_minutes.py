"""What ten minutes on the cores at hand give: `train` as users run it, beside the paper's settings in plain PyTorch.

    python -m benchmarks.ten_minutes --data FOLDER --out FOLDER [--minutes 10 | --steps N --base-width W]
        [--data-sets ...] [--contenders ...] [--seeds 2] [--at-once 1] [--report]

Contenders are `seamless`, the default preset; `paper`, the plain program of `benchmarks.textbook_run`, which equals the
reference implementation; `faithful`, the preset for results that are measured; `before`, the default as it was. With
--minutes the preset picks its sizes, and the paper has its own (base width 64); with --steps all have one width. All
see the same files; held-out images are seen by none. Masks (em_membranes, nuclei) are learnt as intensities, and of the
single fields (labelfree, widefield) a quarter is held out and all else is trained on.

With --at-once 1 trainings take turns on all cores, with N each is pinned to its own share of them. A training that
is finished is not run again, so the same command, or others with the same --out, go on in another session; one that was
interrupted starts again. Its ``result.json`` is enough for that: copy those of docs/measurements/runs/ten_minutes into
--out. Of what is finished, --report and the end of every run write ``ten_minutes.md``, ``.csv``, ``.json``, and a
picture of each data set at full resolution.

Data sets are those of docs/results.md, `nuclei`, `widefield` and `denoising`; a folder FOLDER/NAME that has `source`
and `target` is one too.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.queues import Queue
from pathlib import Path

import torch

from benchmarks.ten_minutes_report import write_report
from benchmarks.ten_minutes_trial import (
    CONTENDERS,
    DATA_SETS,
    RESULT,
    Length,
    Trial,
    TrialResult,
    prepare_scorer,
    read_result,
    run_trial,
    scorer_job,
    write_images,
)
from pix2pix_training.errors import Pix2PixError


@dataclass(frozen=True, kw_only=True)
class Request:
    data: Path
    out: Path
    length: Length
    data_sets: tuple[str, ...] = DATA_SETS
    contenders: tuple[str, ...] = CONTENDERS
    seeds: int = 2
    at_once: int = 1
    scorer_steps: int = 1500
    report: bool = False


def trials(request: Request) -> list[Trial]:
    """Those of one set and seed next to each other, so that they run side by side."""
    return [
        Trial(data_set=data_set, contender=contender, seed=seed, length=request.length, out=request.out)
        for seed in range(request.seeds)
        for data_set in request.data_sets
        for contender in request.contenders
        if not (data_set == "facades" and contender == "faithful")  # photos are not measured
    ]


def run(request: Request) -> str:
    """Train what is not finished and report all that is; returns the text of ``ten_minutes.md``.

    Raises
    ------
    Pix2PixError
        Images cannot be used, or a training failed; what was finished is kept.
    """
    chosen = trials(request)
    if not request.report:
        _train([trial for trial in chosen if not (trial.folder / RESULT).exists()], request)
    results = {trial: read_result(trial.folder / RESULT) for trial in chosen if (trial.folder / RESULT).exists()}
    return write_report(results, request.out / request.length.name)


def _train(missing: Sequence[Trial], request: Request) -> None:
    print(f"{len(missing)} trainings of {request.length.name} are to be done", flush=True)
    scorer = scorer_job(request.out, request.scorer_steps)
    for data_set in dict.fromkeys(trial.data_set for trial in missing):
        write_images(request.data, request.out, data_set)
        if data_set == "facades":
            print("training the network that segments the photos, once", flush=True)
            prepare_scorer(scorer, request.out)
    context = get_context("spawn")
    shares: Queue[tuple[int, ...]] = context.Queue()
    for share in shares_of_cores(sorted(os.sched_getaffinity(0)), request.at_once):
        shares.put(share)
    with ProcessPoolExecutor(request.at_once, context, _take_cores, (shares,)) as pool:
        jobs = {pool.submit(run_trial, t, scorer if t.data_set == "facades" else None): t for t in missing}
        try:
            for job in as_completed(jobs):
                _tell(jobs[job], job.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def shares_of_cores(cores: Sequence[int], count: int) -> list[tuple[int, ...]]:
    """`count` shares of equal size; with more shares than cores they have the same ones."""
    each = max(1, len(cores) // count)
    return [tuple(cores[(i * each + j) % len(cores)] for j in range(each)) for i in range(count)]


def _take_cores(shares: Queue[tuple[int, ...]]) -> None:
    """Of this process and the programs that it starts."""
    cores = shares.get()
    os.sched_setaffinity(0, cores)
    os.environ["OMP_NUM_THREADS"] = str(len(cores))
    torch.set_num_threads(len(cores))


def _tell(trial: Trial, result: TrialResult) -> None:
    scores = " ".join(f"{name} {value:.4g}" for name, value in result.scores.items() if value is not None)
    print(
        f"{trial.data_set}, {trial.contender}, seed {trial.seed}: {result.steps} steps of width {result.base_width} in "
        f"{result.seconds:.0f} s, load {result.load[1]:.1f}; {scores}",
        flush=True,
    )


def parsed(arguments: Sequence[str] | None = None) -> Request:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, help="of each training [default: 10]")
    parser.add_argument("--steps", type=int, help="of each training, instead of minutes")
    parser.add_argument(
        "--base-width", type=int, help="of all, with --steps; of the paper with --minutes [default: 64]"
    )
    parser.add_argument("--data-sets", nargs="+", default=DATA_SETS)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=CONTENDERS)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--at-once", type=int, default=1, help="trainings at the same time, each on its own cores")
    parser.add_argument("--scorer-steps", type=int, default=1500, help="of the network that segments the facades")
    parser.add_argument("--report", action="store_true", help="train nothing")
    values = vars(parser.parse_args(arguments))
    minutes, steps, width = (values.pop(name) for name in ("minutes", "steps", "base_width"))
    if minutes is not None and steps is not None:
        parser.error("give --minutes or --steps, not both")
    length = Length(minutes=10.0 if steps is None and minutes is None else minutes, steps=steps, base_width=width or 64)
    values |= {name: tuple(values[name]) for name in ("data_sets", "contenders")}
    return Request(length=length, **values)


def main() -> None:
    try:
        print(run(parsed()))
    except Pix2PixError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
