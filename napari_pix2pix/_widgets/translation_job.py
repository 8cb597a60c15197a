"""The work behind the Translate button: a frozen request, and a generator of progress and result. No napari, no Qt."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_pix2pix._widgets.callback_events import told_events
from napari_pix2pix._widgets.layer_sources import content_identity
from napari_pix2pix._widgets.lazy_result import StoredImage
from napari_pix2pix.formats.metadata import ImageMetadata
from pix2pix_training.array_source import AnyArray, ArraySource, SourceView, plane_size
from pix2pix_training.atomic import partial_path, working_folder
from pix2pix_training.cancel import Cancel
from pix2pix_training.errors import Pix2PixError
from pix2pix_training.invalid_pixels import can_have_invalid_pixels
from pix2pix_training.regions import Region

if TYPE_CHECKING:
    from napari_pix2pix.formats.writing import OutputSpec
    from napari_pix2pix.translation.fitted_image import FittedImage
    from napari_pix2pix.translation.pipeline import Translator
    from napari_pix2pix.translation.plan import Plan

_Tile = tuple[tuple[int, ...], Region, AnyArray]


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


class DescribedSource(SourceView):
    """An image with what a file says about its place and scale."""

    def __init__(self, base: ArraySource, metadata: ImageMetadata) -> None:
        super().__init__(base)
        self.metadata = metadata


@dataclass(frozen=True, kw_only=True)
class TilesDone:
    """Tiles finished, of how many."""

    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Translated:
    """The result: `pixels` of shape (*leading, samples, Y, X), and what is needed to show it.

    Of one that goes to a file there are two: first with a file that fills, then with the complete one.

    `spec` is what a file of it would be. `limits` are the smallest and largest value of each channel that the model can
    give, None for categories, whose colours are `colors` by stored value. `provenance` is plain data.
    """

    pixels: AnyArray | StoredImage
    is_complete: bool
    spec: OutputSpec
    limits: tuple[tuple[float, float], ...] | None
    colors: Mapping[int, NDArray[np.float32]]
    provenance: Mapping[str, Any]

    @property
    def channel_names(self) -> tuple[str, ...]:
        return self.spec.metadata.channel_names


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
    started = time.perf_counter()
    translator = (translators or LastTranslator()).get(request)
    source = DescribedSource(request.source, request.metadata)
    fitted = translator.fit(source)
    plan = translator.plan(plane_size(fitted))
    cancel = cancel or Cancel()
    work = _Work(request, source, fitted, translator, plan, _spec(request, source, translator), started)
    with translator.interruptible(cancel):
        if fitted.is_rescaled:
            yield from _rescaled(work)
        elif request.out is not None:
            yield from _into_file(work, request.out, cancel)
        else:
            yield from _into_memory(work)


def _spec(request: TranslationRequest, source: DescribedSource, translator: Translator) -> OutputSpec:
    """What the result is. In memory, pixels of which no value can say that they hold no data get a mask."""
    from napari_pix2pix.translation.files import output_spec, with_mask

    spec = output_spec(source, translator)
    if request.out is not None:
        return with_mask(spec, source, "ome-zarr")
    masked = spec.dtype.kind != "f" and spec.nodata is None and can_have_invalid_pixels(source)
    return replace(spec, masked=masked)


@dataclass(frozen=True)
class _Work:
    request: TranslationRequest
    source: DescribedSource
    fitted: FittedImage
    translator: Translator
    plan: Plan
    spec: OutputSpec
    started: float

    @property
    def tile_count(self) -> int:
        return self.plan.tiles * prod(self.source.shape[:-3])


def _into_memory(work: _Work) -> Generator[TilesDone | Translated, None, None]:
    yield TilesDone(done=0, total=work.tile_count)
    pixels = _allocated(work.spec)
    tiles = work.translator.tiles(work.fitted, plan=work.plan, masked=work.spec.masked)
    for number, tile in enumerate(tiles, start=1):
        _put(pixels, tile)
        yield TilesDone(done=number, total=work.tile_count)
    yield _result(work, pixels)


def _put(pixels: AnyArray, tile: _Tile) -> None:
    plane, region, values = tile
    index: tuple[Any, ...] = (*plane, slice(None), *region.slices)
    pixels[index] = values


def _into_file(work: _Work, out: Path, cancel: Cancel) -> Generator[TilesDone | Translated, None, None]:
    """Fill an OME-Zarr region by region. It has its name when it is complete; one that was begun is gone on with."""
    from napari_pix2pix.formats.writing import check_output
    from napari_pix2pix.translation.resumable import regions_made

    source, spec = work.source, work.spec
    check_output(out, spec, file_format="ome-zarr", overwrite=False)
    yield TilesDone(done=0, total=work.tile_count)
    identity = content_identity(source, cancel)
    is_open = False
    making = regions_made(
        work.fitted, identity, work.translator, out, spec, file_format="ome-zarr", plan=work.plan, resume=True
    )
    for done, total in making:
        if not is_open:
            yield _result(work, StoredImage(partial_path(out), source.axes), is_complete=False)
            is_open = True
        yield TilesDone(done=done, total=total)
    yield _result(work, StoredImage(out, source.axes))


def _rescaled(work: _Work) -> Generator[TilesDone | Translated, None, None]:
    """Translate at the model's pixel size; the result has the image's own grid again, and is shown when it is complete.

    Tiles are counted while the network runs; going back to the own grid takes little beside it.
    """
    from napari_pix2pix.formats.writing import check_output, write_image
    from napari_pix2pix.translation.rescaling import rescaled_tiles

    out, spec = work.request.out, work.spec
    if out is not None:
        check_output(out, spec, file_format="ome-zarr", overwrite=False)

    def make(tell: Callable[[TilesDone | Translated], None]) -> None:
        def progress(done: int, total: int) -> None:
            tell(TilesDone(done=done, total=total))

        progress(0, work.tile_count)
        folder = None if out is None else working_folder(out)
        rescaled = rescaled_tiles(
            work.fitted, work.translator, folder, plan=work.plan, progress=progress, masked=spec.masked
        )
        with closing(_told(rescaled, partial(progress, work.tile_count, work.tile_count))) as tiles:
            if out is not None:
                write_image(out, spec, tiles, file_format="ome-zarr")
                tell(_result(work, StoredImage(out, work.source.axes)))
                return
            pixels = _allocated(spec)
            for tile in tiles:
                _put(pixels, tile)
            tell(_result(work, pixels))

    yield from told_events(make)


def _told(tiles: Generator[_Tile, None, None], tell: Callable[[], None]) -> Generator[_Tile, None, None]:
    """The same tiles; `tell` is called after each."""
    with closing(tiles):
        for tile in tiles:
            yield tile
            tell()


def _allocated(spec: OutputSpec) -> AnyArray:
    """Room for all samples, shape (*leading, channels and opacity, Y, X)."""
    shape = (*spec.leading_shape, spec.samples, spec.height, spec.width)
    try:
        return np.empty(shape, spec.dtype)
    except MemoryError as error:
        gigabytes = prod(shape) * spec.dtype.itemsize / 1e9
        raise Pix2PixError(
            f"the result would take {gigabytes:.1f} GB, more than is free; translate a part, or use the command line, "
            "which writes to a file"
        ) from error


def _result(work: _Work, pixels: AnyArray | StoredImage, *, is_complete: bool = True) -> Translated:
    from pix2pix_training.intensity import CategoryMapping

    request, translator, plan = work.request, work.translator, work.plan
    mapping = translator.model.target.mapping
    is_plain = not isinstance(mapping, CategoryMapping) and translator.settings.dropout_samples == 1
    return Translated(
        pixels=pixels,
        is_complete=is_complete,
        spec=work.spec,
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
            "seconds": round(time.perf_counter() - work.started, 3),
            **({} if request.out is None else {"file": str(request.out)}),
        },
    )


def _colors(mapping: Any) -> dict[int, NDArray[np.float32]]:
    """Colour (RGBA, 0 to 1) by stored value, empty where the categories have none or are colours themselves."""
    if mapping.image_channels != 1 or not mapping.colors:
        return {}
    pairs = zip(mapping.values, mapping.colors, strict=True)
    return {value[0]: np.array([*color, 255], np.float32) / np.float32(255) for value, color in pairs}
