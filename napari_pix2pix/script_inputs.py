"""What scripts give, arrays or paths alike, as images, pairs and training data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from napari_pix2pix.formats.caching import PixelCache
from napari_pix2pix.formats.image_files import files_in, images_within, is_image_path, open_images
from napari_pix2pix.formats.pairing import pairs_from_paths
from napari_pix2pix.formats.remote import as_path
from napari_pix2pix.training_data import (
    DataRequest,
    checked_validation,
    data_of_pairs,
    load_training_data,
    pairs_of_arrays,
)
from napari_pix2pix.translation.image_fit import WithMetadata, metadata_of_array
from napari_pix2pix.translation.sinks import axes_of_result
from pix2pix_training.array_source import AnyArray, ArraySource, MemorySource
from pix2pix_training.axis_order import AxisOrder
from pix2pix_training.choices import AlphaChoice
from pix2pix_training.errors import SettingsError
from pix2pix_training.image_description import ImageTraits
from pix2pix_training.pairs import Pair
from pix2pix_training.training import TrainingData

ImagePath = str | Path
Images = AnyArray | Sequence[AnyArray] | ImagePath
"""One array or several, or a file or folder."""


def training_data_of(
    source: Images,
    target: Images,
    *,
    patch_size: int,
    seed: int,
    axes: str | None,
    target_axes: str | None,
    pixel_size: tuple[float, float] | None,
    unit: str,
    z_context: int,
    series: int | None,
    validation: float | str | Path,
) -> TrainingData:
    """What to train on; see `Pix2Pix.train`."""
    if _are_paths(source, target):
        if axes is not None or target_axes is not None or pixel_size is not None:
            raise SettingsError("axes and pixel_size are for arrays; files say them themselves, so leave them out")
        request = DataRequest(
            sources=(Path(str(source)),),
            targets=(Path(str(target)),),
            z_context=z_context,
            series=series,
            validation=validation,
        )
        return load_training_data(request, patch_size=patch_size, seed=seed)
    held_out = checked_validation(validation)
    if isinstance(held_out, Path):
        raise SettingsError(f"validation is the folder {held_out}; of arrays, hold out a fraction or a region")
    pairs = pairs_of_arrays(source, target, axes, target_axes or axes)
    traits = ImageTraits(pixel_size=pixel_size, unit=None if pixel_size is None else unit, z_context=z_context)
    return data_of_pairs(pairs, traits, held_out, patch_size=patch_size, seed=seed)


def pairs_of(
    source: Images, target: Images, axes: str | None, target_axes: str | None, series: int | None
) -> Sequence[Pair]:
    """Pairs to score; see `Pix2Pix.evaluate`."""
    if _are_paths(source, target):
        return pairs_from_paths([Path(str(source))], [Path(str(target))], series=series)
    return pairs_of_arrays(source, target, axes, target_axes or axes)


def sample_of(
    source: Images, target: Images | None, axes: str | None, target_axes: str | None, series: int | None
) -> tuple[Sequence[ArraySource], Sequence[ArraySource]]:
    """Images to measure on and their targets, if any; see `Pix2Pix.with_int8`."""
    if _are_paths(source, source if target is None else target):
        targets = [] if target is None else [Path(str(target))]
        return sample_of_paths([Path(str(source))], targets, cache=PixelCache(), series=series)
    pairs = pairs_of_arrays(source, source if target is None else target, axes, target_axes or axes)
    return [pair.source for pair in pairs], [] if target is None else [pair.target for pair in pairs]


def sample_of_paths(
    sources: Sequence[Path], targets: Sequence[Path], *, cache: PixelCache, series: int | None = None
) -> tuple[Sequence[ArraySource], Sequence[ArraySource]]:
    """Images of files, or of those in folders, and their targets; several sources, or targets, are channels."""
    if targets or len(sources) > 1:
        pairs = pairs_from_paths(sources, targets or sources[:1], series=series, cache=cache)
        return [pair.source for pair in pairs], [pair.target for pair in pairs] if targets else []
    files = files_in(sources[0]) if sources[0].is_dir() and not is_image_path(sources[0]) else sources
    return [cache.open(image.path, image.series) for file in files for image in images_within(file, series)], []


@contextmanager
def opened(
    image: AnyArray | ImagePath | Sequence[ImagePath],
    *,
    axes: str | None,
    series: int | None,
    alpha: AlphaChoice,
    into_file: bool = False,
    resume: bool = False,
    pixel_size: tuple[float, float] | None = None,
    unit: str = "µm",
    **of_array: Any,
) -> Iterator[tuple[ArraySource, AxisOrder]]:
    """An image to translate, and the axes that an array of the result is to have; see `Pix2Pix.translate`.

    Parameters
    ----------
    of_array : `nodata` and `channel_names`.
    """
    if isinstance(image, str | Path | Sequence):
        if pixel_size is not None or any(known is not None and known != () for known in of_array.values()):
            raise SettingsError("nodata, channel_names and pixel_size are for arrays; files say them themselves")
        if axes is not None and into_file:
            raise SettingsError("axes say how an array is to be; an output file has those of the input")
        with open_images(_paths(image), series, alpha) as source:
            yield source, axes_of_result(axes, source)
        return
    if series is not None:
        raise SettingsError("series is for files that hold several images; leave it out")
    if resume:
        raise SettingsError("resume is for translating files; of an array, leave it out")
    array = MemorySource(image, axes=axes, **of_array)
    yield WithMetadata(array, metadata_of_array(array, pixel_size, unit)), array.order


def _are_paths(source: object, target: object) -> bool:
    kinds = [isinstance(images, str | Path) for images in (source, target)]
    if kinds[0] != kinds[1]:
        raise SettingsError("source and target must both be arrays, or both be files or folders")
    return kinds[0]


def _paths(image: ImagePath | Sequence[ImagePath]) -> list[Path]:
    paths = [image] if isinstance(image, str | Path) else list(image)
    if not paths or not all(isinstance(path, str | Path) for path in paths):
        raise SettingsError("one image at a time: give an array, a file, or the files that are its channels")
    return [as_path(path) for path in paths]
