"""The random patches that training takes from pairs of images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from pix2pix_training.array_source import AnyArray, plane_size
from pix2pix_training.augmentation import PatchDraw, draw_patch, enlarged_size
from pix2pix_training.config import AugmentationConfig, SamplingConfig
from pix2pix_training.content import ContentMap, block_side, block_spread
from pix2pix_training.errors import ImageError
from pix2pix_training.intensity import Mapping
from pix2pix_training.invalid_pixels import FilledSource
from pix2pix_training.pairs import Pair
from pix2pix_training.valid_planes import valid_planes

log = logging.getLogger(__name__)

_MAX_DRAWS = 20
_MIN_VALID_SHARE = 0.1
_Plane = tuple[int, tuple[int, ...]]
"""Index of a pair, and of a plane in its leading axes."""


@dataclass(frozen=True)
class Patch:
    """Stored pixels of a random patch before augmentation: (C, h, w) each, and the mask of valid pixels or None."""

    pair_index: int
    plane: tuple[int, ...]
    source: AnyArray
    target: AnyArray
    valid: NDArray[np.bool_] | None
    draw: PatchDraw


class PatchSampler:
    """Random paired patches, each a function of `seed` and its number alone, so that a resumed run sees the same ones.

    In an epoch each image gives as many patches as cover it once, in random order. A patch that is nearly all invalid,
    or constant in source or target, is drawn again; where a plane has no other, another plane gives the patch.

    Parameters
    ----------
    target_mapping : puts the channels of targets on one scale, for "content" placement.

    Attributes
    ----------
    skipped : patches that were drawn and not taken, so far.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        *,
        patch_size: int,
        augmentation: AugmentationConfig,
        sampling: SamplingConfig,
        target_mapping: Mapping,
        seed: int,
    ) -> None:
        self._sources = [FilledSource(pair.source) for pair in pairs]
        self._targets = [FilledSource(pair.target) for pair in pairs]
        self._patch_size = patch_size
        self._augmentation = augmentation
        self._sampling = sampling
        self._target_mapping = target_mapping
        self._seed = seed
        self._entries: list[_Plane] = []
        for index, pair in enumerate(pairs):
            _require_room(pair, patch_size)
            height, width = plane_size(pair.source)
            patches = -(-height // patch_size) * -(-width // patch_size)
            for plane in valid_planes(pair):
                self._entries += [(index, plane)] * patches
        self._order: tuple[int, NDArray[np.int64]] | None = None
        self._content: dict[_Plane, ContentMap] = {}
        self._block_px = block_side(sum(prod(pair.target.shape) // pair.target.shape[-3] for pair in pairs))
        self._poor: set[int] = set()
        self.skipped = 0

    @property
    def patches_per_epoch(self) -> int:
        return len(self._entries)

    def patch(self, number: int) -> Patch:
        """Patch `number`, counted from 0 over all epochs."""
        epoch, position = divmod(number, len(self._entries))
        entry = self._entries[self._epoch_order(epoch)[position]]
        rng = np.random.default_rng([self._seed, 2, number])
        for _ in range(_MAX_DRAWS):
            patch = self._read(entry, rng)
            if self._is_useful(patch):
                return patch
        self._warn_of(entry[0])
        for _ in range(_MAX_DRAWS):
            substitute = self._read(self._entries[int(rng.integers(len(self._entries)))], rng)
            if self._is_useful(substitute):
                return substitute
        return patch

    def _read(self, entry: _Plane, rng: np.random.Generator) -> Patch:
        index, plane = entry
        source, target = self._sources[index], self._targets[index]
        draw = draw_patch(rng, *plane_size(source), self._patch_size, self._augmentation, self._placed_by(entry))
        source_pixels, source_invalid = source.read_with_mask(draw.region, plane)
        target_pixels, target_invalid = target.read_with_mask(draw.region, plane)
        invalid = [mask for mask in (source_invalid, target_invalid) if mask is not None]
        valid = ~np.logical_or.reduce(invalid) if invalid else None
        return Patch(index, plane, source_pixels, target_pixels, valid, draw)

    def _is_useful(self, patch: Patch) -> bool:
        useful = patch.valid is None or bool(patch.valid.mean() >= _MIN_VALID_SHARE)
        if useful and self._sampling.skip_constant:
            useful = not (_is_constant(patch.source, patch.valid) or _is_constant(patch.target, patch.valid))
        self.skipped += not useful
        return useful

    def _placed_by(self, entry: _Plane) -> ContentMap | None:
        """Where the plane has content, if patches are placed by it."""
        match self._sampling.placement:
            case "uniform":
                return None
            case "content":
                return self._content_of(entry)
            case _:
                assert_never(self._sampling.placement)

    def _content_of(self, entry: _Plane) -> ContentMap | None:
        """None where the target is constant in the whole plane."""
        if entry not in self._content:
            index, plane = entry
            target = self._targets[index]
            height, width = plane_size(target)
            enlarged = enlarged_size(height, width, self._augmentation)
            self._content[entry] = ContentMap(
                block_spread(target, plane, self._target_mapping, self._block_px),
                block_px=self._block_px,
                plane=(height, width),
                patch=(self._patch_size * height / enlarged[0], self._patch_size * width / enlarged[1]),
            )
        content = self._content[entry]
        return None if content.is_empty else content

    def _warn_of(self, pair_index: int) -> None:
        if pair_index not in self._poor:
            self._poor.add(pair_index)
            log.warning(
                "%s: %d patches drawn in a row are constant or without valid pixels; patches from elsewhere stand in. "
                "Take it out of the training set, or cut it to what has content",
                self._sources[pair_index].name,
                _MAX_DRAWS,
            )

    def _epoch_order(self, epoch: int) -> NDArray[np.int64]:
        if self._order is None or self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng([self._seed, 3, epoch]).permutation(len(self._entries)))
        return self._order[1]


def _require_room(pair: Pair, patch_size: int) -> None:
    height, width = plane_size(pair.source)
    if min(height, width) < patch_size:
        raise ImageError(
            f"{pair.source.name} has {height} x {width} pixels, less than a patch of {patch_size}; choose a "
            f"patch size of at most {min(height, width)}"
        )


def _is_constant(pixels: AnyArray, valid: NDArray[np.bool_] | None) -> bool:
    """Whether all valid pixels of (C, h, w) have one value in each channel."""
    if valid is None and (pixels[:, ::16, ::16] != pixels[:, :1, :1]).any():  # a few pixels tell nearly always
        return False
    values = pixels.reshape(pixels.shape[0], -1) if valid is None else pixels[:, valid]
    return bool((values == values[:, :1]).all())
