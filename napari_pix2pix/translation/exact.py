"""The exact scheme for U-Nets: shallow levels tile by tile, the deep part once over small planes.

It works on an image, or on a region of one with the network's receptive field around it.

The network is split at a level K. The encoder down to K runs over tiles and leaves its features in a plane that is 2**K
times smaller than the image; the deep part runs over that plane, as a whole or split again in the same way; the decoder
from K up runs over tiles. One cell of level K around a tile suffices in both directions, for windows aligned to such
cells and clipped (not padded) at the image border. ``docs/explanation/exact-translation.md`` says why.

Planes hold raw features, as convolutions gave them, or the integers that networks in 8 bits take (see
`pix2pix_training.stages`). Norms that use the statistics of the image get them beforehand, where need be from passes
over the tiles that only sum up.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from napari_pix2pix.translation.backends.stage_runner import Stages
from napari_pix2pix.translation.cost import receptive_radius
from napari_pix2pix.translation.norm_statistics import GatheredNorms
from napari_pix2pix.translation.padded_image import ImagePart, PaddedImage
from napari_pix2pix.translation.plan import Split
from napari_pix2pix.translation.planes import FeaturePlane, PlaneStore
from napari_pix2pix.translation.region_grid import balanced_tile, even_window_around
from pix2pix_training.networks import UNet
from pix2pix_training.regions import Region
from pix2pix_training.stages import (
    Rounded,
    StageSpec,
    decoder_norm,
    encoder_norm,
    image_rounding,
    rounded_at,
    stage_output,
)

logger = logging.getLogger(__name__)


def exact_tiles(
    stages: Stages,
    image: PaddedImage,
    region: Region,
    splits: Sequence[Split],
    memory_for_planes_bytes: int,
    norms: Mapping[str, Tensor] | None = None,
) -> Generator[tuple[Region, Tensor], None, None]:
    """Tiles of a region of the image in reading order with the network's output there, (1, C, h, w).

    Parameters
    ----------
    norms : scale and shift of norms on the statistics of the image, see `gathered_norms`; without them they are found
        on the way, and the region must be the image.
    """
    part = image.part(region, receptive_radius(stages.config), stages.config.stride)
    with _levels(stages, part, splits, memory_for_planes_bytes, norms) as levels:
        for tile, output in levels.output_tiles(region.seen_from(part.window)):
            yield tile.placed_in(part.window), output


def gathered_norms(
    stages: Stages, image: PaddedImage, splits: Sequence[Split], memory_for_planes_bytes: int
) -> dict[str, Tensor]:
    """Scale and shift, (2, C) each, of every norm on the statistics of the image, by the stages' names.

    It takes all passes over the image but the last, which would give the result; `splits` go down to the last level.
    """
    assert splits[-1].stop == stages.config.depth
    part = image.part(Region.whole(*image.size), 0, stages.config.stride)
    with _levels(stages, part, splits, memory_for_planes_bytes, None) as levels:
        return levels.gathered()


@contextmanager
def _levels(
    stages: Stages,
    part: ImagePart,
    splits: Sequence[Split],
    memory_for_planes_bytes: int,
    norms: Mapping[str, Tensor] | None,
) -> Iterator[_Levels]:
    assert isinstance(stages.network, UNet)
    runner = stages.runner
    rounded = rounded_at(stages.network, splits[0].stop) if runner.precision == "int8" else Rounded.NOTHING
    if rounded is Rounded.FEATURES_AND_IMAGE:
        rounding = image_rounding(stages.network)
        assert rounding is not None
        part = part.rounded_by(rounding)
    at = replace(stages, origin=(part.window.y0, part.window.x0), rounded=rounded)
    dtype = torch.uint8 if rounded else runner.dtype
    with PlaneStore(runner.device, memory_for_planes_bytes, dtype, stages.scratch) as store:
        yield _Levels(at, part, splits, store, GatheredNorms(stages.network, norms))


@dataclass(frozen=True, kw_only=True)
class _Planes:
    """Where decoding goes on from: features of the encoder (if stored) and of the decoder (none below the deepest)."""

    encoded: FeaturePlane | None = None
    up: FeaturePlane | None = None


@dataclass(frozen=True, kw_only=True)
class _Pass:
    """One way over the tiles of a plane: a stage, and the planes that it reads besides the source.

    `tiles` are regions of the source, of at most `tile` cells a side, whose windows may reach to the end of `bounds`.
    """

    spec: StageSpec
    planes: _Planes
    tiles: list[Region]
    tile: int
    bounds: Region


class _Levels:
    """Levels `start` + 1 to `stop` of a U-Net over tiles of one plane, and the deeper levels that they need.

    Parameters
    ----------
    source : the padded image (or a window of it), or the encoder's features of level `start`.
    splits : the split of these levels, then those of the deeper ones.
    """

    def __init__(
        self,
        stages: Stages,
        source: ImagePart | FeaturePlane,
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
        self._everything = Region.whole(*source.size)

    def output_tiles(self, needed: Region) -> Iterator[tuple[Region, Tensor]]:
        """The result in tiles of a region, for levels that start at the image."""
        for tile, output in self._decoded(needed):
            kept = tile.common(needed)
            yield kept, output[..., *kept.seen_from(tile).slices]

    def gathered(self) -> dict[str, Tensor]:
        """All norms that use the statistics of the image, for levels that start at it."""
        self._drop(self._planes(self._everything))
        return self._norms.inputs

    def _up_plane(self, needed: Region) -> FeaturePlane:
        """The decoder's output at the resolution of level `start`, found where it is needed and undefined elsewhere."""
        start = self._split.start
        plane = self._new_plane(start, self._config.up_channels(start))
        _fill(plane, self._norms.watch(decoder_norm(start + 1), self._decoded(needed)))
        return plane

    def _decoded(self, needed: Region) -> Iterator[tuple[Region, Tensor]]:
        """Output of the last decoder level of these, in tiles that cover what is needed, in cells of the source."""
        planes = self._planes(needed)
        yield from self._tiles_of(self._decoding(self._split.start + 1, planes, needed))
        self._drop(planes)

    def _planes(self, needed: Region) -> _Planes:
        """Where the last decoder level of these goes on from; all norms that come before it are known then."""
        planes = self._deep_planes(needed if self._norms.is_complete else self._everything)
        for level in range(self._split.stop, self._split.start + 1, -1):
            if self._norms.wants(decoder_norm(level)):
                planes = self._gather_decoded(level, planes)
        return planes

    def _deep_planes(self, needed: Region) -> _Planes:
        """Encoder features and decoder output at level `stop`, the latter in a cell more than is needed."""
        encoded = self._encoded_plane()
        if encoded.level == self._config.depth:
            return _Planes(encoded=encoded)
        up = self._up_of(encoded, self._seen_for(needed).in_cells(self._cell))
        if self._has_skips:
            return _Planes(encoded=encoded, up=up)
        self._store.release(encoded)
        return _Planes(up=up)

    def _encoded_plane(self) -> FeaturePlane:
        start, stop = self._split.start, self._split.stop
        for level in range(start + 1, stop):
            if self._norms.wants(encoder_norm(level)):
                self._norms.gather(encoder_norm(level), self._tiles_of(self._encoding(level)))
        encoding = self._encoding(stop)
        plane = self._new_plane(stop, stage_output(self._config, encoding.spec).channels)
        raws = self._tiles_of(encoding)
        _fill(plane, self._norms.watch(encoder_norm(stop), raws))
        return plane

    def _up_of(self, encoded: FeaturePlane, needed: Region) -> FeaturePlane:
        if self._deeper:
            return _Levels(self._stages, encoded, self._deeper, self._store, self._norms)._up_plane(needed)
        level, everywhere = encoded.level, Region.whole(*encoded.size)
        spec = StageSpec(
            gives="up",
            level=level,
            top=self._config.depth,
            start=level,
            given_norms=self._norms.any_wanted and self._norms.is_complete,
            noise=self._noise,
            rounded=self._stages.rounded,
        )
        tensors = {**self._norms.inputs, "features": encoded.read(everywhere)}
        up = self._stages.run(spec, tensors, (0, 0))
        self._norms.gather(decoder_norm(level + 1), [(everywhere, up)])
        return self._store.adopt(level, up)

    def _gather_decoded(self, level: int, planes: _Planes) -> _Planes:
        """Find the statistics of a decoder level; its raw output takes the place of `planes` where that is kept."""
        raws = self._tiles_of(self._decoding(level, planes, self._everything))
        if not self._split.keep_raw:
            self._norms.gather(decoder_norm(level), raws)
            return planes
        kept = self._new_plane(level - 1, self._config.up_channels(level - 1))
        _fill(kept, self._norms.watch(decoder_norm(level), raws))
        self._drop(planes)
        return _Planes(up=kept)

    def _encoding(self, level: int) -> _Pass:
        spec = StageSpec(
            gives="encoded",
            level=level,
            top=level,
            start=self._split.start,
            given_norms=self._norms.any_wanted,
            rounded=self._stages.rounded,
        )
        return self._pass(spec, _Planes(), self._everything)

    def _decoding(self, level: int, planes: _Planes, needed: Region) -> _Pass:
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
            rounded=self._stages.rounded,
        )
        return self._pass(spec, planes, needed)

    def _pass(self, spec: StageSpec, planes: _Planes, needed: Region) -> _Pass:
        covered = needed.aligned(self._cell)
        tile = balanced_tile(self._split.tile, self._cell, covered.size)
        tiles = list(covered.tiles(tile))
        return _Pass(spec=spec, planes=planes, tiles=tiles, tile=tile, bounds=self._seen_for(needed))

    def _seen_for(self, needed: Region) -> Region:
        """What windows of a region may reach to: a cell more on each side."""
        return needed.aligned(self._cell).grown(self._cell, self._source.size)

    @property
    def _has_skips(self) -> bool:
        return self._config.architecture == "unet"

    @property
    def _noise(self) -> bool:
        return self._stages.seed is not None

    def _tiles_of(self, work: _Pass) -> Iterator[tuple[Region, Tensor]]:
        """Output (1, C, h, w) in each tile, with the tile in cells of its level."""
        windows = [self._window(region, work, work.tile) for region in work.tiles]
        with closing(self._source.windows([] if work.spec.start is None else windows)) as sources:
            for region, window in zip(work.tiles, windows, strict=True):
                place = region.in_cells(self._factor(work))
                yield place, self._inner(work, next(sources, None), window, region)  # unnamed, see `_fill`

    def _factor(self, work: _Pass) -> int:
        """Cells of the source along a cell of the output."""
        return 1 << (work.spec.level - self._split.start)

    def _inner(self, work: _Pass, features: Tensor | None, window: Region, region: Region) -> Tensor:
        """Output in `region`, in quarters where the device lacks the memory for all at once."""
        if region.height * region.width <= self._largest_tile:
            try:
                return self._computed(work, features, window, region)
            except torch.OutOfMemoryError:
                if len(region.quarters(self._cell)) == 1:
                    raise
                self._largest_tile = region.height * region.width - 1
                logger.warning("a tile of %d x %d was too large for the device", region.height, region.width)
        _return_cached_memory()
        return self._in_quarters(work, features, window, region)

    def _in_quarters(self, work: _Pass, features: Tensor | None, window: Region, region: Region) -> Tensor:
        factor = self._factor(work)
        parts = [
            (part, self._inner(work, *self._narrowed(work, features, window, part), part))
            for part in region.quarters(self._cell)
        ]
        first = parts[0][1]
        joined = first.new_empty(1, first.shape[1], region.height // factor, region.width // factor)
        for part, values in parts:
            joined[..., *part.seen_from(region).in_cells(factor).slices] = values
        return joined

    def _window(self, region: Region, work: _Pass, tile: int) -> Region:
        return even_window_around(region, self._cell, work.bounds, tile)

    def _narrowed(
        self, work: _Pass, features: Tensor | None, window: Region, part: Region
    ) -> tuple[Tensor | None, Region]:
        smaller = self._window(part, work, max(part.height, part.width))
        return (None if features is None else features[..., *smaller.seen_from(window).slices]), smaller

    def _computed(self, work: _Pass, features: Tensor | None, window: Region, region: Region) -> Tensor:
        start = self._split.start
        tensors = dict(self._norms.inputs)
        if features is not None:
            tensors["features"] = features
        for name, plane in (("encoded", work.planes.encoded), ("up", work.planes.up)):
            if plane is not None:
                tensors[name] = plane.read(window.in_cells(1 << (plane.level - start)))
        output = self._stages.run(work.spec, tensors, (window.y0 << start, window.x0 << start))
        return output[..., *region.seen_from(window).in_cells(self._factor(work)).slices]

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
        del raw  # or it lies in memory while the next is computed


def _return_cached_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
