"""Translating many files: which output belongs to which input; stopping at failures, or skipping them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from napari_pix2pix.formats import is_image_path
from napari_pix2pix.formats.image_files import (
    ImageFile,
    files_in,
    image_stem,
    images_within,
    once_per_image,
    open_images,
)
from napari_pix2pix.formats.map_tiles import is_tile_pyramid
from napari_pix2pix.formats.output_state import WHOLE, Part
from napari_pix2pix.formats.remote import RemotePath, as_path
from napari_pix2pix.formats.source import is_zarr
from napari_pix2pix.formats.writing import known_suffix, map_path, output_suffix, resolve_format
from napari_pix2pix.translation.pipeline import file_events
from napari_pix2pix.translation.plan import Plan
from napari_pix2pix.translation.progress import Event, TilesDone, TranslationReport
from napari_pix2pix.translation.sinks import FileSink
from napari_pix2pix.translation.translator import Translator
from pix2pix_training.array_source import plane_size
from pix2pix_training.atomic import refused
from pix2pix_training.errors import ImageError, InputError, OutputError, Pix2PixError
from pix2pix_training.retelling import retold

logger = logging.getLogger(__name__)

OnError = Literal["stop", "skip"]


@dataclass(frozen=True, kw_only=True)
class OfOne:
    """An event of one of several images; `done` of the `count` were finished before it."""

    done: int
    count: int
    event: Event

    @property
    def fraction(self) -> float:
        """How much of all is done."""
        return (self.done + (self.event.fraction if isinstance(self.event, TilesDone) else 0)) / self.count


@dataclass(frozen=True)
class Job:
    """One output and the files it is made of: an image, or several that are its channels.

    `failure` says why the inputs cannot be opened, where that is known already; then nothing is made of them.
    `series` is the number of the image, where a file holds several.
    """

    inputs: tuple[Path, ...]
    output: Path
    failure: str = ""
    series: int | None = None


@dataclass(frozen=True, kw_only=True)
class BatchReport:
    """`total` sums times, pixels and tiles over all files; `failed` maps inputs to the reason."""

    outputs: tuple[Path, ...]
    total: TranslationReport | None
    failed: dict[Path, str]
    error_maps: tuple[Path, ...] = ()
    novelty_maps: tuple[Path, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        kinds = {"error_maps": self.error_maps, "novelty_maps": self.novelty_maps}
        maps = {kind: [str(path) for path in paths] for kind, paths in kinds.items() if paths}
        fields = asdict(self.total) if self.total else {}
        fields.pop("complete", None)  # `outputs` are the complete ones
        failed = {str(path): reason for path, reason in self.failed.items()}
        return {
            "outputs": [str(path) for path in self.outputs],
            **maps,
            **fields,
            **({"failed": failed} if failed else {}),
        }


def jobs_for(
    inputs: Sequence[Path],
    out: Path,
    *,
    file_format: str,
    as_channels: bool = False,
    mosaic: bool = False,
    series: int | None = None,
    on_error: OnError = "stop",
) -> list[Job]:
    """Pair inputs with outputs. Several files that are one image give one output.

    Parameters
    ----------
    inputs : files, and folders whose images are all meant.
    out : with the ending of an image the output of a single input, else a folder in which each output has its input's
        name. Map tiles that stay map tiles become the folder itself.
    as_channels : the inputs are files that make the channels of a single image.
    mosaic : each input is a folder of georeferenced tiles that make a single image. Web tiles (z/x/y.png) always do.
    series : of files that hold several images only the one of this number, from 0; by default all, NAME_0, NAME_1, ...,
        and the first, with a warning, where `out` is the name of an image.
    on_error : with "skip", an input that cannot be opened gives a job with a `failure`; with "stop", an error.

    Raises
    ------
    InputError
        An input cannot be opened, or `out` cannot be what the outputs are called.
    """
    inputs, out = [as_path(path) for path in inputs], as_path(out)
    _check_place(out)
    if not as_channels:
        inputs = _each_once(inputs)
    expanded = [file for path in inputs for file in _files_of(path, mosaic, on_error)]
    if not as_channels:
        expanded = _each_once(expanded)
    files = once_per_image(expanded)
    groups = [tuple(files)] if as_channels else [(file,) for file in files]
    single = as_channels or expanded == list(inputs)
    if known_suffix(out):
        if len(groups) > 1 or not single:
            raise OutputError(f"{out} is the name of an image, and there are {len(groups)} inputs; give a folder")
        jobs = [_only(groups[0], out, series, on_error)]
    else:
        jobs = [job for group in groups for job in _named(group, out, file_format, series, on_error)]
        if single and len(jobs) == 1 and not known_suffix(jobs[0].output):
            jobs = [replace(jobs[0], output=out)]
        elif out.exists() and not out.is_dir():
            raise OutputError(f"{out} is a file; give a folder, or a name with the ending of an image")
        elif out.suffix and not out.is_dir():
            resolve_format(out, file_format, None)
    if series and not any(job.series or job.failure for job in jobs):
        raise InputError(f"none of the inputs holds an image number {series}; leave out --series")
    _check_distinct(jobs)
    return jobs


def map_jobs(jobs: Sequence[Job], kind: str) -> list[Job]:
    """The same inputs, each with the map beside its output, see `map_path`.

    Raises
    ------
    InputError
        A map would take the place of an input, or of another output.
    """
    maps = [replace(job, output=map_path(job.output, kind)) for job in jobs]
    _check_distinct([*jobs, *maps])
    return maps


def _files_of(path: Path, mosaic: bool, on_error: OnError) -> list[Path]:
    try:
        if not path.exists() and on_error == "stop":
            raise ImageError(f"{path} does not exist")
        if not path.is_dir() or is_image_path(path) or is_zarr(path) or mosaic or is_tile_pyramid(path):
            return [path]
        return files_in(path)
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}") from error


def _each_once(paths: Sequence[Path]) -> list[Path]:
    """Without the second of two paths of one file and one name; two names of one file are two images."""
    kept: dict[tuple[str, str], Path] = {}
    for path in paths:
        if kept.setdefault((os.path.realpath(path), path.name), path) is not path:
            logger.warning("%s is named more than once and is used once", path)
    return list(kept.values())


def _check_place(out: Path) -> None:
    """Refuse what is neither an image to replace nor a folder to write to, and what cannot be a name at all."""
    if isinstance(out, RemotePath):
        return  # seen by `check_output`
    with refused(out):
        _check_kind_of_place(out)


def _check_kind_of_place(out: Path) -> None:
    store = next((parent for parent in out.absolute().parents if is_zarr(parent)), None)
    if store is not None:
        raise OutputError(f"{out} lies inside {store}, which is a Zarr store; give a place outside it")
    if is_zarr(out) and not known_suffix(out):
        raise OutputError(f"{out} is a Zarr store, not a folder of images; give another name")
    if out.is_dir() and known_suffix(out) and not is_zarr(out):
        raise OutputError(f"{out} is a folder with the name of an image, but no OME-Zarr; give another name")


def _only(inputs: tuple[Path, ...], out: Path, series: int | None, on_error: OnError) -> Job:
    """One output: of one of several images in a file."""
    try:
        images = _images(inputs, 0 if series is None else series)
    except ImageError as error:
        return _failed(inputs, out, error, on_error)
    if series is None and images[0].count > 1:
        logger.warning(
            "%s holds %d images and number 0 is translated; give --series for another, or a folder as --out for all",
            inputs[0],
            images[0].count,
        )
    return _job(inputs, out, images[0])


def _job(inputs: tuple[Path, ...], output: Path, image: ImageFile) -> Job:
    return Job(inputs, output, series=image.series if image.count > 1 else None)


def _named(
    inputs: tuple[Path, ...], folder: Path, file_format: str, series: int | None, on_error: OnError
) -> list[Job]:
    """The outputs in a folder; for the format "same" the inputs are opened, to see what format they have."""
    try:
        images = _images(inputs, series)
        if file_format == "same" and _is_folder_of_tiles(inputs[0]):
            file_format = "tiles"
        if file_format == "same":
            with open_images(inputs, images[0].series, "keep") as source:
                file_format = resolve_format(Path("output"), "same", source)
    except ImageError as error:
        if on_error == "stop" and file_format != "same":  # fails in its turn, when the outputs before it are done
            return [Job(inputs, folder / (image_stem(inputs[0]) + output_suffix(file_format, inputs[0])))]
        return [_failed(inputs, folder / inputs[0].name, error, on_error)]
    suffix = output_suffix(file_format, inputs[0])
    return [_job(inputs, folder / (image.name + suffix), image) for image in images]


def _images(inputs: tuple[Path, ...], series: int | None) -> list[ImageFile]:
    """Those in a file; several files, and a folder of tiles, are one image."""
    if len(inputs) > 1 or _is_folder_of_tiles(inputs[0]):
        return [ImageFile(inputs[0], series or 0, image_stem(inputs[0]), 1 if series is None else series + 1)]
    return images_within(inputs[0], series)


def _is_folder_of_tiles(path: Path) -> bool:
    return path.is_dir() and not is_zarr(path)


def _failed(inputs: tuple[Path, ...], output: Path, error: ImageError, on_error: OnError) -> Job:
    if on_error == "stop":
        raise error
    return Job(inputs, output, failure=str(error))


def _check_distinct(jobs: Sequence[Job]) -> None:
    """Refuse two outputs of one name, and an output that would take the place of an input."""
    seen: dict[Path, Path] = {}
    for job in jobs:
        if job.output in seen and not job.failure:
            raise InputError(
                f"{seen[job.output]} and {job.inputs[0]} would both become {job.output}; rename one of them"
            )
        seen[job.output] = job.inputs[0]
    inputs = {_place(file): file for job in jobs for file in job.inputs}
    for job in jobs:
        place = _place(job.output)
        for own in (place, *place.parents):
            if own in inputs and (own == place or own.is_dir()):
                raise OutputError(f"{job.output} would take the place of the input {inputs[own]}; give another name")
        within = next((file for resolved, file in inputs.items() if place in resolved.parents), None)
        if within is not None:
            raise OutputError(f"{job.output} would take the place of a folder that holds the input {within}")


def _place(path: Path) -> Path:
    """Without links; `Path.resolve` raises where one leads back to itself."""
    return Path(os.path.realpath(path))


def translate_batch(
    jobs: Sequence[Job],
    translator: Translator,
    *,
    file_format: str,
    overwrite: bool,
    resume: bool = False,
    part: Part = WHOLE,
    on_error: OnError = "stop",
    novelty_map: bool = False,
) -> Generator[OfOne, None, BatchReport]:
    """Translate all `jobs`; see `pipeline.translate`.

    Parameters
    ----------
    resume : go on with unfinished outputs, and leave complete ones as they are.
    part : of this process: of the regions of all images.
    novelty_map : of each output, see `FileSink`.

    Raises
    ------
    Pix2PixError
        With `on_error` "stop", at the first failure; what was finished stays. With "skip", where all failed.
    """
    outputs: list[Path] = []
    novelty_maps: list[Path] = []
    reports: list[TranslationReport] = []
    failed: dict[Path, str] = {}
    may_be_empty = len(jobs) > 1  # among tiles of a map some lie in the sea
    with _counted_kept() as on_kept:
        for number, job in enumerate(jobs):
            own_part = replace(part, offset=number)
            if job.failure and not own_part.of(1):
                continue  # another part says so
            try:
                if job.failure:
                    raise ImageError(job.failure)
                sink = FileSink(
                    job.output,
                    file_format=file_format,
                    overwrite=overwrite,
                    resume=resume,
                    part=own_part,
                    novelty_map=novelty_map,
                    on_kept=on_kept,
                )
                events = file_events(job.inputs, translator, sink, series=job.series, may_be_empty=may_be_empty)
                report = yield from of_one(events, number, len(jobs))
                reports.append(report)
                if sink.novelty_path is not None:
                    novelty_maps.append(sink.novelty_path)
                if report.complete:
                    outputs.append(job.output)
            except Pix2PixError as error:
                if on_error == "stop":
                    if reports and isinstance(error, InputError):
                        raise Pix2PixError(f"{error} ({len(reports)} of {len(jobs)} outputs are done)") from error
                    raise
                logger.warning("skipped: %s", error)
                failed[job.inputs[0]] = str(error)
    if failed and not reports:
        raise Pix2PixError(f"all {len(failed)} images failed; the first: {next(iter(failed.values()))}")
    return BatchReport(outputs=tuple(outputs), total=summed(reports), failed=failed, novelty_maps=tuple(novelty_maps))


@contextmanager
def _counted_kept() -> Iterator[Callable[[Path, str], None]]:
    """Takes what is to be said of outputs that are left as they are, and says it in the end: the same once, counted."""
    kept: dict[str, list[Path]] = {}
    try:
        yield lambda path, words: kept.setdefault(words, []).append(path)
    finally:
        for words, paths in kept.items():
            others = f" (and {len(paths) - 1} more)" if len(paths) > 1 else ""
            logger.warning("%s%s %s", paths[0], others, words)


def of_one(
    events: Generator[Event, None, TranslationReport], number: int, count: int
) -> Generator[OfOne, None, TranslationReport]:
    """The events of one image, number `number` from 0 of `count`, as events of all."""
    return retold(events, lambda event: OfOne(done=number, count=count, event=event))


def summed(reports: Sequence[TranslationReport]) -> TranslationReport | None:
    """Sums over the files; scheme, tile and the like are those of the largest."""
    if not reports:
        return None
    return replace(
        max(reports, key=lambda report: report.pixels),
        pixels=sum(r.pixels for r in reports),
        seconds=sum(r.seconds for r in reports),
        seconds_setup=sum(r.seconds_setup for r in reports),
        tiles=sum(r.tiles for r in reports),
        tiles_reused=sum(r.tiles_reused for r in reports),
        complete=all(r.complete for r in reports),
        peak_memory_bytes=max(r.peak_memory_bytes for r in reports),
        clipped_share=_mean_shares(reports),
        novel_share=_mean_novel_share(reports),
    )


def _mean_shares(reports: Sequence[TranslationReport]) -> tuple[float, ...]:
    """Of all pixels, for each channel."""
    counted = [report for report in reports if report.clipped_share]
    pixels = sum(report.pixels for report in counted)
    shares = zip(*(report.clipped_share for report in counted), strict=True)
    return tuple(
        sum(share * report.pixels for share, report in zip(channel, counted, strict=True)) / pixels
        for channel in shares
    )


def _mean_novel_share(reports: Sequence[TranslationReport]) -> float | None:
    """Of all images in which something was looked at, by their size."""
    known = [(report.novel_share, report.pixels) for report in reports if report.novel_share is not None]
    pixels = sum(own for _, own in known)
    return sum(share * own for share, own in known) / pixels if pixels else None


def _regions(plan: Plan) -> str:
    return f"{plan.regions} regions of {plan.region[0]} x {plan.region[1]}, " if plan.regions > 1 else ""


def plan_lines(jobs: Sequence[Job], translator: Translator) -> list[str]:
    """What would be done, one line for each output, without doing it."""
    lines = []
    for job in jobs:
        if job.failure:
            lines.append(f"{job.output}: {job.failure}")
            continue
        with open_images(job.inputs, job.series, translator.settings.alpha) as source:
            height, width = plane_size(translator.fit(source))
            plan = translator.plan((height, width))
            lines.append(
                f"{job.output}: {height} x {width} pixels, scheme {plan.scheme}, {_regions(plan)}tile {plan.tile}, "
                f"{plan.tiles} tiles a plane, {plan.working_set_bytes / 2**20:.0f} MiB, {plan.mac_overhead:.2f} times "
                "the arithmetic of the whole image"
            )
    return lines
