"""Whether and how an image goes through a model: type of pixels, channels and their names, Z planes, pixel size.

The one place that compares them, for the command line, Python and the widgets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_pix2pix.formats.metadata import DescribedSource, ImageMetadata
from napari_pix2pix.formats.units import size_ratio, sizes_differ, standard_unit
from napari_pix2pix.translation.settings import TranslationSettings, ValueConversion
from pix2pix_training.array_source import ArraySource, SourceView, channel_count
from pix2pix_training.channel_names import listed, match_names
from pix2pix_training.errors import ImageError
from pix2pix_training.image_description import ImageDescription, PixelSize
from pix2pix_training.intensity import (
    SUPPORTED_DTYPES,
    CategoryMapping,
    LinearMapping,
    Mapping,
    for_other_type,
    image_mapping,
    lost_step,
    type_range,
)
from pix2pix_training.neighbouring_planes import with_neighbouring_planes
from pix2pix_training.validated import checked

_LARGEST_FACTOR = 64
MOST_LAST = 16
"""An image that is no wider than this is more likely an array with its channels last."""


class WithMetadata(SourceView):
    """An image with what a file of it would say."""

    def __init__(self, base: ArraySource, metadata: ImageMetadata) -> None:
        super().__init__(base)
        self.metadata = metadata


def metadata_of_array(array: ArraySource, pixel_size: tuple[float, float] | None, unit: str) -> ImageMetadata:
    """What a file of an array would say; `pixel_size` is (y, x) in `unit`."""
    checked(PixelSize | None, pixel_size, "pixel_size")
    own_unit = None if pixel_size is None else standard_unit(unit)
    return ImageMetadata(channel_names=array.channel_names, pixel_size=pixel_size, unit=own_unit)


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How an image would go through a model.

    Attributes
    ----------
    problem : why it cannot, and what to do, in a line that names it; None where it can.
    remarks : what is decided about it that a user might see differently, each in such a line.
    channels : those of the image that the model takes, in its order.
    mapping : of the stored values; its ends are still to be measured where they are found per image.
    taken_range : what the numbers of an image of another type than the model's may be: of its type, where types are
        converted, or what the model knows, where numbers are taken as they are; else None.
    factor : by which rows and columns are stretched to the model's pixel size, or None.
    """

    problem: str | None = None
    remarks: tuple[str, ...] = ()
    channels: tuple[int, ...] = ()
    mapping: Mapping
    taken_range: tuple[float, float] | None = None
    factor: tuple[float, float] | None = None


def fit_of(
    image: ArraySource,
    expected: ImageDescription,
    *,
    metadata: ImageMetadata | None = None,
    settings: TranslationSettings | None = None,
) -> Fit:
    """Compare an image with the source images of a model, without reading pixels.

    Parameters
    ----------
    metadata : what is known of the image besides `ArraySource`; names of channels only where the image has none itself.
    settings : its `channels`, `convert_values` and `match_pixel_size` count.
    """
    known, asked = metadata or ImageMetadata(), settings or TranslationSettings()
    taken, order_remarks, order_problem = _channel_order(image, expected, known, asked.channels)
    mapping, value_remarks, value_problem = _value_mapping(image, expected.mapping, known, asked.convert_values)
    factor, size_remarks, size_problem = _pixel_sizes(image, expected, known, match=asked.match_pixel_size)
    problems = [order_problem, value_problem, _depth_problem(image, expected), size_problem]
    return Fit(
        problem=next((problem for problem in problems if problem is not None), None),
        remarks=(*order_remarks, *value_remarks, *size_remarks),
        channels=taken,
        mapping=mapping,
        taken_range=_taken_range(image, expected.mapping, known, asked.convert_values),
        factor=factor,
    )


def _channel_order(
    image: ArraySource, expected: ImageDescription, metadata: ImageMetadata, asked: Sequence[int] | None
) -> tuple[tuple[int, ...], tuple[str, ...], str | None]:
    """Channels to take, remarks, and the problem."""
    count, found = expected.channels, channel_count(image)
    if asked is not None:
        return tuple(asked), (), _choice_problem(image, expected, asked)
    wanted = expected.channel_names if len(expected.channel_names) == count else ()
    by_file = metadata.channel_names if len(metadata.channel_names) == found else ()
    names = image.channel_names or by_file
    match = match_names(names, wanted)
    in_order = tuple(range(found))
    if match.order is not None:
        if match.order == in_order:
            return in_order, (), None
        remark = f"{image.name}: of its channels {listed(names)} the model takes {listed(wanted)}, by name"
        return match.order, (remark,), None
    if match.contradiction and image.channel_names:
        problem = (
            f"{image.name}: its channels are called {listed(names)}, those of the model {listed(wanted)}; name the "
            f"ones to take, in the model's order, with --channels, such as --channels {_numbers(range(count))}"
        )
        return (), (), problem
    if found != count:
        return (), (), _count_problem(image, expected, metadata)
    if match.unrelated and image.channel_names:
        remark = (
            f"{image.name}: its channels are called {listed(names)}, those of the model {listed(wanted)}; they are "
            "taken in the order in which they are stored; --channels can change that"
        )
        return in_order, (remark,), None
    return in_order, (), None


def _choice_problem(image: ArraySource, expected: ImageDescription, asked: Sequence[int]) -> str | None:
    found = channel_count(image)
    if any(not 0 <= channel < found for channel in asked):
        return f"{image.name} has {_channels(found)}, numbered from 0, and channels {_numbers(asked)} are asked for"
    if len(asked) != expected.channels:
        chosen = f"{_channels(len(asked))} {'is' if len(asked) == 1 else 'are'} asked for"
        return f"{image.name}: {chosen}, and the model expects {_expected(expected)}"
    return None


def _count_problem(image: ArraySource, expected: ImageDescription, metadata: ImageMetadata) -> str:
    found = channel_count(image)
    named = f"; they are called {listed(image.channel_names)}" if image.channel_names else ""
    problem = f"{image.name} has {_channels(found)}, the model expects {_expected(expected)}{named}"
    is_file = isinstance(image, DescribedSource) and bool(image.metadata.file_format)
    if image.shape[-1] == expected.channels <= MOST_LAST and is_file:
        return f"{problem}; if its last axis is that of the channels, save it with the channels first"
    if image.shape[-1] == expected.channels <= MOST_LAST:
        return f"{problem}; if the channels of the array are its last axis, say so with axes, such as YXC"
    if found > expected.channels:
        return f"{problem}; choose them with --channels, such as --channels {_numbers(range(expected.channels))}"
    if metadata.alpha and found + 1 == expected.channels:
        return f"{problem}; its alpha is not counted among them, --alpha keep makes it a channel"
    if image.palette is not None:
        return f"{problem}; it is an indexed image, whose colours are no channels: save it without a palette"
    return f"{problem}; give an image with these channels"


def _expected(expected: ImageDescription) -> str:
    return f"{expected.channels}" + (f" ({listed(expected.channel_names)})" if expected.channel_names else "")


def _channels(count: int) -> str:
    return "1 channel" if count == 1 else f"{count} channels"


def _numbers(channels: Sequence[int]) -> str:
    return ",".join(map(str, channels))


def _value_mapping(
    image: ArraySource, mapping: Mapping, metadata: ImageMetadata, convert: ValueConversion
) -> tuple[Mapping, tuple[str, ...], str | None]:
    """The mapping of the image's values, remarks, and the problem."""
    dtype, trained = image.dtype, np.dtype(mapping.dtype)
    if dtype.name not in SUPPORTED_DTYPES:
        problem = (
            f"{image.name}: pixels of type {dtype.name} are not supported; save it as real numbers of 64 bits or less"
        )
        return mapping, (), problem
    if isinstance(mapping, CategoryMapping):
        return mapping, _palette_remark(image, mapping), _category_problem(image, convert)
    if convert == "image" or mapping.scope == "image":
        return image_mapping(dtype, mapping.channels), (), None
    remarks = (*_palette_remark(image, mapping), *_coarse(image, mapping))
    if dtype.name == trained.name or (dtype.kind == trained.kind == "f"):
        return mapping, remarks, None
    if convert == "values":
        return mapping, remarks, None
    problem = (
        f"{image.name} has {dtype.name} pixels, the model was trained on {trained.name}; give images of that type, or "
        "choose with --convert-values: type (the range of one type stands for that of the other), values (the numbers "
        "as they are), image (each image's own range)"
    )
    if convert == "refuse":
        return mapping, (), problem
    if trained.kind == "f" and not all(low >= 0 and high <= 1 for low, high in _ends(mapping)):
        problem = (
            f"{image.name} has {dtype.name} pixels, and the model was trained on {trained.name} between "
            f"{min(mapping.low):.6g} and {max(mapping.high):.6g}, which is not the range of a type; choose "
            "--convert-values values or --convert-values image"
        )
        return mapping, (), problem
    converted = for_other_type(mapping, dtype, metadata.bit_depth)
    if type_range(dtype, metadata.bit_depth) != type_range(dtype):
        remarks = (
            *remarks,
            f"{image.name}: its {dtype.name} pixels are taken to have {metadata.bit_depth} bits, as the file says",
        )
    return converted, remarks, None


def _taken_range(
    image: ArraySource, trained: Mapping, metadata: ImageMetadata, convert: ValueConversion
) -> tuple[float, float] | None:
    own, other = image.dtype, np.dtype(trained.dtype)
    if isinstance(trained, CategoryMapping) or trained.scope == "image":
        return None
    if own.name == other.name or own.kind == other.kind == "f":
        return None
    if convert == "values":
        return min(trained.low), max(trained.high)
    return type_range(own, metadata.bit_depth) if convert == "type" and own.itemsize > 1 else None


def _ends(mapping: LinearMapping) -> zip[tuple[float, float]]:
    return zip(mapping.low, mapping.high, strict=True)


def _category_problem(image: ArraySource, convert: ValueConversion) -> str | None:
    """Integers of all types are the same categories; other numbers are none."""
    if convert in ("type", "image"):
        return (
            f"{image.name}: the model was trained on categories, whose values have no range; leave out "
            f"--convert-values {convert}"
        )
    if image.dtype.kind == "f" and convert == "refuse":
        return (
            f"{image.name} has {image.dtype.name} pixels, the model was trained on categories, which are integers; "
            "save it as integers, or take the numbers as they are with --convert-values values"
        )
    return None


def _coarse(image: ArraySource, mapping: LinearMapping) -> tuple[str, ...]:
    step = lost_step(mapping)
    if step is None:
        return ()
    return (
        f"{image.name}: the model takes {mapping.dtype} values between {min(mapping.low):.6g} and "
        f"{max(mapping.high):.6g} in float32, which tells steps of about {step:.3g} apart",
    )


def _palette_remark(image: ArraySource, mapping: Mapping) -> tuple[str, ...]:
    """Indices mean what the palette says, not what their numbers are."""
    if image.palette is None:
        return ()
    if isinstance(mapping, LinearMapping):
        return (
            f"{image.name} is an indexed image, and the model was trained on intensities, so the indices are taken as "
            "such; save it without a palette, in grey or in colours",
        )
    for (value, *rest), color in zip(mapping.values, mapping.colors, strict=False):
        if not rest and value < len(image.palette) and tuple(image.palette[value].tolist()) != color:
            return (
                f"{image.name}: value {value} has the colour {tuple(image.palette[value].tolist())}, in the training "
                f"images it had {color}; save it with the palette of those where the numbers mean something else",
            )
    return ()


def _depth_problem(image: ArraySource, expected: ImageDescription) -> str | None:
    try:
        with_neighbouring_planes(image, expected.z_context)
    except ImageError as error:
        return str(error)
    return None


def _pixel_sizes(
    image: ArraySource, expected: ImageDescription, metadata: ImageMetadata, *, match: bool
) -> tuple[tuple[float, float] | None, tuple[str, ...], str | None]:
    """By what to stretch the image, remarks, and the problem."""
    ratio = size_ratio(metadata.pixel_size, metadata.unit, expected.pixel_size, expected.unit)
    if ratio is None:
        unknown = image.name if metadata.pixel_size is None else "the model"
        problem = f"{unknown} does not say how large its pixels are; leave out --match-pixel-size"
        return None, (), problem if match else None
    if not sizes_differ(ratio):
        return None, (), None
    comparison = f"pixels are {_size(metadata)}, the model was trained on {_size(expected)}"
    if not match:
        return None, (f"{image.name}: {comparison}; --match-pixel-size rescales it for the model",), None
    if not all(1 / _LARGEST_FACTOR <= factor <= _LARGEST_FACTOR for factor in ratio):
        return None, (), f"{image.name}: {comparison}; check the pixel size and its unit"
    return ratio, (), None


def _size(image: ImageMetadata | ImageDescription) -> str:
    size = image.pixel_size
    return "?" if size is None else f"{size[0]:.4g} x {size[1]:.4g} {image.unit}"
