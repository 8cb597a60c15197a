"""``translate``: files and folders through a trained model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from napari_pix2pix.cli import interrupts
from napari_pix2pix.cli.console import parse_channels, parse_shard, parse_size, print_json, progress_bar, say

Option = typer.Option


def translate(
    inputs: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    model: Annotated[Path, Option(help="Model file.")],
    out: Annotated[Path, Option(help="Output file for one input, else a folder.")],
    file_format: Annotated[
        str, Option("--format", help="same, tiff, ome-tiff, ome-zarr, imagej, geotiff, png or jpeg.")
    ] = "same",
    as_channels: Annotated[bool, Option("--as-channels", help="The inputs are the channels of one image.")] = False,
    mosaic: Annotated[bool, Option("--mosaic", help="Each folder holds georeferenced tiles of one image.")] = False,
    series: Annotated[
        int | None,
        Option(help="Of files that hold several images the one of this number, from 0 [default: all].", min=0),
    ] = None,
    backend: Annotated[str, Option(help="auto, torch, openvino, tensorrt or tensorrt-rtx.")] = "auto",
    engines: Annotated[
        Path | None, Option(help="Folder of TensorRT engines made by compile --architectures.", metavar="FOLDER")
    ] = None,
    device: Annotated[str, Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    precision: Annotated[str, Option(help="fp32, bf16, fp16 or auto.")] = "auto",
    scheme: Annotated[str, Option(help="auto, whole, exact or blend.")] = "auto",
    tile: Annotated[int | None, Option(help="Largest side of a tile in pixels.")] = None,
    region: Annotated[
        int | None,
        Option(help="Side of the regions that are made one by one, resumed and shared [default: 8192 or more]."),
    ] = None,
    max_memory: Annotated[str | None, Option(help="Working set, such as 2GB [default: half of what is free].")] = None,
    statistics: Annotated[str | None, Option(help="running, image or tile [default: as the model says].")] = None,
    dropout: Annotated[str | None, Option(help="off or seeded [default: as the model says].")] = None,
    dropout_samples: Annotated[int, Option(help="Translate with that many seeds: mean and deviation.", min=1)] = 1,
    seed: Annotated[int | None, Option(help="Seed of the noise [default: as the model says].")] = None,
    alpha: Annotated[str, Option(help="What alpha is: keep (a channel), mask (of no data), drop or auto.")] = "auto",
    channels: Annotated[
        str | None, Option(help="Those to take, from 0, in the model's order, such as 2,0 [default: by their names].")
    ] = None,
    convert_values: Annotated[
        str, Option(help="For pixels of another type than the model's: refuse, type, values or image.")
    ] = "refuse",
    match_pixel_size: Annotated[
        bool, Option("--match-pixel-size", help="Rescale to the model's pixel size, and the result back.")
    ] = False,
    scratch: Annotated[
        Path | None,
        Option(help="For what exceeds memory [default: the folder of the output].", metavar="FOLDER"),
    ] = None,
    resume: Annotated[
        bool, Option("--resume", help="Go on with unfinished outputs; leave complete ones as they are.")
    ] = False,
    shard: Annotated[
        str | None, Option(metavar="I/N", help="Part I (from 1) of N, for N processes that share the work.")
    ] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace existing outputs.")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Print the plan and stop.")] = False,
    on_error: Annotated[str, Option(help="With many inputs: stop or skip.")] = "stop",
    as_json: Annotated[bool, Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Translate images of any size."""
    # Before torch is loaded: its threads that wait by spinning take time from those of OpenVINO, a tenth of it.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

    from napari_pix2pix.translation.batch import jobs_for, plan_lines, translate_batch
    from napari_pix2pix.translation.pipeline import Translator
    from napari_pix2pix.translation.settings import TranslationSettings
    from pix2pix_training.errors import SettingsError
    from pix2pix_training.model_file import load_model

    if on_error not in ("stop", "skip"):
        raise SettingsError(f"on-error is {on_error!r}; choose stop or skip")
    settings = TranslationSettings(
        scheme=scheme,  # type: ignore[arg-type]  # the settings check their own choices
        tile=tile,
        region=region,
        max_memory=parse_size(max_memory),
        statistics=statistics,  # type: ignore[arg-type]
        dropout=dropout,  # type: ignore[arg-type]
        dropout_samples=dropout_samples,
        seed=seed,
        alpha=alpha,  # type: ignore[arg-type]
        channels=parse_channels(channels),
        convert_values=convert_values,  # type: ignore[arg-type]
        match_pixel_size=match_pixel_size,
        scratch=None if scratch is None else str(scratch),
        device=device,
        precision=precision,  # type: ignore[arg-type]
        backend=backend,  # type: ignore[arg-type]
        engines=None if engines is None else str(engines),
    )
    jobs = jobs_for(
        inputs,
        out,
        file_format=file_format,
        as_channels=as_channels,
        mosaic=mosaic,
        series=series,
        on_error=on_error,  # type: ignore[arg-type]
    )
    translator = Translator(load_model(model), settings)
    if dry_run:
        for line in plan_lines(jobs, translator):
            say(line)
        return
    complete = 0
    interrupts.keeps(lambda: _kept([job.output for job in jobs], complete))
    with (
        progress_bar("translating", "files") as bar,
        interrupts.stoppable(bar.say) as cancel,
        translator.interruptible(cancel),
    ):

        def progress(done: int, count: int, part: float) -> None:
            nonlocal complete
            complete = done
            cancel.check()
            bar.update((done + part) / count, done, f"file {done + 1} of {count}")

        report = translate_batch(
            jobs,
            translator,
            file_format=file_format,
            overwrite=overwrite,
            resume=resume,
            part=parse_shard(shard),
            on_error=on_error,  # type: ignore[arg-type]
            progress=progress,
        )
    interrupts.keeps("all is written")
    for path in report.outputs:
        say(str(path))
    if report.total is not None and not report.total.complete:
        say(f"shard {shard} is done; {out} will be complete when the last of the shards is")
    if report.total is not None:
        say(
            f"{report.total.pixels / 1e6:.2f} megapixels in {report.total.seconds:.1f} s (scheme {report.total.scheme})"
        )
    if as_json:
        print_json(report.as_dict())


def _kept(outputs: Sequence[Path], complete: int) -> str:
    """What an interruption leaves of the outputs, the first of which are `complete`."""
    from napari_pix2pix.formats.partial_output import kept_in_words

    words = [f"{complete} of {len(outputs)} images are complete"] if complete else []
    words += [f"{kept}; --resume goes on from there" for path in outputs if (kept := kept_in_words(path))]
    return "; ".join(words) or "nothing was written"
