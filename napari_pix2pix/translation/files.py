"""Translating an image file into an image file."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from math import prod
from pathlib import Path

from napari_pix2pix.formats.channel_files import open_images
from napari_pix2pix.formats.metadata import ImageMetadata
from napari_pix2pix.formats.output_state import WHOLE, Part
from napari_pix2pix.formats.partial_output import clear_completed, is_begun
from napari_pix2pix.formats.source import ImageSource
from napari_pix2pix.formats.writing import (
    OutputSpec,
    check_output,
    holds_mask,
    holds_nodata,
    incompatibility,
    resolve_format,
    write_image,
)
from napari_pix2pix.translation.fitted_image import own_shares
from napari_pix2pix.translation.identity import image_identity
from napari_pix2pix.translation.image_fit import DescribedSource
from napari_pix2pix.translation.memory import peak_memory_bytes
from napari_pix2pix.translation.pipeline import Progress, Translator
from napari_pix2pix.translation.plan import Plan
from napari_pix2pix.translation.region_grid import region_grid
from napari_pix2pix.translation.report import TranslationReport
from napari_pix2pix.translation.rescaling import rescaled_tiles
from napari_pix2pix.translation.resumable import RegionsDone, all_made, regions_made
from napari_pix2pix.translation.settings import TranslationSettings
from pix2pix_training.array_source import ArraySource, plane_size
from pix2pix_training.atomic import clear_leftovers, working_folder
from pix2pix_training.errors import OutputError, SettingsError
from pix2pix_training.intensity import CategoryMapping
from pix2pix_training.invalid_pixels import can_have_invalid_pixels
from pix2pix_training.model_file import Model

logger = logging.getLogger(__name__)


def translate_file(
    path_in: Path | Sequence[Path],
    model: Model | Translator,
    path_out: Path,
    settings: TranslationSettings | None = None,
    *,
    file_format: str = "same",
    overwrite: bool = False,
    resume: bool = False,
    part: Part = WHOLE,
    series: int | None = None,
    may_be_empty: bool = False,
    progress: Progress | None = None,
) -> TranslationReport:
    """Translate an image file; the output appears only when it is complete.

    Parameters
    ----------
    path_in : anything that `open_image` reads, or several files that are the channels of one image.
    model : a model, or a `Translator` that was made of one before (then `settings` are its own).
    path_out : its ending decides the format where `file_format` is "same".
    resume : go on with an unfinished output; one that is complete already is left as it is, and nothing is computed.
    part : of the work, for this process; the last of them to finish completes the output.
    series : of files that hold several images the one of this number, from 0; by default the first, with a warning.
    may_be_empty : an image without a valid pixel gives an output without one, instead of an error.
    progress : called now and then with the number of tiles done and of all.

    Raises
    ------
    InputError
        Image, model and settings do not fit together, or the output is refused; nothing was computed.
    Pix2PixError
        The work failed midway; nothing half-written stands at `path_out`.
    """
    started = time.perf_counter()
    inputs = [Path(path_in)] if isinstance(path_in, str | Path) else [Path(path) for path in path_in]
    path_out = Path(path_out)
    asked = model.settings if isinstance(model, Translator) else settings or TranslationSettings()
    with open_images(inputs, series, asked.alpha) as source:
        translator = model if isinstance(model, Translator) else Translator(model, settings)
        if not _has_a_share(part, source, translator):
            plan = translator.plan(plane_size(source))
            nothing = RegionsDone(plan=plan, pixels=0, tiles=0, tiles_reused=0, complete=False)
            return _report(translator, nothing, seconds=0.0, seconds_setup=0.0)
        fitted = translator.fit(source)
        fitted.may_be_empty = may_be_empty
        spec = output_spec(source, translator)
        plan = translator.plan(plane_size(fitted))
        requested = resolve_format(path_out, file_format, source)
        goes_on = resume or part.count > 1
        clear_completed(path_out)
        if goes_on and path_out.exists() and not is_begun(path_out):
            clear_leftovers(path_out)
            logger.warning("%s is complete already, nothing to do", path_out)
            return _report(translator, _already_there(plan, spec), seconds=0.0, seconds_setup=0.0)
        _check_no_input(path_out, source.files)
        chosen = check_output(path_out, spec, file_format=requested, overwrite=overwrite)
        spec = with_mask(spec, source, chosen)
        by_regions = not fitted.is_rescaled and incompatibility(replace(spec, masked=False), "ome-zarr") is None
        if goes_on and not by_regions:
            raise SettingsError(
                f"{path_out}: with --match-pixel-size, or more axes than TZCYX, work cannot be resumed or shared"
            )
        ready = time.perf_counter()
        if by_regions and (plan.regions * prod(spec.leading_shape) > 1 or is_begun(path_out)):
            making = regions_made(
                fitted,
                image_identity(source),
                translator,
                path_out,
                spec,
                file_format=chosen,
                plan=plan,
                part=part,
                resume=resume,
                overwrite=overwrite,
            )
            done = all_made(making, progress)
        else:
            if fitted.is_rescaled:
                folder = working_folder(path_out)
                output = rescaled_tiles(fitted, translator, folder, plan=plan, progress=progress, masked=spec.masked)
            else:
                output = translator.tiles(
                    fitted, plan=plan, progress=progress, masked=spec.masked, scratch=path_out.parent
                )
            with closing(output) as tiles:
                write_image(path_out, spec, tiles, file_format=chosen, overwrite=overwrite)
            done = replace(_already_there(plan, spec), tiles_reused=0)
        seconds = time.perf_counter() - ready
    shares = own_shares(fitted, translator.model.source)
    return _report(translator, done, seconds=seconds, seconds_setup=ready - started, clipped_share=shares)


def _has_a_share(part: Part, source: ImageSource, translator: Translator) -> bool:
    """Whether a part of the work is more than nothing."""
    settings, config = translator.settings, translator.model.generator_config
    one_piece = settings.match_pixel_size or (settings.scheme == "whole" and settings.region is None)
    regions = 1 if one_piece else region_grid(plane_size(source), config, settings.region).count
    return len(part.of(regions * prod(source.shape[:-3]))) > 0


def _check_no_input(path_out: Path, files: Sequence[Path]) -> None:
    """Refuse an output in place of what it is made from; its pixels are still read while the output is written."""
    for file in files:
        if path_out.exists() and path_out.samefile(file):
            raise OutputError(f"{path_out} would take the place of the input {file}; give another name")


def _already_there(plan: Plan, spec: OutputSpec) -> RegionsDone:
    planes = prod(spec.leading_shape)
    tiles = planes * plan.tiles
    return RegionsDone(
        plan=plan, pixels=planes * spec.height * spec.width, tiles=tiles, tiles_reused=tiles, complete=True
    )


def output_spec(source: DescribedSource, translator: Translator) -> OutputSpec:
    """What the translation of an open image will be: shape, dtype, and what is kept of the input's metadata."""
    mapping = translator.model.target.mapping
    palette = mapping.palette() if isinstance(mapping, CategoryMapping) else None
    return OutputSpec(
        axes=source.axes,
        shape=translator.output_shape(source),
        dtype=translator.output_dtype,
        metadata=_output_metadata(source, translator, colored=palette is not None),
        palette=palette,
        categories=isinstance(mapping, CategoryMapping),
        nodata=translator.nodata(source),
    )


def with_mask(spec: OutputSpec, source: ArraySource, file_format: str) -> OutputSpec:
    """The output with a mask beside its pixels, where some may be invalid and the format has no nodata value for them.

    Reals need none: they are NaN there.
    """
    if spec.dtype.kind == "f" or not can_have_invalid_pixels(source) or not holds_mask(spec, file_format):
        return spec
    if spec.nodata is not None and holds_nodata(spec, file_format):
        return spec
    return replace(spec, masked=True, nodata=None)


def _output_metadata(source: DescribedSource, translator: Translator, *, colored: bool) -> ImageMetadata:
    """What concerns place, scale and acquisition from the input; channels of the target."""
    own, channels = source.metadata, translator.output_channels
    names = translator.output_channel_names
    return replace(
        own,
        channel_names=names if len(names) == channels else (),
        channel_colors=(),
        display_ranges=(),
        bit_depth=None,
        rgb=channels == 3 and not colored and _looks_rgb(names, own),
        white_is_zero=own.white_is_zero and source.dtype == translator.output_dtype,
    )


def _looks_rgb(names: tuple[str, ...], own: ImageMetadata) -> bool:
    """Three target channels are colours where they are named so, or are unnamed as an image's colours are."""
    if names:
        return [name.lower()[:1] for name in names] == ["r", "g", "b"]
    return own.rgb or own.file_format in ("png", "jpeg", "bmp", "")


def _report(
    translator: Translator,
    done: RegionsDone,
    *,
    seconds: float,
    seconds_setup: float,
    clipped_share: tuple[float, ...] = (),
) -> TranslationReport:
    plan = done.plan
    backend = translator.backend(plan)
    return TranslationReport(
        pixels=done.pixels,
        seconds=seconds,
        seconds_setup=seconds_setup,
        backend=backend.name,
        backend_reason=backend.reason,
        device=str(translator.device),
        precision=translator.precision_in_use(plan),
        scheme=plan.scheme,
        statistics=plan.statistics,
        tile=plan.tile,
        split_level=plan.split_level,
        mac_overhead=plan.mac_overhead,
        peak_memory_bytes=peak_memory_bytes(),
        tiles=done.tiles,
        tiles_reused=done.tiles_reused,
        complete=done.complete,
        clipped_share=clipped_share,
    )
