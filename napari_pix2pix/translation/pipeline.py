"""Translating images: the one generator of events that everything drives, and functions that go to its end."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path

from napari_pix2pix.formats.image_files import open_images
from napari_pix2pix.formats.output_state import WHOLE, Part
from napari_pix2pix.formats.remote import as_path
from napari_pix2pix.translation.fitted_image import own_shares
from napari_pix2pix.translation.option_words import spoken_in_python
from napari_pix2pix.translation.progress import Event, Planned, Progress, TranslationReport, ended, told
from napari_pix2pix.translation.resumable import Amount
from napari_pix2pix.translation.settings import TranslationSettings
from napari_pix2pix.translation.sinks import ArraySink, FileSink, Sink, Work
from napari_pix2pix.translation.translator import Translator, lent_translator
from pix2pix_training.array_source import AnyArray, ArraySource, MemorySource, plane_size
from pix2pix_training.machine import peak_memory_bytes
from pix2pix_training.model_file import Model


def translate(
    source: ArraySource,
    translator: Translator,
    sink: Sink,
    *,
    may_be_empty: bool = False,
    started: float | None = None,
) -> Generator[Event, None, TranslationReport]:
    """Translate an image into a sink; close it to end the work, or set the `Cancel` of `translator.interruptible`.

    Parameters
    ----------
    source : an open image, of any size.
    may_be_empty : an image without a valid pixel gives an output without one, instead of an error.
    started : when its set-up began, by `time.perf_counter`.

    Yields
    ------
    Planned, TilesDone, RegionDone
        The plan before anything is computed (not where nothing has to be), then how far the work is.

    Returns
    -------
    TranslationReport

    Raises
    ------
    InputError
        Image, model and settings do not fit together, or the output is refused; nothing was computed.
    Pix2PixError
        The work failed midway.
    Interrupted
        It was asked to end.
    """
    started = time.perf_counter() if started is None else started
    if not sink.has_share(source, translator):
        nothing = Amount(plan=translator.plan(plane_size(source)), pixels=0, tiles=0, tiles_reused=0, complete=False)
        return _report(translator, nothing)
    fitted = translator.fit(source)
    fitted.may_be_empty = may_be_empty
    work = Work(source=source, fitted=fitted, translator=translator, plan=translator.plan(plane_size(fitted)))
    spec = sink.spec(work)
    if spec is None:
        done = replace(work.all_of_it, tiles_reused=work.tiles)
        return _report(translator, done, novel_share=sink.novel_share(work))
    yield Planned(plan=work.plan, spec=spec, tiles=work.tiles)
    novel_share = sink.novel_share(work)
    ready = time.perf_counter()
    done = yield from sink.fill(work, spec)
    return _report(
        translator,
        done,
        seconds=time.perf_counter() - ready,
        seconds_setup=ready - started,
        clipped_share=own_shares(fitted, translator.model.source),
        novel_share=novel_share,
    )


def _report(
    translator: Translator,
    done: Amount,
    *,
    seconds: float = 0.0,
    seconds_setup: float = 0.0,
    clipped_share: tuple[float, ...] = (),
    novel_share: float | None = None,
) -> TranslationReport:
    plan = done.plan
    backend, precision = translator.ran_with(plan)
    return TranslationReport(
        pixels=done.pixels,
        seconds=seconds,
        seconds_setup=seconds_setup,
        backend=backend.name,
        backend_reason=backend.reason,
        device=str(translator.device),
        precision=precision,
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
        novel_share=novel_share,
    )


def file_events(
    path_in: Path | Sequence[Path],
    model: Model | Translator,
    sink: FileSink,
    settings: TranslationSettings | None = None,
    *,
    series: int | None = None,
    may_be_empty: bool = False,
) -> Generator[Event, None, TranslationReport]:
    """Translate an image file into a file; see `translate_file` and `translate`."""
    started = time.perf_counter()
    inputs = [as_path(path) for path in ([path_in] if isinstance(path_in, str | Path) else path_in)]
    asked = model.settings if isinstance(model, Translator) else settings or TranslationSettings()
    with open_images(inputs, series, asked.alpha) as source:
        translator = model if isinstance(model, Translator) else Translator(model, settings)
        return (yield from translate(source, translator, sink, may_be_empty=may_be_empty, started=started))


@spoken_in_python
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
    novelty_map: bool = False,
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
    novelty_map : write a map of what is unlike the training images beside it, see `FileSink`.
    progress : called now and then with the number of tiles done and of all.

    Raises
    ------
    InputError
        Image, model and settings do not fit together, or the output is refused; nothing was computed.
    Pix2PixError
        The work failed midway; nothing half-written stands at `path_out`.
    """
    sink = FileSink(
        as_path(path_out),
        file_format=file_format,
        overwrite=overwrite,
        resume=resume,
        part=part,
        novelty_map=novelty_map,
    )
    events = file_events(path_in, model, sink, settings, series=series, may_be_empty=may_be_empty)
    return ended(events, told(progress))


@spoken_in_python
def translate_array(
    array: AnyArray,
    model: Model | Translator,
    settings: TranslationSettings | None = None,
    *,
    axes: str | None = None,
    nodata: float | None = None,
) -> AnyArray:
    """Translate an array of any size.

    Parameters
    ----------
    array : any real dtype; also anything that is sliced like an array (dask, zarr), which is read part by part.
    model : a model, which is made ready at the first call and stays so as long as it is alive, or a `Translator` that
        was made of one before (then `settings` are its own).
    axes : one letter per axis of `array` in any order, such as "YXC" or "TCZYX"; without them (Y, X) or
        (*leading, C, Y, X).
    nodata : value of pixels that are invalid, besides those that are not finite.

    Returns
    -------
    ndarray
        In the dtype of the model's target. With `axes` it has the same axes in the same order; channels of the target
        stand where those of the array do, before Y and X where it has none, and are left out where both have but one.
        Without `axes`: shape (*leading, target channels, Y, X).

    Raises
    ------
    InputError
        Image, model and settings do not fit together, or a plane has no valid pixel.
    Pix2PixError
        Memory ran out.
    """
    source = MemorySource(array, axes=axes, nodata=nodata)
    sink = ArraySink(source.order)
    if isinstance(model, Translator):
        ended(translate(source, model, sink))
    else:
        with lent_translator(model, settings or TranslationSettings()) as translator:
            ended(translate(source, translator, sink))
    return sink.array if axes is None else sink.without_single_channel
