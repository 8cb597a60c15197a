"""The tables and plots of a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from napari_pix2pix.report.cases import MOST_CHANNELS, colours_of_classes, order
from napari_pix2pix.report.judgement import Judgement, ScoresByName
from napari_pix2pix.report.markup import Html, Inside, joined, table, tag
from napari_pix2pix.report.measures import fits_of, together
from napari_pix2pix.report.objects import SMALLEST_PX, SQUARE_PX
from napari_pix2pix.report.plots import scatter, strips
from napari_pix2pix.report.score_kinds import ScoreKind, score_kinds

MOST_ROWS = 500
_RESAMPLES = 2000
_DIFFERENCES_SHOWN = 3


def score_table(judged: Sequence[Judgement]) -> Html:
    """Each score of each model, beside what the fit of each pixel and the best constant image reach."""
    kinds = [kind for kind in score_kinds(judged) if any(each.mean.get(kind.key) is not None for each in judged)]
    columns: list[tuple[str, ScoresByName]] = [(each.name, each.mean) for each in judged]
    if judged[0].fit is not None:
        columns.append(("fit of each pixel", judged[0].fit))
    columns.append(("best constant", judged[0].constant))
    single = len(judged) == 1 and len(judged[0].images) > 1
    head = ["score", *(name for name, _ in columns), tag("th", "what it says", scope="col", class_="says")]
    if single:
        head.insert(2, "from … to")
    rows = []
    for kind in kinds:
        cells = _marked(kind, [scores.get(kind.key) for _, scores in columns])
        if single:
            cells.insert(1, tag("td", _range(judged[0], kind)))
        rows.append([kind.title, *cells, tag("td", kind.says, class_="says")])
    return joined([table(head, rows), tag("p", _about_scores(judged), class_="soft"), *_no_better(judged, kinds[0])])


def _marked(kind: ScoreKind, values: Sequence[float | None]) -> list[Html]:
    """Cells, those of the best value marked."""
    distances = [kind.distance(value) if value is not None and np.isfinite(value) else np.inf for value in values]
    best = min(distances)
    return [
        tag("td", kind.words(value), class_="best" if distance == best and np.isfinite(best) else None)
        for value, distance in zip(values, distances, strict=True)
    ]


def _range(judged: Judgement, kind: ScoreKind) -> str:
    values = [value for image in judged.images if (value := image.get(kind.key)) is not None and np.isfinite(value)]
    return f"{kind.words(min(values))} … {kind.words(max(values))}" if values else ""


def _about_scores(judged: Sequence[Judgement]) -> str:
    first = judged[0]
    words = "Means over images; the best of each row is marked. Two controls need no network. "
    if first.fit is not None:
        words += (
            "The fit of each pixel is the weighted sum of the source channels at the same pixel that comes closest to "
            "the targets; it was fitted to these very images, and sees no neighbouring pixel. "
        )
    words += "The best constant is one value everywhere, the best for each score."
    if first.objects is not None:
        counted = f"{first.objects.true} in targets, {first.objects.found} in outputs, {first.objects.same} the same"
        words += (
            f" Objects ({counted}) are connected pixels, or the numbers of labels, of at least {SMALLEST_PX} pixels, "
            f"counted in squares of {SQUARE_PX} pixels. Objects of the output that touch are one."
        )
    return words


def _no_better(judged: Sequence[Judgement], kind: ScoreKind) -> list[Html]:
    """Notes about models that are no better than a control by the score that counts first."""
    controls = {"fit of each pixel": judged[0].fit or {}, "best constant": judged[0].constant}
    notes = []
    for each in judged:
        own = each.mean.get(kind.key)
        for name, scores in controls.items():
            other = scores.get(kind.key)
            if own is not None and other is not None and kind.distance(own) >= kind.distance(other):
                words = f"By {kind.title}, {each.name} is no better than the {name}: it may have learnt nothing of use."
                notes.append(tag("p", words, class_="note"))
                break
    return notes


def differences(judged: Sequence[Judgement]) -> Html:
    """Of each further model less the first: mean difference, its interval, and on how many images it is better."""
    rows: list[list[Inside]] = []
    for kind in score_kinds(judged)[: _DIFFERENCES_SHOWN * 2]:
        for other in judged[1:]:
            found = _paired(judged[0], other, kind)
            if len(found) > 1:
                low, high = _interval(found)
                better = sum(kind.distance(b) < kind.distance(a) for a, b in found)
                mean = float(np.mean([b - a for a, b in found]))
                words = [f"{mean:+.3g}", f"{low:+.3g} … {high:+.3g}", f"{better} of {len(found)}"]
                rows.append([f"{kind.title}: {other.name} less {judged[0].name}", *words])
    head = ["score", "mean difference", "95 % interval", f"better than {judged[0].name} on"]
    about = (
        "The interval is that of the mean difference, by drawing the images anew 2000 times. Where it holds 0, these "
        "images do not tell which of the two is better. It knows nothing of another training with another seed."
    )
    return joined([table(head, rows), tag("p", about, class_="soft")])


def _paired(first: Judgement, other: Judgement, kind: ScoreKind) -> list[tuple[float, float]]:
    both = [(a.get(kind.key), b.get(kind.key)) for a, b in zip(first.images, other.images, strict=True)]
    return [(a, b) for a, b in both if a is not None and b is not None and np.isfinite(a) and np.isfinite(b)]


def _interval(found: Sequence[tuple[float, float]]) -> tuple[float, float]:
    values = np.array([b - a for a, b in found])
    drawn = np.random.default_rng(0).integers(0, len(values), (_RESAMPLES, len(values)))
    low, high = np.percentile(values[drawn].mean(1), (2.5, 97.5))
    return float(low), float(high)


def intensities(judged: Sequence[Judgement]) -> Html:
    """Outputs over targets for each channel of each model."""
    plots: list[Html] = []
    rows: list[list[Inside]] = []
    low, high = judged[0].wanted.data_range
    for each in judged:
        moments, histograms = together(each.measures)
        names = each.wanted.pairs[0].target.channel_names or tuple(f"channel {n}" for n in range(len(moments)))
        for channel, fit in enumerate(fits_of(moments, low)):
            of = [each.name] * (len(judged) > 1) + [names[channel]] * (len(moments) > 1)
            label = ", ".join(of) or each.name
            if channel < MOST_CHANNELS:
                plot = scatter(histograms[channel], (low, high), fit, f"Outputs over targets, {label}")
                plots.append(tag("figure", plot, tag("figcaption", label)))
            numbers = (fit.mae, fit.bias, fit.pearson, fit.slope, fit.intercept)
            rows.append([label, *("–" if value is None else f"{value:.4g}" for value in numbers)])
    words = (
        "All pixels of all images, darker for more (on a scale of logarithms). On the dashed line outputs equal "
        "targets; the solid line is the fit of outputs to targets by least squares. Where it is flatter than the other "
        "line, extremes are lost. Values beyond the data range stand at its ends."
    )
    head = ["all pixels together", "MAE", "mean difference", "Pearson", "slope", "offset"]
    return joined([tag("p", words), tag("div", *plots, class_="plots"), table(head, rows)])


def class_table(judged: Sequence[Judgement]) -> Html:
    """Overlap of each class over all pixels."""
    colours = colours_of_classes(judged[0])
    first = judged[0].evaluation.classes
    assert first is not None
    head = ["class", "pixels in targets", *(f"{name}{of}" for of in _of(judged) for name in ("IoU", "Dice"))]
    rows = []
    for number, overlap in enumerate(first.classes):
        swatch = tag("span", class_="key", style=f"background: rgb{tuple(int(c) for c in colours[number])}")
        cells: list[Inside] = [joined([swatch, "/".join(map(str, overlap.value))]), str(overlap.pixels)]
        for each in judged:
            assert each.evaluation.classes is not None
            found = each.evaluation.classes.classes[number]
            cells += ["–" if value is None else f"{value:.3f}" for value in (found.iou, found.dice)]
        rows.append(cells)
    return joined([tag("p", "All pixels of all images together."), table(head, rows)])


def _of(judged: Sequence[Judgement]) -> list[str]:
    return [""] if len(judged) == 1 else [f", {each.name}" for each in judged]


def scores_by_image(judged: Sequence[Judgement], kind: ScoreKind) -> Html:
    """How the first score varies from image to image."""
    rows = []
    for each in judged:
        values = [value for image in each.images if (value := image.get(kind.key)) is not None and np.isfinite(value)]
        if values:
            rows.append((each.name, values))
    if not rows:
        return Html("")
    marks = []
    for name, scores in (("fit of each pixel", judged[0].fit or {}), ("best constant", judged[0].constant)):
        value = scores.get(kind.key)
        if value is not None:
            marks.append((name, value))
    return strips(rows, marks, f"{kind.title}, a dot for each image")


def image_table(judged: Sequence[Judgement], kind: ScoreKind) -> Html:
    """A row for each image, from the worst to the best; of several models the first score of each."""
    ordered = order(judged, kind)
    ordered += [number for number in range(len(judged[0].images)) if number not in ordered]
    row = _row_of_one(judged[0]) if len(judged) == 1 else _row_of_several(judged, kind)
    kinds = _shown_kinds(judged[0])
    if len(judged) == 1:
        head = ["image", *(each.short for each in kinds), "in training"]
    else:
        head = ["image", *(f"{kind.short}, {each.name}" for each in judged)]
        head += [f"{each.name} less {judged[0].name}" for each in judged[1:]]
    parts = [table(head, [row(number) for number in ordered[:MOST_ROWS]])]
    if len(ordered) > MOST_ROWS:
        parts.append(tag("p", f"These are the {MOST_ROWS} worst of {len(ordered)} images.", class_="soft"))
    return joined(parts)


def _shown_kinds(first: Judgement) -> list[ScoreKind]:
    return [kind for kind in score_kinds([first]) if kind.key in first.images[0]]


def _row_of_one(first: Judgement) -> Callable[[int], list[Inside]]:
    def row(number: int) -> list[Inside]:
        scores = [kind.words(first.images[number].get(kind.key)) for kind in _shown_kinds(first)]
        return [first.wanted.pairs[number].name, *scores, tag("td", first.seen[number], class_="left")]

    return row


def _row_of_several(judged: Sequence[Judgement], kind: ScoreKind) -> Callable[[int], list[Inside]]:
    def row(number: int) -> list[Inside]:
        values = [each.images[number].get(kind.key) for each in judged]
        less = ["–" if value is None or values[0] is None else f"{value - values[0]:+.3g}" for value in values[1:]]
        return [judged[0].wanted.pairs[number].name, *_marked(kind, values), *less]

    return row
