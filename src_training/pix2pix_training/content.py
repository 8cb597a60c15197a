"""Where an image has content: the spread of its pixels in coarse blocks, and patch positions drawn in proportion to it.

Knows no pairs and no augmentation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pix2pix_training.array_source import AnyArray, ArraySource, plane_size
from pix2pix_training.intensity import Mapping, to_tensor
from pix2pix_training.regions import Region

SMALLEST_BLOCK_PX = 16
MAX_BLOCKS = 4_000_000
_SURVEY_TILE_PX = 1024
_UNITS = 2**20  # spreads are summed as integers, so that sums do not depend on their order


class ContentMap:
    """Corners of patches in one plane, as likely as the patch has content.

    Parameters
    ----------
    spread : standard deviation of the pixels in each block, shape (rows, columns), at most 1.
    block_px : side of a block.
    plane : height and width of the plane in pixels.
    patch : height and width of a patch in pixels of the plane.
    """

    def __init__(
        self, spread: NDArray[np.float64], *, block_px: int, plane: tuple[int, int], patch: tuple[float, float]
    ) -> None:
        table = np.zeros((spread.shape[0] + 1, spread.shape[1] + 1), np.int64)
        table[1:, 1:] = np.round(spread * _UNITS).astype(np.int64).cumsum(0).cumsum(1)
        top, bottom = _windows(plane[0], patch[0], block_px, spread.shape[0])
        left, right = _windows(plane[1], patch[1], block_px, spread.shape[1])
        sums = (
            table[bottom][:, right] - table[top][:, right] - table[bottom][:, left] + table[top][:, left]
        )  # of the blocks below each patch
        areas = (bottom - top)[:, None] * (right - left)[None, :]
        self._columns = len(left)
        self._rows = len(top)
        self._cumulative = np.cumsum(sums / areas)

    @property
    def is_empty(self) -> bool:
        """Whether the plane is constant wherever a patch can lie."""
        return not self._cumulative[-1] > 0

    def draw_corner(self, rng: np.random.Generator) -> tuple[float, float]:
        """First pixel (y, x) of a random patch, as a fraction from 0 to 1 of the way that it can go."""
        drawn = np.searchsorted(self._cumulative, rng.random() * self._cumulative[-1], side="right")
        row, column = divmod(min(int(drawn), self._cumulative.size - 1), self._columns)
        return (row + rng.random()) / self._rows, (column + rng.random()) / self._columns


def _windows(length: int, patch: float, block_px: int, blocks: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last block (exclusive) below a patch, for positions a block apart along one axis."""
    way = max(0.0, length - patch)
    positions = max(1, int(np.ceil(way / block_px)))
    corners = (np.arange(positions) + 0.5) * (way / positions)
    first = (corners / block_px).astype(np.int64)
    last = np.ceil((corners + patch) / block_px).astype(np.int64).clip(first + 1, blocks)
    return first, last


def block_side(pixels: int) -> int:
    """Side of the blocks, so that images of so many `pixels` in all have at most `MAX_BLOCKS`."""
    side = SMALLEST_BLOCK_PX
    while pixels > MAX_BLOCKS * side**2:
        side *= 2
    return side


def block_spread(image: ArraySource, plane: tuple[int, ...], mapping: Mapping, block_px: int) -> NDArray[np.float64]:
    """Standard deviation of the pixels in each block, in the units of a network.

    The plane is read once, tile by tile. Channels count by the mean of their variances.

    Returns
    -------
    ndarray
        Shape (rows, columns), between 0 and 1; the last block of each row and column may be smaller than the others.
    """
    height, width = plane_size(image)
    spread = np.zeros((-(-height // block_px), -(-width // block_px)))
    for region in Region.whole(height, width).tiles(max(_SURVEY_TILE_PX // block_px, 1) * block_px):
        stored = image.read(region, plane)
        columns = slice(region.x0 // block_px, -(-region.x1 // block_px))
        for y0 in range(0, region.height, block_px):
            rows = stored[:, y0 : y0 + block_px]
            spread[(region.y0 + y0) // block_px, columns] = _row_spread(rows, mapping, block_px)
    return spread


def _row_spread(stored: AnyArray, mapping: Mapping, block_px: int) -> NDArray[np.float64]:
    """Spread of one row of blocks, from their stored pixels (C, h, w)."""
    mapped = mapping.to_network(to_tensor(stored)[None])[0].numpy().astype(np.float64)
    starts = np.arange(0, stored.shape[-1], block_px)
    counts = np.diff(starts, append=stored.shape[-1]) * stored.shape[-2]
    means = np.add.reduceat(mapped.sum(1), starts, axis=1) / counts
    squares = np.add.reduceat((mapped**2).sum(1), starts, axis=1) / counts
    deviations: NDArray[np.float64] = np.sqrt(np.maximum(squares - means**2, 0).mean(0))
    return deviations
