"""Reading images in cells, and finding a measure of novelty on the images of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from pix2pix_training.array_source import ArraySource, channel_count, plane_indices, plane_size
from pix2pix_training.errors import ImageError
from pix2pix_training.image_survey import Plane
from pix2pix_training.intensity import Mapping, resolved, to_tensor
from pix2pix_training.invalid_pixels import FilledSource
from pix2pix_training.model_file import Model
from pix2pix_training.networks import padded_index
from pix2pix_training.novelty import (
    CELL_PX,
    LEAST_YARDSTICK,
    Features,
    NoveltyMeasure,
    NoveltyTraits,
    Scores,
    cell_features,
    contents,
    least_content,
    measure_of,
    yardstick_of,
)
from pix2pix_training.pairs import Pair, Split
from pix2pix_training.preparation import PreparedData, PreparedPair
from pix2pix_training.regions import Region, cells

NEIGHBOURS = 1
"""Cells on each side that the score of a cell is averaged with."""
PATCH_CELLS = 4
"""Side of the patches that stand for an image, in cells."""
_PATCHES = 512
_MOST_IN_ORDER = 1 << 20
_LEAST_VALID_SHARE = 0.9
_CPU = torch.device("cpu")


class Cells:
    """The cells of an image; those in the last row and column end at its border, so they may overlap others.

    Parameters
    ----------
    image : with all channels that the network sees.
    mapping : of its values, with its ends.
    device : that computes.
    """

    def __init__(self, image: ArraySource, mapping: Mapping, device: torch.device = _CPU) -> None:
        self._filled = FilledSource(image, may_be_empty=True)
        self._mapping = mapping
        self._device = device
        self._places = tuple(_places(length) for length in plane_size(image))
        self.size = (len(self._places[0]), len(self._places[1]))
        """Rows and columns of cells."""
        self.count = self.size[0] * self.size[1]

    def features(self, part: Region, plane: Plane) -> Features:
        """Of a rectangle of cells; NaN for those that hold hardly valid pixels."""
        rows, columns = self._places[0][slice(*part.rows)].ravel(), self._places[1][slice(*part.columns)].ravel()
        region = Region(int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1)
        stored, opacity = self._filled.read_with_opacity(region, plane)
        if region.size != (len(rows), len(columns)):  # cells overlap, or are larger than the image
            index = np.ix_(rows - region.y0, columns - region.x0)
            stored, opacity = stored[:, index[0], index[1]], None if opacity is None else opacity[index]
        taken = to_tensor(stored).to(self._device)
        pixels = self._mapping.to_network(taken[None])[0].reshape(-1, part.height, CELL_PX, part.width, CELL_PX)
        found = cell_features(pixels.permute(1, 3, 0, 2, 4).contiguous())
        if opacity is not None:
            valid = (opacity > 0).reshape(part.height, CELL_PX, part.width, CELL_PX).mean((1, 3))
            found[valid < _LEAST_VALID_SHARE] = np.nan
        return found

    def scores(self, measure: NoveltyMeasure, part: Region, plane: Plane) -> tuple[Scores, Scores]:
        """Of a rectangle of cells: means over those around each, which tell more than single ones; and contents.

        NaN stays.
        """
        seen = part.grown(NEIGHBOURS, self.size)
        features = self.features(seen, plane)
        inner = part.seen_from(seen).slices
        return _averaged(measure.scores(features))[inner], contents(features)[inner]


def _places(length: int) -> NDArray[np.int64]:
    """Rows (or columns) of the pixels of each cell; shape (cells, `CELL_PX`)."""
    if length < CELL_PX:
        return padded_index(length, CELL_PX).numpy()[None]
    starts = np.minimum(np.arange(cells(length, CELL_PX)) * CELL_PX, length - CELL_PX)
    return starts[:, None] + np.arange(CELL_PX)


def _averaged(scores: Scores) -> Scores:
    """The mean of each and its neighbours, of those that are there; NaN stays."""
    padded = np.pad(scores, NEIGHBOURS, constant_values=np.nan)
    windows = sliding_window_view(padded, (2 * NEIGHBOURS + 1,) * 2)
    known = ~np.isnan(windows)
    means = np.where(known, windows, 0.0).sum((-2, -1)) / np.maximum(1, known.sum((-2, -1)))
    return np.where(np.isnan(scores), np.nan, means)


@dataclass(frozen=True, kw_only=True)
class KnownImage:
    """An image that others are to be compared with, those of its planes that count, and the mapping of its values."""

    image: ArraySource
    planes: Sequence[Plane]
    mapping: Mapping


def measured_novelty(training: Sequence[KnownImage], held_out: Sequence[KnownImage]) -> NoveltyMeasure | None:
    """A measure of how unlike `training` images are; None where they are too small for one.

    Its yardstick are the images that are held out. Where they are too small for that, it is every third of the patches
    that are looked at, which do not count among what is known then.
    """
    known, others, name = drawn_patches(training), drawn_patches(held_out), "held-out"
    if sum(patch.cells.pixels for patch in others) < LEAST_YARDSTICK:
        known, others, name = [p for n, p in enumerate(known) if n % 3], known[::3], "training"
    parts = [patch.features() for patch in known]
    features = _joined(parts)
    if not len(features):
        return None
    measure = NoveltyMeasure(traits=_NOT_YET, weights=measure_of(features))
    judged = [patch.scores(measure) for patch in others]
    scores = _joined(own[..., None] for own, _ in judged)[:, 0]
    if len(scores) < LEAST_YARDSTICK:
        return None
    yardstick = yardstick_of(scores)
    traits = NoveltyTraits(
        cells=len(measure.weights["cells"]),
        distances=len(yardstick),
        yardstick=name,  # type: ignore[arg-type]  # one of the two
        images=len({id(patch.source) for patch in others}),
        least_content=least_content(
            _mean_contents([*known, *others], [*map(contents, parts), *(own for _, own in judged)])
        ),
    )
    return NoveltyMeasure(traits=traits, weights={**measure.weights, "yardstick": yardstick})


def _mean_contents(patches: Sequence[Patch], found: Sequence[Scores]) -> list[float]:
    """Of each plane of each image the mean of the contents of its patches; without those that hold no data."""
    of_planes: dict[tuple[int, Plane], list[Scores]] = {}
    for patch, own in zip(patches, found, strict=True):
        of_planes.setdefault((id(patch.source), patch.plane), []).append(own[~np.isnan(own)])
    joined = [np.concatenate(parts) for parts in of_planes.values()]
    return [float(own.mean()) for own in joined if own.size]


def novelty_of_run(data: PreparedData) -> NoveltyMeasure | None:
    """`measured_novelty` of the sources of a run."""

    def known(pairs: Sequence[PreparedPair]) -> list[KnownImage]:
        return [KnownImage(image=p.pair.source, planes=p.planes, mapping=p.source_mapping) for p in pairs]

    return measured_novelty(known(data.training), known(data.validation))


def with_novelty(model: Model, split: Split) -> Model:
    """A model with a measure of novelty for images like the sources of these pairs, in place of its own.

    Raises
    ------
    ImageError
        The images do not fit the model, or they are too small.
    """
    mapping = model.source.mapping

    def known(pairs: Sequence[Pair]) -> list[KnownImage]:
        return [
            KnownImage(image=p.source, planes=list(plane_indices(p.source)), mapping=resolved(mapping, p.source))
            for p in pairs
        ]

    for image in (pair.source for pair in (*split.training, *split.validation)):
        if channel_count(image) != mapping.image_channels or image.dtype.name != mapping.dtype:
            raise ImageError(
                f"{image.name} has {channel_count(image)} channels of {image.dtype}, and the model takes "
                f"{mapping.image_channels} of {mapping.dtype}; give images like those that it was trained on"
            )
    measure = measured_novelty(known(split.training), known(split.validation))
    if measure is None:
        raise ImageError(
            f"the images have too few pixels to tell others from them; give as many as {LEAST_YARDSTICK} squares of "
            f"{CELL_PX} pixels that are held out, or three times as many in all"
        )
    return replace(model, novelty=measure)


_NOT_YET = NoveltyTraits(cells=1, distances=LEAST_YARDSTICK, yardstick="training", images=1)


@dataclass(frozen=True)
class Patch:
    """A rectangle of cells of one plane."""

    source: Cells
    plane: Plane
    cells: Region

    def features(self) -> Features:
        """See `Cells.features`."""
        return self.source.features(self.cells, self.plane)

    def scores(self, measure: NoveltyMeasure) -> tuple[Scores, Scores]:
        """See `Cells.scores`."""
        return self.source.scores(measure, self.cells, self.plane)


def drawn_patches(images: Sequence[KnownImage], most: int = _PATCHES) -> list[Patch]:
    """All patches of the images, or at most so many random ones, always the same; image by image."""
    planes = [(source, plane) for image in images for source in [_cells_of(image)] for plane in image.planes]
    counts = [cells(source.size[0], PATCH_CELLS) * cells(source.size[1], PATCH_CELLS) for source, _ in planes]
    starts = np.cumsum([0, *counts])
    total = int(starts[-1])
    rng = np.random.default_rng(0)
    drawn = rng.permutation(total)[:most] if total < _MOST_IN_ORDER else rng.integers(0, total, most)
    patches = []
    for number in np.sort(drawn).tolist():
        which = int(np.searchsorted(starts, number, "right")) - 1
        patches.append(_patch(*planes[which], number - int(starts[which])))
    return patches


def _cells_of(known: KnownImage) -> Cells:
    return Cells(known.image, known.mapping)


def _patch(source: Cells, plane: Plane, number: int) -> Patch:
    rows, columns = source.size
    y, x = divmod(number, cells(columns, PATCH_CELLS))
    place = Region.at(y * PATCH_CELLS, x * PATCH_CELLS, PATCH_CELLS, PATCH_CELLS)
    return Patch(source, plane, place.common(Region.whole(rows, columns)))


def _joined(parts: Iterable[Features]) -> Features:
    """Those of all cells of rectangles that are no NaN; shape (cells, features)."""
    flat = [part.reshape(-1, part.shape[-1]) for part in parts]
    return np.concatenate([part[~np.isnan(part).any(1)] for part in flat]) if flat else np.zeros((0, 1))
