"""What error maps and novelty maps cost: training with and without, translation with and without, in turns.

Models learn from simulated cells, of 4 pairs and 2 that are held out. Of the seconds none are those of making a model
ready to translate, which is done before.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import tifffile

from napari_pix2pix import Pix2Pix
from napari_pix2pix.sample_data import simulate_cells

_PAIRS, _HELD_OUT, _SIDE_PX = 6, 2, 512
_MOST = {"train": 1.15, "translate --error-map": 1.2, "translate --novelty-map": 1.1}
"""Times what it takes without that each may take."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Seconds of each turn, and the load of the machine (mean of the last minute) before it; compared with `than`."""

    what: str
    than: str | None
    seconds: list[float]
    loads: list[float]


def costs(folder: Path, *, width: int, steps: int, size_px: int, turns: int) -> list[Cost]:
    """Train and translate in `folder`, which is made; each turn has every kind once, in another order each time."""
    folder.mkdir(parents=True)
    cells = [simulate_cells(_SIDE_PX, _SIDE_PX, seed=seed) for seed in range(_PAIRS)]
    image = folder / "image.tif"
    tifffile.imwrite(image, simulate_cells(size_px, size_px, seed=_PAIRS).source)

    def trained(name: str, **settings: Any) -> Pix2Pix:
        return Pix2Pix.train(
            [each.source for each in cells],
            [each.target for each in cells],
            out=folder / name,
            overwrite=True,
            validation=_HELD_OUT / _PAIRS,
            steps=steps,
            generator={"base_width": width},
            discriminator={"base_width": width},
            **settings,
        )

    training = _in_turns(
        {"train --coverage 0": lambda: trained("without", coverage=0.0), "train": lambda: trained("with")}, turns
    )
    model = Pix2Pix.load(folder / "with" / "model.safetensors")

    def translated(*, error_map: bool = False, novelty_map: bool = False) -> Path:
        return model.translate(image, folder / "out.tif", overwrite=True, error_map=error_map, novelty_map=novelty_map)

    work: dict[str, Callable[[], Any]] = {
        "translate": translated,
        "translate --error-map": partial(translated, error_map=True),
        "translate --novelty-map": partial(translated, novelty_map=True),
    }
    for make_ready in work.values():
        make_ready()
    return [*training, *_in_turns(work, turns)]


def _in_turns(work: Mapping[str, Callable[[], Any]], turns: int) -> list[Cost]:
    """Of each piece of work; the first is what the others are compared with."""
    first = next(iter(work))
    found = {name: Cost(what=name, than=None if name == first else first, seconds=[], loads=[]) for name in work}
    for turn in range(turns):
        for name in sorted(work, key=list(work).index, reverse=turn % 2 == 1):
            found[name].loads.append(os.getloadavg()[0])
            begin = time.perf_counter()
            work[name]()
            found[name].seconds.append(time.perf_counter() - begin)
    return list(found.values())


def cost_table(found: Sequence[Cost]) -> list[str]:
    """A line for each kind; ratios are of the turns, their median and extremes."""
    lines = ["| what | seconds | load before | times without | at most |", "|---|---|---|---|---|"]
    by_name = {each.what: each for each in found}
    for each in found:
        ratio = most = "-"
        if each.than is not None:
            ratios = [a / b for a, b in zip(each.seconds, by_name[each.than].seconds, strict=True)]
            ratio = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            most = f"{_MOST[each.what]:g}"
        seconds, loads = ([f"{value:.1f}" for value in values] for values in (each.seconds, each.loads))
        lines.append(f"| {each.what} | {', '.join(seconds)} | {', '.join(loads)} | {ratio} | {most} |")
    return lines
