"""From what a user names (paths, channels, what to hold out) to the data that `train` takes."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, get_args

import numpy as np
from pydantic import BeforeValidator, Field, PlainValidator

from napari_pix2pix.formats import is_image_path
from napari_pix2pix.formats.caching import PixelCache
from napari_pix2pix.formats.image_files import files_in, open_images
from napari_pix2pix.formats.pairing import (
    Direction,
    files_of_table,
    pairs_from_composites,
    pairs_from_csv,
    pairs_from_paths,
)
from napari_pix2pix.translation.image_fit import MOST_LAST
from napari_pix2pix.translation.settings import Channels
from pix2pix_training.array_source import MemorySource
from pix2pix_training.channel_names import ordered_like
from pix2pix_training.choices import AlphaChoice
from pix2pix_training.errors import ImageError, SettingsError
from pix2pix_training.image_description import ImageTraits
from pix2pix_training.neighbouring_planes import MAX_Z_CONTEXT, with_neighbouring_planes
from pix2pix_training.pairs import Pair, Split, split_fraction, split_region
from pix2pix_training.regions import Region
from pix2pix_training.training import TrainingData
from pix2pix_training.validated import Lenient, shown, validated

DEFAULT_VALIDATION_FRACTION = 0.1
Validation = float | Path | Region
ZContext = Annotated[int, Field(ge=0, le=MAX_Z_CONTEXT)]


def _in_any_case(direction: object) -> object:
    known = {choice.lower(): choice for choice in get_args(Direction)}
    return known.get(direction.lower(), direction) if isinstance(direction, str) else direction


def parse_validation(text: str) -> Validation:
    """ "0.1" -> a fraction, "y0:y1,x0:x1" -> a region, anything else -> a folder that must exist."""
    if (region := _parsed_region(text)) is not None:
        return region
    try:
        return float(text)
    except ValueError:
        pass
    if not Path(text).exists():
        raise SettingsError(
            f"validation {text!r} is neither a fraction, nor a region y0:y1,x0:x1, nor a folder that exists"
        )
    return Path(text)


def checked_validation(value: object) -> Validation:
    """What to hold out, also as the text of `parse_validation`; `SettingsError` where it is something else."""
    if isinstance(value, str):
        return parse_validation(value)
    if isinstance(value, float | int | Path | Region) and not isinstance(value, bool):
        return value
    raise SettingsError(f"validation is {shown(value)}; give a fraction, a region y0:y1,x0:x1, or a folder")


@validated
class DataRequest:
    """Where the pairs are.

    Either `sources` and `targets` (files or folders; several are the channels of one image), or `pairs`: a folder of
    side-by-side images, or a CSV table. With `z_context`, that many neighbouring planes on each side are further
    channels of each plane of the source. `validation` is a fraction of the pairs, a folder, or a region of one pair.
    Of files that hold several images, all are used, or the one of number `series`. `alpha` says what an alpha channel
    is; see `open_image`. With `targets_to_come` there are no targets yet, and `targets` are the sources.
    """

    sources: Annotated[tuple[Path, ...], Lenient] = ()
    targets: Annotated[tuple[Path, ...], Lenient] = ()
    pairs: Path | None = None
    direction: Annotated[Direction, BeforeValidator(_in_any_case)] = "AtoB"
    source_channels: Channels | None = None
    target_channels: Channels | None = None
    z_context: ZContext = 0
    series: Annotated[int, Field(ge=0)] | None = None
    alpha: AlphaChoice = "auto"
    validation: Annotated[Any, PlainValidator(checked_validation)] = DEFAULT_VALIDATION_FRACTION
    targets_to_come: bool = False

    def __post_init__(self) -> None:
        if self.pairs is not None and (self.sources or self.targets):
            raise SettingsError("give either --pairs, or --source and --target, not both")
        if self.pairs is None and not (self.sources and self.targets):
            raise SettingsError("give the training images: --source and --target, or --pairs")


def load_training_data(request: DataRequest, *, patch_size: int, seed: int) -> TrainingData:
    """Open the pairs lazily and hold out the validation part.

    Raises
    ------
    InputError
        Images are missing, cannot be paired or opened, or the validation part does not fit.
    """
    pairs = _open_pairs(request, request.sources, request.targets, request.pairs)
    split = _split(request, pairs, patch_size=patch_size, seed=seed)
    first_source, first_target = _first_files(request)
    return TrainingData(
        split=Split(in_context(split.training, request.z_context), in_context(split.validation, request.z_context)),
        source_traits=replace(_traits(first_source, request.source_channels, request), z_context=request.z_context),
        target_traits=_traits(first_target, request.target_channels, request),
    )


def pairs_of_arrays(source: Any, target: Any, axes: str | None, target_axes: str | None) -> list[Pair]:
    """One pair of two arrays, or a pair for each of two lists of arrays; see `MemorySource` for the axes.

    Raises
    ------
    ImageError
        The lists are of different length, or the images of a pair do not fit together.
    """
    sources, targets = (list(images) if isinstance(images, list | tuple) else [images] for images in (source, target))
    if len(sources) != len(targets) or not sources:
        raise ImageError(f"there are {len(sources)} source images and {len(targets)} targets; give as many of both")
    for side, images, letters in (("source", sources, axes), ("target", targets, target_axes)):
        for number, image in enumerate(images):
            _require_axes(f"{side} {number}", np.shape(image), letters)
    return [
        Pair(
            MemorySource(one, name=f"source {number}", axes=axes),
            MemorySource(other, name=f"target {number}", axes=target_axes),
            str(number),
        )
        for number, (one, other) in enumerate(zip(sources, targets, strict=True))
    ]


def _require_axes(name: str, shape: tuple[int, ...], axes: str | None) -> None:
    """Refuse an array whose last axis looks like that of channels where nothing says so."""
    if axes is None and len(shape) > 2 and shape[-1] <= MOST_LAST < shape[-2]:
        raise ImageError(
            f"{name} has the shape {shape}, which without axes is an image {shape[-1]} pixels wide; if the last axis "
            "is that of the channels, say so with axes, such as YXC"
        )


def data_of_pairs(
    pairs: Sequence[Pair], traits: ImageTraits, validation: float | Region, *, patch_size: int, seed: int
) -> TrainingData:
    """Pairs that are open already, with a fraction of them or a region of a single one held out.

    `traits` are those of the sources, and hold for both.

    Raises
    ------
    SettingsError
        What is held out leaves nothing to train on.
    """
    split = _held_out(validation, pairs, patch_size=patch_size, seed=seed)
    reach = traits.z_context
    return TrainingData(
        split=Split(in_context(split.training, reach), in_context(split.validation, reach)),
        source_traits=replace(traits, axes=pairs[0].source.axes),
        target_traits=replace(traits, axes=pairs[0].target.axes, z_context=0),
    )


def parse_region(text: str) -> Region:
    """ "y0:y1,x0:x1" in pixels."""
    region = _parsed_region(text)
    if region is None or region.height <= 0 or region.width <= 0:
        raise SettingsError(f"region {text!r} is not of the form y0:y1,x0:x1 with y0 < y1 and x0 < x1, in pixels")
    return region


def _parsed_region(text: str) -> Region | None:
    match = re.fullmatch(r"(\d+):(\d+),(\d+):(\d+)", text.replace(" ", ""))
    return Region(*map(int, match.groups())) if match else None


def _open_pairs(
    request: DataRequest, sources: Sequence[Path], targets: Sequence[Path], composites: Path | None
) -> list[Pair]:
    options: dict[str, Any] = {
        "source_channels": request.source_channels,
        "target_channels": request.target_channels,
        "series": request.series,
        "cache": PixelCache(alpha=request.alpha),
    }
    if composites is None:
        return pairs_from_paths(sources, targets, targets_to_come=request.targets_to_come, **options)
    if _is_table(composites):
        return pairs_from_csv(composites, **options)
    return pairs_from_composites(composites, request.direction, **options)


def in_context(pairs: Sequence[Pair], reach: int) -> tuple[Pair, ...]:
    """Pairs whose sources hold, for each plane, the channels of `reach` planes on each side too."""
    return tuple(replace(pair, source=with_neighbouring_planes(pair.source, reach)) for pair in pairs)


def _split(request: DataRequest, pairs: Sequence[Pair], *, patch_size: int, seed: int) -> Split:
    validation = request.validation
    if isinstance(validation, Path):
        held_out = _like_training(_validation_pairs(request, validation), pairs[0])
        _check_apart(pairs, held_out, validation)
        return Split(tuple(pairs), tuple(held_out))
    return _held_out(validation, pairs, patch_size=patch_size, seed=seed)


def _held_out(validation: float | Region, pairs: Sequence[Pair], *, patch_size: int, seed: int) -> Split:
    if not isinstance(validation, Region):
        return split_fraction(pairs, validation, patch_size=patch_size, seed=seed)
    if len(pairs) != 1:
        raise SettingsError(f"a validation region needs a single pair, and there are {len(pairs)}; give a fraction")
    return split_region(pairs[0], validation, patch_size=patch_size)


def _validation_pairs(request: DataRequest, folder: Path) -> list[Pair]:
    """Pairs of a validation folder: side-by-side images or a CSV as in training, else subfolders named like those."""
    if request.pairs is not None:
        return _open_pairs(request, (), (), folder)
    sources = [folder / path.name for path in request.sources]
    targets = [folder / path.name for path in request.targets]
    missing = [path for path in (*sources, *targets) if not path.exists()]
    if missing:
        raise SettingsError(
            f"{missing[0]} does not exist; the validation folder needs what the training folders are called"
        )
    return _open_pairs(request, sources, targets, None)


def _like_training(held_out: Sequence[Pair], first: Pair) -> list[Pair]:
    """Images of a validation folder with their channels in the order of those that are trained on."""
    return [
        replace(
            pair,
            source=ordered_like(pair.source, first.source.channel_names, first.source.name),
            target=ordered_like(pair.target, first.target.channel_names, first.target.name),
        )
        for pair in held_out
    ]


def _check_apart(training: Sequence[Pair], held_out: Sequence[Pair], folder: Path) -> None:
    """Scores of images that are trained on say nothing."""
    trained_on = {os.path.realpath(pair.source.name) for pair in training}
    for pair in held_out:
        if os.path.realpath(pair.source.name) in trained_on:
            raise SettingsError(f"{pair.source.name} is trained on, and is in the validation images {folder} too")


def _is_table(path: Path) -> bool:
    return path.suffix.lower() == ".csv"


def _first_files(request: DataRequest) -> tuple[Sequence[Path], Sequence[Path]]:
    """Files of source and target of the first pair, one for each `--source` and `--target` or column of a table."""
    if request.pairs is None:
        return [_first_file(p) for p in request.sources], [_first_file(p) for p in request.targets]
    if _is_table(request.pairs):
        return files_of_table(request.pairs)[0]
    composite = [_first_file(request.pairs)]
    return composite, composite


def _first_file(path: Path) -> Path:
    return path if path.is_file() or is_image_path(path) else files_in(path)[0]


def _traits(files: Sequence[Path], channels: Sequence[int] | None, request: DataRequest) -> ImageTraits:
    """What the files say of pixel size and channels."""
    with open_images(files, request.series or 0, request.alpha) as image:
        metadata, axes = image.metadata, image.axes
        names = image.channel_names or metadata.channel_names
    if channels is not None and names:
        names = tuple(names[i] for i in channels)
    return ImageTraits(axes=axes, channel_names=names, pixel_size=metadata.pixel_size, unit=metadata.unit)
