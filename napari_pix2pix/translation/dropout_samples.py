"""Several translations that differ only in their dropout noise: their mean and standard deviation.

The runs follow one another, and only sums are kept (Welford's method), so that memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path

import torch
from torch import Tensor

from napari_pix2pix.translation.planes import FeaturePlane, PlaneStore
from pix2pix_training.regions import Region

Tiles = Generator[tuple[Region, Tensor], None, None]


def sampled_tiles(
    run: Callable[[int], Tiles],
    samples: int,
    *,
    channels: int,
    place: Region,
    device: torch.device,
    memory_bytes: int,
    scratch: Path | None = None,
) -> Tiles:
    """Tiles of 2 x `channels` channels: the means over all runs, then the standard deviations.

    Parameters
    ----------
    run : gives the tiles (1, channels, h, w) of run 0, 1, ...; always the same regions.
    samples : number of runs, 2 or more.
    place : the region in which the tiles lie.
    memory_bytes : what the sums may take; beyond it they are kept on disk, in the folder `scratch`.
    """
    with PlaneStore(device, memory_bytes, folder=scratch) as store:
        sums = store.new(0, 2 * channels, (place.height, place.width))
        for number in range(samples):
            with closing(run(number)) as tiles:
                for region, values in tiles:
                    inner = region.seen_from(place)
                    result = _updated(sums, inner, values.float(), number)
                    if number + 1 < samples:
                        sums.write(inner, result)
                    else:
                        result[:, channels:] = (result[:, channels:] / (samples - 1)).sqrt()
                        yield region, result


def _updated(sums: FeaturePlane, region: Region, values: Tensor, number: int) -> Tensor:
    """Means and sums of squared deviations after one more run."""
    if number == 0:
        return torch.cat([values, torch.zeros_like(values)], 1)
    mean, squares = sums.read(region).chunk(2, 1)
    delta = values - mean
    updated = mean + delta / (number + 1)
    return torch.cat([updated, squares + delta * (values - updated)], 1)
