"""What a translation can be believed for, in figures.

    python -m benchmarks.trust novelty --data FOLDER [--data-sets facades ...] [--seeds 2] [--most 200]
    python -m benchmarks.trust coverage --data FOLDER --out FOLDER [--data-sets facades ...] [--seeds 2] [--steps 1000]
    python -m benchmarks.trust costs --folder FOLDER [--width 32] [--steps 100] [--size 2048] [--turns 3]

`novelty`: how well images are told that are unlike those of training, by the share of them that is novel: AUROC of
each change, and how many images are warned of; those without a change are false alarms.

`coverage`: how many pixels lie within the intervals of error maps, and how well the maps tell where errors are large,
of a small model for each data set and seed. Stopped, it goes on where it was: `--out` keeps runs and results.

`costs`: seconds of training and of translation with and without error maps and novelty maps, in turns, in a new folder;
about five minutes on two cores. Start it on a machine that does nothing else.

Each prints a table in Markdown.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from benchmarks.trust_costs import cost_table, costs
from benchmarks.trust_coverage import STEPS, coverage_runs, coverage_table
from benchmarks.trust_novelty import DATA_SETS, Row, novelty_rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["novelty", "coverage", "costs"])
    parser.add_argument("--data", type=Path, help="for novelty and coverage: folder of the data sets")
    parser.add_argument("--data-sets", nargs="+", choices=DATA_SETS, default=DATA_SETS)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--most", type=int, default=200, help="images of a data set, for novelty")
    parser.add_argument("--out", type=Path, help="for coverage: folder of the runs")
    parser.add_argument("--steps", type=int, help=f"of each generator, for coverage ({STEPS}) and costs (100)")
    parser.add_argument("--folder", type=Path, help="for costs: where to train and translate; it must not be there")
    parser.add_argument("--width", type=int, default=32, help="of the networks, for costs")
    parser.add_argument("--size", type=int, default=2048, help="side of the image that is translated, for costs")
    parser.add_argument("--turns", type=int, default=3, help="for costs")
    chosen = parser.parse_args(arguments)
    if chosen.part == "costs":
        if chosen.folder is None:
            parser.error("costs needs --folder")
        steps = chosen.steps or 100
        paid = costs(chosen.folder, width=chosen.width, steps=steps, size_px=chosen.size, turns=chosen.turns)
        print("\n".join(cost_table(paid)))
        return
    if chosen.data is None:
        parser.error(f"{chosen.part} needs --data")
    if chosen.part == "coverage":
        if chosen.out is None:
            parser.error("coverage needs --out")
        found = list(coverage_runs(chosen.data, chosen.data_sets, chosen.seeds, chosen.out, chosen.steps or STEPS))
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
