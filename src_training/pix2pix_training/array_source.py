"""What training and translation ask of an image: regions of planes, as channels-first arrays.

Knows no file format. Files become `ArraySource`s in ``napari_pix2pix.formats``; arrays in `MemorySource`.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from pix2pix_training.axis_order import AxisOrder, axis_order
from pix2pix_training.errors import ImageError
from pix2pix_training.regions import Region, Size

log = logging.getLogger(__name__)

AnyArray = NDArray[Any]
Opacity = NDArray[np.uint8]
"""How opaque pixels (h, w) are: 0 where an image says that a pixel holds no data, 255 where it shows in full."""


_LARGEST_OF_COLOURS = 65_535


class Closable(ABC):
    """Whatever is closed at the end of a ``with``."""

    @abstractmethod
    def close(self) -> None:
        """Release what is held."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ArraySource(Protocol):
    """An image that can be read region by region.

    Axes are normalised: `axes` is any number of leading axes (of "T", "Z", or others) followed by "CYX".
    """

    @property
    def name(self) -> str:
        """What to call the image in messages, usually its path."""
        ...

    @property
    def axes(self) -> str:
        """One letter per entry of `shape`, ending in "CYX"."""
        ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def nodata(self) -> float | None:
        """Value that marks invalid pixels besides NaN and infinities, or None."""
        ...

    @property
    def palette(self) -> NDArray[np.uint8] | None:
        """Colours (entries, 3) of an indexed image, or None."""
        ...

    @property
    def channel_names(self) -> tuple[str, ...]:
        """What the image itself calls its channels, one name each; empty where it does not say."""
        ...

    @property
    def masked(self) -> bool:
        """Whether the image says beside its values which pixels hold data (by alpha or a mask)."""
        ...

    def read(self, region: Region, plane: tuple[int, ...] = ()) -> AnyArray:
        """Pixels of one plane, shape (channels, region.height, region.width), in the stored dtype.

        `plane` indexes the leading axes. The caller may write to the result.
        """
        ...

    def read_with_opacity(self, region: Region, plane: tuple[int, ...] = ()) -> tuple[AnyArray, Opacity | None]:
        """Pixels as `read` gives them, and how opaque they are; None where the image is not `masked`.

        Values that say by themselves that they are no data (NaN, infinities, `nodata`) may be opaque.
        """
        ...


class MemorySource:
    """An array in memory (or anything sliceable like one) as an `ArraySource`.

    Parameters
    ----------
    array : any real dtype, with axes in any order. What a `numpy.ma` array masks holds no data.
    axes : one letter per axis of `array`, see `axis_order`; without them (Y, X) or (*leading, C, Y, X).
    channel_names : one for each channel, or none.
    opacity : shape (*leading, Y, X), 0 where there is no data; None where all pixels hold some.

    Raises
    ------
    ImageError
        It is no array of numbers, or what is said of it does not fit its shape.
    """

    def __init__(
        self,
        array: AnyArray,
        *,
        name: str = "array",
        axes: str | None = None,
        nodata: float | None = None,
        palette: NDArray[np.uint8] | None = None,
        channel_names: Sequence[str] = (),
        opacity: Opacity | None = None,
    ) -> None:
        dtype = _real_dtype(array, name)
        self.order = axis_order(axes, array.shape, name)
        opacity = least_opaque([opacity, _unmasked(array, self.order)])
        lengths = dict(zip(self.order.letters, array.shape, strict=True))
        self._array = array
        self.in_memory = is_array_in_memory(array)
        self._opacity = opacity
        self.masked = opacity is not None
        self.name = name
        self.axes = self.order.normal
        self.shape: tuple[int, ...] = tuple(int(lengths.get(letter, 1)) for letter in self.axes)
        self.dtype = dtype
        self.nodata = nodata
        self.palette = palette
        self.channel_names = tuple(channel_names)
        if 0 in self.shape:
            raise ImageError(f"{name}: an array of shape {tuple(array.shape)} has no pixels")
        if opacity is not None and opacity.shape != (*self.shape[:-3], *self.shape[-2:]):
            raise ImageError(f"{name}: opacity of shape {opacity.shape} does not fit an array of shape {array.shape}")
        if self.channel_names and len(self.channel_names) != self.shape[-3]:
            raise ImageError(f"{name}: {len(self.channel_names)} channel names for {self.shape[-3]} channels")

    def read(self, region: Region, plane: tuple[int, ...] = ()) -> AnyArray:
        if len(plane) != len(self.shape) - 3:
            raise ImageError(f"{self.name}: there is no plane {plane}; the image has planes {self.shape[:-3]}")
        rows, columns = region.slices
        where: dict[str, Any] = {
            "C": slice(None),
            "Y": rows,
            "X": columns,
            **dict(zip(self.axes[:-3], plane, strict=True)),
        }
        index: tuple[Any, ...] = tuple(where[letter] for letter in self.order.letters)
        pixels = np.array(self._array[index])
        kept = [letter for letter in self.order.letters if letter in "CYX"]
        if "C" not in kept:
            pixels, kept = pixels[None], ["C", *kept]
        return np.ascontiguousarray(pixels.transpose([kept.index(letter) for letter in "CYX"]))

    def read_with_opacity(self, region: Region, plane: tuple[int, ...] = ()) -> tuple[AnyArray, Opacity | None]:
        index: tuple[Any, ...] = (*plane, *region.slices)
        return self.read(region, plane), None if self._opacity is None else np.array(self._opacity[index])


def in_memory(image: ArraySource) -> bool:
    """Whether the pixels lie in an array that others can write to meanwhile; of files False."""
    return bool(getattr(image, "in_memory", False))


def is_array_in_memory(array: Any) -> bool:
    """Whether it is an array of NumPy that is not a file."""
    return isinstance(array, np.ndarray) and not isinstance(array, np.memmap)


def _real_dtype(array: Any, name: str) -> np.dtype[Any]:
    """The dtype of an array; what is none, or has no real numbers, is an error."""
    try:
        dtype: np.dtype[Any] = np.dtype(array.dtype)
        tuple(array.shape)
    except (AttributeError, TypeError) as error:
        raise ImageError(
            f"{name} is of type {type(array).__name__}, not an array that NumPy knows; give numpy.asarray(...) of it"
        ) from error
    if dtype.kind not in "biuf":
        raise ImageError(
            f"{name}: values of type {dtype} are no pixels; convert them to a real type, as by .astype('float32')"
        )
    return dtype


def _unmasked(array: Any, order: AxisOrder) -> Opacity | None:
    """The opacity of a masked array, 0 where a channel is masked; None where nothing is."""
    if not np.ma.is_masked(array):
        return None
    masked = np.ma.getmaskarray(array)
    if not order.has_channels:
        masked = np.expand_dims(masked, min(order.letters.index("Y"), order.letters.index("X")))
    return np.where(masked.transpose(order.with_channels().positions()).any(-3), np.uint8(0), np.uint8(255))


class SourceView:
    """An `ArraySource` made from another; passes on everything that a subclass does not change."""

    def __init__(self, base: ArraySource) -> None:
        self._base = base
        self.name = base.name
        self.axes = base.axes
        self.shape = base.shape
        self.dtype = base.dtype
        self.nodata = base.nodata
        self.palette = base.palette
        self.channel_names = base.channel_names
        self.masked = base.masked
        self.in_memory = in_memory(base)

    def read(self, region: Region, plane: tuple[int, ...] = ()) -> AnyArray:
        return self.read_with_opacity(region, plane)[0]

    def read_with_opacity(self, region: Region, plane: tuple[int, ...] = ()) -> tuple[AnyArray, Opacity | None]:
        return self._base.read_with_opacity(region, plane)


class CroppedSource(SourceView):
    """A rectangle of another source."""

    def __init__(self, base: ArraySource, region: Region) -> None:
        super().__init__(base)
        height, width = base.shape[-2:]
        if region.is_empty or not Region.whole(height, width).contains(region):
            raise ImageError(
                f"{base.name}: region {region.y0}:{region.y1},{region.x0}:{region.x1} does not lie within the image "
                f"of {height} x {width} pixels"
            )
        self._region = region
        self.shape = (*base.shape[:-2], region.height, region.width)

    def read_with_opacity(self, region: Region, plane: tuple[int, ...] = ()) -> tuple[AnyArray, Opacity | None]:
        return self._base.read_with_opacity(region.placed_in(self._region), plane)

    @property
    def origin(self) -> tuple[ArraySource, Region]:
        """The image that this is a rectangle of, also by way of others, and where it lies there."""
        image, outer = cropped_from(self._base)
        return image, self._region.placed_in(outer)


def cropped_from(image: ArraySource) -> tuple[ArraySource, Region]:
    """The image that `image` is a rectangle of, and which; itself, and all of it, where it is none."""
    return image.origin if isinstance(image, CroppedSource) else (image, whole_plane(image))


class SelectedChannels(SourceView):
    """Some channels of another source, in the order given; `channels` are indices from 0."""

    def __init__(self, base: ArraySource, channels: Sequence[int]) -> None:
        super().__init__(base)
        count = base.shape[-3]
        for channel in channels:
            if not 0 <= channel < count:
                raise ImageError(
                    f"{base.name}: there is no channel {channel}; its {count} channels are 0 to {count - 1}"
                )
        self._channels = list(channels)
        self.channel_names = tuple(base.channel_names[i] for i in channels) if base.channel_names else ()
        self.shape = (*base.shape[:-3], len(self._channels), *base.shape[-2:])

    def read_with_opacity(self, region: Region, plane: tuple[int, ...] = ()) -> tuple[AnyArray, Opacity | None]:
        pixels, opacity = self._base.read_with_opacity(region, plane)
        return pixels[self._channels], opacity


class StackedChannels(SourceView):
    """Several sources of equal size as the channels of one; the dtype is their common one.

    A pixel is as opaque as it is in the least opaque of them, and not at all where one of them holds its nodata value.
    """

    def __init__(self, bases: Sequence[ArraySource]) -> None:
        first = bases[0]
        super().__init__(first)
        for base in bases[1:]:
            if (base.axes, base.shape[:-3], base.shape[-2:]) != (
                first.axes,
                first.shape[:-3],
                first.shape[-2:],
            ):
                raise ImageError(
                    f"{base.name}: its shape {base.shape} of axes {base.axes} differs from {first.name} with "
                    f"{first.shape} of {first.axes}, so the two cannot be channels of one image"
                )
        self._bases = list(bases)
        self.name = (
            " + ".join(base.name for base in bases) if len(bases) < 4 else f"{first.name} + {len(bases) - 1} more"
        )
        self.dtype = np.result_type(*(base.dtype for base in bases))
        types = sorted({base.dtype.name for base in bases})
        if len(types) > 1:
            log.warning(
                "channels in files of different types (%s) become one image of %s; their numbers stay as they are",
                ", ".join(types),
                self.dtype.name,
            )
        self.palette = None if len(bases) > 1 else first.palette
        named = all(base.channel_names for base in bases)
        self.channel_names = tuple(name for base in bases for name in base.channel_names) if named else ()
        self.nodata = first.nodata if all(base.nodata == first.nodata for base in bases) else None
        self.in_memory = all(map(in_memory, bases))
        self._by_nodata = len(bases) > 1 and any(base.nodata is not None for base in bases)
        self.masked = self._by_nodata or any(base.masked for base in bases)
        self.shape = (*first.shape[:-3], sum(base.shape[-3] for base in bases), *first.shape[-2:])

    def read_with_opacity(self, region: Region, plane: tuple[int, ...] = ()) -> tuple[AnyArray, Opacity | None]:
        parts = [base.read_with_opacity(region, plane) for base in self._bases]
        pixels = np.concatenate([part.astype(self.dtype, copy=False) for part, _ in parts])
        opacities = [opacity for _, opacity in parts]
        if self._by_nodata:
            own = zip(parts, self._bases, strict=True)
            opacities += [_opaque_but(part, base.nodata) for (part, _), base in own if base.nodata is not None]
        return pixels, least_opaque(opacities)


def _opaque_but(pixels: AnyArray, nodata: float) -> Opacity:
    """Opaque where no value of pixels (C, h, w) is nodata."""
    return np.where(equals_nodata(pixels, nodata).any(0), 0, 255).astype(np.uint8)


def equals_nodata(pixels: AnyArray, nodata: float) -> NDArray[np.bool_]:
    """Which values of pixels (C, h, w) are nodata, in the shape of a mask of them.

    A nodata value that could be one of a colour (0 and 255, as a rule) counts where all channels have it; another,
    such as -9999 or 3.4e38, in each channel by itself.
    """
    equal: NDArray[np.bool_] = pixels == nodata
    could_be_colour = 0 <= nodata <= _LARGEST_OF_COLOURS
    return np.broadcast_to(equal.all(0, keepdims=True), equal.shape) if could_be_colour else equal


def least_opaque(opacities: Sequence[Opacity | None]) -> Opacity | None:
    """The smallest opacity of each pixel; None where none of the images says any."""
    known = [opacity for opacity in opacities if opacity is not None]
    return None if not known else np.minimum.reduce(known)


def channel_count(source: ArraySource) -> int:
    return source.shape[-3]


def plane_size(source: ArraySource) -> Size:
    """Height and width."""
    return source.shape[-2], source.shape[-1]


def whole_plane(source: ArraySource) -> Region:
    return Region.whole(*plane_size(source))


def plane_indices(source: ArraySource) -> Iterator[tuple[int, ...]]:
    """Indices of all planes in storage order; one empty tuple for a single image."""
    return product(*(range(n) for n in source.shape[:-3]))
