"""Overlapping windows, averaged with smooth weights: an approximation for networks that cannot be split."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from math import pi

import torch
from torch import Tensor

from napari_pix2pix.translation.padded_image import PaddedImage
from napari_pix2pix.translation.stages import Stages
from napari_pix2pix.translation.tiling import clipped
from pix2pix_training.array_source import Region

Span = tuple[int, int]


def blended_tiles(
    stages: Stages, image: PaddedImage, side: int, overlap: int
) -> Generator[tuple[Region, Tensor], None, None]:
    """Wanted regions of the image in reading order with the weighted mean of all windows there, (1, C, h, w).

    Windows are `side` pixels wide and overlap by `overlap` or more; both are multiples of the network's stride, so
    that all windows are in phase with the whole image. Memory grows with the width of the image, not with its height.
    """
    rows, columns = (spans(length, side, overlap) for length in image.size)
    row_weights, column_weights = weights(rows, image.size[0]), weights(columns, image.size[1])
    band: Tensor | None = None
    windows = [r for row in rows for column in columns if image.wants(r := Region(*row, *column))]
    with closing(image.windows(windows)) as inputs:
        for number, row in enumerate(rows):
            for column, column_weight in zip(columns, column_weights, strict=True):
                if not image.wants(Region(*row, *column)):
                    continue
                output = stages.run_whole(next(inputs), (row[0], column[0])).float()
                if band is None:
                    band = output.new_zeros(1, output.shape[1], side, image.size[1])
                weight = (row_weights[number][:, None] * column_weight[None]).to(output)
                band[..., : row[1] - row[0], column[0] : column[1]] += output * weight
            if band is None:  # nothing wanted so far
                continue
            finished = (rows[number + 1][0] if number + 1 < len(rows) else row[1]) - row[0]
            yield from _cut(band, (row[0], row[0] + finished), [c[0] for c in columns], image)
            band = torch.cat([band[..., finished:, :], torch.zeros_like(band[..., :finished, :])], dim=-2)


def _cut(
    band: Tensor, rows: Span, starts: list[int], image: PaddedImage
) -> Generator[tuple[Region, Tensor], None, None]:
    """The finished rows of a band in tiles, without what lies beyond the image or is not wanted."""
    for x0, x1 in zip(starts, [*starts[1:], band.shape[-1]], strict=True):
        window = Region(*rows, x0, x1)
        if image.wants(window):
            region = clipped(window, image.image_size)
            yield region, band[..., : region.height, region.x0 : region.x1].clone()


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
