"""The work behind the Translate button: a frozen request, and a generator of progress and result. No napari, no Qt."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_pix2pix._widgets.lazy_result import StoredImage
from napari_pix2pix.formats.metadata import ImageMetadata
from napari_pix2pix.translation.progress import Event, Planned, TilesDone, TranslationReport
from pix2pix_training.array_source import AnyArray, ArraySource
from pix2pix_training.atomic import partial_path
from pix2pix_training.cancel import Cancel

if TYPE_CHECKING:
    from napari_pix2pix.formats.writing import OutputSpec
    from napari_pix2pix.translation.plan import Plan
    from napari_pix2pix.translation.translator import Translator


@dataclass(frozen=True, kw_only=True)
class TranslationRequest:
    """What to translate and how.

    Attributes
    ----------
    options : fields of `TranslationSettings`; those left out keep their defaults.
    out : an OME-Zarr to write the result to, going on with one that was begun; None to keep it in memory.
    metadata : what a file of the image would say about its place and scale; a file of the result says it too.
    """

    model: Path
    source: ArraySource
    options: Mapping[str, Any] = field(default_factory=dict)
    out: Path | None = None
    metadata: ImageMetadata = field(default_factory=ImageMetadata)


@dataclass(frozen=True, kw_only=True)
class Translated:
    """The result: `pixels` of shape (*leading, samples, Y, X), and what is needed to show it.

    Of one that goes to a file there are two: first with a file that fills, then with the complete one.

    `spec` is what a file of it would be. `limits` are the smallest and largest value of each channel that the model can
    give, None for categories, whose colours are `colors` by stored value. `provenance` is plain data. `novel_share` is
    that of `TranslationReport`, of a complete result. `source` is what it was made of.
    """

    source: ArraySource
    pixels: AnyArray | StoredImage
    is_complete: bool
    spec: OutputSpec
    limits: tuple[tuple[float, float], ...] | None
    colors: Mapping[int, NDArray[np.float32]]
    provenance: Mapping[str, Any]
    novel_share: float | None = None

    @property
    def channel_names(self) -> tuple[str, ...]:
        return self.spec.metadata.channel_names


class LastTranslator:
    """Makes a model ready to translate, and keeps it for further requests with the same model and settings."""

    def __init__(self) -> None:
        self._key: object = None
        self._translator: Translator | None = None

    def get(self, request: TranslationRequest) -> Translator:
        from napari_pix2pix.translation.settings import TranslationSettings
        from napari_pix2pix.translation.translator import Translator
        from pix2pix_training.model_file import load_model

        settings = TranslationSettings(**request.options)
        changed = request.model.stat().st_mtime_ns if request.model.is_file() else None
        key = (request.model, changed, settings)
        if self._translator is None or key != self._key:
            self._translator = None  # its memory is free before another one takes its own
            self._translator = Translator(load_model(request.model), settings)
            self._key = key
        return self._translator


def translation_events(
    request: TranslationRequest,
    translators: LastTranslator | None = None,
    *,
    cancel: Cancel | None = None,
) -> Generator[TilesDone | Translated, None, None]:
    """Translate the image of `request`; close the generator to cancel.

    Parameters
    ----------
    cancel : ends the work, also in the middle of a tile or a whole image.

    Raises
    ------
    InputError
        Image, model and settings do not fit together.
    Pix2PixError
        Memory ran out.
    Interrupted
        `cancel` was set.
    """
    from napari_pix2pix.translation.image_fit import WithMetadata
    from napari_pix2pix.translation.pipeline import translate
    from napari_pix2pix.translation.sinks import ArraySink, FileSink, Sink

    started = time.perf_counter()
    translator = (translators or LastTranslator()).get(request)
    source, out = WithMetadata(request.source, request.metadata), request.out
    in_memory, is_shown = ArraySink(with_opacity=True), False
    sink: Sink = in_memory if out is None else FileSink(out, file_format="ome-zarr", in_place=True)
    reports: list[TranslationReport] = []

    def reported() -> Generator[Event, None, None]:
        reports.append((yield from translate(source, translator, sink)))

    with translator.interruptible(cancel or Cancel()), closing(reported()) as events:
        for event in events:
            if isinstance(event, Planned):
                plan, spec = event.plan, event.spec
                yield TilesDone(done=0, total=event.tiles)
            elif isinstance(event, TilesDone):
                if out is not None and not is_shown and partial_path(out).exists():
                    is_shown = True
                    unfinished = StoredImage(partial_path(out), source.axes)
                    yield _result(request, translator, plan, spec, unfinished, started, is_complete=False)
                yield event
    pixels = in_memory.array if out is None else StoredImage(out, source.axes)
    complete = _result(request, translator, plan, spec, pixels, started)
    yield replace(complete, novel_share=reports[0].novel_share)


def _result(
    request: TranslationRequest,
    translator: Translator,
    plan: Plan,
    spec: OutputSpec,
    pixels: AnyArray | StoredImage,
    started: float,
    *,
    is_complete: bool = True,
) -> Translated:
    from pix2pix_training.intensity import CategoryMapping

    mapping = translator.model.target.mapping
    is_plain = not isinstance(mapping, CategoryMapping) and translator.settings.dropout_samples == 1
    return Translated(
        source=request.source,
        pixels=pixels,
        is_complete=is_complete,
        spec=spec,
        limits=tuple(zip(mapping.low, mapping.high, strict=True)) if is_plain else None,  # type: ignore[union-attr]
        colors=_colors(mapping) if isinstance(mapping, CategoryMapping) else {},
        provenance={
            "program": f"napari-pix2pix {version('napari-pix2pix')}",
            "model": str(request.model),
            "source": request.source.name,
            "options": dict(request.options),
            "scheme": plan.scheme,
            "statistics": plan.statistics,
            "tile": plan.tile,
            "device": str(translator.device),
            "seconds": round(time.perf_counter() - started, 3),
            **({} if request.out is None else {"file": str(request.out)}),
        },
    )


def _colors(mapping: Any) -> dict[int, NDArray[np.float32]]:
    """Colour (RGBA, 0 to 1) by stored value, empty where the categories have none or are colours themselves."""
    if mapping.image_channels != 1 or not mapping.colors:
        return {}
    pairs = zip(mapping.values, mapping.colors, strict=True)
    return {value[0]: np.array([*color, 255], np.float32) / np.float32(255) for value, color in pairs}
