"""``train``: options -> settings and data -> the core's generator of events -> progress."""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_pix2pix.cli import interrupts
from napari_pix2pix.cli.console import parse_channels, print_json, progress_bar, say, score_line
from napari_pix2pix.cli.credits_options import Authors, Citation, License
from napari_pix2pix.cli.output_paths import output_folder
from pix2pix_training.config import TrainingConfig, from_dict, preset, to_toml, usual_depth
from pix2pix_training.errors import SettingsError
from pix2pix_training.events import CheckpointSaved, Event, Finished, Started, StepDone, Validated, Warned

logger = logging.getLogger(__name__)

_LENGTHS = ("epochs", "steps", "minutes")
Option = typer.Option


def train(
    out: Annotated[Path, Option(help="Folder of the run.")],
    source: Annotated[list[Path] | None, Option(help="Source images: file or folder; again for more channels.")] = None,
    target: Annotated[list[Path] | None, Option(help="Target images: file or folder; again for more channels.")] = None,
    pairs: Annotated[Path | None, Option(help="Folder of side-by-side images, or a CSV of pairs.")] = None,
    direction: Annotated[str, Option(help="For side-by-side images: AtoB or BtoA.")] = "AtoB",
    preset_name: Annotated[str, Option("--preset", help="seamless or paper.")] = "seamless",
    epochs: Annotated[int | None, Option(help="Length of the run in epochs [default: 200].")] = None,
    steps: Annotated[int | None, Option(help="Length of the run in steps.")] = None,
    minutes: Annotated[float | None, Option(help="Length of the run in minutes.")] = None,
    patch_size: Annotated[int | None, Option(help="Side of a training patch in pixels.")] = None,
    batch_size: Annotated[int | None, Option(help="Patches per step.")] = None,
    base_width: Annotated[int | None, Option(help="Channels of the first layer, of both networks.")] = None,
    depth: Annotated[int | None, Option(help="Down-samplings of the U-Net.")] = None,
    decoder: Annotated[str | None, Option(help="Of the U-Net: transposed, resize or pixel-shuffle.")] = None,
    norm: Annotated[str | None, Option(help="Of the generator: batch, batch-renorm, instance or none.")] = None,
    statistics: Annotated[str | None, Option(help="Norms of the model at translation use: running or image.")] = None,
    source_channels: Annotated[str | None, Option(help="Channels to use, such as 0,2.")] = None,
    target_channels: Annotated[str | None, Option(help="Channels to use, such as 0,2.")] = None,
    alpha: Annotated[str, Option(help="What alpha is: keep (a channel), mask (of no data), drop or auto.")] = "auto",
    z_context: Annotated[int, Option(help="Planes of a Z stack above and below that a plane is seen with.")] = 0,
    source_values: Annotated[str | None, Option(help="auto, dtype, training-set, image or categories.")] = None,
    target_values: Annotated[str | None, Option(help="auto, dtype, training-set or categories.")] = None,
    sampling: Annotated[str | None, Option(help="Patches from anywhere: uniform; where targets vary: content.")] = None,
    keep_constant: Annotated[bool, Option("--keep-constant", help="Train on patches of a single value too.")] = False,
    series: Annotated[
        int | None,
        Option(help="Of files that hold several images the one of this number, from 0 [default: all].", min=0),
    ] = None,
    validation: Annotated[str | None, Option(help="Fraction, folder, or region y0:y1,x0:x1 of a single pair.")] = None,
    checkpoint_every: Annotated[int | None, Option(help="Steps between checkpoints.")] = None,
    validate_every: Annotated[int | None, Option(help="Steps between validations.")] = None,
    patience: Annotated[int | None, Option(help="Stop after so many validations without a better MAE.")] = None,
    ema_decay: Annotated[float | None, Option(help="Average the generator's weights, for example 0.999.")] = None,
    keep: Annotated[str | None, Option(help="Model to keep: best (by validation MAE) or last.")] = None,
    init: Annotated[Path | None, Option(help="Model file to start from; its networks set depth, width, norm.")] = None,
    device: Annotated[str, Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    precision: Annotated[str | None, Option(help="fp32, bf16, fp16 or auto.")] = None,
    compile_: Annotated[bool, Option("--compile", help="Have PyTorch compile the networks; for long runs.")] = False,
    seed: Annotated[int | None, Option(help="Makes runs repeatable.")] = None,
    author: Authors = None,
    license_: License = None,
    citation: Citation = None,
    config: Annotated[Path | None, Option(help="TOML file of settings, as in a run's config.toml.")] = None,
    tensorboard: Annotated[bool, Option("--tensorboard", help="Log to OUT/tensorboard (an extra).")] = False,
    resume: Annotated[bool, Option("--resume", help="Continue the run in --out.")] = False,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace the run in --out.")] = False,
    as_json: Annotated[bool, Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Train a model on paired images."""
    options = {
        "epochs": epochs,
        "steps": steps,
        "minutes": minutes,
        "patch_size": patch_size,
        "batch_size": batch_size,
        "source_values": source_values,
        "target_values": target_values,
        "checkpoint_every": checkpoint_every,
        "validate_every": validate_every,
        "precision": precision,
        "compile": compile_ or None,
        "patience": patience,
        "ema_decay": ema_decay,
        "keep": keep,
        "seed": seed,
        "sampling": {"placement": sampling, "skip_constant": False if keep_constant else None},
        "generator": {"base_width": base_width, "depth": depth, "decoder": decoder, "norm": norm},
        "discriminator": {"base_width": base_width},
        "inference": {"statistics": statistics},
        "credits": {"authors": author, "license": license_, "citation": citation},
    }

    from napari_pix2pix import training_data
    from pix2pix_training.freed_memory import keep_freed_memory
    from pix2pix_training.model_file import load_model
    from pix2pix_training.tensorboard_log import with_tensorboard
    from pix2pix_training.training import train as run_training
    from pix2pix_training.warm_start import settings_of

    output_folder(out)
    keep_freed_memory()
    start = load_model(init) if init else None
    settings = training_config(preset_name, settings_of(start) if start else {}, config, options)

    request = training_data.DataRequest(
        sources=tuple(source or ()),
        targets=tuple(target or ()),
        pairs=pairs,
        direction=direction,  # type: ignore[arg-type]  # checked where it is used
        source_channels=parse_channels(source_channels),
        target_channels=parse_channels(target_channels),
        z_context=z_context,
        alpha=alpha,  # type: ignore[arg-type]  # checked there
        series=series,
        validation=training_data.DEFAULT_VALIDATION_FRACTION
        if validation is None
        else training_data.parse_validation(validation),
    )
    data = training_data.load_training_data(request, patch_size=settings.patch_size, seed=settings.seed)
    events = run_training(settings, data, out, device=device, resume=resume, overwrite=overwrite, init=start)
    result = show_training(with_tensorboard(events, out) if tensorboard else events)
    if as_json:
        print_json(result)


def training_config(
    preset_name: str, start: Mapping[str, Any], toml: Path | None, options: Mapping[str, Any]
) -> TrainingConfig:
    """Preset, changed by what the model to `start` from decides, by the TOML file, by the options that are given."""
    layers = (_read_toml(toml) if toml else {}, options)
    base = preset(preset_name)  # type: ignore[arg-type]  # an unknown name is refused there
    merged = asdict(base)
    for size in [layer["patch_size"] for layer in layers if isinstance(layer.get("patch_size"), int)]:
        merged["generator"]["depth"] = usual_depth(base.preset, size)
    _merge(merged, start)
    for layer in layers:
        if any(layer.get(name) is not None for name in _LENGTHS):
            merged.update(dict.fromkeys(_LENGTHS))
        _merge(merged, layer)
    return from_dict(TrainingConfig, merged)


def _merge(base: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for name, value in changes.items():
        if isinstance(value, Mapping) and isinstance(base.get(name), dict):
            _merge(base[name], value)
        elif value is not None:
            base[name] = value


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"{path}: does not exist") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SettingsError(f"{path}: not a readable TOML file ({error})") from error


def show_training(events: Iterable[Event]) -> dict[str, Any]:
    """Consume the events, showing progress; Ctrl-C stops after the present step, with the state saved.

    Returns the fields of ``--json``.
    """
    result: dict[str, Any] = {}
    iterator = iter(events)
    losses_note = scores_note = ""
    with progress_bar("training", "steps") as bar, interrupts.stoppable(bar.say) as cancel:
        for event in iterator:
            match event:
                case Started():
                    _announce(event, bar.say)
                    result["resumed_from_step"] = event.resumed_from_step
                    _keep(event.resumed_from_step)
                case StepDone():
                    losses_note = losses_note if event.losses is None else _loss_line(event.losses)
                    bar.update(event.fraction, event.step - result["resumed_from_step"], losses_note + scores_note)
                case Validated():
                    scores_note = f" | validation MAE {event.scores['mae']:.4f}"
                    bar.say(f"step {event.step}: {score_line(event.scores)}{' (best)' if event.is_best else ''}")
                case Warned():
                    logger.warning(event.words)
                case CheckpointSaved():
                    _keep(event.step)
                case Finished():
                    if event.early_stop:
                        bar.say(event.early_stop)
                    result |= _summary(event, result["resumed_from_step"])
            if cancel.is_set() and not isinstance(event, Finished):
                iterator.close()  # type: ignore[attr-defined]  # events come from a generator, which saves its state
                _keep(event.resumed_from_step if isinstance(event, Started) else event.step)
                cancel.check()
    interrupts.keeps("the run is complete")
    if result["skipped_patches"]:
        say(f"{result['skipped_patches']} constant or empty patches were skipped")
    say(f"model of step {result['model_step']}: {result['model']}")
    return {name: value for name, value in result.items() if name != "model_step"}


def _keep(step: int) -> None:
    """An interruption leaves the state of a step."""
    interrupts.keeps(f"the state of step {step} is kept, --resume goes on from it" if step else "nothing was trained")


def _announce(event: Started, say: Callable[[str], None]) -> None:
    length = f"{event.total_steps} steps" if event.total_steps else f"{event.config.minutes:g} minutes"
    say(to_toml(event.config).strip())
    say("")
    if event.resumed_from_step:
        say(f"resumed from step {event.resumed_from_step}")
    say(
        f"training for {length} on {event.device}: {event.training_pairs} pairs, {event.validation_pairs} held out, "
        f"{event.steps_per_epoch} steps an epoch"
    )


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
    }
