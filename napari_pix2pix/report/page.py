"""The page: one HTML file that needs nothing else, neither to be made nor to be read."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from napari_pix2pix.report.cases import cases
from napari_pix2pix.report.judgement import Judgement, trained_on_in_words
from napari_pix2pix.report.markup import Html, facts, tag
from napari_pix2pix.report.score_kinds import score_kinds
from napari_pix2pix.report.tables import (
    class_table,
    differences,
    image_table,
    intensities,
    score_table,
    scores_by_image,
)
from pix2pix_training.array_source import channel_count, plane_size
from pix2pix_training.atomic import atomic_write
from pix2pix_training.errors import SettingsError
from pix2pix_training.in_words import architecture_name

_FEW = 5
_ENDINGS = (".html", ".htm")
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_PACKAGES = ("napari-pix2pix", "torch", "numpy", "scipy", "Pillow")


def check_report_name(path: Path) -> None:
    """Refuse a page whose name has another ending than ``.html``; raises `SettingsError`."""
    if path.suffix.lower() not in _ENDINGS:
        raise SettingsError(f"report is {path.name}; choose a name that ends in .html")


def write_report(path: Path, judged: Sequence[Judgement], *, command: str, overwrite: bool = True) -> None:
    """Write the page about one set of predictions, or several of the same images beside one another.

    Raises
    ------
    OutputError
        It cannot be written, or is there without `overwrite`.
    """
    check_report_name(path)
    with atomic_write(path, overwrite=overwrite) as partial:
        partial.write_text(page(judged, command=command), encoding="utf-8")


def page(judged: Sequence[Judgement], *, command: str) -> str:
    """HTML of the page; `command` is what a reader would run to make it again."""
    first, kind = judged[0], score_kinds(judged)[0]
    title = f"How good is {first.name}?" if len(judged) == 1 else f"{len(judged)} models on the same images"
    body = [
        tag("h1", title),
        tag("p", _lead(judged), class_="lead"),
        *_notes(judged),
        tag("h2", "Scores"),
        score_table(judged),
        *(_differences(judged) if len(judged) > 1 else ()),
        tag("h2", "Images"),
        tag("p", f"Ordered by {kind.title}" + (", the mean of all models." if len(judged) > 1 else ".")),
        cases(judged, kind),
        *_values(judged),
        tag("h2", "Each image"),
        scores_by_image(judged, kind),
        image_table(judged, kind),
        *_models(judged),
        tag("h2", "How this page was made"),
        facts(_circumstances(command)),
    ]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="generator", content=f"napari-pix2pix {_version('napari-pix2pix')}"),
        tag("title", title),
        tag("style", Html(Path(__file__).with_name("style.css").read_text(encoding="utf-8"))),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, tag('body', tag('main', *body)), lang='en')}\n"


def _lead(judged: Sequence[Judgement]) -> str:
    """What was evaluated, in one sentence."""
    first = judged[0]
    pairs = first.wanted.pairs
    who = _described(first) if len(judged) == 1 else ", ".join(each.name for each in judged)
    count = f"{len(pairs)} pair{'s' if len(pairs) > 1 else ''} of images"
    channels = channel_count(pairs[0].target)
    target = f"{channels} channel{'s' if channels > 1 else ''} of {pairs[0].target.dtype}"
    if first.wanted.classes is None:
        compared = f"outputs of {target} were compared with the targets as they are stored"
    elif first.wanted.classes.foreground:
        compared = "what is labelled in outputs and targets was compared"
    else:
        compared = f"{len(first.wanted.classes.values)} classes were compared with those of the targets"
    return f"{who}: evaluated on {count} of {_sizes(judged)} pixels; {compared}."


def _described(judged: Judgement) -> str:
    if judged.model is None:
        return judged.name
    config = judged.model.generator_config
    step = judged.model.training.get("step")
    trained = f", {step} steps" if isinstance(step, int) else ""
    return f"{judged.name} ({architecture_name(config)}, base width {config.base_width}{trained})"


def _sizes(judged: Sequence[Judgement]) -> str:
    sizes = sorted({plane_size(pair.target) for pair in judged[0].wanted.pairs}, key=lambda size: size[0] * size[1])
    shown = [f"{height} x {width}" for height, width in (sizes[0], sizes[-1])]
    return shown[0] if len(sizes) == 1 else f"{shown[0]} to {shown[1]}"


def _notes(judged: Sequence[Judgement]) -> Iterator[Html]:
    """What a reader has to know before believing a number."""
    for each in judged:
        who = "" if len(judged) == 1 else f"{each.name}: "
        total = len(each.seen)
        held_out = each.seen.count("held out")
        if words := trained_on_in_words(each.seen):
            yield tag("p", who, words, class_="note")
        elif held_out:
            words = (
                f"{held_out} of {total} images were held out in training, none was trained on. Which model was kept "
                "may have been decided by them, so images that were never looked at are a stricter test."
            )
            yield tag("p", who, words)
        elif each.model is not None and "not stated" in each.seen:
            yield tag("p", who, "The model does not say which images it was trained on.", class_="note")
        elif each.model is not None:
            yield tag("p", who, "By their pixels, none of the images is one that the model was trained on.")
    count = len(judged[0].seen)
    if count < _FEW:
        words = "One image says" if count == 1 else f"{count} images say"
        yield tag("p", f"{words} little about others: the scores may be chance.", class_="note")


def _differences(judged: Sequence[Judgement]) -> tuple[Html, ...]:
    return tag("h2", "Differences, image by image"), differences(judged)


def _values(judged: Sequence[Judgement]) -> tuple[Html, ...]:
    if judged[0].wanted.classes is not None:
        return tag("h2", "Classes"), class_table(judged)
    return tag("h2", "Intensities of outputs against those of targets"), intensities(judged)


def _models(judged: Sequence[Judgement]) -> Iterator[Html]:
    for each in judged:
        if each.card:
            yield tag("h2", "The model" if len(judged) == 1 else f"The model {each.name}")
            yield facts(each.card)


def _circumstances(command: str) -> Iterator[tuple[str, Html | str]]:
    yield "date", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    yield "command", tag("code", command)
    yield "versions", ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)
    yield "computer", f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
