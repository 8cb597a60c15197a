"""Norm statistics for tiles, as unpaired translation of whole slides has them, beside exact translation.

    python -m benchmarks.tile_statistics --model MODEL --image IMAGE [--size 1024] [--tile 256]

The same generator (instance norm, or batch norm with the statistics of the image) on tiles that lie side by side:

- each with its own statistics;
- with those of a thumbnail of the image, as large as a tile (thumbnail instance norm: Chen et al., AAAI 2022, URUST);
- with the mean of those of the tile and its eight neighbours, layer by layer (kernelized instance norm: Ho et al., ECCV
  2022, KIN, with a constant kernel of 3 x 3);
- with those of the neighbours interpolated at each pixel (Dense Normalization: Ho et al., ECCV 2024);
- exact.

These are the ideas in a few lines, not their authors' programs. Prints the difference of each from the whole image in
[-1, 1], and the mean step of that difference between the pixels on both sides of a border of tiles, relative to the
mean step elsewhere (1: no seam), in Markdown.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.contenders import (
    Prepared,
    Tiles,
    Variant,
    assembled,
    network_input,
    tiled,
    translated,
    translator_of,
    whole,
)
from napari_pix2pix.formats import open_image
from napari_pix2pix.translation.settings import TranslationSettings
from pix2pix_training.array_source import AnyArray
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.layers import StatisticsNorm
from pix2pix_training.model_file import Model, load_model
from pix2pix_training.networks import norm_layers
from pix2pix_training.regions import Region

Statistics = tuple[Tensor, Tensor]
"""Mean and variance that a layer is to use: (C, 1, 1), or of each pixel (C, H, W)."""
Chosen = Callable[[int, Sequence[int]], Statistics]
"""From the number of a norm layer and the height and width of its map."""
Table = list[dict[tuple[int, int], Statistics]]
"""Of each norm layer, by row and column of the tile."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--image", type=Path, nargs="+", required=True, help="several are the channels of one image")
    parser.add_argument("--size", type=int, default=1024, help="of the image, at most")
    parser.add_argument("--tile", type=int, default=256)
    chosen = parser.parse_args(arguments)
    model = load_model(chosen.model)
    with torch.inference_mode():
        image = read(chosen.image, chosen.size, chosen.tile)
        reference, ways = results(model, image, chosen.tile)
    print(f"{image.shape[1]} x {image.shape[2]} pixels in tiles of {chosen.tile} px")
    print("| way | mean difference | largest | step at borders |")
    print("|---|---|---|---|")
    for name, output in ways.items():
        difference = output - reference
        seam = seam_ratio(difference, chosen.tile)
        print(f"| {name} | {np.abs(difference).mean():.2g} | {np.abs(difference).max():.2g} | {seam:.2f} |")


def read(paths: Sequence[Path], size: int, tile: int) -> AnyArray:
    channels = []
    for path in paths:
        with open_image(path) as image:
            height, width = (min(size, length) // tile * tile for length in image.shape[-2:])
            channels.append(image.read(Region.whole(height, width)))
    return np.concatenate(channels)


def results(model: Model, image: AnyArray, tile: int) -> tuple[AnyArray, dict[str, AnyArray]]:
    """Outputs (C, Y, X) in [-1, 1]: of the whole image, and of each way."""
    exact = TranslationSettings(scheme="exact", tile=tile, statistics="image")
    variant = Variant(channels_last=False)
    ways: dict[str, Prepared] = {
        "tiles, own statistics": tiled(model, "tile", variant, tile=tile, halo=0),
        "statistics of a thumbnail": lambda pixels: by_thumbnail(model, pixels, tile),
        "mean of neighbouring tiles": lambda pixels: by_neighbours(model, pixels, tile, dense=False),
        "interpolated between tiles": lambda pixels: by_neighbours(model, pixels, tile, dense=True),
        "exact": translated(translator_of(model, exact)),
    }
    shape = (model.generator_config.target_channels, *image.shape[1:])
    reference = assembled(whole(model, "image", variant)(image), shape)
    return reference, {name: assembled(run(image), shape) for name, run in ways.items()}


def by_thumbnail(model: Model, image: AnyArray, tile: int) -> Tiles:
    """Each tile with the statistics that the layers have on the image made as small as a tile."""
    x = network_input(model, image, Variant(channels_last=False))
    network = model.generator(InferenceConfig(statistics="tile"))
    table: Table = [{} for _ in norm_layers(network)]
    with recording(network, table, (0, 0)):
        network(F.interpolate(x, size=(tile, tile), mode="area"))
    for region in Region.whole(*x.shape[-2:]).tiles(tile):
        with given(network, lambda layer, _: table[layer][0, 0]):
            yield region, network(x[..., *region.slices])[0].numpy()


def by_neighbours(model: Model, image: AnyArray, tile: int, *, dense: bool) -> Tiles:
    """Each tile with statistics of those around it, which were found tile by tile; `dense`: others at each pixel."""
    x = network_input(model, image, Variant(channels_last=False))
    network = model.generator(InferenceConfig(statistics="tile"))
    table: Table = [{} for _ in norm_layers(network)]
    regions = {(r.y0 // tile, r.x0 // tile): r for r in Region.whole(*x.shape[-2:]).tiles(tile)}
    for place, region in regions.items():
        with recording(network, table, place):
            network(x[..., *region.slices])
    for place, region in regions.items():
        combined = interpolated if dense else averaged
        with given(network, lambda layer, size, at=place, by=combined: by(around(table[layer], at), size)):  # type: ignore[misc]
            yield region, network(x[..., *region.slices])[0].numpy()


def around(known: dict[tuple[int, int], Statistics], place: tuple[int, int]) -> Tensor:
    """(2, C, 3, 3): mean and variance of a tile and its neighbours; beyond the border the nearest tile's."""
    last = max(known)
    rows = [
        [
            torch.stack(known[min(max(place[0] + down, 0), last[0]), min(max(place[1] + right, 0), last[1])])[..., 0, 0]
            for right in (-1, 0, 1)
        ]
        for down in (-1, 0, 1)
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def averaged(table: Tensor, _: Sequence[int]) -> Statistics:
    mean, var = table.mean((-2, -1))[..., None, None]
    return mean, var


def interpolated(table: Tensor, size: Sequence[int]) -> Statistics:
    """Bilinear between the middles of the tiles, for each pixel of the middle one."""
    places = [(torch.arange(length) + 0.5) / length for length in size]  # 0.5 is the middle of the tile
    y, x = torch.meshgrid(*places, indexing="ij")
    grid = torch.stack([x - 0.5, y - 0.5], -1)[None].expand(2, -1, -1, -1)  # -1 and 1 are the neighbours' middles
    mean, var = F.grid_sample(table, grid.to(table.dtype), align_corners=True)
    return mean, var


@contextmanager
def recording(network: nn.Module, table: Table, place: tuple[int, int]) -> Iterator[None]:
    """While it lasts, the norm layers note the statistics of what they are given."""

    def note(layer: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            var, mean = torch.var_mean(inputs[0][0], (-2, -1), correction=0, keepdim=True)
            table[layer][place] = mean, var

        return hook

    handles = [norm.register_forward_pre_hook(note(number)) for number, norm in enumerate(norm_layers(network))]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def given(network: nn.Module, chosen: Chosen) -> Iterator[None]:
    """While it lasts, the norm layers use the statistics that are chosen for them."""

    def put(layer: int) -> Callable[[StatisticsNorm, tuple[Tensor, ...], Tensor], Tensor]:
        def hook(norm: StatisticsNorm, inputs: tuple[Tensor, ...], _: Tensor) -> Tensor:
            mean, var = chosen(layer, inputs[0].shape[-2:])
            result = (inputs[0] - mean) * torch.rsqrt(var + norm.eps)
            if norm.weight is None or norm.bias is None:
                return result
            return result * norm.weight[:, None, None] + norm.bias[:, None, None]

        return hook

    handles = [norm.register_forward_hook(put(number)) for number, norm in enumerate(norm_layers(network))]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def seam_ratio(difference: AnyArray, tile: int) -> float:
    """Mean absolute step between neighbouring pixels of two tiles, over that of neighbours within tiles."""
    across, within = [], []
    for axis in (-1, -2):
        steps = np.moveaxis(np.abs(np.diff(difference.astype(np.float64), axis=axis)), axis, 0)
        is_border = np.arange(1, len(steps) + 1) % tile == 0
        across.append(steps[is_border].ravel())
        within.append(steps[~is_border].ravel())
    return float(np.concatenate(across).mean() / max(np.concatenate(within).mean(), np.finfo(np.float64).tiny))


if __name__ == "__main__":
    main()
