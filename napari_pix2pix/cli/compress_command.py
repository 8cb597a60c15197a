"""``compress``: a smaller and faster model that has learnt from a model."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from napari_pix2pix.cli import interrupts
from napari_pix2pix.cli.console import print_json, progress_bar, say
from napari_pix2pix.output_paths import output_folder

logger = logging.getLogger(__name__)

Option = typer.Option


def compress(
    model: Annotated[Path, typer.Argument(help="Model file.")],
    source: Annotated[list[Path], Option(help="Source images: file or folder; again for more channels.")],
    out: Annotated[Path, Option(help="Folder of the run.")],
    target: Annotated[
        list[Path] | None, Option(help="True targets, where there are some: file or folder; again for more channels.")
    ] = None,
    target_speed: Annotated[
        str | None, Option(help="How many times as fast; the width is found by measuring [default: 4x].")
    ] = None,
    base_width: Annotated[
        int | None, Option(help="Width of the small model, instead of --target-speed.", min=1)
    ] = None,
    precision: Annotated[
        Literal["fp32", "bf16", "fp16", "int8"],
        Option(help="What the small model is to be translated with; the model is timed in fp32."),
    ] = "fp32",
    minutes: Annotated[float | None, Option(help="Length of the run in minutes [default: 30].", min=1e-3)] = None,
    steps: Annotated[int | None, Option(help="Length of the run in steps.", min=1)] = None,
    validation: Annotated[
        str, Option(help="What student and teacher are compared on: fraction, folder, or y0:y1,x0:x1.")
    ] = "0.1",
    seed: Annotated[int, Option(help="Of the network's start and the patches.", min=0)] = 0,
    device: Annotated[str, Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    resume: Annotated[bool, Option("--resume", help="Continue the run in --out.")] = False,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace the run in --out.")] = False,
    as_json: Annotated[bool, Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    from napari_pix2pix import compression
    from napari_pix2pix.cli.train_command import show_training
    from napari_pix2pix.training_data import DataRequest
    from napari_pix2pix.translation.batch import OfOne
    from napari_pix2pix.translation.progress import ended
    from pix2pix_training.allocator import keep_freed_memory
    from pix2pix_training.atomic import temporary_folder
    from pix2pix_training.errors import SettingsError
    from pix2pix_training.in_words import describe_student
    from pix2pix_training.machine import scratch_folder
    from pix2pix_training.model_file import load_model, save_model
    from pix2pix_training.run_folder import RunFolder
    from pix2pix_training.training import train

    if target_speed is not None and base_width is not None:
        raise SettingsError("target-speed and base-width are both given; give only one of them")
    speed = compression.speed_of(target_speed or "4x")
    if minutes is not None and steps is not None:
        raise SettingsError("minutes and steps are both given; a run has one length, so give only one of them")
    output_folder(out)
    run = RunFolder(out)
    run.check(resume=resume, overwrite=overwrite)
    run.keep_apart(model)
    keep_freed_memory()
    teacher = load_model(model)
    compression.require_precision(teacher, precision, device)
    if base_width is not None:
        compression.require_narrower(base_width, teacher)
    length = {"steps": steps} if steps is not None else {"minutes": 30.0 if minutes is None else minutes}
    request = DataRequest(
        sources=tuple(source), targets=tuple(target or source), validation=validation, targets_to_come=not target
    )
    recorded = run.settings() if resume else None
    interrupts.keeps("nothing was trained" if recorded is None else f"{out} is as it was; --resume goes on with it")
    with temporary_folder(scratch_folder()) as folder:
        with progress_bar("the teacher translates", "images") as bar, interrupts.stoppable(bar.say) as cancel:

            def show(event: OfOne) -> None:
                cancel.check()
                bar.update(event.fraction, event.done)

            known = ended(compression.lesson(teacher, request, folder, device=device, seed=seed), show)
        if recorded is not None:
            width = recorded.generator.base_width
            if target_speed is not None or base_width not in (None, width):
                logger.warning("%s keeps its width of %d; another width or speed is for a new run", out, width)
        elif base_width is not None:
            width = base_width
        else:
            with interrupts.stoppable(say) as cancel:
                image = known.held_out[0].source
                trying = compression.width_for(teacher, speed, image, device, precision, cancel.check)
                width = ended(
                    trying, lambda tried: say(f"timing a network of width {tried} beside that of its teacher")
                )
        say(f"student: width {width}, where its teacher has {teacher.generator_config.base_width}")
        say("scores until the end compare it with its teacher's results")
        pairs = known.data.split.training
        config = compression.student_config(teacher, width, pairs, {**length, "seed": seed})
        trained = show_training(
            train(config, known.data, out, device=device, resume=resume, overwrite=overwrite, workers=None)
        )
        interrupts.keeps("the student is trained, and not compared with its teacher yet; --resume goes on with that")
        student = load_model(trained["model"])
        made_in = folder / "student"
        made_in.mkdir()
        with interrupts.stoppable(say) as cancel:
            comparing = compression.compared(student, teacher, known, made_in, device, precision, cancel.check)
            record = ended(comparing, lambda _: cancel.check())
    save_model(compression.with_record(student, record), trained["model"])
    interrupts.keeps(f"{trained['model']} is written")
    say(f"student: {describe_student(record)}")
    if recorded is None and base_width is None and record.speed < speed:
        logger.warning(
            "%.3g times as fast where %g was asked and measured before the run; other work may have slowed it down",
            record.speed,
            speed,
        )
    if as_json:
        result: dict[str, Any] = {**trained, "base_width": width, **asdict(record)}
        del result["metrics"]  # by the teacher's results
        print_json(result)
