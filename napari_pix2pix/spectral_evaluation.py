"""What eyes see before any score: a grid in translated images, and whether they are as sharp as their targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from pix2pix_training.array_source import AnyArray, ArraySource, plane_indices, plane_size
from pix2pix_training.invalid_pixels import FilledSource
from pix2pix_training.metrics import detail_ratio, grid_index, ratio_of_indices
from pix2pix_training.pairs import Pair
from pix2pix_training.regions import Region

_SEEN_PX = 1024


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """Of all images together; None where no image says anything: below 64 pixels, constant, or with invalid pixels.

    Attributes
    ----------
    grid : for each period in pixels, how far lines stand out relative to the targets (`grid_ratio`); above 1 a grid.
    detail : median over the images of the power below 4 pixels relative to the target's (`detail_ratio`); below 1 they
        are blurred, far above 1 there is texture, noise or a grid that targets do not have.
    """

    grid: Mapping[int, float] | None
    detail: float | None

    def as_dict(self) -> dict[str, Any]:
        return {"grid": self.grid, "detail": self.detail}


def spectrum_of(pairs: Sequence[Pair]) -> Spectrum:
    """Of predictions (the sources) relative to their targets, by the central 1024 pixels of the middle planes."""
    indices, details = [], []
    for pair in pairs:
        result, target = _middle(pair.source), _middle(pair.target)
        if result is None or target is None:
            continue
        indices.append((grid_index(result), grid_index(target)))
        details.append(detail_ratio(result, target))
    known = [detail for detail in details if detail is not None]
    return Spectrum(
        grid=ratio_of_indices(*zip(*indices, strict=True)) if indices else None,
        detail=median(known) if known else None,
    )


def _middle(image: ArraySource) -> AnyArray | None:
    """The central part (C, H, W) of the middle plane; None where a pixel of it is invalid."""
    height, width = plane_size(image)
    planes = list(plane_indices(image))
    y0, x0 = max(0, (height - _SEEN_PX) // 2), max(0, (width - _SEEN_PX) // 2)
    part = Region.at(y0, x0, _SEEN_PX, _SEEN_PX).common(Region.whole(height, width))
    pixels, invalid = FilledSource(image, may_be_empty=True).read_with_mask(part, planes[len(planes) // 2])
    return pixels if invalid is None or not invalid.any() else None
