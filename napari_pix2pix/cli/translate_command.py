"""``translate``: files and folders through a trained model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_pix2pix.cli import interrupts
from napari_pix2pix.cli.command_options import with_setting_options
from napari_pix2pix.cli.console import parse_shard, print_json, progress_bar, say
from napari_pix2pix.translation.settings import TranslationSettings
from pix2pix_training.setting_options import settings_of_options

if TYPE_CHECKING:
    from napari_pix2pix.translation.batch import Job

Option = typer.Option


@with_setting_options(TranslationSettings)
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
        Option(help="Of files that hold several images the one of this number, from 0.", min=0, show_default="all"),
    ] = None,
    resume: Annotated[
        bool, Option("--resume", help="Go on with unfinished outputs; leave complete ones as they are.")
    ] = False,
    shard: Annotated[
        str | None, Option(metavar="I/N", help="Part I (from 1) of N, for N processes that share the work.")
    ] = None,
    dask: Annotated[
        str | None,
        Option(metavar="ADDRESS", help="Have a Dask cluster do the work, or local:N, N processes of this machine."),
    ] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace existing outputs.")] = False,
    novelty_map: Annotated[
        bool,
        Option("--novelty-map", help="Write beside each output a map of what is unlike the training images."),
    ] = False,
    error_map: Annotated[
        bool,
        Option("--error-map", help="Write beside each output how far from the target its pixels may lie."),
    ] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Print the plan and stop.")] = False,
    on_error: Annotated[str, Option(help="With many inputs: stop or skip.")] = "stop",
    as_json: Annotated[bool, Option("--json", help="Print the result as one JSON object.")] = False,
    **settings: Any,
) -> None:
    # Before torch is loaded: its threads that wait by spinning take time from those of OpenVINO, a tenth of it.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

    from napari_pix2pix.translation.batch import BatchReport, OfOne, jobs_for, map_jobs, plan_lines, translate_batch
    from napari_pix2pix.translation.cluster import ClusterProgress, translate_on_cluster
    from napari_pix2pix.translation.cluster_connection import connected
    from napari_pix2pix.translation.error_maker import error_settings
    from napari_pix2pix.translation.novelty_map import require_measure, share_in_words
    from napari_pix2pix.translation.progress import ended
    from napari_pix2pix.translation.translator import Translator
    from pix2pix_training.error_map import error_model
    from pix2pix_training.errors import SettingsError
    from pix2pix_training.model_file import load_model

    if on_error not in ("stop", "skip"):
        raise SettingsError(f"on-error is {on_error!r}; choose stop or skip")
    if dask is not None and (shard is not None or dry_run):
        raise SettingsError("--dask deals out all regions by itself; leave out --shard and --dry-run")
    chosen = TranslationSettings(**settings_of_options(settings, TranslationSettings))
    jobs = jobs_for(
        inputs,
        out,
        file_format=file_format,
        as_channels=as_channels,
        mosaic=mosaic,
        series=series,
        on_error=on_error,  # type: ignore[arg-type]
    )
    maps = map_jobs(jobs, "error") if error_map else []
    loaded = load_model(model)
    if novelty_map:
        require_measure(loaded)
    maker = (error_model(loaded), error_settings(loaded, chosen)) if error_map else None
    if dask is not None and (novelty_map or error_map):  # which the model has
        option, what = ("--novelty-map", "novelty maps") if novelty_map else ("--error-map", "error maps")
        raise SettingsError(
            f"--dask makes no {what}; run it without {option}, and then again with it, --resume and no --dask"
        )
    if dry_run:
        for line in plan_lines(jobs, Translator(loaded, chosen)):
            say(line)
        for line in plan_lines(maps, Translator(*maker)) if maker is not None else ():
            say(line)
        return
    complete = before = 0
    interrupts.keeps(lambda: _kept([job.output for job in (*jobs, *maps)], complete))
    with (
        progress_bar("translating", "files") as bar,
        interrupts.stoppable(bar.say) as cancel,
        ExitStack() as stack,
    ):

        def show(event: OfOne | ClusterProgress) -> None:
            nonlocal complete
            complete = before + event.done
            bar.update(event.fraction, event.done, f"file {min(event.done + 1, event.count)} of {event.count}")

        how: dict[str, Any] = {
            "file_format": file_format,
            "overwrite": overwrite,
            "resume": resume,
            "on_error": on_error,
        }
        if dask is not None:
            cluster = stack.enter_context(connected(dask))
            report = ended(translate_on_cluster(jobs, model, loaded, chosen, cluster, cancel=cancel, **how), show)
        else:
            part = parse_shard(shard)

            def translated(jobs: Sequence[Job], translator: Translator, novelty_map: bool) -> BatchReport:
                with translator.interruptible(cancel):
                    return ended(translate_batch(jobs, translator, part=part, novelty_map=novelty_map, **how), show)

            own = Translator(loaded, chosen)
            del loaded  # which holds the weights as they are in the file
            report = translated(jobs, own, novelty_map)
            if maker is not None:  # after the outputs, so that one network at a time takes memory
                there, before = set(report.outputs), len(report.outputs)
                of_these = [
                    beside for job, beside in zip(jobs, maps, strict=True) if job.output in there or part.count > 1
                ]
                report = replace(report, error_maps=translated(of_these, Translator(*maker), False).outputs)
    interrupts.keeps("all is written")
    for path in (*report.outputs, *report.error_maps, *report.novelty_maps):
        say(str(path))
    if report.total is not None and not report.total.complete:
        say(f"shard {shard} is done; {out} will be complete when the last of the shards is")
    if report.total is not None:
        say(
            f"{report.total.pixels / 1e6:.2f} megapixels in {report.total.seconds:.1f} s (scheme {report.total.scheme})"
        )
    if novelty_map and report.total is not None and report.total.novel_share is not None:
        where = "the map" if len(jobs) == 1 else "the maps"
        say(f"{share_in_words(report.total.novel_share, len(jobs))}; see {where} called NAME-novelty above")
    if as_json:
        print_json(report.as_dict())


def _kept(outputs: Sequence[Path], complete: int) -> str:
    """What an interruption leaves of the outputs, the first of which are `complete`."""
    from napari_pix2pix.formats.output_state import kept_in_words

    words = [f"{complete} of {len(outputs)} images are complete"] if complete else []
    words += [f"{kept}; --resume goes on from there" for path in outputs if (kept := kept_in_words(path))]
    return "; ".join(words) or "nothing was written"
