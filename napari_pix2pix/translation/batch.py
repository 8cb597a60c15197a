"""Translating many files: which output belongs to which input; stopping at failures, or skipping them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from napari_pix2pix.formats import is_image_path, open_image
from napari_pix2pix.formats.channel_files import open_images
from napari_pix2pix.formats.map_tiles import is_tile_pyramid
from napari_pix2pix.formats.naming import image_stem
from napari_pix2pix.formats.pairing import natural_key
from napari_pix2pix.formats.partial_output import WHOLE, Shard
from napari_pix2pix.formats.writing import output_suffix, resolve_format
from napari_pix2pix.translation.files import translate_file
from napari_pix2pix.translation.matching import fitting_source
from napari_pix2pix.translation.pipeline import Translator
from napari_pix2pix.translation.report import TranslationReport
from pix2pix_training.array_source import plane_size
from pix2pix_training.errors import ImageError, InputError, OutputError, Pix2PixError

logger = logging.getLogger(__name__)

OnError = Literal["stop", "skip"]
BatchProgress = Callable[[int, int, float], None]
"""Called with the number of finished files, of all files, and the finished fraction of the present one."""


@dataclass(frozen=True)
class Job:
    """One output and the files it is made of: an image, or several that are its channels."""

    inputs: tuple[Path, ...]
    output: Path


@dataclass(frozen=True, kw_only=True)
class BatchReport:
    """`total` sums times, pixels and tiles over all files; `failed` maps inputs to the reason."""

    outputs: tuple[Path, ...]
    total: TranslationReport | None
    failed: dict[Path, str]

    def as_dict(self) -> dict[str, Any]:
        fields = asdict(self.total) if self.total else {}
        fields.pop("complete", None)  # `outputs` are the complete ones
        failed = {str(path): reason for path, reason in self.failed.items()}
        return {"outputs": [str(path) for path in self.outputs], **fields, **({"failed": failed} if failed else {})}


def jobs_for(
    inputs: Sequence[Path], out: Path, *, file_format: str, as_channels: bool = False, mosaic: bool = False
) -> list[Job]:
    """Pair inputs with outputs.

    Parameters
    ----------
    inputs : files, and folders whose images are all meant.
    out : the output file where there is one input file, else a folder in which each output has its input's stem.
    as_channels : the inputs are files that make the channels of a single image.
    mosaic : each input is a folder of georeferenced tiles that make a single image. Web tiles (z/x/y.png) always do.
    """
    files = [file for path in inputs for file in _files_of(path, mosaic)]
    if as_channels:
        return [Job(tuple(files), out)]
    single = files == list(inputs) and len(files) == 1
    if single and (not out.is_dir() or not is_image_path(files[0])):
        return [Job((files[0],), out)]
    if out.is_file():
        raise OutputError(f"{out} is a file, and there are {len(files)} inputs; give a folder")
    jobs = [Job((file,), out / (image_stem(file) + _suffix(file, file_format))) for file in files]
    seen: dict[Path, Path] = {}
    for job in jobs:
        if job.output in seen:
            raise InputError(
                f"{seen[job.output]} and {job.inputs[0]} would both become {job.output}; rename one of them"
            )
        seen[job.output] = job.inputs[0]
    return jobs


def _files_of(path: Path, mosaic: bool) -> list[Path]:
    if not path.exists():
        raise ImageError(f"{path} does not exist")
    if not path.is_dir() or is_image_path(path) or mosaic or is_tile_pyramid(path):
        return [path]
    files = sorted(filter(is_image_path, path.iterdir()), key=lambda file: natural_key(file.name))
    if not files:
        raise ImageError(f"{path} holds no images")
    return files


def _suffix(file: Path, file_format: str) -> str:
    if file_format != "same":
        return output_suffix(resolve_format(Path("output"), file_format, None), file)
    with open_image(file) as source:
        return output_suffix(resolve_format(Path("output"), "same", source), file)


def translate_batch(
    jobs: Sequence[Job],
    translator: Translator,
    *,
    file_format: str,
    overwrite: bool,
    resume: bool = False,
    shard: Shard = WHOLE,
    on_error: OnError = "stop",
    progress: BatchProgress | None = None,
) -> BatchReport:
    """Translate all `jobs`.

    Parameters
    ----------
    resume : go on with unfinished outputs, and leave complete ones as they are.
    shard : this process's part: of the files where there are several, else of the one file.

    Raises
    ------
    Pix2PixError
        With `on_error` "stop", at the first failure; what was finished stays. With "skip", where all failed.
    """
    outputs: list[Path] = []
    reports: list[TranslationReport] = []
    failed: dict[Path, str] = {}
    if len(jobs) > 1:
        jobs, resume, shard = jobs[shard.index - 1 :: shard.count], resume or shard != WHOLE, WHOLE
    for number, job in enumerate(jobs):
        try:
            report = translate_file(
                job.inputs,
                translator,
                job.output,
                file_format=file_format,
                overwrite=overwrite,
                resume=resume,
                shard=shard,
                progress=_within(progress, number, len(jobs)),
            )
            reports.append(report)
            if report.complete:
                outputs.append(job.output)
        except Pix2PixError as error:
            if on_error == "stop":
                raise
            logger.warning("skipped: %s", error)
            failed[job.inputs[0]] = str(error)
    if failed and not reports:
        raise Pix2PixError(f"all {len(failed)} images failed; the first: {next(iter(failed.values()))}")
    return BatchReport(outputs=tuple(outputs), total=_summed(reports), failed=failed)


def _within(progress: BatchProgress | None, number: int, count: int) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, tiles: progress(number, count, done / tiles)


def _summed(reports: Sequence[TranslationReport]) -> TranslationReport | None:
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
    )


def plan_lines(jobs: Sequence[Job], translator: Translator) -> list[str]:
    """What would be done, one line for each output, without doing it."""
    lines = []
    for job in jobs:
        with open_images(job.inputs) as source:
            fitting = fitting_source(source, translator)
            translator.check(fitting)
            height, width = plane_size(fitting)
            plan = translator.plan((height, width))
            lines.append(
                f"{job.output}: {height} x {width} pixels, scheme {plan.scheme}, tile {plan.tile}, {plan.tiles} tiles "
                f"a plane, {plan.working_set_bytes / 2**20:.0f} MiB, {plan.mac_overhead:.2f} times the arithmetic of "
                "the whole image"
            )
    return lines
