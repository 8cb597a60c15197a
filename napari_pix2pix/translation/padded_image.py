"""One plane of an image as the network sees it: filled, padded to the network's stride, mapped to [-1, 1]."""

from __future__ import annotations

import zlib
from collections.abc import Generator, Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_pix2pix.translation.device_copies import Upload, Uploader
from napari_pix2pix.translation.prefetch import prefetched
from napari_pix2pix.translation.values_seen import ValuesSeen
from pix2pix_training.array_source import AnyArray, Opacity, plane_size
from pix2pix_training.intensity import Mapping, by_rows, by_table, to_tensor
from pix2pix_training.invalid_pixels import FilledSource
from pix2pix_training.networks import padded_index
from pix2pix_training.quantisation import FeatureRounding
from pix2pix_training.regions import Region, Size, Span

_MOST_BYTES = 64 << 20


class PaddedImage:
    """Windows of the padded plane, as (1, C, h, w) in [-1, 1] on a device.

    Parameters
    ----------
    source : image whose invalid pixels are filled.
    plane : index of its leading axes.
    mapping : resolved for this image.
    stride : the padded size is a multiple of it; the padding lies at the bottom and right.
    dtype : of the result; float32 unless the network is of another type.
    values_seen : is told of the pixels that are read.
    """

    level = 0

    def __init__(
        self,
        source: FilledSource,
        plane: tuple[int, ...],
        mapping: Mapping,
        *,
        stride: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        values_seen: ValuesSeen | None = None,
    ) -> None:
        self._source = source
        self._plane = plane
        self._mapping = mapping
        self.device = device
        self._uploader = Uploader(device)
        self._dtype = dtype
        self._values_seen = values_seen
        self._seen = SeenOpacity()
        self.image_size: Size = plane_size(source)
        self._rows, self._columns = (padded_index(n, stride).numpy() for n in self.image_size)
        self.size: Size = (len(self._rows), len(self._columns))

    @property
    def area(self) -> Region:
        """The image without its padding."""
        return Region.whole(*self.image_size)

    def opacity(self, region: Region) -> Opacity | None:
        """How opaque the pixels (h, w) of a region of the image are, None where all of them show.

        Known of what lies in a window that was read; else the region is read once more.
        """
        with suppress(KeyError):
            return self._seen.of(region)
        return self._source.opacity(region, self._plane)

    def part(self, region: Region, halo: int, stride: int) -> ImagePart:
        """What a network needs to see for a region: `halo` more on each side, in phase with its strides.

        It ends at the border of the padded image, so that the layers' own padding acts on the region there alone.
        """
        return ImagePart(self, region.grown(halo, self.size).aligned(stride))

    def read(self, window: Region, rounding: FeatureRounding | None = None) -> Tensor:
        """With a rounding as the integers (uint8) that it gives."""
        return self._to_network(self._uploader.send(self._stored(window)), rounding)

    def windows(
        self, regions: Iterable[Region], rounding: FeatureRounding | None = None
    ) -> Generator[Tensor, None, None]:
        """`read` of each region in turn; another thread reads files, and sends pixels to the device, ahead."""
        if self.device.type == "cpu":
            with closing(prefetched(lambda region: self.read(region, rounding), regions)) as read_ahead:
                yield from read_ahead
            return
        with closing(prefetched(lambda region: self._uploader.send(self._stored(region)), regions)) as sent_ahead:
            for sent in sent_ahead:
                yield self._to_network(sent, rounding)

    def _stored(self, window: Region) -> Tensor:
        rows, columns = self._rows[window.y0 : window.y1], self._columns[window.x0 : window.x1]
        region = Region(int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1)
        stored, opacity = self._source.read_with_opacity(region, self._plane)
        self._seen.add(region, opacity)
        if self._values_seen is not None:
            self._values_seen.add(stored, None if opacity is None else opacity == 0, self._mapping)
        stored = _taken(_taken(stored, rows - region.y0, axis=1), columns - region.x0, axis=2)
        return to_tensor(stored)

    def _to_network(self, sent: Upload, rounding: FeatureRounding | None) -> Tensor:
        def mapped(stored: Tensor) -> Tensor:
            x = self._mapping.to_network(stored)
            return x.to(self._dtype) if rounding is None else cast(Tensor, rounding(x))

        stored = sent.received()[None]
        known = None if rounding is None else by_table(mapped, stored)
        return by_rows(mapped, stored) if known is None else known


class ImagePart:
    """A window of a padded image, in coordinates that begin at the window's first pixel; read like the whole."""

    level = 0

    def __init__(self, image: PaddedImage, window: Region, rounding: FeatureRounding | None = None) -> None:
        self._image = image
        self._rounding = rounding
        self.window = window
        self.size: Size = window.size

    def rounded_by(self, rounding: FeatureRounding) -> ImagePart:
        """The same as the integers (uint8) that a rounding gives."""
        return ImagePart(self._image, self.window, rounding)

    def read(self, window: Region) -> Tensor:
        return self._image.read(window.placed_in(self.window), self._rounding)

    def windows(self, regions: Iterable[Region]) -> Generator[Tensor, None, None]:
        """`read` of each region in turn, ahead."""
        return self._image.windows((region.placed_in(self.window) for region in regions), self._rounding)


def _taken(stored: AnyArray, index: NDArray[Any], *, axis: int) -> AnyArray:
    """``stored`` along an axis in the order of `index`; not copied where that changes nothing."""
    if len(index) == stored.shape[axis] and bool((index == np.arange(len(index))).all()):
        return stored
    return stored.take(index, axis)


@dataclass(frozen=True)
class _Kept:
    """The opacity of a window, compressed."""

    window: Region
    content: bytes

    def part(self, region: Region) -> Opacity:
        """Shape (h, w), of a region that lies in the window."""
        whole = np.frombuffer(zlib.decompress(self.content), np.uint8).reshape(self.window.size)
        return whole[region.seen_from(self.window).slices].copy()


class SeenOpacity:
    """How opaque the pixels of windows of a plane are; added by one thread and asked for by another.

    Windows come row by row. Those of which all pixels show are kept as spans of columns for each band of rows, the
    opacity of others while it takes little.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._opaque: dict[Span, list[Span]] = {}
        self._others: dict[Span, dict[Span, _Kept]] = {}
        self._left = most_bytes

    def add(self, window: Region, opacity: Opacity | None) -> None:
        """A window that was read, and its opacity (h, w), None where all pixels show."""
        rows, columns = window.rows, window.columns
        if opacity is None:
            self._opaque[rows] = _joined([*self._opaque.get(rows, ()), columns])
        elif columns not in self._others.get(rows, ()):
            kept = _Kept(window, zlib.compress(opacity.tobytes(), level=1))
            if len(kept.content) <= self._left:
                self._left -= len(kept.content)
                self._others[rows] = {**self._others.get(rows, {}), columns: kept}

    def of(self, region: Region) -> Opacity | None:
        """The opacity (h, w) of a region, None where all pixels show; `KeyError` where that is not known."""
        own_rows, own_columns = region.rows, region.columns
        for rows, spans in list(self._opaque.items()):
            if _lies_in(own_rows, rows) and any(_lies_in(own_columns, columns) for columns in spans):
                return None
        for rows, windows in list(self._others.items()):
            holding = [kept for columns, kept in windows.items() if _lies_in(own_columns, columns)]
            if _lies_in(own_rows, rows) and holding:
                return holding[0].part(region)
        raise KeyError(region)


def _lies_in(inner: Span, outer: Span) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def _joined(spans: list[Span]) -> list[Span]:
    """The same columns with touching and overlapping spans joined."""
    result: list[Span] = []
    for start, stop in sorted(spans):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(result[-1][1], stop))
        else:
            result.append((start, stop))
    return result
