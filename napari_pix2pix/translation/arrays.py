"""Translating an array in memory into another; what a model was made ready with is kept for the next call."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from napari_pix2pix.formats.metadata import ImageMetadata
from napari_pix2pix.formats.units import standard_unit
from napari_pix2pix.formats.writing import check_output, resolve_format, write_image
from napari_pix2pix.translation.files import output_spec, with_mask
from napari_pix2pix.translation.fitted_image import FittedImage
from napari_pix2pix.translation.pipeline import OutputTile, Progress, Translator
from napari_pix2pix.translation.rescaling import rescaled_tiles
from napari_pix2pix.translation.settings import TranslationSettings
from pix2pix_training.array_source import AnyArray, ArraySource, MemorySource, plane_size
from pix2pix_training.atomic import working_folder
from pix2pix_training.axis_order import AxisOrder, axis_order
from pix2pix_training.errors import ImageError
from pix2pix_training.model_file import Model, PixelSize
from pix2pix_training.validated import checked

_MOST_KEPT = 4


def translate_array(
    array: AnyArray,
    model: Model | Translator,
    settings: TranslationSettings | None = None,
    *,
    axes: str | None = None,
    nodata: float | None = None,
) -> AnyArray:
    """Translate an array; see `translate_source`.

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
    if isinstance(model, Translator):
        result = _translated(source, model, source.order, None)
    else:
        with lent_translator(model, settings or TranslationSettings()) as translator:
            result = _translated(source, translator, source.order, None)
    return result if axes is None else _without_single_channel(result, source.order)


class DescribedArray(MemorySource):
    """An array with what a file of it would say; see `MemorySource`. `pixel_size` is (y, x) in `unit`."""

    def __init__(
        self, array: AnyArray, *, pixel_size: tuple[float, float] | None = None, unit: str = "µm", **kind: Any
    ) -> None:
        super().__init__(array, **kind)
        checked(PixelSize | None, pixel_size, "pixel_size")
        self.metadata = ImageMetadata(
            channel_names=self.channel_names,
            pixel_size=pixel_size,
            unit=None if pixel_size is None else standard_unit(unit),
        )


def as_array(
    source: ArraySource, translator: Translator, order: AxisOrder, progress: Progress | None = None
) -> AnyArray:
    """The translation of an image, with its axes in the order of `order`, see `axes_of_result`.

    Channels that `order` does not have come before Y and X, and are left out where there is but one.
    """
    return _without_single_channel(_translated(source, translator, order, progress), order)


def to_file(
    source: DescribedArray,
    translator: Translator,
    path: Path,
    *,
    file_format: str = "same",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Translate an array into a file, which appears only when it is complete; see `translate_file`."""
    fitted = translator.fit(source)
    spec = output_spec(source, translator)
    chosen = check_output(path, spec, file_format=resolve_format(path, file_format, None), overwrite=overwrite)
    spec = with_mask(spec, source, chosen)
    folder = working_folder(path) if fitted.is_rescaled else path.absolute().parent
    with closing(_tiles(fitted, translator, folder, progress, masked=spec.masked)) as tiles:
        write_image(path, spec, tiles, file_format=chosen, overwrite=overwrite)


def axes_of_result(axes: str | None, source: ArraySource) -> AxisOrder:
    """The axes that somebody wants the result of an image to have; those of the image where none are given.

    Raises
    ------
    ImageError
        The image has other axes.
    """
    if axes is None:
        return AxisOrder(source.axes)
    shown = source.axes if set("CS") & set(axes.upper()) else source.axes.replace("C", "")
    order = axis_order(axes, [1] * len(axes), source.name)
    if sorted(order.letters) != sorted(shown):
        raise ImageError(f"{source.name} has the axes {source.axes}, which cannot be given in the order {axes}")
    return order


def _translated(source: ArraySource, translator: Translator, order: AxisOrder, progress: Progress | None) -> AnyArray:
    fitted = translator.fit(source)
    with closing(_tiles(fitted, translator, None, progress)) as tiles:
        return _assembled(tiles, translator.output_shape(source), translator.output_dtype, order)


def _tiles(
    fitted: FittedImage, translator: Translator, folder: Path | None, progress: Progress | None, *, masked: bool = False
) -> Generator[OutputTile, None, None]:
    """Tiles at the image's own pixel size; `folder` is for what does not fit into memory."""
    plan = translator.plan(plane_size(fitted))
    if fitted.is_rescaled:
        return rescaled_tiles(fitted, translator, folder, plan=plan, progress=progress, masked=masked)
    return translator.tiles(fitted, plan=plan, progress=progress, masked=masked, scratch=folder)


def _assembled(tiles: Iterable[OutputTile], shape: tuple[int, ...], dtype: np.dtype[Any], order: AxisOrder) -> AnyArray:
    """Tiles of an image of `shape` (*leading, C, Y, X) as one array with its axes in the order of `order`.

    An axis of channels that `order` does not have comes before Y and X.
    """
    order = order.with_channels()
    lengths = dict(zip(order.normal, shape, strict=True))
    result: AnyArray = np.empty([lengths[letter] for letter in order.letters], dtype)
    view = result.transpose(order.positions())
    for plane, region, pixels in tiles:
        index: tuple[Any, ...] = (*plane, slice(None), *region.slices)
        view[index] = pixels
    return result


def _without_single_channel(result: AnyArray, order: AxisOrder) -> AnyArray:
    """A result that `_assembled` made, without an axis of one channel that `order` does not have."""
    axis = order.with_channels().letters.index("C")
    return result if order.has_channels or result.shape[axis] > 1 else result.squeeze(axis)


def lent_translator(model: Model, settings: TranslationSettings) -> AbstractContextManager[Translator]:
    """A translator of a model, kept for the next who asks for the same; see `KeptTranslators`."""
    return _KEPT.lent(model, settings)


class KeptTranslators:
    """Translators of the models that were used last, each lent to one user at a time; thread-safe.

    A model is known by itself and by the state of its weights, so one whose tensors were changed is made ready anew.
    When nobody else holds a model any more, its translator goes too.
    """

    def __init__(self, most: int = _MOST_KEPT) -> None:
        self._most = most
        self._lock = Lock()
        self._idle: OrderedDict[tuple[int, TranslationSettings], tuple[_State, Translator]] = OrderedDict()
        self._alive: dict[int, weakref.ref[Model]] = {}

    def __len__(self) -> int:
        """How many are kept at this moment."""
        return len(self._idle)

    @contextmanager
    def lent(self, model: Model, settings: TranslationSettings) -> Iterator[Translator]:
        """A translator for nobody else within the context, kept afterwards."""
        key, state = (id(model), settings), _State(model)
        translator = self._taken(key, state) or Translator(model, settings)
        yield translator
        self._keep(model, key, state, translator)

    def _taken(self, key: tuple[int, TranslationSettings], state: _State) -> Translator | None:
        with self._lock:
            kept = self._idle.pop(key, None)
        return kept[1] if kept is not None and kept[0].is_that_of(state) else None

    def _keep(self, model: Model, key: tuple[int, TranslationSettings], state: _State, translator: Translator) -> None:
        with self._lock:
            self._alive[key[0]] = weakref.ref(model, lambda _: self._forget(key[0]))
            self._idle[key] = (state, translator)
            while len(self._idle) > self._most:
                self._idle.popitem(last=False)

    def _forget(self, number: int) -> None:
        """The model of that number is gone, and another one may get it."""
        self._alive.pop(number, None)
        for key in [key for key in list(self._idle) if key[0] == number]:
            self._idle.pop(key, None)


class _State:
    """The weights of a model, by which a change is noticed: of a tensor for another one, or in its place."""

    def __init__(self, model: Model) -> None:
        self._weights = dict(model.weights)
        tracked = not any(tensor.is_inference() for tensor in self._weights.values())
        self._versions = [tensor._version for tensor in self._weights.values()] if tracked else None

    def is_that_of(self, other: _State) -> bool:
        """False where that cannot be told, which is so for tensors that were made in inference mode."""
        same = self._weights.keys() == other._weights.keys() and all(
            tensor is other._weights[name] for name, tensor in self._weights.items()
        )
        return same and self._versions is not None and self._versions == other._versions


_KEPT = KeptTranslators()
