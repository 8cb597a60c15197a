"""``evaluate``: scores of translated images, or of a model, against targets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_pix2pix.cli import interrupts
from napari_pix2pix.cli.command_options import with_setting_options
from napari_pix2pix.cli.console import parse_range, print_json, progress_bar, say, score_line
from napari_pix2pix.translation.settings import TranslationSettings
from pix2pix_training.errors import SettingsError
from pix2pix_training.setting_options import settings_of_options

if TYPE_CHECKING:
    from napari_pix2pix.evaluation import Evaluation

Option = typer.Option


@with_setting_options(TranslationSettings, without=("region",), panel="Translation of --source")
def evaluate(
    target: Annotated[list[Path], Option(help="Real images: file or folder; again for more channels.")],
    prediction: Annotated[Path | None, Option(help="Translated images: file or folder.")] = None,
    model: Annotated[Path | None, Option(help="Model file, to translate --source with.")] = None,
    source: Annotated[list[Path] | None, Option(help="Source images for --model; again for more channels.")] = None,
    target_values: Annotated[
        str, Option(help="What targets are: auto, intensities, categories, or foreground (0 and not 0).")
    ] = "auto",
    data_range: Annotated[str | None, Option(help="LOW,HIGH of the targets, for PSNR and SSIM.")] = None,
    series: Annotated[
        int | None,
        Option(help="Of files that hold several images the one of this number, from 0.", min=0, show_default="all"),
    ] = None,
    region: Annotated[str | None, Option(help="Score only y0:y1,x0:x1 of each image.")] = None,
    as_json: Annotated[bool, Option("--json", help="Print the result as one JSON object.")] = False,
    **settings: Any,
) -> None:
    if (prediction is None) == (model is None or not source):
        raise SettingsError("give either --prediction, or --model and --source")

    from napari_pix2pix.evaluation import scoring, translations
    from napari_pix2pix.formats.caching import PixelCache
    from napari_pix2pix.formats.pairing import pairs_from_paths
    from napari_pix2pix.training_data import parse_region
    from napari_pix2pix.translation.progress import TilesDone, ended
    from napari_pix2pix.translation.translator import Translator
    from pix2pix_training.atomic import temporary_folder
    from pix2pix_training.machine import scratch_folder
    from pix2pix_training.model_file import load_model

    chosen = TranslationSettings(**settings_of_options(settings, TranslationSettings))
    cache = PixelCache(alpha=chosen.alpha)
    limits = parse_range(data_range)
    part = parse_region(region) if region else None
    extra, mapping = {}, None
    with ExitStack() as stack:
        cancel = stack.enter_context(interrupts.stoppable(say))
        if prediction is not None:
            pairs = pairs_from_paths([prediction], target, series=series, cache=cache)
        else:
            assert model is not None and source
            translator = Translator(load_model(model), chosen)
            mapping = translator.model.target.mapping
            folder = stack.enter_context(temporary_folder(scratch_folder()))
            pairs = pairs_from_paths(source, target, series=series, cache=cache)
            with progress_bar("translating", "images") as bar, translator.interruptible(cancel):
                events = translations(pairs, translator, folder)
                made = ended(events, lambda event: bar.update(event.fraction, event.done))
            pairs, extra = list(made.pairs), {"clipped_share": made.clipped_share}
        with progress_bar("scoring", "tiles") as bar:

            def show(tiles: TilesDone) -> None:
                cancel.check()
                bar.update(tiles.fraction, tiles.done)

            scoring_events = scoring(
                pairs,
                data_range=limits,
                region=part,
                target_values=target_values,  # type: ignore[arg-type]  # checked where it is used
                mapping=mapping,
            )
            result = ended(scoring_events, show)
    for line in _lines(result):
        say(line)
    if as_json:
        print_json({**result.as_dict(), **extra})


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
        yield f"data range {result.data_range[0]:g} to {result.data_range[1]:g}, {len(result.images)} images"
        return
    names = [name for name, _ in result.images]
    found = result.classes
    summary = (("mean", found.mean), ("all pixels", found.all_pixels), ("best constant", found.constant))
    for name, of_classes in (*zip(names, found.images, strict=True), *summary):
        yield f"{name}: {score_line(of_classes.as_dict())}"
    for overlap in found.classes:
        value = "/".join(map(str, overlap.value))
        yield f"class {value}: {score_line({'iou': overlap.iou, 'dice': overlap.dice})}  pixels {overlap.pixels}"
