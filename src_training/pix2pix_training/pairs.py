"""Pairs of images, and the random patches that training takes from them. Knows no file format."""

from __future__ import annotations

from dataclasses import dataclass

from pix2pix_training.array_source import ArraySource, plane_size
from pix2pix_training.errors import ImageError


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


def _size(source: ArraySource) -> str:
    height, width = plane_size(source)
    return f"{height} x {width}"
