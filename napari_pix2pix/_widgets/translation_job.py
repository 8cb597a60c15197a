"""The work behind the Translate button: a frozen request, and a generator of progress and result. No napari, no Qt."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pix2pix_training.array_source import AnyArray, ArraySource, plane_size
from pix2pix_training.errors import Pix2PixError

if TYPE_CHECKING:
    from napari_pix2pix.translation.pipeline import Translator
    from napari_pix2pix.translation.plan import Plan


@dataclass(frozen=True, kw_only=True)
class TranslationRequest:
    """What to translate and how; `options` are fields of `TranslationSettings`, those left out keep their defaults."""

    model: Path
    source: ArraySource
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TilesDone:
    """Tiles finished, of how many."""

    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Translated:
    """The result: `pixels` of shape (*leading, C, Y, X), and what is needed to show it.

    `limits` are the smallest and largest value of each channel that the model can give, None for categories, whose
    colours are `colors` by stored value. `provenance` is plain data.
    """

    pixels: AnyArray
    channel_names: tuple[str, ...]
    limits: tuple[tuple[float, float], ...] | None
    is_categories: bool
    colors: Mapping[int, NDArray[np.float32]]
    provenance: Mapping[str, Any]


class LastTranslator:
    """Makes a model ready to translate, and keeps it for further requests with the same model and settings."""

    def __init__(self) -> None:
        self._key: object = None
        self._translator: Translator | None = None

    def get(self, request: TranslationRequest) -> Translator:
        from napari_pix2pix.translation.pipeline import Translator
        from napari_pix2pix.translation.settings import TranslationSettings
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
    request: TranslationRequest, translators: LastTranslator | None = None
) -> Generator[TilesDone | Translated, None, None]:
    """Translate the image of `request`; close the generator to cancel.

    Raises
    ------
    InputError
        Image, model and settings do not fit together.
    Pix2PixError
        Memory ran out.
    """
    started = time.perf_counter()
    source = request.source
    translator = (translators or LastTranslator()).get(request)
    translator.check(source)
    plan = translator.plan(plane_size(source))
    total = plan.tiles * prod(source.shape[:-3])
    yield TilesDone(done=0, total=total)
    pixels = _allocated(translator.output_shape(source), translator.output_dtype)
    for number, (plane, region, tile) in enumerate(translator.tiles(source, plan=plan), start=1):
        index: tuple[Any, ...] = (*plane, slice(None), *region.slices)
        pixels[index] = tile
        yield TilesDone(done=number, total=total)
    yield _result(request, translator, plan, pixels, time.perf_counter() - started)


def _allocated(shape: tuple[int, ...], dtype: np.dtype[Any]) -> AnyArray:
    try:
        return np.empty(shape, dtype)
    except MemoryError as error:
        gigabytes = prod(shape) * dtype.itemsize / 1e9
        raise Pix2PixError(
            f"the result would take {gigabytes:.1f} GB, more than is free; translate a part, or use the command line, "
            "which writes to a file"
        ) from error


def _result(
    request: TranslationRequest, translator: Translator, plan: Plan, pixels: AnyArray, seconds: float
) -> Translated:
    from pix2pix_training.intensity import CategoryMapping

    mapping = translator.model.target.mapping
    names = translator.output_channel_names
    channels = translator.output_channels
    is_plain = not isinstance(mapping, CategoryMapping) and translator.settings.dropout_samples == 1
    return Translated(
        pixels=pixels,
        channel_names=names if len(names) == channels else (),
        limits=tuple(zip(mapping.low, mapping.high, strict=True)) if is_plain else None,  # type: ignore[union-attr]
        is_categories=isinstance(mapping, CategoryMapping),
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
            "seconds": round(seconds, 3),
        },
    )


def _colors(mapping: Any) -> dict[int, NDArray[np.float32]]:
    """Colour (RGBA, 0 to 1) by stored value, empty where the categories have none or are colours themselves."""
    if mapping.image_channels != 1 or not mapping.colors:
        return {}
    pairs = zip(mapping.values, mapping.colors, strict=True)
    return {value[0]: np.array([*color, 255], np.float32) / np.float32(255) for value, color in pairs}
