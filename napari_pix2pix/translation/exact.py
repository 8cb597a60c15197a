"""The exact scheme for U-Nets: shallow levels tile by tile, the deep part once over small planes.

The network is split at a level K. The encoder down to K runs over tiles and leaves its features in a plane that is 2**K
times smaller than the image; the deep part runs over that plane, as a whole or split again in the same way; the decoder
from K up runs over tiles. One cell of level K around a tile suffices in both directions, for windows aligned to such
cells and clipped (not padded) at the image border. ``docs/exact-translation.md`` says why.

Planes hold raw features, as convolutions gave them (see `pix2pix_training.stages`). Norms that use the statistics of
the image get them beforehand, where need be from passes over the tiles that only sum up.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_pix2pix.translation.gathered_norms import GatheredNorms
from napari_pix2pix.translation.padded_image import PaddedImage
from napari_pix2pix.translation.plan import Split
from napari_pix2pix.translation.planes import FeaturePlane, PlaneStore
from napari_pix2pix.translation.stages import Stages
from napari_pix2pix.translation.tiling import (
    clipped,
    even_window_around,
    inside,
    quarters,
    scaled_down,
    tiles_of,
)
from pix2pix_training.array_source import Region
from pix2pix_training.networks import UNet
from pix2pix_training.stages import StageSpec, decoder_norm, encoder_norm

logger = logging.getLogger(__name__)


def exact_tiles(
    stages: Stages, image: PaddedImage, splits: Sequence[Split], memory_for_planes_bytes: int
) -> Generator[tuple[Region, Tensor], None, None]:
    """Regions of the image in reading order with the network's output there, (1, C, h, w)."""
    assert isinstance(stages.network, UNet)
    with PlaneStore(stages.runner.device, memory_for_planes_bytes, stages.runner.dtype) as store:
        levels = _Levels(stages, image, splits, store, GatheredNorms(stages.network))
        yield from levels.output_tiles(image)


@dataclass(frozen=True, kw_only=True)
class _Planes:
    """Where decoding goes on from: features of the encoder (if stored) and of the decoder (none below the deepest)."""

    encoded: FeaturePlane | None = None
    up: FeaturePlane | None = None


@dataclass(frozen=True, kw_only=True)
class _Pass:
    """One way over the tiles of a plane: a stage, and the planes that it reads besides the source."""

    spec: StageSpec
    planes: _Planes


class _Levels:
    """Levels `start` + 1 to `stop` of a U-Net over tiles of one plane, and the deeper levels that they need.

    Parameters
    ----------
    source : the padded image, or the encoder's features of level `start`.
    splits : the split of these levels, then those of the deeper ones.
    """

    def __init__(
        self,
        stages: Stages,
        source: PaddedImage | FeaturePlane,
        splits: Sequence[Split],
        store: PlaneStore,
        norms: GatheredNorms,
    ) -> None:
        self._stages = stages
        self._config = stages.config
        self._source = source
        self._split = splits[0]
        self._deeper = splits[1:]
        self._store = store
        self._norms = norms
        self._cell = self._split.cell
        self._largest_tile = self._split.tile**2

    def output_tiles(self, image: PaddedImage) -> Iterator[tuple[Region, Tensor]]:
        """The wanted part of the result without the padding, for levels that start at the image."""
        regions = [r for r in self._tiles() if image.wants(r)]
        for region, output in self._decoded(regions):
            kept = clipped(region, image.image_size)
            yield kept, output[..., : kept.height, : kept.width]

    def up_plane(self) -> FeaturePlane:
        """The decoder's output at the resolution of level `start`."""
        start = self._split.start
        plane = self._new_plane(start, self._config.up_channels(start))
        _fill(plane, self._norms.watch(decoder_norm(start + 1), self._decoded(self._tiles())))
        return plane

    def _decoded(self, regions: Sequence[Region]) -> Iterator[tuple[Region, Tensor]]:
        """Output of the last decoder level of these, for regions of the source."""
        planes = self._deep_planes()
        for level in range(self._split.stop, self._split.start + 1, -1):
            if self._norms.wants(decoder_norm(level)):
                planes = self._gather_decoded(level, planes)
        yield from self._tiles_of(self._decoding(self._split.start + 1, planes), regions)
        self._drop(planes)

    def _deep_planes(self) -> _Planes:
        """Encoder features and decoder output at level `stop`."""
        encoded = self._encoded_plane()
        if encoded.level == self._config.depth:
            return _Planes(encoded=encoded)
        up = self._up_of(encoded)
        if self._has_skips:
            return _Planes(encoded=encoded, up=up)
        self._store.release(encoded)
        return _Planes(up=up)

    def _encoded_plane(self) -> FeaturePlane:
        start, stop = self._split.start, self._split.stop
        for level in range(start + 1, stop):
            if self._norms.wants(encoder_norm(level)):
                self._norms.gather(encoder_norm(level), self._tiles_of(self._encoding(level), self._tiles()))
        plane = self._new_plane(stop, self._config.feature_channels(stop))
        raws = self._tiles_of(self._encoding(stop), self._tiles())
        _fill(plane, self._norms.watch(encoder_norm(stop), raws))
        return plane

    def _up_of(self, encoded: FeaturePlane) -> FeaturePlane:
        if self._deeper:
            return _Levels(self._stages, encoded, self._deeper, self._store, self._norms).up_plane()
        level, everywhere = encoded.level, Region(0, encoded.size[0], 0, encoded.size[1])
        spec = StageSpec(gives="up", level=level, top=self._config.depth, start=level, noise=self._noise)
        up = self._stages.run(spec, {"features": encoded.read(everywhere)}, (0, 0))
        self._norms.gather(decoder_norm(level + 1), [(everywhere, up)])
        return self._store.adopt(level, up)

    def _gather_decoded(self, level: int, planes: _Planes) -> _Planes:
        """Find the statistics of a decoder level; its raw output takes the place of `planes` where that is kept."""
        raws = self._tiles_of(self._decoding(level, planes), self._tiles())
        if not self._split.keep_raw:
            self._norms.gather(decoder_norm(level), raws)
            return planes
        kept = self._new_plane(level - 1, self._config.up_channels(level - 1))
        _fill(kept, self._norms.watch(decoder_norm(level), raws))
        self._drop(planes)
        return _Planes(up=kept)

    def _encoding(self, level: int) -> _Pass:
        spec = StageSpec(
            gives="encoded", level=level, top=level, start=self._split.start, given_norms=self._norms.any_wanted
        )
        return _Pass(spec=spec, planes=_Planes())

    def _decoding(self, level: int, planes: _Planes) -> _Pass:
        """Decoder levels down to `level`; skips are read where stored, else encoded again."""
        top = self._split.stop if planes.up is None else planes.up.level
        encoded_again = range(self._split.start + 1, top + 1 if planes.encoded is None else top)
        spec = StageSpec(
            gives="up",
            level=level - 1,
            top=top,
            start=self._split.start if self._has_skips and level in encoded_again else None,
            encoded=planes.encoded is not None,
            up=planes.up is not None,
            given_norms=self._norms.any_wanted,
            noise=self._noise,
        )
        return _Pass(spec=spec, planes=planes)

    @property
    def _has_skips(self) -> bool:
        return self._config.architecture == "unet"

    @property
    def _noise(self) -> bool:
        return self._stages.seed is not None

    def _tiles(self) -> list[Region]:
        return list(tiles_of(self._source.size, self._split.tile))

    def _tiles_of(self, work: _Pass, regions: Sequence[Region]) -> Iterator[tuple[Region, Tensor]]:
        """Output (1, C, h, w) in each of `regions` (of the source), with the region in cells of its level."""
        windows = [self._window(region, self._split.tile) for region in regions]
        with closing(self._source.windows([] if work.spec.start is None else windows)) as sources:
            for region, window in zip(regions, windows, strict=True):
                inner = self._inner(work, next(sources, None), window, region)
                yield scaled_down(region, self._factor(work)), inner

    def _factor(self, work: _Pass) -> int:
        """Cells of the source along a cell of the output."""
        return 1 << (work.spec.level - self._split.start)

    def _inner(self, work: _Pass, features: Tensor | None, window: Region, region: Region) -> Tensor:
        """Output in `region`, in quarters where the device lacks the memory for all at once."""
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
        factor = self._factor(work)
        parts = [(p, self._inner(work, *self._narrowed(features, window, p), p)) for p in quarters(region, self._cell)]
        first = parts[0][1]
        whole = first.new_empty(1, first.shape[1], region.height // factor, region.width // factor)
        for part, values in parts:
            whole[..., *scaled_down(inside(part, region), factor).slices] = values
        return whole

    def _window(self, region: Region, tile: int) -> Region:
        return even_window_around(region, self._cell, self._source.size, tile)

    def _narrowed(self, features: Tensor | None, window: Region, part: Region) -> tuple[Tensor | None, Region]:
        smaller = self._window(part, max(part.height, part.width))
        return (None if features is None else features[..., *inside(smaller, window).slices]), smaller

    def _computed(self, work: _Pass, features: Tensor | None, window: Region, region: Region) -> Tensor:
        start = self._split.start
        tensors = dict(self._norms.inputs)
        if features is not None:
            tensors["features"] = features
        for name, plane in (("encoded", work.planes.encoded), ("up", work.planes.up)):
            if plane is not None:
                tensors[name] = plane.read(scaled_down(window, 1 << (plane.level - start)))
        output = self._stages.run(work.spec, tensors, (window.y0 << start, window.x0 << start))
        return output[..., *scaled_down(inside(region, window), self._factor(work)).slices]

    def _new_plane(self, level: int, channels: int) -> FeaturePlane:
        rows, columns = (n >> (level - self._split.start) for n in self._source.size)
        return self._store.new(level, channels, (rows, columns))

    def _drop(self, planes: _Planes) -> None:
        for plane in (planes.encoded, planes.up):
            if plane is not None:
                self._store.release(plane)


def _fill(plane: FeaturePlane, raws: Iterable[tuple[Region, Tensor]]) -> None:
    for region, raw in raws:
        plane.write(region, raw)


def _return_cached_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
