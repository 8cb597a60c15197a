"""Stored pixel values <-> [-1, 1], per channel; the mapping is saved in the model.

A mapping is linear (its ends from the dtype, the training set, or each whole image), or one-hot for categories.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from pix2pix_training.array_source import (
    AnyArray,
    ArraySource,
    channel_count,
    plane_indices,
    plane_size,
)
from pix2pix_training.errors import NoValidPixelError, SettingsError
from pix2pix_training.invalid_pixels import invalid_values
from pix2pix_training.regions import Region
from pix2pix_training.validated import Lenient, validated

_Byte = Annotated[int, Field(ge=0, le=255)]
Scope = Literal["dtype", "training-set", "image"]
SUPPORTED_DTYPES = (
    *("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"),
    *("float16", "float32", "float64"),
)
PERCENTILES = (0.1, 99.9)
MAX_CATEGORIES = 255
_SAMPLES = 4_000_000
_SURVEY_TILE = 1024
_ELEMENTS_IN_CACHE = (1 << 15) - 1
"""With more PyTorch would wake other threads, which takes longer than the work."""
_WIDE = (torch.int32, torch.uint32, torch.int64, torch.uint64, torch.float64)
_LARGEST_END, _LARGEST_NARROW_END = 1e300, 1e38


@validated
class LinearMapping:
    """``low`` of each channel maps to -1 and ``high`` to 1; values beyond are clipped.

    With scope "image" the ends are percentiles of each whole image, found by `resolved`; without it they are empty.
    """

    dtype: str
    scope: Scope
    channels: int
    low: Annotated[tuple[float, ...], Lenient] = ()
    high: Annotated[tuple[float, ...], Lenient] = ()

    def __post_init__(self) -> None:
        _checked_dtype(self.dtype)
        if self.scope == "image" and not self.low:
            return
        if not len(self.low) == len(self.high) == self.channels:
            raise SettingsError(f"an intensity mapping of {self.channels} channels needs as many low and high ends")
        if not all(np.isfinite(self.low)) or not all(np.isfinite(self.high)):
            raise SettingsError("the ends of an intensity mapping must be finite")
        largest = _LARGEST_END if self.dtype == "float64" else _LARGEST_NARROW_END
        if not all(abs(end) <= largest for end in (*self.low, *self.high)):
            raise SettingsError(f"the ends of an intensity mapping of {self.dtype} must lie within {largest:g}")
        if not all(low < high for low, high in zip(self.low, self.high, strict=True)):
            raise SettingsError("the low end of an intensity mapping must lie below its high end")

    @property
    def network_channels(self) -> int:
        return self.channels

    @property
    def image_channels(self) -> int:
        return self.channels

    def to_network(self, stored: Tensor) -> Tensor:
        """(N, C, H, W) in any stored dtype -> float32 in [-1, 1], on the same device.

        Types wider than 16 bits are mapped in float64, so that a large offset costs nothing; the result has 24 bits.
        """
        dtype = _working_dtype(stored.dtype)
        line = self._line(stored.device, dtype)
        # in place from here: memory that is new takes longer than the arithmetic
        x = stored.to(dtype, copy=True, memory_format=line.order)
        return x.sub_(line.low).mul_(line.to_network).sub_(1).clamp_(-1, 1).to(torch.float32)

    def from_network(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [-1, 1] -> `dtype`, integers rounded half to even and kept within the dtype's range.

        On the same device, or on the CPU where that device has no float64 and the dtype needs it.
        """
        dtype = torch_dtype(np.dtype(self.dtype))
        if _working_dtype(dtype) is torch.float64 and x.device.type == "mps":
            x = x.cpu()
        working = _working_dtype(dtype)
        line = self._line(x.device, working)
        stored = x.to(working, memory_format=line.order).clamp(-1, 1)
        stored = stored.add_(1).mul_(line.from_network).add_(line.low)
        if not dtype.is_floating_point and dtype is not torch.bool:
            limits = np.iinfo(np.dtype(self.dtype))
            stored = stored.round_().clamp_(float(limits.min), _float_up_to(int(limits.max)))
        return stored >= 0.5 if dtype is torch.bool else stored.to(dtype)

    def _line(self, device: torch.device, dtype: torch.dtype) -> _Line:
        if not self.low:
            raise SettingsError("the intensity mapping is per image and was not resolved for this image")
        low, to_network, from_network = _numbers(self.low, self.high, double=dtype is torch.float64)
        if len({*zip(self.low, self.high, strict=True)}) == 1:
            return _Line(low[0], to_network[0], from_network[0], torch.preserve_format)

        def of_channels(numbers: list[float]) -> Tensor:
            return torch.tensor(numbers, dtype=dtype, device=device).reshape(1, -1, 1, 1)

        return _Line(of_channels(low), of_channels(to_network), of_channels(from_network), torch.contiguous_format)


class _Line(NamedTuple):
    """Low ends and factors: numbers where all channels have the same, else of each channel, (1, C, 1, 1).

    `order` is the order in memory in which arithmetic with them is fast.
    """

    low: Tensor | float
    to_network: Tensor | float
    from_network: Tensor | float
    order: torch.memory_format


@lru_cache(maxsize=64)
def _numbers(
    low: tuple[float, ...], high: tuple[float, ...], *, double: bool
) -> tuple[list[float], list[float], list[float]]:
    """What `_Line` holds, for each channel; not in tensors, which an export that is under way would make its own."""
    dtype = np.float64 if double else np.float32
    lows: AnyArray = np.asarray(low, dtype)
    spans: AnyArray = np.asarray(high, dtype) - lows
    return lows.tolist(), (2 / spans).tolist(), (spans / 2).tolist()


@validated
class CategoryMapping:
    """One network channel per category: 1 where a pixel is of it, else -1; out, the largest channel wins.

    `values` are the stored values of each category (one number, or one per channel for colour-coded labels); `colors`
    their colours as RGB, empty where none are known. With `foreground` all pixels but 0 are of the second category, as
    of labels that number objects.
    """

    dtype: str
    values: Annotated[tuple[Annotated[tuple[int, ...], Lenient], ...], Lenient]
    colors: Annotated[tuple[Annotated[tuple[_Byte, _Byte, _Byte], Lenient], ...], Lenient] = ()
    foreground: bool = False

    def __post_init__(self) -> None:
        if _checked_dtype(self.dtype).kind not in "biu":
            raise SettingsError(f"categories need integer pixels, not {self.dtype}")
        if not 2 <= len(self.values) <= MAX_CATEGORIES:
            raise SettingsError(f"{len(self.values)} categories; there must be 2 to {MAX_CATEGORIES}")
        if len({len(v) for v in self.values}) != 1 or len(set(self.values)) != len(self.values):
            raise SettingsError("the values of categories must differ and have the same number of channels")
        limits = (0, 1) if self.dtype == "bool" else (np.iinfo(self.dtype).min, np.iinfo(self.dtype).max)
        if not all(limits[0] <= number <= limits[1] for value in self.values for number in value):
            raise SettingsError(f"the values of categories do not fit into {self.dtype}")
        if not all(0 <= part <= 255 for color in self.colors for part in color):
            raise SettingsError("colours of categories lie between 0 and 255")
        if not all(-(2**63) <= number < 2**63 for value in self.values for number in value):
            raise SettingsError("categories need values below 2 ** 63; number them anew, from 0")
        if self.colors and len(self.colors) != len(self.values):
            raise SettingsError("categories need one colour each, or none")
        if self.foreground and self.values != ((0,), (1,)):
            raise SettingsError("foreground has the categories 0 and 1")

    @property
    def network_channels(self) -> int:
        return len(self.values)

    @property
    def image_channels(self) -> int:
        return len(self.values[0])

    def to_network(self, stored: Tensor) -> Tensor:
        """(N, C, H, W) stored values -> (N, categories, H, W) float32; a pixel of no known category is -1 in all."""
        if self.foreground:
            stored = stored != 0
        table = self._table(stored.device)
        values = stored if stored.is_floating_point() else stored.to(torch.int64)
        hits = (values[:, None] == table[None, :, :, None, None]).all(2)
        return hits.to(torch.float32) * 2 - 1

    def from_network(self, x: Tensor) -> Tensor:
        """(N, categories, H, W) -> (N, C, H, W) stored values of the winning category."""
        stored = self._table(x.device)[x.argmax(1)].movedim(-1, 1)
        return stored.to(torch_dtype(np.dtype(self.dtype)))

    def palette(self) -> NDArray[np.uint8] | None:
        """Colours by stored value, for an indexed image; None where there are none or values are not indices."""
        if not self.colors or self.image_channels != 1 or max(v[0] for v in self.values) > 255:
            return None
        table = np.zeros((max(v[0] for v in self.values) + 1, 3), np.uint8)
        for value, color in zip(self.values, self.colors, strict=True):
            table[value[0]] = color
        return table

    def _table(self, device: torch.device) -> Tensor:
        return torch.tensor(self.values, dtype=torch.int64, device=device)


Mapping = LinearMapping | CategoryMapping


def dtype_mapping(dtype: np.dtype[Any], channels: int) -> LinearMapping:
    """The whole range of an integer dtype; floats are taken to lie in [0, 1]."""
    low, high = type_range(dtype)
    return LinearMapping(
        dtype=dtype.name, scope="dtype", channels=channels, low=(low,) * channels, high=(high,) * channels
    )


def type_range(dtype: np.dtype[Any], bit_depth: int | None = None) -> tuple[float, float]:
    """Smallest and largest value of a type; floats are taken to lie in [0, 1].

    `bit_depth` is that of unsigned pixels with fewer bits than their type, such as 12 of a camera in uint16.
    """
    if dtype.kind in "bf":
        return 0.0, 1.0
    if dtype.kind == "u" and bit_depth is not None and 0 < bit_depth < 8 * dtype.itemsize:
        return 0.0, float(2**bit_depth - 1)
    limits = np.iinfo(dtype)
    return float(limits.min), float(limits.max)


def for_other_type(mapping: LinearMapping, dtype: np.dtype[Any], bit_depth: int | None = None) -> LinearMapping:
    """The same mapping for images of another type, whose range (see `type_range`) stands for that of its own type."""
    start, end = type_range(np.dtype(mapping.dtype))
    new_start, new_end = type_range(dtype, bit_depth)
    factor = (new_end - new_start) / (end - start)
    low, high = (tuple((value - start) * factor + new_start for value in ends) for ends in (mapping.low, mapping.high))
    return replace(mapping, dtype=dtype.name, low=low, high=high)


def lost_step(mapping: Mapping) -> float | None:
    """Steps of integer values that a network cannot tell apart, because it computes in float32; None where it can."""
    if isinstance(mapping, CategoryMapping) or np.dtype(mapping.dtype).kind not in "iu" or not mapping.low:
        return None
    step = max(high - low for low, high in zip(mapping.low, mapping.high, strict=True)) / 2**24
    return step if step > 1 else None


def image_mapping(dtype: np.dtype[Any], channels: int) -> LinearMapping:
    """Percentiles of each whole image, to be found by `resolved`."""
    return LinearMapping(dtype=dtype.name, scope="image", channels=channels)


def fitted_mapping(sources: Sequence[ArraySource], scope: Scope = "training-set") -> LinearMapping:
    """Percentiles 0.1 and 99.9 of the valid pixels of all `sources`, per channel.

    Exact for integers of up to 16 bits, else from up to four million evenly spaced pixels per channel. A constant
    channel gets a range above its value. Raises `ImageError` for an image without a valid pixel.
    """
    low, high = percentiles(sources, PERCENTILES)
    high = tuple(end_above(lo, h, sources[0].dtype) for lo, h in zip(low, high, strict=True))
    return LinearMapping(
        dtype=sources[0].dtype.name, scope=scope, channels=channel_count(sources[0]), low=low, high=high
    )


def end_above(low: float, high: float, dtype: np.dtype[Any]) -> float:
    """`high`, or where it is not above `low` an end that float arithmetic can tell from it."""
    is_narrow = dtype.kind == "f" and dtype.itemsize <= 4
    is_above = np.float32(high) > np.float32(low) if is_narrow else high > low
    return high if is_above else _next_above(low, dtype)


def _next_above(value: float, dtype: np.dtype[Any]) -> float:
    """An end above `value` that float arithmetic can tell from it."""
    return value + (max(1.0, math.ulp(value)) if dtype.kind in "biu" else max(1.0, abs(value)))


def resolved(mapping: Mapping, source: ArraySource) -> Mapping:
    """The mapping for one image: per-image ends are measured on all of it, other mappings are returned as they are."""
    if isinstance(mapping, LinearMapping) and mapping.scope == "image":
        return fitted_mapping([source], scope="image")
    return mapping


def category_mapping(image: ArraySource, codes: Iterable[tuple[int, ...]]) -> CategoryMapping:
    """A category for each of the different pixels `codes`, ascending, of images like `image`, with its palette."""
    values = tuple(sorted(codes))
    return CategoryMapping(dtype=image.dtype.name, values=values, colors=_colors(image, values))


def foreground_mapping() -> CategoryMapping:
    """Pixels that are 0, and all others; out come 0 and 1."""
    return CategoryMapping(dtype="uint8", values=((0,), (1,)), foreground=True)


def _colors(source: ArraySource, values: Sequence[tuple[int, ...]]) -> tuple[tuple[int, int, int], ...]:
    if source.palette is not None:
        table = source.palette
        if max(v[0] for v in values) < len(table):
            return tuple((int(r), int(g), int(b)) for r, g, b in (table[v[0]] for v in values))
    if len(values[0]) == 3 and source.dtype == np.uint8:
        return tuple((v[0], v[1], v[2]) for v in values)
    return ()


def percentiles(
    sources: Sequence[ArraySource], percents: tuple[float, float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Low and high percentile of each channel over the valid pixels of all `sources`, read tile by tile."""
    dtype, channels = sources[0].dtype, channel_count(sources[0])
    pixels = sum(int(np.prod(s.shape)) // channels for s in sources)
    counters = [value_counter(dtype, pixels) for _ in range(channels)]
    for source in sources:
        valid_pixels = 0
        for stored, invalid in _tiles(source):
            for channel, counter in enumerate(counters):
                counter.add(stored[channel][~invalid[channel]])
            valid_pixels += int((~invalid).sum())
        if valid_pixels == 0:
            raise NoValidPixelError(
                f"{source.name}: not one valid pixel (all are NaN, infinite, nodata or transparent)"
            )
    ends = [counter.percentiles(percents) for counter in counters]
    return tuple(e[0] for e in ends), tuple(e[1] for e in ends)


def value_counter(dtype: np.dtype[Any], pixels: int) -> Histogram | Sample:
    """What finds the percentiles of so many `pixels` of one channel."""
    if dtype.kind in "biu" and dtype.itemsize <= 2:
        return Histogram(dtype)
    return Sample(stride=max(1, pixels // _SAMPLES))


class Histogram:
    """Exact percentiles of integers of up to 16 bits."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._offset = 0 if dtype.kind in "bu" else int(np.iinfo(dtype).min)
        self._counts = np.zeros(2 ** (8 * dtype.itemsize), np.int64)

    def add(self, values: AnyArray) -> None:
        self._counts += np.bincount(values.astype(np.int64).ravel() - self._offset, minlength=self._counts.size)

    def values(self) -> NDArray[np.int64]:
        """Those that occur, ascending."""
        return np.flatnonzero(self._counts) + self._offset

    def percentiles(self, percents: tuple[float, float]) -> tuple[float, float]:
        cumulative = np.cumsum(self._counts)
        if cumulative[-1] == 0:
            return 0.0, 0.0
        ranks = (max(1, math.ceil(Fraction(str(p)) * int(cumulative[-1]) / 100)) for p in percents)
        low, high = (int(np.searchsorted(cumulative, rank)) for rank in ranks)
        return float(low + self._offset), float(high + self._offset)


class Sample:
    """Percentiles of every `stride`-th value."""

    def __init__(self, stride: int) -> None:
        self._stride = stride
        self._skip = 0
        self._values: list[AnyArray] = []

    def add(self, values: AnyArray) -> None:
        flat = values.ravel()
        self._values.append(flat[self._skip :: self._stride].astype(np.float64))
        self._skip = (self._skip - flat.size) % self._stride

    def percentiles(self, percents: tuple[float, float]) -> tuple[float, float]:
        values = np.concatenate(self._values) if self._values else np.zeros(0)
        if values.size == 0:
            return 0.0, 0.0
        low, high = np.percentile(values, percents)
        return float(low), float(high)


def _tiles(source: ArraySource) -> Iterable[tuple[AnyArray, NDArray[np.bool_]]]:
    """Tiles of all planes with the mask of their invalid values."""
    for plane in plane_indices(source):
        for region in Region.whole(*plane_size(source)).tiles(_SURVEY_TILE):
            stored, opacity = source.read_with_opacity(region, plane)
            yield stored, invalid_values(stored, source.nodata, opacity)


def torch_dtype(dtype: np.dtype[Any]) -> torch.dtype:
    """The torch dtype of the same name."""
    return getattr(torch, dtype.name)  # type: ignore[no-any-return]


def to_tensor(stored: AnyArray) -> Tensor:
    """An array as a tensor without copying where possible; big-endian arrays are converted.

    The order in memory stays, such as that of samples side by side.
    """
    native = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    if any(stride < 0 or stride % native.itemsize for stride in native.strides):
        native = np.ascontiguousarray(native)
    return torch.from_numpy(native.view(native.dtype.name))  # NumPy has two types of 64 bits, PyTorch takes one


def by_rows(of_pixels: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """What a function of each pixel by itself gives for (N, C, H, W); on a processor in channels_last order.

    There it is called on some rows at a time, so that what it makes on the way stays in the cache.
    """
    height = x.shape[2]
    rows = max(1, _ELEMENTS_IN_CACHE // max(1, x.shape[0] * x.shape[1] * x.shape[3]))
    if x.device.type != "cpu" or rows >= height:
        return of_pixels(x)
    first = of_pixels(x[:, :, :rows])
    batch, channels, _, width = first.shape
    result = torch.empty(batch, height, width, channels, dtype=first.dtype).permute(0, 3, 1, 2)
    result[:, :, :rows] = first
    for y in range(rows, height, rows):
        result[:, :, y : y + rows] = of_pixels(x[:, :, y : y + rows])
    return result


def by_table(of_pixels: Callable[[Tensor], Tensor], x: Tensor) -> Tensor | None:
    """What `by_rows` gives where that is bytes for bytes, channel by channel and the same for all; else None."""
    if x.dtype is not torch.uint8 or x.device.type != "cpu":
        return None
    rows_first = x.permute(0, 2, 3, 1)
    channels = x.shape[1]
    table = of_pixels(torch.arange(256, dtype=torch.uint8).expand(1, channels, 1, 256))
    if table.dtype is not torch.uint8 or table.shape[1] != channels or not bool((table == table[:, :1]).all()):
        return None
    found = bytearray(rows_first.contiguous().numpy()).translate(table[0, 0, 0].numpy().tobytes())
    return torch.frombuffer(found, dtype=torch.uint8).view(rows_first.shape).permute(0, 3, 1, 2)


def _working_dtype(stored: torch.dtype) -> torch.dtype:
    """float32 holds integers of up to 16 bits exactly; wider types are mapped in float64."""
    return torch.float64 if stored in _WIDE else torch.float32


def _float_up_to(limit: int) -> float:
    """The largest float that is not above an integer: 2 ** 64 - 1 would become 2 ** 64, and 0 on the way back."""
    nearest = float(limit)
    return nearest if int(nearest) <= limit else math.nextafter(nearest, 0)


def _checked_dtype(name: str) -> np.dtype[Any]:
    if name not in SUPPORTED_DTYPES:
        raise SettingsError(f"pixels of type {name!r} are not supported; known are {', '.join(SUPPORTED_DTYPES)}")
    return np.dtype(name)
