"""Planes of a stack with their neighbours along Z as further channels."""

from __future__ import annotations

import numpy as np

from pix2pix_training.array_source import AnyArray, ArraySource, Opacity, SourceView
from pix2pix_training.errors import ImageError
from pix2pix_training.invalid_pixels import can_have_invalid_pixels, invalid_values
from pix2pix_training.regions import Region

MAX_Z_CONTEXT = 50
"""Planes on each side, at most."""


class NeighbouringPlanes(SourceView):
    """A stack in which each plane has the channels of `reach` planes on each side too.

    With C channels, plane z has (2 * reach + 1) * C: those of plane z - reach first, of plane z + reach last. At the
    ends the last plane takes the place of missing ones. A pixel is invalid where plane z itself is; an invalid pixel
    of a neighbour is taken from plane z.

    Raises
    ------
    ImageError
        The image has no Z axis, or a single plane.
    """

    def __init__(self, base: ArraySource, reach: int) -> None:
        super().__init__(base)
        axis = _depth_axis(base.axes[:-3])
        if axis is None or base.shape[axis] == 1:
            raise ImageError(
                f"{base.name} with axes {base.axes} is no Z stack of several planes, and {reach} neighbouring planes "
                "on each side are asked for; give the whole stack"
            )
        self._axis = axis
        self._reach = reach
        self.palette = None
        self.channel_names = ()
        self.shape = (*base.shape[:-3], (2 * reach + 1) * base.shape[-3], *base.shape[-2:])

    def read_with_opacity(self, region: Region, plane: tuple[int, ...] = ()) -> tuple[AnyArray, Opacity | None]:
        own, opacity = self._base.read_with_opacity(region, plane)
        pixels = np.concatenate([self._neighbour(offset, own, opacity, region, plane) for offset in self._offsets()])
        return pixels, opacity

    def _offsets(self) -> range:
        return range(-self._reach, self._reach + 1)

    def _neighbour(
        self, offset: int, own: AnyArray, own_opacity: Opacity | None, region: Region, plane: tuple[int, ...]
    ) -> AnyArray:
        z = min(max(plane[self._axis] + offset, 0), self.shape[self._axis] - 1)
        if z == plane[self._axis]:
            return own
        pixels, opacity = self._base.read_with_opacity(region, (*plane[: self._axis], z, *plane[self._axis + 1 :]))
        if can_have_invalid_pixels(self):
            missing = invalid_values(pixels, self.nodata, opacity) | invalid_values(own, self.nodata, own_opacity)
            pixels[missing] = own[missing]
        return pixels


def with_neighbouring_planes(image: ArraySource, reach: int) -> ArraySource:
    """The image itself where `reach` is 0, else a `NeighbouringPlanes` of it."""
    return NeighbouringPlanes(image, reach) if reach else image


def _depth_axis(leading: str) -> int | None:
    """Index of Z, or of the only axis where it is not said to be time."""
    if "Z" in leading:
        return leading.index("Z")
    return 0 if len(leading) == 1 and leading != "T" else None
