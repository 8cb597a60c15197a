"""Pairs of images, and how a part of them is held out for validation. Knows no file format."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pix2pix_training.array_source import (
    ArraySource,
    CroppedSource,
    channel_count,
    cropped_from,
    plane_size,
    whole_plane,
)
from pix2pix_training.channel_names import listed
from pix2pix_training.errors import ImageError, SettingsError
from pix2pix_training.regions import Region


@dataclass(frozen=True)
class Pair:
    """A source and its target: any dtypes and channel counts, equal height, width and leading axes."""

    source: ArraySource
    target: ArraySource
    name: str

    def __post_init__(self) -> None:
        if plane_size(self.source) != plane_size(self.target):
            raise ImageError(
                f"{self.source.name} has {_size(self.source)} pixels and its target {self.target.name} has "
                f"{_size(self.target)}; the images of a pair must have equal height and width"
            )
        if self.source.shape[:-3] != self.target.shape[:-3]:
            raise ImageError(
                f"{self.source.name} has planes {self.source.shape[:-3]} and its target {self.target.name} has "
                f"{self.target.shape[:-3]}; the stacks of a pair must have equal length"
            )

    @property
    def images(self) -> tuple[ArraySource, ArraySource]:
        """Source and target."""
        return self.source, self.target

    def crop(self, region: Region) -> Pair:
        return Pair(CroppedSource(self.source, region), CroppedSource(self.target, region), self.name)


def check_consistent(pairs: Sequence[Pair]) -> None:
    """Refuse a set whose images differ in dtype or number of channels."""
    if not pairs:
        raise ImageError("there are no pairs to train on")
    for side in ("source", "target"):
        images: list[ArraySource] = [getattr(pair, side) for pair in pairs]
        first = images[0]
        for image in images[1:]:
            if channel_count(image) != channel_count(first):
                raise ImageError(
                    f"{image.name} has {channel_count(image)} channels and {first.name} has {channel_count(first)}; "
                    f"all {side} images must have the same number of channels"
                )
            if image.dtype != first.dtype:
                raise ImageError(
                    f"{image.name} has pixels of type {image.dtype.name} and {first.name} of {first.dtype.name}; "
                    f"all {side} images must have the same type"
                )


@dataclass(frozen=True)
class Split:
    """Pairs to train on, and pairs (or regions) held out for validation."""

    training: tuple[Pair, ...]
    validation: tuple[Pair, ...]

    @property
    def held_out(self) -> str:
        """In words: "the bottom 10 %, rows 922 to 1024" of a single image, or "1 of 9 images (a.tif)"."""
        if not self.validation:
            return "nothing"
        are_whole = all(map(_is_whole, self.validation))
        if len(self.validation) == 1 and not are_whole:
            image, region = cropped_from(self.validation[0].target)
            return part_in_words(region, plane_size(image))
        count = f"{len(self.validation)} of {len(self.training) + len(self.validation)}"
        if not are_whole:
            return f"{count} parts of images"
        return f"{count} images ({listed([pair.source.name for pair in self.validation])})"


def _is_whole(pair: Pair) -> bool:
    """Whether nothing is cut off; an image that holds source and target side by side is whole in its two halves."""
    (image, region), (other, beside) = cropped_from(pair.target), cropped_from(pair.source)
    parts = {region, beside} if other is image else {region}
    return sum(part.pixels for part in parts) == whole_plane(image).pixels


def part_in_words(region: Region, size: tuple[int, int]) -> str:
    """Where a part lies in an image of (height, width), and how much of it that is; rows and columns from 0."""
    height, width = size
    share = f"{100 * region.pixels / (height * width):.2g} %"
    rows, columns = f"rows {region.y0} to {region.y1}", f"columns {region.x0} to {region.x1}"
    if region.columns == (0, width) and region.y1 == height:
        return f"the bottom {share}, {rows}"
    if region.rows == (0, height) and region.x1 == width:
        return f"the right {share}, {columns}"
    return f"{share} of the image, {rows}, {columns}"


def split_fraction(pairs: Sequence[Pair], fraction: float, *, patch_size: int, seed: int) -> Split:
    """Hold out a random `fraction` of the pairs; of a single pair, a band at the end of its longer side.

    The band is separated from the training region by a gap of one patch. Where the image is too small for that, nothing
    is held out.
    """
    if not 0 <= fraction < 1:
        raise SettingsError(f"validation fraction {fraction} must be at least 0 and below 1")
    if fraction == 0:
        return Split(tuple(pairs), ())
    if len(pairs) == 1:
        return _split_band(pairs[0], fraction, patch_size)
    held_out = set(
        np.random.default_rng([seed, 1]).permutation(len(pairs))[: max(1, round(fraction * len(pairs)))].tolist()
    )
    if len(held_out) == len(pairs):
        raise SettingsError(f"validation fraction {fraction} leaves none of the {len(pairs)} pairs to train on")
    return Split(
        tuple(pair for i, pair in enumerate(pairs) if i not in held_out),
        tuple(pair for i, pair in enumerate(pairs) if i in held_out),
    )


def _split_band(pair: Pair, fraction: float, patch_size: int) -> Split:
    height, width = plane_size(pair.source)
    longer = max(height, width)
    band = max(round(fraction * longer), min(patch_size, longer // 4))
    if longer - band - patch_size < patch_size:
        return Split((pair,), ())
    vertical = height >= width
    region = Region(height - band if vertical else 0, height, 0 if vertical else width - band, width)
    return split_region(pair, region, patch_size=patch_size)


def split_region(pair: Pair, region: Region, *, patch_size: int) -> Split:
    """Hold out a rectangle of a single pair; what lies at least a patch away from it is trained on."""
    return split_regions(pair, (whole_plane(pair.source),), region, patch_size=patch_size)


def split_regions(pair: Pair, within: Sequence[Region], held_out: Region, *, patch_size: int) -> Split:
    """Train within rectangles of a single pair, but at least a patch away from the rectangle that is held out."""
    validation = pair.crop(held_out)
    parts = [part.common(region) for part in _around(pair, held_out, patch_size) for region in within]
    parts = [part for part in parts if part.height >= patch_size and part.width >= patch_size]
    if not parts:
        raise SettingsError(
            f"{pair.name}: the validation region leaves no room for a patch of {patch_size} pixels with a gap of one "
            "patch; choose a smaller region or patch size"
        )
    return Split(tuple(pair.crop(part) for part in parts), (validation,))


def _around(pair: Pair, region: Region, gap: int) -> list[Region]:
    """Four rectangles that make up what lies at least `gap` away from a region; empty ones among them."""
    height, width = plane_size(pair.source)
    kept_off = region.grown(gap, (height, width))
    return [
        Region(0, kept_off.y0, 0, width),
        Region(kept_off.y1, height, 0, width),
        Region(*kept_off.rows, 0, kept_off.x0),
        Region(*kept_off.rows, kept_off.x1, width),
    ]


def _size(source: ArraySource) -> str:
    height, width = plane_size(source)
    return f"{height} x {width}"


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key by which "tile10" comes after "tile9", equal on every platform."""
    parts = re.findall(r"(\d+)|(\D+)", text)
    return (*((0, int(digits), "") if digits else (1, 0, other) for digits, other in parts), (-1, 0, text))
