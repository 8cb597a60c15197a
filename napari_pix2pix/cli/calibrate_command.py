"""``calibrate``: an error map, and what tells other images, for a model that has none."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_pix2pix.cli import interrupts
from napari_pix2pix.cli.console import print_json, progress_bar, say
from napari_pix2pix.output_paths import output_file

Option = typer.Option


def calibrate(
    model: Annotated[Path, typer.Argument(help="Model file.")],
    source: Annotated[list[Path], Option(help="Source images: file or folder; again for more channels.")],
    target: Annotated[list[Path], Option(help="Target images: file or folder; again for more channels.")],
    out: Annotated[Path, Option(help="Model file to write (.safetensors), or a folder for it.")],
    coverage: Annotated[float, Option(help="Share of pixels whose target lies within the interval.")] = 0.9,
    validation: Annotated[
        str, Option(help="What calibrates; the error network learns on the rest: fraction, folder, or y0:y1,x0:x1.")
    ] = "0.33",
    patch_size: Annotated[int, Option(help="Side of the patches that are learnt from.", min=32)] = 256,
    steps: Annotated[int, Option(help="Steps of the error network.", min=1)] = 800,
    seed: Annotated[int, Option(help="Of the network's start and the patches.", min=0)] = 0,
    device: Annotated[str, Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    overwrite: Annotated[bool, Option("--overwrite", help="Replace an existing model file.")] = False,
    as_json: Annotated[bool, Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    from napari_pix2pix.training_data import DataRequest, load_training_data
    from napari_pix2pix.translation.progress import ended
    from pix2pix_training.atomic import reserved
    from pix2pix_training.error_calibration import with_calibration
    from pix2pix_training.errors import ImageError, SettingsError
    from pix2pix_training.events import LearningErrors, Preparing
    from pix2pix_training.in_words import describe_errors, describe_novelty
    from pix2pix_training.model_file import load_model, model_header, save_model
    from pix2pix_training.novelty_survey import with_novelty

    if not 0 < coverage < 1:
        raise SettingsError(f"coverage is {coverage:g}; it is a share of pixels between 0 and 1, such as 0.9")
    out = output_file(out, (".safetensors",), model.stem)
    known = load_model(model)
    request = DataRequest(
        sources=tuple(source), targets=tuple(target), z_context=known.source.z_context, validation=validation
    )
    split = load_training_data(request, patch_size=patch_size, seed=seed).split
    interrupts.keeps("nothing was written")
    with (
        reserved(out, overwrite),
        progress_bar("calibrating", "parts") as bar,
        interrupts.stoppable(bar.say) as cancel,
    ):

        def show(event: Preparing | LearningErrors) -> None:
            cancel.check()
            is_learning = isinstance(event, LearningErrors)
            bar.update(event.fraction if is_learning else 0.0, 0, "" if is_learning else "looking at the images")

        made = ended(
            with_calibration(
                known, split, coverage=coverage, patch_size=patch_size, steps=steps, seed=seed, device=device
            ),
            show,
        )
        no_novelty = ""
        if made.novelty is None:  # else it is of the images that the generator was trained on, which these may not be
            try:
                made = with_novelty(made, split)
            except ImageError as error:
                no_novelty = str(error)
        save_model(made, out)
    interrupts.keeps(f"{out} is written")
    assert made.error is not None
    say(f"error map: {describe_errors(made.error.traits)}")
    say(f"novelty: {no_novelty if made.novelty is None else describe_novelty(made.novelty.traits)}")
    say(str(out))
    if as_json:
        print_json({"model": str(out), **{name: model_header(made).get(name) for name in ("error", "novelty")}})
