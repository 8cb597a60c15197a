"""What the exact scheme costs for given splits: arithmetic, windows, planes. Pure functions of the layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from napari_pix2pix.translation import cost
from napari_pix2pix.translation.plan import Split
from napari_pix2pix.translation.region_grid import Cut, RegionGrid, balanced_tile, even_window_side, tile_count
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.regions import Size, aligned_span, clipped_span


def mac_overhead(
    config: GeneratorConfig, splits: Sequence[Split], grid: RegionGrid, *, gathers: bool, result: bool = True
) -> float:
    """Multiply-accumulates of all regions relative to the whole image.

    Parameters
    ----------
    gathers : norm layers need passes for the statistics of the image, which is one region then.
    result : with the last pass, which gives the result.
    """
    shallow = sum(stage_macs(config, splits, grid, gathers=gathers, result=result))
    return (shallow + deep_macs(config, splits) * grid.window_area) / grid.padded_area / cost.unet_macs(config)


def deep_macs(config: GeneratorConfig, splits: Sequence[Split]) -> float:
    """Multiply-accumulates per pixel of a window of the levels below all splits, which run at once."""
    deep = range(splits[-1].stop + 1, config.depth + 1)
    return cost.down_macs(config, deep) + cost.up_macs(config, deep)


def stage_macs(
    config: GeneratorConfig, splits: Sequence[Split], grid: RegionGrid, *, gathers: bool, result: bool = True
) -> list[float]:
    """Multiply-accumulates of the levels of each split, in all windows of all regions."""
    total = []
    for number, split in enumerate(splits):
        encoding, decoding = _densities(config, split, gathers=gathers, result=result)
        above = tuple(earlier.cell for earlier in splits[:number])
        encoded, decoded = _window_areas(above, split.cell, split.tile, grid)
        total.append((encoding * encoded + decoding * (encoded if gathers else decoded)) * 4.0**split.start)
    return total


@lru_cache(1 << 16)
def _window_areas(above: tuple[int, ...], cell: int, tile: int, grid: RegionGrid) -> tuple[int, int]:
    """Cells in all windows of all regions, of encoding and of decoding; `above` are the cells of the splits before."""
    encoded = decoded = 0
    for kind in grid.kinds:
        rows, columns = (_lengths((*above, cell), cut) for cut in (kind.rows, kind.columns))
        plane, covered, bounds = zip(rows, columns, strict=True)
        encoded += kind.count * _window_area(tile, cell, plane, plane)
        decoded += kind.count * _window_area(tile, cell, covered, bounds)
    return encoded, decoded


@lru_cache(1 << 16)
def _lengths(cells: tuple[int, ...], cut: Cut) -> tuple[int, int, int]:
    """In cells of the last of some splits, along an axis: its plane, what is decoded, and what is seen for that.

    As `exact` does it.
    """
    plane, needed = cut.seen, cut.needed
    for cell in cells:
        covered = aligned_span(needed, cell)
        seen = clipped_span(covered, cell, plane)
        plane, needed = plane // cell, (seen[0] // cell, seen[1] // cell)
    return plane * cell, covered[1] - covered[0], seen[1] - seen[0]


@lru_cache(1 << 16)
def _window_area(tile: int, cell: int, covered: Size, bounds: Size) -> int:
    """Cells in the windows of all tiles that cover so many rows and columns."""
    tile = balanced_tile(tile, cell, covered)
    return tile_count(covered, tile) * math.prod(even_window_side(tile, cell, length) for length in bounds)


@lru_cache(1 << 16)
def _densities(config: GeneratorConfig, split: Split, *, gathers: bool, result: bool) -> tuple[float, float]:
    """Multiply-accumulates per pixel of windows, of encoding and of decoding the levels of a split."""
    start, stop = split.start, split.stop
    shallow = range(start + 1, stop + 1)
    encoding = cost.down_macs(config, shallow)
    if gathers:
        encoding += sum(cost.down_macs(config, range(start + 1, k + 1)) for k in shallow[:-1] if k > 1)
    decoding, top = 0.0, stop
    for level in reversed(shallow):
        if level == 1 and not result:
            break
        if not (level == start + 1 or gathers):
            continue
        decoding += _decode_macs(config, split, top, level)
        top = level - 1 if split.keep_raw else top
    return encoding, decoding


def _decode_macs(config: GeneratorConfig, split: Split, top: int, level: int) -> float:
    """Decoder levels `top` to `level`, and the encoder levels that are run again for their skips."""
    stored = top == split.stop
    again = range(split.start + 1, top if stored else top + 1)
    needs_source = config.architecture == "unet" and level in again
    skips = cost.down_macs(config, again) if needs_source else 0.0
    return skips + cost.up_macs(config, range(level, top + 1))


def window_overhead(grid: RegionGrid, tile: int) -> float:
    """Area of the windows of all tiles, with the halo of regions around each, relative to the padded image."""
    lengths = (_tile_windows(cuts, tile, grid.halo) for cuts in (grid.rows, grid.columns))
    return math.prod(lengths) / grid.padded_area


def _tile_windows(cuts: Sequence[Cut], tile: int, halo: int) -> int:
    padded = cuts[-1].window[1]
    spans = ((start, min(start + tile, cut.span[1])) for cut in cuts for start in range(*cut.span, tile))
    return sum(stop - start for start, stop in (clipped_span(span, halo, padded) for span in spans))


def tile_total(grid: RegionGrid, tile: int) -> int:
    """Number of tiles of all regions."""
    return math.prod(sum(-(-cut.length // tile) for cut in cuts) for cuts in (grid.rows, grid.columns))


def large_tensors(config: GeneratorConfig, splits: Sequence[Split], size: Size, least_elements: int) -> float:
    """Elements per image pixel in those tensors, of all that stages make, that have more than `least_elements`.

    Of one encoding and one decoding of each level.
    """
    total = 0.0
    for split in splits:
        pixels = _window_pixels(split, size)
        densities = cost.tensor_densities(config, split.start, split.stop)
        total += sum(d for d in densities if d * pixels > least_elements) * _even_overhead(size, split)
    deep = cost.tensor_densities(config, splits[-1].stop, config.depth)
    return total + sum(d for d in deep if d * size[0] * size[1] > least_elements)


def _even_overhead(size: Size, split: Split) -> float:
    """Area of the windows of a split, which all are of one size, relative to the plane."""
    plane = size[0] >> split.start, size[1] >> split.start
    window = math.prod(even_window_side(split.tile, split.cell, length) for length in plane)
    return tile_count(plane, split.tile) * window / math.prod(plane)


def stage_peak(config: GeneratorConfig, split: Split, size: Size) -> float:
    """Most elements alive while one window of a stage is computed."""
    density = max(
        cost.encoding_peak(config, split.start, split.stop), cost.decoding_peak(config, split.start, split.stop)
    )
    return density * _window_pixels(split, size)


def _window_pixels(split: Split, size: Size) -> float:
    """Image pixels in the largest window of a split."""
    rows, columns = (even_window_side(split.tile, split.cell, length >> split.start) for length in size)
    return rows * columns * 4.0**split.start


def plane_values(config: GeneratorConfig, splits: Sequence[Split]) -> float:
    """Features of all planes that are stored, per image pixel."""
    return sum(cost.feature_density(config, s.stop) + cost.up_density(config, s.stop) for s in splits)


def planes_peak(config: GeneratorConfig, splits: Sequence[Split]) -> float:
    """Most elements of planes that exist at a time, per image pixel."""
    split, deeper = splits[0], splits[1:]
    encoded = cost.feature_density(config, split.stop)
    up = cost.up_density(config, split.stop) if split.stop < config.depth else 0.0
    below = planes_peak(config, deeper) if deeper else 0.0
    raw = cost.up_density(config, split.stop - 1) if split.keep_raw and split.stop > 1 else 0.0
    result = cost.up_density(config, split.start) if split.start else 0.0
    return max(encoded + max(below, up), encoded + up + max(raw, result), raw + result)
