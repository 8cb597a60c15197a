"""What each score is called, what it says in plain words, and which of two values is better."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from napari_pix2pix.report.judgement import Judgement

Right = Literal["high", "low", "one", "zero", "no grid", "claimed", "of each"]
_NO_GRID = 1.5
_NOTHING = 1e-9


@dataclass(frozen=True, kw_only=True)
class ScoreKind:
    """A score in words.

    Attributes
    ----------
    short : the title where there is little room.
    right : which values are good; "claimed": those near `claimed`; "of each": others for each model.
    says : what it means, to somebody who has never met it.
    """

    key: str
    title: str
    short: str
    right: Right
    says: str
    signed: bool = False
    claimed: float = 0.0

    def distance(self, value: float) -> float:
        """From the best value there is; the smaller, the better."""
        match self.right:
            case "high":
                return -value
            case "low":
                return value
            case "zero":
                return abs(value)
            case "claimed":
                return abs(value - self.claimed)
            case "of each":
                return math.inf
            case "no grid":
                return max(value, _NO_GRID)
            case "one":
                return abs(math.log(value)) if value > 0 else math.inf

    def words(self, value: float | None) -> str:
        if value is None or not math.isfinite(value):
            return "–"
        if self.key in ("mae", "bias"):
            value = 0.0 if abs(value) < _NOTHING else value
            return f"{value:{'+' if self.signed else ''}.4g}"
        return f"{value:.1f}" if self.key == "psnr" else f"{value:.3f}"


def score_kinds(judged: Sequence[Judgement]) -> tuple[ScoreKind, ...]:
    """Those of predictions of the same images, the one that images are ordered by first."""
    first = judged[0]
    if first.wanted.classes is not None:
        count = len(first.wanted.classes.values)
        return (*_of_classes("the foreground" if count == 2 else "the classes, on average"), *_objects(first))
    low, high = first.wanted.data_range
    return (*_of_intensities(f"{low:g} to {high:g}"), *_coverage(judged), *_objects(first))


def _of_intensities(limits: str) -> tuple[ScoreKind, ...]:
    return (
        ScoreKind(
            key="mae",
            title="Mean absolute difference (MAE)",
            short="MAE",
            right="low",
            says="How far a pixel of the output is from the target, on average, in units of the target; 0 is perfect. "
            "It prefers blurred results where several answers are possible.",
        ),
        ScoreKind(
            key="bias",
            title="Mean difference",
            short="mean diff.",
            right="zero",
            signed=True,
            says="Output less target: above 0, outputs are too bright on average; below 0, too dark.",
        ),
        ScoreKind(
            key="psnr",
            title="PSNR, in dB",
            short="PSNR",
            right="high",
            says=f"Squared difference on a scale of decibels, over the range {limits}; 6 dB more is half the error.",
        ),
        ScoreKind(
            key="ssim",
            title="SSIM",
            short="SSIM",
            right="high",
            says=f"Likeness of structure in windows of 11 pixels, over the range {limits}; 1 is perfect. High for an "
            "empty image too, where targets are mostly dark.",
        ),
        ScoreKind(
            key="ms_ssim",
            title="MS-SSIM",
            short="MS-SSIM",
            right="high",
            says="The same at up to five sizes, from single pixels to large structures.",
        ),
        ScoreKind(
            key="pearson",
            title="Pearson correlation",
            short="Pearson",
            right="high",
            says="Whether outputs are bright and dark where targets are; 1 is perfect, 0 is chance. Blind to a wrong "
            "brightness or contrast.",
        ),
        ScoreKind(
            key="slope",
            title="Slope of intensities",
            short="slope",
            right="one",
            says="By how much outputs rise where targets rise by 1. Below 1, bright structures come out too dark and "
            "dark ones too bright, so that intensities should not be measured in outputs.",
        ),
        ScoreKind(
            key="detail",
            title="Fine detail (power ratio)",
            short="detail",
            right="one",
            says="Power of details below 4 pixels over that of the targets. Below 1, outputs are blurred; far above 1, "
            "they have texture or noise that targets do not have.",
        ),
        ScoreKind(
            key="grid",
            title="Grid",
            short="grid",
            right="no grid",
            says="How far lines 2, 4 or 8 pixels apart stand out, relative to the targets, for the worst of the three. "
            "Up to 1.5 there is none; more is an artefact of the network.",
        ),
    )


def _of_classes(what: str) -> tuple[ScoreKind, ...]:
    return (
        ScoreKind(
            key="iou",
            title="Overlap (IoU)",
            short="IoU",
            right="high",
            says=f"Shared area over joint area of {what}; 1 is perfect, 0 is none. Small classes have noisy values.",
        ),
        ScoreKind(
            key="dice",
            title="Overlap (Dice)",
            short="Dice",
            right="high",
            says="Twice the shared area over the sum of both; the same information as IoU in kinder numbers.",
        ),
        ScoreKind(
            key="accuracy",
            title="Accuracy",
            short="accuracy",
            right="high",
            says="Share of pixels whose class is right. High for a useless result too, where one class covers most.",
        ),
    )


def _coverage(judged: Sequence[Judgement]) -> tuple[ScoreKind, ...]:
    """Of those that have an error map; none of them is the best where they are meant to cover different shares."""
    claims = {
        each.name: each.model.error.traits.coverage
        for each in judged
        if each.model is not None and each.model.error is not None and "coverage" in each.mean
    }
    if not claims:
        return ()
    claimed, *others = set(claims.values())
    share = f"{100 * claimed:.3g} %"
    if others:
        share = " and ".join(f"{100 * each:.3g} % of {name}" for name, each in claims.items())
    return (
        ScoreKind(
            key="coverage",
            title="Coverage of the error map",
            short="coverage",
            right="of each" if others else "claimed",
            claimed=claimed,
            says=f"Share of pixels whose target lies within output ± error map, which is meant to be {share}. Below, "
            "the map promises too much; above, it is wider than it need be.",
        ),
    )


def _objects(judged: Judgement) -> tuple[ScoreKind, ...]:
    if judged.objects is None:
        return ()
    return (
        ScoreKind(
            key="f1",
            title="Objects found (F1 at IoU 0.5)",
            short="objects, F1",
            right="high",
            says="Of all objects in outputs and targets the share that has a partner with more than half of the joint "
            "area in common; 1 is perfect.",
        ),
        ScoreKind(
            key="count_ratio",
            title="Number of objects (ratio)",
            short="number",
            right="one",
            says="Objects in outputs over those in targets: above 1 some are invented or broken, below 1 some are "
            "missed or merged.",
        ),
        ScoreKind(
            key="size_ratio",
            title="Size of objects (ratio)",
            short="size",
            right="one",
            says="Mean area of an object in outputs over that in targets; above 1, sizes are overestimated.",
        ),
    )
