"""``demo``: train, translate, evaluate and draw, on built-in data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_pix2pix.cli import interrupts
from napari_pix2pix.cli.console import print_json, say, score_line
from napari_pix2pix.output_paths import output_folder


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo"),
    steps: Annotated[int, typer.Option(help="Length of the training.", min=1)] = 700,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the demo in --out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    from napari_pix2pix.cli.train_command import show_training
    from napari_pix2pix.demonstration import finish_demo, prepare_demo, training_events

    again = "start again with --overwrite"
    interrupts.keeps(again)
    material = prepare_demo(output_folder(out), overwrite=overwrite)
    say(f"simulated cells: {material.folder}")
    show_training(training_events(material, steps), kept=lambda _: again)
    interrupts.keeps(again)
    result = finish_demo(material)
    for name in ("scores", "scores_of_best_constant"):
        say(f"{name.replace('_', ' ')}: " + score_line(result[name]))
    say(f"figure: {result['figure']}")
    if as_json:
        print_json(result)
