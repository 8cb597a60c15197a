"""Overlapping windows, averaged with smooth weights: an approximation for networks that cannot be split."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from napari_pix2pix.translation.backends.stage_runner import Stages
from napari_pix2pix.translation.padded_image import PaddedImage
from napari_pix2pix.translation.region_grid import Cut
from pix2pix_training.regions import Region, Span


def blended_tiles(
    stages: Stages, image: PaddedImage, region: Region, side: int, overlap: int
) -> Generator[tuple[Region, Tensor], None, None]:
    """Tiles of a region of the image in reading order with the weighted mean of all windows there, (1, C, h, w).

    Windows are `side` pixels wide and overlap by `overlap` or more; both are multiples of the network's stride, so
    that all windows are in phase with the whole image. Where they lie depends on the image alone, not on the region.
    Memory grows with the width of the region, not with its height.
    """
    rows = _weighted(image.size[0], side, overlap, region.rows)
    columns = _weighted(image.size[1], side, overlap, region.columns)
    left, right = columns[0].span[0], columns[-1].span[1]
    band: Tensor | None = None
    windows = (Region(*row.span, *column.span) for row in rows for column in columns)
    with closing(image.windows(windows)) as inputs:
        for row in rows:
            for column in columns:
                output = stages.run_whole(next(inputs), (row.span[0], column.span[0])).float()
                if band is None:
                    band = output.new_zeros(1, output.shape[1], side, right - left)
                weight = (row.weights[:, None] * column.weights[None]).to(output)
                band[..., : output.shape[-2], column.span[0] - left : column.span[1] - left] += output * weight
            assert band is not None
            finished = row.ends - row.span[0]
            yield from _cut(band, Region(row.span[0], row.ends, left, right), columns, region)
            band = torch.cat([band[..., finished:, :], torch.zeros_like(band[..., :finished, :])], dim=-2)


@dataclass(frozen=True)
class _Window:
    """Extent of a window along an axis, where the next one begins (or this one ends), and its weights."""

    span: Span
    ends: int
    weights: Tensor


def _weighted(length: int, side: int, overlap: int, region: Span) -> list[_Window]:
    """The windows along an axis that reach into a region."""
    found = spans(length, side, overlap)
    ends = [*(start for start, _ in found[1:]), length]
    windows = [_Window(*parts) for parts in zip(found, ends, weights(found, length), strict=True)]
    return [window for window in windows if window.span[0] < region[1] and window.span[1] > region[0]]


def _cut(
    band: Tensor, place: Region, columns: list[_Window], region: Region
) -> Generator[tuple[Region, Tensor], None, None]:
    """What a band, whose finished rows lie at `place`, has of a region, in tiles."""
    for column in columns:
        kept = Region(place.y0, place.y1, column.span[0], column.ends).common(region)
        if not kept.is_empty:
            yield kept, band[..., *kept.seen_from(place).slices].clone()


def window_lengths(cuts: Sequence[Cut], side: int, overlap: int) -> tuple[int, int]:
    """Along an axis, for all regions: lengths of all windows together, and into how many tiles the result is cut."""
    total = tiles = 0
    for cut in cuts:
        found = spans(cuts[-1].window[1], side, overlap)
        ends = [*(start for start, _ in found[1:]), found[-1][1]]
        total += sum(b - a for a, b in found if a < cut.span[1] and b > cut.span[0])
        tiles += sum(a < cut.span[1] and end > cut.span[0] for (a, _), end in zip(found, ends, strict=True))
    return total, tiles


def spans(length: int, side: int, overlap: int) -> list[Span]:
    """Starts and ends of windows along an axis; the last one is moved back so that it ends at the border."""
    if length <= side:
        return [(0, length)]
    starts = [*range(0, length - side, side - overlap), length - side]
    return [(start, start + side) for start in starts]


def weights(windows: list[Span], length: int) -> list[Tensor]:
    """Weights of each window along an axis: raised cosines where windows overlap; at each pixel they sum to one."""
    raw = []
    for number, (start, stop) in enumerate(windows):
        position = torch.arange(start, stop, dtype=torch.float64) + 0.5
        weight = torch.ones_like(position)
        if number > 0:
            weight *= _rise((position - start) / (windows[number - 1][1] - start))
        if number + 1 < len(windows):
            weight *= _rise((stop - position) / (stop - windows[number + 1][0]))
        raw.append(weight)
    total = torch.zeros(length, dtype=torch.float64)
    for (start, stop), weight in zip(windows, raw, strict=True):
        total[start:stop] += weight
    return [weight / total[start:stop] for (start, stop), weight in zip(windows, raw, strict=True)]


def _rise(fraction: Tensor) -> Tensor:
    """From 0 to 1 as a squared sine, 1 beyond."""
    return torch.sin(fraction.clamp(0, 1) * (pi / 2)).square()
