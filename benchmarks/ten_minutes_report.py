"""Tables, CSV, JSON and pictures of `benchmarks.ten_minutes`, of whatever is finished."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from benchmarks.real_data import TASKS, draw_grey
from benchmarks.ten_minutes_trial import OURS, OUTPUTS, PAPER, Trial, TrialResult, outputs_of, read_pairs
from napari_pix2pix.demonstration import Panel, write_figure
from pix2pix_training.array_source import AnyArray
from pix2pix_training.atomic import atomic_write
from pix2pix_training.metrics import GRID_PERIODS

Results = Mapping[Trial, TrialResult]
_PICTURED = 2
_PICTURED_PX = 512
_NOT_MEASURED = "-"
_SCORES = (("mae", ".4g", -1), ("psnr", ".2f", 1), ("ssim", ".4f", 1), ("pearson", ".3f", 1))
"""Name, how it is shown, and whether more is better (1) or less (-1)."""


def write_report(results: Results, folder: Path) -> str:
    """Write ``ten_minutes.md``, ``.csv``, ``.json`` and pictures into `folder`; returns the text."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [*dict.fromkeys(result.machine for result in results.values()), ""]
    for data_set, those in _by_data_set(results):
        lines += [f"### {data_set}", "", *_table(those), ""]
        _draw(data_set, [trial for trial in those if trial.seed == 0 and (trial.folder / OUTPUTS).exists()], folder)
    lines += ["### Against the paper's settings", "", *_comparison(results), ""]
    text = "\n".join(lines)
    _write(folder / "ten_minutes.md", text)
    _write(folder / "ten_minutes.csv", _csv(results))
    _write(folder / "ten_minutes.json", json.dumps([_entry(trial, r) for trial, r in results.items()], indent=2))
    return text


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _by_data_set(results: Results) -> Iterator[tuple[str, Results]]:
    for data_set in dict.fromkeys(trial.data_set for trial in results):
        yield data_set, {t: r for t, r in results.items() if t.data_set == data_set}


def _by_contender(results: Results) -> dict[str, list[TrialResult]]:
    names = dict.fromkeys(trial.contender for trial in results)
    return {name: [r for t, r in results.items() if t.contender == name] for name in names}


def _table(results: Results) -> Iterator[str]:
    """Means over the seeds, and each seed's value where there are several; the last row is the best constant."""
    runs = _by_contender(results)
    has_segments = any(r.segmentation for each in runs.values() for r in each)
    columns: list[tuple[str, Callable[[TrialResult], float | None], str]] = [
        (_title(name), lambda r, name=name: r.scores.get(name), form)  # type: ignore[misc]
        for name, form, _ in _SCORES
    ]
    if has_segments:
        columns += [
            ("seg pixels", lambda r: r.segmentation.get("per-pixel accuracy"), ".3f"),
            ("seg IoU", lambda r: r.segmentation.get("class IoU"), ".3f"),
        ]
    columns += [(f"grid {p} px", lambda r, p=p: r.grid.get(str(p)), ".2f") for p in GRID_PERIODS]  # type: ignore[misc]
    columns += [("detail", lambda r: r.detail, ".2f")]
    yield f"| contender | seeds | {' | '.join(title for title, *_ in columns)} | width, patch, batch | steps | load |"
    yield "|---" * (len(columns) + 5) + "|"
    for name, each in runs.items():
        cells = [_cell([value(r) for r in each], form) for _, value, form in columns]
        sizes = " / ".join(dict.fromkeys(f"{r.base_width}, {r.patch_size}, {r.batch_size}" for r in each))
        steps = " / ".join(str(r.steps) for r in each)
        load = " / ".join(f"{r.load[1]:.1f}" for r in each)
        yield f"| {name} | {len(each)} | {' | '.join(cells)} | {sizes} | {steps} | {load} |"
    constant = next(iter(results.values())).constant
    cells = [_cell([constant.get(name)], form) for name, form, _ in _SCORES]
    yield f"| best constant | | {' | '.join(cells)} |" + " |" * (len(columns) - len(_SCORES) + 3)


def _title(name: str) -> str:
    return name.upper() if name != "pearson" else "Pearson"


def _cell(values: Sequence[float | None], form: str) -> str:
    """The mean, and in brackets what it is of."""
    shown = [_NOT_MEASURED if value is None else format(value, form) for value in values]
    average = _mean(values)
    if len(values) == 1 or average is None:
        return shown[0]
    return f"{average:{form}} ({' / '.join(shown)})"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def _comparison(results: Results) -> Iterator[str]:
    """For each set and contender, by how much its mean is better than that of the paper's settings."""
    titles = [_title(name) for name, *_ in _SCORES]
    yield f"| data | contender | {' | '.join(titles)} | seg IoU | grid at most | detail: its, the paper's |"
    yield "|---" * (len(titles) + 5) + "|"
    for data_set, those in _by_data_set(results):
        runs = _by_contender(those)
        for name, each in runs.items():
            if name not in OURS or PAPER not in runs:
                continue
            gains = [
                _gain([r.scores.get(s) for r in each], [r.scores.get(s) for r in runs[PAPER]], form, sign)
                for s, form, sign in _SCORES
            ]
            gains.append(_gain([_iou(r) for r in each], [_iou(r) for r in runs[PAPER]], ".3f", 1))
            grids = [max(r.grid.values()) for r in each if r.grid]
            details = [_cell([_mean([r.detail for r in those])], ".2f") for those in (each, runs[PAPER])]
            grid = f"{mean(grids):.2f}" if grids else _NOT_MEASURED
            yield f"| {data_set} | {name} | {' | '.join(gains)} | {grid} | {', '.join(details)} |"


def _iou(result: TrialResult) -> float | None:
    return result.segmentation.get("class IoU")


def _gain(ours: Sequence[float | None], papers: Sequence[float | None], form: str, sign: int) -> str:
    """How much better, as a positive number; in words where it is not."""
    own, other = _mean(ours), _mean(papers)
    if own is None or other is None:
        return _NOT_MEASURED
    gain = sign * (own - other)
    return f"+{gain:{form}}" if gain > 0 else f"**not better** ({gain:{form}})"


def _entry(trial: Trial, result: TrialResult) -> dict[str, Any]:
    where = {"data_set": trial.data_set, "contender": trial.contender, "seed": trial.seed, "length": trial.length.name}
    return {**where, **asdict(result)}


def _csv(results: Results) -> str:
    """A row for each training; what is nested has a column for each of its values."""
    rows = [dict(_flat(_entry(trial, result))) for trial, result in results.items()]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flat(entry: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in entry.items():
        if isinstance(value, Mapping):
            yield from ((f"{name} {key}", inner) for key, inner in value.items())
        elif isinstance(value, tuple | list):
            yield from ((f"{name} {number}", inner) for number, inner in enumerate(value))
        else:
            yield name, value


def _draw(data_set: str, trials: Sequence[Trial], folder: Path) -> None:
    """Source, what each contender makes of it, and target, of held-out images; the middle, pixel by pixel."""
    if not trials:
        return
    held_out = read_pairs(trials[0].images / "held-out")[:_PICTURED]
    outputs = {trial.contender: list(outputs_of(trial.folder))[:_PICTURED] for trial in trials}
    drawing = next((task.drawn for task in TASKS if task.name == data_set), draw_grey)
    rows = []
    for number, (source, target) in enumerate(held_out):
        cropped = [_middle(image) for image in (source, target)]
        pictures = {name: drawing(cropped[0], _middle(images[number]), cropped[1]) for name, images in outputs.items()}
        first, _, last = next(iter(pictures.values()))
        rows.append([first, *(Panel(name, panels[1].pixels) for name, panels in pictures.items()), last])
    side = min(_PICTURED_PX, *held_out[0][1].shape[-2:])
    write_figure(rows, folder / f"ten_minutes_{data_set}.png", side=side)


def _middle(image: AnyArray) -> AnyArray:
    y0, x0 = (max(0, (side - _PICTURED_PX) // 2) for side in image.shape[-2:])
    return np.ascontiguousarray(image[:, y0 : y0 + _PICTURED_PX, x0 : x0 + _PICTURED_PX])
