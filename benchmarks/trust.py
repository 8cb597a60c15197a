"""What a translation can be believed for, in figures.

    python -m benchmarks.trust novelty --data FOLDER [--data-sets facades ...] [--seeds 2] [--most 200]
    python -m benchmarks.trust coverage --data FOLDER --out FOLDER [--data-sets facades ...] [--seeds 2] [--steps 1000]

`novelty`: how well images are told that are unlike those of training, by the share of them that is novel: AUROC of
each change, and how many images are warned of; those without a change are false alarms.

`coverage`: how many pixels lie within the intervals of error maps, and how well the maps tell where errors are large,
of a small model for each data set and seed. Stopped, it goes on where it was: `--out` keeps runs and results.

Each prints a table in Markdown.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from benchmarks.trust_coverage import STEPS, coverage_runs, coverage_table
from benchmarks.trust_novelty import DATA_SETS, Row, novelty_rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["novelty", "coverage"])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--data-sets", nargs="+", choices=DATA_SETS, default=DATA_SETS)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--most", type=int, default=200, help="images of a data set, for novelty")
    parser.add_argument("--out", type=Path, help="for coverage: folder of the runs")
    parser.add_argument("--steps", type=int, default=STEPS, help="of each generator, for coverage")
    chosen = parser.parse_args(arguments)
    if chosen.part == "coverage":
        if chosen.out is None:
            parser.error("coverage needs --out")
        found = list(coverage_runs(chosen.data, chosen.data_sets, chosen.seeds, chosen.out, chosen.steps))
        print("\n".join(coverage_table(found)))
        return
    rows = [
        row for seed in range(chosen.seeds) for row in novelty_rows(chosen.data, chosen.data_sets, seed, chosen.most)
    ]
    for line in table(rows):
        print(line)


def table(rows: Sequence[Row]) -> list[str]:
    """Means over the seeds, a line for each change of each data set."""
    lines = ["| data set | change | AUROC | warned | mean novel share |", "|---|---|---|---|---|"]
    place = {(row.data_set, row.change): number for number, row in reversed(list(enumerate(rows)))}
    for (data_set, change), group in groupby(
        sorted(rows, key=lambda row: place[row.data_set, row.change]), key=lambda row: (row.data_set, row.change)
    ):
        own = list(group)
        auroc, warned, share = (
            float(np.mean([getattr(row, name) for row in own])) for name in ("auroc", "warned", "mean_share")
        )
        lines.append(f"| {data_set} | {change} | {auroc:.3f} | {100 * warned:.0f} % | {100 * share:.1f} % |")
    return lines


if __name__ == "__main__":
    main()
