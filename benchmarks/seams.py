"""Draws the seams that tiles leave: a trained model on an image, cut in tiles, blended by MONAI, exact, and whole.

    python benchmarks/seams.py --model MODEL --image IMAGE --out FIGURE.jpg [--size 1024] [--window 256] [--crop 192]

The upper left --size pixels are translated with the model's own statistics; where those are "image", each window of the
first two ways has its own. First row: the outputs, all on one contrast. Second: --crop pixels around the corner of four
tiles nearest to the middle, where red ticks mark the borders of the tiles. Third: differences from the whole image in
[-1, 1], the mean of the channels, all on one scale; what is white there, and the captions, go to the terminal too.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.contenders import (
    Prepared,
    Variant,
    assembled,
    monai_windows,
    tiled,
    translated,
    translator_of,
    whole,
)
from napari_pix2pix.demonstration import RGB, Panel, contrast_limits, grey, write_figure
from napari_pix2pix.formats import open_image
from napari_pix2pix.translation.settings import TranslationSettings
from pix2pix_training.array_source import AnyArray
from pix2pix_training.model_file import Model, load_model
from pix2pix_training.regions import Region

_TICK_PX = 5
_TICK_COLOR = (255, 30, 30)
_BRIGHT_PERCENTILE = 99
"""Of the difference that tiles without overlap have; white in all difference pictures."""


@dataclass(frozen=True)
class Way:
    """One way of translating, and its output (C, Y, X) in [-1, 1]."""

    caption: str
    output: AnyArray


def ways(model: Model, image: AnyArray, window: int) -> list[Way]:
    """Tiles, MONAI, exact, and the whole image last."""
    statistics, variant = model.inference.statistics, Variant()
    exact = TranslationSettings(scheme="exact", tile=window)
    prepared: dict[str, Prepared] = {
        f"tiles of {window} px, no overlap": tiled(model, statistics, variant, tile=window, halo=0),
        f"MONAI, {window} px, 25 % overlap": monai_windows(model, statistics, variant, window=window, overlap=0.25),
        f"exact, tiles of {window} px": translated(translator_of(model, exact)),
        "whole image": whole(model, statistics, variant),
    }
    shape = (model.generator_config.target_channels, *image.shape[1:])
    with torch.inference_mode():
        return [Way(caption, assembled(run(image), shape)) for caption, run in prepared.items()]


def figure(found: list[Way], window: int, crop: int) -> list[list[Panel]]:
    reference = found[-1].output
    limits = [contrast_limits(plane) for plane in reference]
    differences = [np.abs(way.output - reference) for way in found[:-1]]
    white = float(np.percentile(differences[0].mean(axis=0), _BRIGHT_PERCENTILE))
    around = _around_middle_corner(reference.shape[1:], window, crop)
    pictures = [picture(way.output, limits) for way in found]
    outputs = [Panel(way.caption, pixels) for way, pixels in zip(found, pictures, strict=True)]
    crops = [Panel("the same, enlarged", _with_ticks(p[around.slices], around, window)) for p in pictures]
    shown = [Panel(_said(d), grey(d.mean(axis=0), (0, white))) for d in differences]
    print(f"white in the difference pictures: {white:.3g} of the range -1 to 1")
    for way, panel in zip(found, shown, strict=False):
        print(f"{way.caption}: {panel.caption}")
    return [outputs, crops, shown]


def _said(difference: AnyArray) -> str:
    return f"difference: mean {difference.mean():.2g}, largest {difference.max():.2g}"


def _around_middle_corner(size: tuple[int, ...], window: int, crop: int) -> Region:
    y, x = (length // 2 // window * window - crop // 2 for length in size)
    return Region.at(y, x, crop, crop)


def picture(output: AnyArray, limits: Sequence[tuple[float, float]]) -> RGB:
    """Three channels as red, green and blue, else the first channel in grey; `limits` become dark and bright."""
    if len(output) != 3:
        return grey(output[0], limits[0])
    return np.stack([grey(plane, ends)[..., 0] for plane, ends in zip(output, limits, strict=True)], axis=-1)


def _with_ticks(pixels: RGB, region: Region, window: int) -> RGB:
    """Red ticks at the edges of a picture of `region` where tiles of `window` meet."""
    marked = pixels.copy()
    for y in range(-(-region.y0 // window) * window - region.y0, region.height, window):
        marked[y, :_TICK_PX] = marked[y, -_TICK_PX:] = _TICK_COLOR
    for x in range(-(-region.x0 // window) * window - region.x0, region.width, window):
        marked[:_TICK_PX, x] = marked[-_TICK_PX:, x] = _TICK_COLOR
    return marked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--crop", type=int, default=192)
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    with open_image(arguments.image) as image:
        height, width = (min(arguments.size, length) for length in image.shape[-2:])
        stored = image.read(Region.whole(height, width))
    write_figure(figure(ways(model, stored, arguments.window), arguments.window, arguments.crop), arguments.out)


if __name__ == "__main__":
    main()
