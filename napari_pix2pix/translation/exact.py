"""The exact scheme for U-Nets: shallow levels tile by tile, the deep part once over small planes.

The network is split at a level K. The encoder down to K runs over tiles and leaves its features in a plane that is 2**K
times smaller than the image; the deep part runs over that plane, as a whole or split again in the same way; the decoder
from K up runs over tiles. One cell of level K around a tile suffices in both directions, for windows aligned to such
cells and clipped (not padded) at the image border. ``docs/exact-translation.md`` says why.

Norm layers that use the statistics of the image get them beforehand, from passes over the tiles that only sum up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TypeGuard

import torch
from torch import Tensor, nn

from napari_pix2pix.translation.moments import Moments
from napari_pix2pix.translation.padded_image import PaddedImage
from napari_pix2pix.translation.plan import Split
from napari_pix2pix.translation.planes import FeaturePlane, PlaneStore
from napari_pix2pix.translation.tiling import (
    Size,
    clipped,
    inside,
    is_empty,
    quarters,
    scaled_down,
    tiles_of,
    window_around,
)
from pix2pix_training.array_source import Region
from pix2pix_training.layers import StatisticsNorm
from pix2pix_training.networks import UNet, norm_layers, set_noise_origin

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Pass:
    """One way over the tiles of a plane.

    `compute` gives raw features of `level` over a window, from the source's features there (None where
    `needs_source` is False) and the window.
    """

    level: int
    needs_source: bool
    compute: Callable[[Tensor | None, Region], Tensor]


def exact_tiles(
    network: UNet, image: PaddedImage, splits: Sequence[Split], memory_for_planes_bytes: int
) -> Generator[tuple[Region, Tensor], None, None]:
    """Regions of the image in reading order with the network's output there, (1, C, h, w)."""
    dtype = next(network.parameters()).dtype
    with statistics_reset(network), PlaneStore(image.device, memory_for_planes_bytes, dtype) as store:
        yield from _Stage(network, image, splits, store).output_tiles(image.image_size)


@contextmanager
def statistics_reset(network: nn.Module) -> Iterator[None]:
    """Forget gathered statistics before and after an image."""
    _forget_statistics(network)
    try:
        yield
    finally:
        _forget_statistics(network)


def _forget_statistics(network: nn.Module) -> None:
    for norm in norm_layers(network):
        norm.fixed = None


@dataclass(frozen=True, kw_only=True)
class _Planes:
    """Where decoding goes on from: features of the encoder (if stored) and of the decoder (none below the deepest)."""

    encoded: FeaturePlane | None
    up: FeaturePlane | None


class _Stage:
    """Levels `start` + 1 to `stop` of a U-Net over tiles of one plane, and the deeper stage that it needs.

    Parameters
    ----------
    source : the padded image, or the encoder's features of level `start`.
    splits : this stage's split, then those of the deeper ones.
    """

    def __init__(
        self, network: UNet, source: PaddedImage | FeaturePlane, splits: Sequence[Split], store: PlaneStore
    ) -> None:
        self._network = network
        self._source = source
        self._split = splits[0]
        self._deeper = splits[1:]
        self._store = store
        self._cell = 2 ** (self._split.stop - self._split.start)
        self._largest_tile = self._split.tile**2

    def output_tiles(self, image_size: Size) -> Iterator[tuple[Region, Tensor]]:
        """Finished output of a stage that starts at the image, without the padding."""
        regions = [r for r in self._tiles() if not is_empty(clipped(r, image_size))]
        for region, raw in self._decoded(regions):
            kept = clipped(region, image_size)
            yield kept, self._network.activate_output(raw[..., : kept.height, : kept.width])

    def up_plane(self) -> FeaturePlane:
        """The decoder's output at the resolution of level `start`, finished when it is read."""
        start = self._split.start
        block = self._network.up_block(start + 1)
        plane = self._new_plane(start, self._network.config.up_channels(start))
        _fill(plane, self._decoded(self._tiles()), block.norm)
        plane.finish = block.finish
        return plane

    def _decoded(self, regions: Sequence[Region]) -> Iterator[tuple[Region, Tensor]]:
        """Raw output of the last decoder level of this stage, for regions of the source."""
        planes = self._deep_planes()
        for level in range(self._split.stop, self._split.start + 1, -1):
            norm = self._network.up_block(level).norm
            if _wants_statistics(norm):
                planes = self._gather_decoded(level, norm, planes)
        yield from self._tiles_of(self._decoding(self._split.start + 1, planes), regions)
        self._drop(planes)

    def _deep_planes(self) -> _Planes:
        """Encoder features and decoder output at level `stop`."""
        encoded = self._encoded_plane()
        if encoded.level == self._network.depth:
            return _Planes(encoded=encoded, up=None)
        up = self._up_of(encoded)
        if self._network.skips:
            return _Planes(encoded=encoded, up=up)
        self._store.release(encoded)
        return _Planes(encoded=None, up=up)

    def _encoded_plane(self) -> FeaturePlane:
        start, stop = self._split.start, self._split.stop
        for level in range(start + 1, stop):
            norm = self._network.down_block(level).norm
            if _wants_statistics(norm):
                _gather(norm, self._tiles_of(self._encoding(level), self._tiles()))
        plane = self._new_plane(stop, self._network.config.feature_channels(stop))
        norm = self._network.down_block(stop).norm
        _fill(plane, self._tiles_of(self._encoding(stop), self._tiles()), norm)
        plane.finish = norm
        return plane

    def _up_of(self, encoded: FeaturePlane) -> FeaturePlane:
        if self._deeper:
            return _Stage(self._network, encoded, self._deeper, self._store).up_plane()
        set_noise_origin(self._network, 0, 0)
        features = encoded.read(Region(0, encoded.size[0], 0, encoded.size[1]))
        return self._store.adopt(encoded.level, self._network.deep(features, encoded.level))

    def _gather_decoded(self, level: int, norm: StatisticsNorm, planes: _Planes) -> _Planes:
        """Find the statistics of a decoder level; its raw output takes the place of `planes` where that is kept."""
        raws = self._tiles_of(self._decoding(level, planes), self._tiles())
        if not self._split.keep_raw:
            _gather(norm, raws)
            return planes
        kept = self._new_plane(level - 1, self._network.config.up_channels(level - 1))
        _fill(kept, raws, norm)
        kept.finish = self._network.up_block(level).finish
        self._drop(planes)
        return _Planes(encoded=None, up=kept)

    def _encoding(self, level: int) -> _Pass:
        network, start = self._network, self._split.start

        def compute(features: Tensor | None, _window: Region) -> Tensor:
            assert features is not None
            above = network.encode(features, start, level - 1)
            return network.down_block(level).convolve(above[-1] if above else features)

        return _Pass(level=level, needs_source=True, compute=compute)

    def _decoding(self, level: int, planes: _Planes) -> _Pass:
        """Decoder levels down to `level`, the last one raw; skips are read where stored, else encoded again."""
        network, start = self._network, self._split.start
        top = self._split.stop if planes.up is None else planes.up.level
        encoded_again = range(start + 1, top + 1 if planes.encoded is None else top)
        needs_source = network.skips and level in encoded_again

        def compute(features: Tensor | None, window: Region) -> Tensor:
            skips: dict[int, Tensor] = {}
            if features is not None:
                skips.update(zip(encoded_again, network.encode(features, start, encoded_again[-1]), strict=True))
            if planes.encoded is not None:
                skips[top] = planes.encoded.read(scaled_down(window, self._cell))
            x = None if planes.up is None else planes.up.read(scaled_down(window, 2 ** (top - start)))
            for k in range(top, level, -1):
                x = network.up_block(k)(_joined(network, skips.get(k), x))
            return network.up_block(level).convolve(_joined(network, skips.get(level), x))

        return _Pass(level=level - 1, needs_source=needs_source, compute=compute)

    def _tiles(self) -> list[Region]:
        return list(tiles_of(self._source.size, self._split.tile))

    def _tiles_of(self, work: _Pass, regions: Sequence[Region]) -> Iterator[tuple[Region, Tensor]]:
        """Raw features (1, C, h, w) in each of `regions` (of the source), with the region in cells of their level."""
        windows = [window_around(region, self._cell, self._source.size) for region in regions]
        with closing(self._source.windows(windows if work.needs_source else [])) as sources:
            for region, window in zip(regions, windows, strict=True):
                inner = self._inner(work, next(sources, None), window, region)
                yield scaled_down(region, 2 ** (work.level - self._split.start)), inner

    def _inner(self, work: _Pass, features: Tensor | None, window: Region, region: Region) -> Tensor:
        """Raw features in `region`, in quarters where the device lacks the memory for all at once."""
        if region.height * region.width <= self._largest_tile:
            try:
                return self._computed(work, features, window, region)
            except torch.OutOfMemoryError:
                if len(quarters(region, self._cell)) == 1:
                    raise
                self._largest_tile = region.height * region.width - 1
                logger.warning("a tile of %d x %d was too large for the device", region.height, region.width)
        _return_cached_memory()
        return self._in_quarters(work, features, window, region)

    def _in_quarters(self, work: _Pass, features: Tensor | None, window: Region, region: Region) -> Tensor:
        factor = 2 ** (work.level - self._split.start)
        parts = [(p, self._inner(work, *self._narrowed(features, window, p), p)) for p in quarters(region, self._cell)]
        first = parts[0][1]
        whole = first.new_empty(1, first.shape[1], region.height // factor, region.width // factor)
        for part, values in parts:
            whole[..., *scaled_down(inside(part, region), factor).slices] = values
        return whole

    def _narrowed(self, features: Tensor | None, window: Region, part: Region) -> tuple[Tensor | None, Region]:
        smaller = window_around(part, self._cell, self._source.size)
        return (None if features is None else features[..., *inside(smaller, window).slices]), smaller

    def _computed(self, work: _Pass, features: Tensor | None, window: Region, region: Region) -> Tensor:
        start = self._split.start
        set_noise_origin(self._network, window.y0 * 2**start, window.x0 * 2**start)
        raw = work.compute(features, window)
        return raw[..., *scaled_down(inside(region, window), 2 ** (work.level - start)).slices]

    def _new_plane(self, level: int, channels: int) -> FeaturePlane:
        rows, columns = (n // 2 ** (level - self._split.start) for n in self._source.size)
        return self._store.new(level, channels, (rows, columns))

    def _drop(self, planes: _Planes) -> None:
        for plane in (planes.encoded, planes.up):
            if plane is not None:
                self._store.release(plane)


def _fill(plane: FeaturePlane, raws: Iterable[tuple[Region, Tensor]], norm: nn.Module) -> None:
    """Store raw features, and give the norm that follows them its statistics where it takes those of the image."""
    moments = Moments() if _wants_statistics(norm) else None
    for region, raw in raws:
        plane.write(region, raw)
        if moments is not None:
            moments.add(raw)
    if moments is not None:
        _fix(norm, moments)


def _gather(norm: StatisticsNorm, raws: Iterable[tuple[Region, Tensor]]) -> None:
    moments = Moments()
    for _, raw in raws:
        moments.add(raw)
    _fix(norm, moments)


def _fix(
    norm: nn.Module,
    moments: Moments,
) -> None:
    assert isinstance(norm, StatisticsNorm)
    norm.fixed = moments.result()


def _wants_statistics(norm: nn.Module) -> TypeGuard[StatisticsNorm]:
    return isinstance(norm, StatisticsNorm) and norm.statistics == "image"


def _joined(network: UNet, skip: Tensor | None, up: Tensor | None) -> Tensor:
    if skip is not None:
        return network.join(skip, up)
    assert up is not None
    return up


def _return_cached_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
