"""``evaluate``: scores of translated images, or of models, against targets; as lines, and as a page."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from napari_pix2pix.cli import interrupts
from napari_pix2pix.cli.command_options import with_setting_options
from napari_pix2pix.cli.console import parse_range, print_json, progress_bar, say, score_line
from napari_pix2pix.translation.settings import TranslationSettings
from pix2pix_training.cancel import Cancel
from pix2pix_training.errors import SettingsError
from pix2pix_training.setting_options import settings_of_options

if TYPE_CHECKING:
    from napari_pix2pix.cli.console import ProgressBar, ProgressLines
    from napari_pix2pix.evaluation import Evaluation
    from napari_pix2pix.report.judgement import Judgement
    from napari_pix2pix.translation.batch import OfOne
    from napari_pix2pix.translation.progress import TilesDone
    from pix2pix_training.array_source import ArraySource
    from pix2pix_training.model_file import Model
    from pix2pix_training.pairs import Pair

T = TypeVar("T")
Option = typer.Option


@with_setting_options(TranslationSettings, without=("region",), panel="Translation of --source")
def evaluate(
    target: Annotated[list[Path], Option(help="Real images: file or folder; again for more channels.")],
    runs: Annotated[
        list[Path] | None, typer.Argument(help="With --compare: folders of runs, or model files.", show_default=False)
    ] = None,
    prediction: Annotated[Path | None, Option(help="Translated images: file or folder.")] = None,
    model: Annotated[Path | None, Option(help="Model file, to translate --source with.")] = None,
    compare: Annotated[bool, Option("--compare", help="Put models side by side on the same images.")] = False,
    source: Annotated[
        list[Path] | None,
        Option(help="Source images for a model, or to show beside --prediction; again for more channels."),
    ] = None,
    target_values: Annotated[
        str, Option(help="What targets are: auto, intensities, categories, or foreground (0 and not 0).")
    ] = "auto",
    data_range: Annotated[str | None, Option(help="LOW,HIGH of the targets, for PSNR and SSIM.")] = None,
    series: Annotated[
        int | None,
        Option(help="Of files that hold several images the one of this number, from 0.", min=0, show_default="all"),
    ] = None,
    region: Annotated[str | None, Option(help="Score only y0:y1,x0:x1 of each image.")] = None,
    report: Annotated[Path | None, Option(help="Page to write about it, such as report.html.")] = None,
    objects_above: Annotated[
        float | None, Option(help="With --report: count objects too, which are what is brighter than this.")
    ] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace an existing page.")] = False,
    as_json: Annotated[bool, Option("--json", help="Print the result as one JSON object.")] = False,
    **settings: Any,
) -> None:
    models = model_files(runs or []) if compare else {} if model is None else model_files([model])
    _check_use(prediction, models, source, runs, compare=compare)
    if objects_above is not None and report is None:
        raise SettingsError("--objects-above counts objects for a page; give --report too")

    from napari_pix2pix.evaluation import comparison, scored
    from napari_pix2pix.formats.caching import PixelCache
    from napari_pix2pix.formats.pairing import pairs_from_paths
    from napari_pix2pix.report.judgement import check_comparable, judging, seen_in_training, trained_on_in_words
    from napari_pix2pix.training_data import parse_region

    chosen = TranslationSettings(**settings_of_options(settings, TranslationSettings))
    open_pairs = partial(pairs_from_paths, targets=target, series=series, cache=PixelCache(alpha=chosen.alpha))
    limits, part = parse_range(data_range), parse_region(region) if region else None
    results: dict[str, dict[str, Any]] = {}
    judged: list[Judgement] = []
    with ExitStack() as stack:
        if report is not None:
            stack.enter_context(_place_for(report, overwrite=overwrite))
        cancel = stack.enter_context(interrupts.stoppable(say))
        given = open_pairs(source) if source else None
        if given is None or prediction is not None:
            assert prediction is not None
            candidates: Iterator[_Candidate] = iter([_Candidate("the predictions", open_pairs([prediction]))])
        else:
            candidates = _translated(models, given, chosen, cancel, stack, with_maps=report is not None)
        for candidate in candidates:
            wanted = comparison(
                candidate.pairs,
                data_range=limits,
                region=part,
                target_values=target_values,  # type: ignore[arg-type]  # checked where it is used
                mapping=None if candidate.model is None else candidate.model.target.mapping,
            )
            result = _with_bar("scoring", scored(wanted), cancel)
            found = result.as_dict()
            if report is not None:
                steps = judging(
                    candidate.name,
                    wanted,
                    result,
                    given=given,
                    model=candidate.model,
                    card=candidate.card,
                    maps=candidate.maps,
                    region=part,
                    objects_above=objects_above,
                )
                judged.append(_with_bar("judging", steps, cancel))
                check_comparable(judged)
                found = judged[-1].as_dict()
            results[candidate.name] = {**found, **candidate.extra}
            for line in _summary(candidate.name, result) if compare else _lines(result):
                say(line)
            if candidate.model is not None and given is not None:
                scored_pairs = [given[number] for number in wanted.numbers]
                seen = judged[-1].seen if judged else seen_in_training(candidate.model, scored_pairs, part)
                if words := trained_on_in_words(seen):
                    say(f"{candidate.name}: {words}" if compare else words)
        if report is not None:
            _write(report, judged)
    if as_json:
        print_json({"models": results} if compare else results.popitem()[1])


@dataclass(frozen=True)
class _Candidate:
    """Predictions (the sources of `pairs`) to evaluate, and the model that made them."""

    name: str
    pairs: Sequence[Pair]
    model: Model | None = None
    card: Sequence[tuple[str, str]] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    maps: Sequence[ArraySource] | None = None


def model_files(runs: Sequence[Path]) -> dict[str, Path]:
    """Model files by what to call them: the name of the run, or of the file where it has one of its own."""
    files = [run / "model.safetensors" if run.is_dir() else run for run in runs]
    names = [file.absolute().parent.name if file.stem == "model" else file.stem for file in files]
    named: dict[str, Path] = {}
    for name, file in zip(names, files, strict=True):
        unique = name if names.count(name) == 1 else str(file)
        if unique in named:
            raise SettingsError(f"{file} is given twice; name each model once")
        named[unique] = file
    return named


def _check_use(
    prediction: Path | None,
    models: Mapping[str, Path],
    source: Sequence[Path] | None,
    runs: Sequence[Path] | None,
    *,
    compare: bool,
) -> None:
    if runs and not compare:
        raise SettingsError(
            f"{runs[0]}: models are named without an option for --compare alone; give --model or --compare"
        )
    if compare and len(models) < 2:
        raise SettingsError("--compare needs two runs or model files, or more, and --source")
    if (prediction is None) == (not models) or (models and not source):
        raise SettingsError("give either --prediction, or --model and --source")


def _translated(
    models: Mapping[str, Path],
    given: Sequence[Pair],
    chosen: TranslationSettings,
    cancel: Cancel,
    stack: ExitStack,
    *,
    with_maps: bool,
) -> Iterator[_Candidate]:
    """What each model makes of the sources, in folders that last as long as `stack`; error maps where asked for."""
    from napari_pix2pix.evaluation import translations
    from napari_pix2pix.report.intervals import half_widths
    from napari_pix2pix.report.judgement import model_facts
    from napari_pix2pix.translation.progress import ended
    from napari_pix2pix.translation.translator import Translator
    from pix2pix_training.atomic import temporary_folder
    from pix2pix_training.machine import scratch_folder
    from pix2pix_training.model_file import load_model

    for name, file in models.items():
        model = load_model(file)
        card = model_facts(model)
        translator = Translator(model, chosen)
        folder = stack.enter_context(temporary_folder(scratch_folder()))
        with progress_bar("translating", "images") as bar, translator.interruptible(cancel):
            made = ended(translations(given, translator, folder), partial(_show_images, bar, cancel))
        maps = None
        if with_maps:
            beside = stack.enter_context(temporary_folder(scratch_folder()))
            with progress_bar("making error maps", "images") as bar:
                maps = ended(half_widths(given, model, chosen, beside), partial(_show_images, bar, cancel))
        error = None if model.error is None else replace(model.error, weights={})
        described = replace(model, weights={}, error=error)
        yield _Candidate(name, made.pairs, described, card, {"clipped_share": made.clipped_share}, maps)


def _show_images(bar: ProgressBar | ProgressLines, cancel: Cancel, event: OfOne) -> None:
    cancel.check()
    bar.update(event.fraction, event.done)


def _with_bar(doing: str, events: Generator[TilesDone, None, T], cancel: Cancel) -> T:
    from napari_pix2pix.translation.progress import ended

    with progress_bar(doing, "tiles") as bar:

        def show(tiles: TilesDone) -> None:
            cancel.check()
            bar.update(tiles.fraction, tiles.done)

        return ended(events, show)


@contextmanager
def _place_for(report: Path, *, overwrite: bool) -> Iterator[None]:
    from napari_pix2pix.report.page import check_report_name
    from pix2pix_training.atomic import reserved

    check_report_name(report)
    with reserved(report, overwrite):
        yield


def _write(report: Path, judged: Sequence[Judgement]) -> None:
    from napari_pix2pix.formats.remote_servers import redacted
    from napari_pix2pix.report.page import write_report

    write_report(report, judged, command=redacted(shlex.join(["napari-pix2pix", *sys.argv[1:]])))
    say(f"report: {report}")


def _summary(name: str, result: Evaluation) -> Iterator[str]:
    """Mean scores of one of several models."""
    mean = result.mean if result.classes is None else result.classes.mean
    yield f"{name}: {score_line(mean.as_dict())}"


def _lines(result: Evaluation) -> Iterator[str]:
    """Scores for people: of classes where they are classes, else of intensities."""
    if result.classes is None:
        for name, scores in (*result.images, ("mean", result.mean), ("best constant", result.constant)):
            yield f"{name}: {score_line(scores.as_dict())}"
        if result.spectrum is not None and result.spectrum.grid is not None:
            grid = ", ".join(f"{value:.2f} at {period} px" for period, value in result.spectrum.grid.items())
            yield f"grid relative to the targets, 1 is none: {grid}"
        if result.spectrum is not None and result.spectrum.detail is not None:
            yield f"power below 4 px relative to the targets, below 1 is blurred: {result.spectrum.detail:.2f}"
        count = f"{len(result.images)} image{'s' * (len(result.images) != 1)}"
        yield f"data range {result.data_range[0]:g} to {result.data_range[1]:g}, {count}"
        return
    names = [name for name, _ in result.images]
    found = result.classes
    summary = (("mean", found.mean), ("all pixels", found.all_pixels), ("best constant", found.constant))
    for name, of_classes in (*zip(names, found.images, strict=True), *summary):
        yield f"{name}: {score_line(of_classes.as_dict())}"
    for overlap in found.classes:
        value = "/".join(map(str, overlap.value))
        yield f"class {value}: {score_line({'iou': overlap.iou, 'dice': overlap.dice})}  pixels {overlap.pixels}"
