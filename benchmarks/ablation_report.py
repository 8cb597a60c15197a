"""What an ablation found, as JSON, as tables beside the paper's, and as a sheet of pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from benchmarks.ablation_configurations import PAPER_REAL_PHOTOS, Configuration, Scores, Table
from benchmarks.ablation_plan import Plan
from benchmarks.ablation_training import TrialResult
from benchmarks.color_histograms import PAPER, intersections, mean_chroma
from benchmarks.fcn_score import SCORE_NAMES, FcnScores
from benchmarks.labelled_photos import LabelledPhotos
from napari_pix2pix.demonstration import RGB, Panel, write_figure
from pix2pix_training.atomic import atomic_write

_SHEET_ROWS = 4
_PANEL_PX = 256
_CLEAR = 2.0
"""Standard errors of a difference beyond which it is called clear."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """One configuration: its mean scores over the seeds, those of each seed, and what the trainings say."""

    configuration: Configuration
    scores: FcnScores
    seeds: Mapping[int, FcnScores]
    trainings: Mapping[int, TrialResult]
    outputs: NDArray[np.uint8]
    """Translations of what is held out by the first seed, (N, 3, S, S)."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All that is reported; `references` are scores of images that no generator made, by name."""

    plan: Plan
    tables: Sequence[Table]
    found: Mapping[Configuration, Found]
    references: Mapping[str, FcnScores]
    data: LabelledPhotos
    facts: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Ordering:
    """How the rows of a table are ordered by one score, here and in the paper.

    `same` of the `compared` pairs of rows (those that differ in the paper) are in the paper's order; `clear` of them
    differ by more than two standard errors here, `clear_same` of those in the paper's order.
    """

    score: str
    ours: tuple[str, ...]
    paper: tuple[str, ...]
    same: int
    compared: int
    clear_same: int
    clear: int
    kendall_tau: float


def orderings(table: Table, found: Mapping[Configuration, Found]) -> list[Ordering]:
    """One ordering for each score."""
    scores = [found[row.configuration].scores for row in table.rows]
    return [_ordering(table, scores, index) for index in range(len(SCORE_NAMES))]


def _ordering(table: Table, scores: Sequence[FcnScores], index: int) -> Ordering:
    labels = [row.label for row in table.rows]
    ours = [s.values[index] for s in scores]
    paper = [row.paper[index] for row in table.rows]
    pairs = [(i, j) for i, j in combinations(range(len(labels)), 2) if paper[i] != paper[j]]
    clear = [pair for pair in pairs if _is_clear(*(scores[i].redrawn[:, index] for i in pair))]

    def same(among: Sequence[tuple[int, int]]) -> int:
        return sum((ours[i] - ours[j]) * (paper[i] - paper[j]) > 0 for i, j in among)

    return Ordering(
        score=SCORE_NAMES[index],
        ours=tuple(labels[i] for i in np.argsort(ours)[::-1]),
        paper=tuple(labels[i] for i in np.argsort(paper, kind="stable")[::-1]),
        same=same(pairs),
        compared=len(pairs),
        clear_same=same(clear),
        clear=len(clear),
        kendall_tau=float(kendalltau(ours, paper).statistic),
    )


def _is_clear(first: NDArray[np.float64], second: NDArray[np.float64]) -> bool:
    difference = first - second
    return bool(abs(difference.mean()) > _CLEAR * difference.std())


def write_report(findings: Findings, out: Path) -> str:
    """Write ``ablation.json``, ``ablation.md`` and ``ablation.png``; returns the text of the second."""
    text = as_markdown(findings)
    content = json.dumps(as_dict(findings), indent=2)
    for name, written in (("ablation.json", content), ("ablation.md", text)):
        with atomic_write(out / name) as partial:
            partial.write_text(written, encoding="utf-8")
    write_figure(sheet(findings), out / "ablation.png", side=_PANEL_PX)
    return text


def as_dict(findings: Findings) -> dict[str, Any]:
    return {
        "plan": asdict(findings.plan),
        "facts": dict(findings.facts),
        "palette": findings.data.palette.tolist(),
        "held_out": findings.data.names[findings.data.evaluation],
        "references": {name: _scores_dict(scores) for name, scores in findings.references.items()},
        "configurations": {
            configuration.name: {
                "configuration": asdict(configuration),
                "scores": _scores_dict(found.scores),
                "seeds": {str(seed): _scores_dict(scores) for seed, scores in found.seeds.items()},
                "trainings": {str(seed): asdict(result) for seed, result in found.trainings.items()},
            }
            for configuration, found in findings.found.items()
        },
        "tables": {
            table.name: {
                "rows": [
                    {"label": row.label, "configuration": row.configuration.name, "paper": row.paper}
                    for row in table.rows
                ],
                "orderings": [asdict(ordering) for ordering in orderings(table, findings.found)],
            }
            for table in findings.tables
        },
    }


def _scores_dict(scores: FcnScores) -> dict[str, Any]:
    return {"values": scores.values, "standard_errors": scores.errors}


def as_markdown(findings: Findings) -> str:
    plan, data = findings.plan, findings.data
    held_out = data.held_out
    seeds = max(len(found.seeds) for found in findings.found.values())
    parts = [
        f"{len(data.names) - held_out} pairs of {plan.size} x {plan.size} px to train on, {held_out} to evaluate on, "
        f"{len(data.palette)} classes. Every training: {plan.steps} steps at batch 1, base width {plan.base_width}, "
        f"{seeds} seed{'s' if seeds > 1 else ''}. Scorer: {plan.scorer.steps} steps at batch 8, base width "
        f"{plan.scorer.base_width}. Scores are per-pixel accuracy / per-class accuracy / class IoU; the paper's are on "
        "Cityscapes with another scorer, so that orders can be compared but not numbers. ± is the standard error from "
        "the choice of held-out images (bootstrap), not that from the seed.",
        _reference_table(findings.references),
    ]
    for table in findings.tables:
        parts += [f"## {table.title}", _score_table(table, findings.found, seeds), _order_table(table, findings.found)]
    parts += ["## Colours (paper: figure 7)", _color_table(findings)]
    return "\n\n".join(parts) + "\n"


def _color_table(findings: Findings) -> str:
    """Of the first seed; the last row is how much two halves of the real photos have in common."""
    real = findings.data.photos[findings.data.evaluation]
    lines = [_heading("photos", "histograms in common: L / a / b", "mean distance from grey", "paper: L / a / b")]
    for configuration, found in findings.found.items():
        if not configuration.from_photos:
            paper = PAPER.get(configuration.name)
            lines.append(_colors_of(configuration.caption, found.outputs, real, _plain(paper) if paper else ""))
    lines.append(_colors_of("real, one half and the other", real[::2], real[1::2], ""))
    return "\n".join(lines)


def _colors_of(name: str, photos: NDArray[np.uint8], real: NDArray[np.uint8], paper: str) -> str:
    return _line(name, _plain(intersections(photos, real)), f"{mean_chroma(photos):.1f}", paper)


def _reference_table(references: Mapping[str, FcnScores]) -> str:
    lines = [_heading("image", *SCORE_NAMES, "paper")]
    for number, (name, scores) in enumerate(references.items()):
        lines.append(_line(name, *_with_errors(scores), _plain(PAPER_REAL_PHOTOS) if number == 0 else ""))
    return "\n".join(lines)


def _score_table(table: Table, found: Mapping[Configuration, Found], seeds: int) -> str:
    spread = ["spread over seeds"] if seeds > 1 else []
    lines = [_heading(table.name, *SCORE_NAMES, *spread, "paper")]
    for row in table.rows:
        entry = found[row.configuration]
        values = [scores.values for scores in entry.seeds.values()]
        between = [_plain(tuple(np.ptp(values, axis=0)))] if seeds > 1 else []
        lines.append(_line(row.label, *_with_errors(entry.scores), *between, _plain(row.paper)))
    return "\n".join(lines)


def _order_table(table: Table, found: Mapping[Configuration, Found]) -> str:
    columns = ("score", "order found", "order in the paper", "pairs in the paper's order", "of the clear pairs")
    lines = [
        _line(
            order.score,
            " > ".join(order.ours),
            " > ".join(order.paper),
            f"{order.same} of {order.compared}",
            f"{order.clear_same} of {order.clear}",
            f"{order.kendall_tau:.2f}",
        )
        for order in orderings(table, found)
    ]
    return "\n".join([_heading(*columns, "Kendall's tau"), *lines])


def _with_errors(scores: FcnScores) -> list[str]:
    return [f"{value:.3f} ± {error:.3f}" for value, error in zip(scores.values, scores.errors, strict=True)]


def _plain(scores: Scores | tuple[float, ...]) -> str:
    return " / ".join(f"{value:.2f}" for value in scores)


def _heading(*cells: str) -> str:
    return _line(*cells) + "\n" + "|" + "---|" * len(cells)


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def sheet(findings: Findings) -> list[list[Panel]]:
    """A row for each of the first held-out images: label, real photo, and the output of each configuration."""
    data = findings.data
    labels, photos = data.label_images(data.evaluation), data.photos[data.evaluation]
    return [
        [
            Panel("label", _picture(labels[i])),
            Panel("real", _picture(photos[i])),
            *(Panel(c.caption, _picture(found.outputs[i])) for c, found in findings.found.items()),
        ]
        for i in range(min(_SHEET_ROWS, len(labels)))
    ]


def _picture(image: NDArray[np.uint8]) -> RGB:
    return np.ascontiguousarray(np.moveaxis(image, 0, -1))
