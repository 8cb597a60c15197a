"""``train``: options -> settings and data -> the core's generator of events -> progress."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_pix2pix.cli import interrupts, torchrun
from napari_pix2pix.cli.command_options import with_setting_options
from napari_pix2pix.cli.console import print_json, progress_bar, say, score_line
from napari_pix2pix.output_paths import output_folder
from pix2pix_training.config import TrainingConfig
from pix2pix_training.events import (
    CheckpointSaved,
    Event,
    Finished,
    LearningErrors,
    MeasuringInt8,
    Preparing,
    Started,
    StepDone,
    Validated,
    Warned,
)
from pix2pix_training.setting_options import Place, places_of, settings_of_options, training_config
from pix2pix_training.settings_tables import settings_from_toml

logger = logging.getLogger(__name__)

Option = typer.Option


@with_setting_options(TrainingConfig, default=lambda _: "")  # it depends on the preset
def train(
    out: Annotated[Path, Option(help="Folder of the run.")],
    source: Annotated[list[Path] | None, Option(help="Source images: file or folder; again for more channels.")] = None,
    target: Annotated[list[Path] | None, Option(help="Target images: file or folder; again for more channels.")] = None,
    pairs: Annotated[Path | None, Option(help="Folder of side-by-side images, or a CSV of pairs.")] = None,
    direction: Annotated[str, Option(help="For side-by-side images: AtoB or BtoA.")] = "AtoB",
    source_channels: Annotated[str | None, Option(help="Channels to use, such as 0,2.")] = None,
    target_channels: Annotated[str | None, Option(help="Channels to use, such as 0,2.")] = None,
    alpha: Annotated[str, Option(help="What alpha is: keep (a channel), mask (of no data), drop or auto.")] = "auto",
    z_context: Annotated[int, Option(help="Planes of a Z stack above and below that a plane is seen with.")] = 0,
    series: Annotated[
        int | None,
        Option(help="Of files that hold several images the one of this number, from 0.", min=0, show_default="all"),
    ] = None,
    validation: Annotated[str | None, Option(help="Fraction, folder, or region y0:y1,x0:x1 of a single pair.")] = None,
    init: Annotated[Path | None, Option(help="Model file to start from; its networks set depth, width, norm.")] = None,
    device: Annotated[str, Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    workers: Annotated[
        int | None, Option(help="Processes that read images ahead [default: 4 for a GPU and much data, else 0].", min=0)
    ] = None,
    config: Annotated[Path | None, Option(help="TOML file of settings, as in a run's config.toml.")] = None,
    compare_presets: Annotated[
        str | None,
        Option(help="Train each preset for this time, such as 5min, into OUT/PRESET, and say which is best for what."),
    ] = None,
    tensorboard: Annotated[bool, Option("--tensorboard", help="Log to OUT/tensorboard (an extra).")] = False,
    resume: Annotated[bool, Option("--resume", help="Continue the run in --out.")] = False,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace the run in --out.")] = False,
    as_json: Annotated[bool, Option("--json", help="Print the result as one JSON object.")] = False,
    **settings: Any,
) -> None:
    from napari_pix2pix import training_data
    from pix2pix_training.allocator import keep_freed_memory
    from pix2pix_training.model_file import load_model
    from pix2pix_training.run_folder import RunFolder
    from pix2pix_training.tensorboard_log import with_tensorboard
    from pix2pix_training.time_budget import Loader, sized_run
    from pix2pix_training.training import train as run_training
    from pix2pix_training.training_step import settings_of

    output_folder(out)
    keep_freed_memory()
    start = load_model(init) if init else None
    if init and not resume:
        RunFolder(out).keep_apart(init)
    toml = settings_from_toml(config) if config else {}
    layers = settings_of(start) if start else {}, toml, settings_of_options(settings)
    run = training_config(*layers)

    request = training_data.DataRequest(
        sources=tuple(source or ()),
        targets=tuple(target or ()),
        pairs=pairs,
        direction=direction,  # type: ignore[arg-type]  # the request reads and checks its values
        source_channels=source_channels,  # type: ignore[arg-type]
        target_channels=target_channels,  # type: ignore[arg-type]
        z_context=z_context,
        alpha=alpha,  # type: ignore[arg-type]
        series=series,
        validation=training_data.DEFAULT_VALIDATION_FRACTION if validation is None else validation,
    )
    load = partial(training_data.load_training_data, request, seed=run.seed)

    def trained(run: TrainingConfig, given: set[Place], folder: Path, loader: Loader = load) -> dict[str, Any]:
        with torchrun.joined(device) as (group, own):
            sized, data = sized_run(run, given, loader, folder, resume=resume, device=own, group=group)
            events = run_training(
                sized,
                data,
                folder,
                device=own,
                resume=resume,
                overwrite=overwrite,
                init=start,
                workers=workers,
                group=group,
            )
            return show_training(with_tensorboard(events, folder) if tensorboard and group.is_first else events)

    def compared(minutes: str) -> dict[str, Any]:
        from napari_pix2pix import preset_comparison as presets  # which translates, as a run of its own never does

        configs = presets.configs_of_presets(presets.minutes_of(minutes), layers, run.patch_size)
        held_out = presets.load_held_out(request, patch_size=run.patch_size, seed=run.seed)
        data = load(patch_size=run.patch_size)
        scores, summaries = dict[str, presets.PresetScores](), dict[str, Any]()
        for name, (each, given) in configs.items():
            say(f"preset {name}")
            summaries[name] = trained(each, given, out / name, lambda *, patch_size: data)
            with interrupts.stoppable(say) as cancel:
                scores[name] = presets.scored(Path(summaries[name]["model"]), held_out, device, cancel)
        for line in presets.table(scores):
            say(line)
        return {
            "presets": {name: {**summaries[name], **scores[name].as_dict()} for name in scores},
            "best": presets.best_for(scores),
        }

    result = trained(run, places_of(*layers), out) if compare_presets is None else compared(compare_presets)
    if as_json:
        print_json(result)


def _state_kept(step: int) -> str:
    return f"the state of step {step} is kept, --resume goes on from it" if step else "nothing was trained"


def show_training(events: Iterable[Event], kept: Callable[[int], str] = _state_kept) -> dict[str, Any]:
    """Consume the events, showing progress; Ctrl-C stops after the present step, with the state saved.

    Returns the fields of ``--json``.

    Parameters
    ----------
    kept : what an interruption leaves when the state of a step is saved, in words.
    """
    result: dict[str, Any] = {}
    iterator = iter(events)
    losses_note = scores_note = ""
    with progress_bar("training", "steps") as bar, interrupts.stoppable(bar.say) as cancel:
        for event in iterator:
            match event:
                case Preparing():
                    bar.update(0, 0, f"{event.words}, {event.fraction:.0%}")
                case Started():
                    _announce(event, bar.say)
                    result["resumed_from_step"] = event.resumed_from_step
                    interrupts.keeps(kept(event.resumed_from_step))
                case StepDone():
                    losses_note = losses_note if event.losses is None else _loss_line(event.losses)
                    bar.update(event.fraction, event.step - result["resumed_from_step"], losses_note + scores_note)
                case Validated():
                    scores_note = f" | validation MAE {event.scores['mae']:.4f}"
                    bar.say(f"step {event.step}: {score_line(event.scores)}{' (best)' if event.is_best else ''}")
                case Warned():
                    logger.warning(event.words)
                case MeasuringInt8():
                    bar.update(1, event.step - result["resumed_from_step"], f"8 bits, {event.fraction:.0%}")
                case LearningErrors():
                    bar.update(1, event.step - result["resumed_from_step"], f"error map, {event.fraction:.0%}")
                case CheckpointSaved():
                    interrupts.keeps(kept(event.step))
                case Finished():
                    if event.early_stop:
                        bar.say(event.early_stop)
                    result |= _summary(event, result["resumed_from_step"])
            if cancel.is_set() and torchrun.is_first() and not isinstance(event, Finished):
                iterator.close()  # type: ignore[attr-defined]  # events come from a generator, which saves its state
                if not isinstance(event, Preparing | Started):
                    interrupts.keeps(kept(event.step))
                cancel.check()
    interrupts.keeps("the run is complete")
    if result["skipped_patches"]:
        say(f"{result['skipped_patches']} constant or empty patches were skipped")
    say(f"model of step {result['model_step']}: {result['model']}")
    if (coverage := result["coverage"]) is not None:
        say(f"with an error map for {100 * coverage:.3g} % of pixels, which translate --error-map writes")
    return {name: value for name, value in result.items() if name not in ("model_step", "coverage")}


def _announce(event: Started, say: Callable[[str], None]) -> None:
    from pix2pix_training.in_words import describe_generator

    steps = event.total_steps
    length = f"{steps} step{'s' * (steps != 1)}" if steps else f"{event.config.minutes:g} min"
    config = event.config
    say(f"{describe_generator(config.generator)}; patches of {config.patch_size} px, {config.batch_size} a step")
    say("all settings: config.toml in the folder of the run")
    if event.resumed_from_step:
        say(f"resumed from step {event.resumed_from_step}")
    say(f"source: {event.source}")
    say(f"target: {event.target}")
    if event.is_over:
        say("it is as long as was asked for, so nothing is trained now; to go on, ask for more steps or minutes")
        return
    pairs = f"{event.training_pairs} pair{'s' * (event.training_pairs != 1)}"
    say(
        f"training for {length} on {event.device}{_processes(event)}: {pairs}, "
        f"{event.validation_pairs} held out, {event.steps_per_epoch} steps an epoch"
    )
    say(f"held out: {event.held_out}")


def _processes(event: Started) -> str:
    if event.processes == 1:
        return ""
    return f", {event.processes} processes with {event.config.batch_size} patches each in a step"


def _loss_line(losses: Mapping[str, float]) -> str:
    return " ".join(f"{name} {value:.3g}" for name, value in losses.items())


def _summary(event: Finished, resumed_from_step: int) -> dict[str, Any]:
    new_steps = event.steps - resumed_from_step
    return {
        "steps": event.steps,
        "seconds": event.seconds,
        "seconds_per_step": event.new_seconds / new_steps if new_steps else None,
        "skipped_patches": event.skipped_patches,
        "stopped_early": event.early_stop is not None,
        "metrics": dict(event.scores),
        "model": str(event.model),
        "model_step": event.model_step,
        "coverage": event.coverage,
    }
