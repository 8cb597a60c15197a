"""What the exact scheme costs for given splits: arithmetic, windows, planes. Pure functions of the layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

from napari_pix2pix.translation import cost
from napari_pix2pix.translation.plan import Split
from napari_pix2pix.translation.tiling import Size, even_window_side, tile_count
from pix2pix_training.config import GeneratorConfig


def mac_overhead(config: GeneratorConfig, splits: Sequence[Split], size: Size, *, gathers: bool) -> float:
    """Multiply-accumulates relative to the whole image; `gathers` where norm layers need passes for statistics."""
    shallow = sum(stage_macs(config, split, size, gathers=gathers) for split in splits)
    return (shallow + deep_macs(config, splits)) / cost.unet_macs(config)


def deep_macs(config: GeneratorConfig, splits: Sequence[Split]) -> float:
    """Multiply-accumulates per image pixel of the levels below all splits, which run at once."""
    deep = range(splits[-1].stop + 1, config.depth + 1)
    return cost.down_macs(config, deep) + cost.up_macs(config, deep)


def stage_macs(config: GeneratorConfig, split: Split, size: Size, *, gathers: bool) -> float:
    """Multiply-accumulates per image pixel of the levels of one split, in all its windows."""
    start, stop = split.start, split.stop
    shallow = range(start + 1, stop + 1)
    encoding = cost.down_macs(config, shallow)
    if gathers:
        encoding += sum(cost.down_macs(config, range(start + 1, k + 1)) for k in shallow[:-1] if k > 1)
    decoding, top = 0.0, stop
    for level in reversed(shallow):
        if not (level == start + 1 or gathers):
            continue
        decoding += _decode_macs(config, split, top, level)
        top = level - 1 if split.keep_raw else top
    return (encoding + decoding) * _even_overhead(size, split)


def _decode_macs(config: GeneratorConfig, split: Split, top: int, level: int) -> float:
    """Decoder levels `top` to `level`, and the encoder levels that are run again for their skips."""
    stored = top == split.stop
    again = range(split.start + 1, top if stored else top + 1)
    needs_source = config.architecture == "unet" and level in again
    skips = cost.down_macs(config, again) if needs_source else 0.0
    return skips + cost.up_macs(config, range(level, top + 1))


def window_overhead(size: Size, tile: int, halo: int) -> float:
    """Area of all windows, clipped to the plane, relative to the plane."""
    return _length_overhead(size[0], tile, halo) * _length_overhead(size[1], tile, halo)


@cache
def _length_overhead(length: int, tile: int, halo: int) -> float:
    starts = range(0, length, tile)
    return sum(min(length, a + tile + halo) - max(0, a - halo) for a in starts) / length


def _even_overhead(size: Size, split: Split) -> float:
    """Area of the windows of a split, which all are of one size, relative to the plane."""
    plane = size[0] >> split.start, size[1] >> split.start
    window = math.prod(even_window_side(split.tile, split.cell, length) for length in plane)
    return tile_count(plane, split.tile) * window / math.prod(plane)


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


def planes_peak(config: GeneratorConfig, splits: Sequence[Split]) -> float:
    """Most elements of planes that exist at a time, per image pixel."""
    split, deeper = splits[0], splits[1:]
    encoded = cost.feature_density(config, split.stop)
    up = cost.up_density(config, split.stop) if split.stop < config.depth else 0.0
    below = planes_peak(config, deeper) if deeper else 0.0
    raw = cost.up_density(config, split.stop - 1) if split.keep_raw and split.stop > 1 else 0.0
    result = cost.up_density(config, split.start) if split.start else 0.0
    return max(encoded + max(below, up), encoded + up + max(raw, result), raw + result)
