"""How much of an image is unlike what a model was trained on: as a map, or from samples of it.

It depends on the image alone, not on how that is translated: a map is the same with every scheme, tile and backend.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import isqrt
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from napari_pix2pix.formats.remote import RemotePath
from napari_pix2pix.formats.writing import (
    OutputSpec,
    Tile,
    check_output,
    incompatibility,
    known_suffix,
    map_path,
    write_image,
)
from napari_pix2pix.translation.fitted_image import FittedImage, percent
from napari_pix2pix.translation.translator import Translator
from pix2pix_training.array_source import channel_count, plane_indices, plane_size
from pix2pix_training.errors import NoValidPixelError, OutputError, SettingsError
from pix2pix_training.intensity import LinearMapping, resolved
from pix2pix_training.model_file import Model
from pix2pix_training.neighbouring_planes import with_neighbouring_planes
from pix2pix_training.novelty import CELL_PX, NoveltyMeasure
from pix2pix_training.novelty_survey import PATCH_CELLS, Cells, KnownImage, Patch, drawn_patches
from pix2pix_training.regions import Region

logger = logging.getLogger(__name__)

NOVEL_P = 0.01
"""A place is novel where fewer than this share of those in held-out images are as unlike the training images."""
WARNED_SHARE = 0.3
CHANNEL_NAME = "p-value of novelty"
_SAMPLES = 16
_VALUES_AT_ONCE = 3_000_000
_MOST_CELLS = 32
_TILE_PX = 1024
PValues = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Novelty:
    """How unlike its training images a model finds an image.

    Attributes
    ----------
    p_values : shape (*leading, rows, columns), float32: for each square of `cell_px` pixels the share of such squares
        in images like those of training that are at least as unlike them; NaN where there is no data.
    """

    p_values: PValues
    cell_px: int = CELL_PX

    @property
    def share(self) -> float:
        """Of the image that is novel, from 0 to 1; 0 of an image without data."""
        return novel_share(self.p_values)


def novel_share(p_values: PValues) -> float:
    """Of places that can be judged, those that are novel."""
    judged = p_values[~np.isnan(p_values)]
    return float((judged < NOVEL_P).mean()) if judged.size else 0.0


def share_in_words(share: float, images: int = 1) -> str:
    of_them = "the image" if images == 1 else f"the {images} images"
    return f"{percent(share)} of {of_them} is unlike what the model was trained on"


def require_measure(model: Model) -> NoveltyMeasure:
    """The measure of a model.

    Raises
    ------
    SettingsError
        It has none.
    """
    if model.novelty is None:
        raise SettingsError(
            "the model cannot tell what is unlike its training images: it was made by an older version, imported, or "
            "trained on too few pixels for that; in Python, Pix2Pix.with_novelty adds it from images like its own"
        )
    return model.novelty


def found_novelty(image: FittedImage, translator: Translator) -> Novelty:
    """The map of a whole image.

    Raises
    ------
    SettingsError
        The model has no measure of novelty.
    Interrupted
        The work was asked to end.
    """
    measure = require_measure(translator.model)
    source = with_neighbouring_planes(image, translator.model.source.z_context)
    try:
        mapping = resolved(image.mapping, source)
    except NoValidPixelError:
        rows, columns = (-(-length // CELL_PX) for length in plane_size(source))
        return Novelty(p_values=np.full((*source.shape[:-3], rows, columns), np.nan, np.float32))
    cells = Cells(source, mapping, translator.device if translator.device.type == "cuda" else torch.device("cpu"))
    found: PValues = np.empty((*source.shape[:-3], *cells.size), np.float32)
    scores, contents = np.empty(cells.size), np.empty(cells.size)
    side = min(_MOST_CELLS, max(1, isqrt(_VALUES_AT_ONCE // (channel_count(source) * CELL_PX**2))))
    for plane in plane_indices(source):
        for part in Region.whole(*cells.size).tiles(side):
            translator.cancel.check()
            scores[part.slices], contents[part.slices] = cells.scores(measure, part, plane)
        found[plane] = measure.p_values(scores, contents)
    return Novelty(p_values=found)


def sampled_share(image: FittedImage, translator: Translator) -> float | None:
    """About how much of an image is novel, from a few places of it.

    None where the model cannot tell, or where the range of values is that of each image, which is not known before.
    """
    measure, mapping = translator.model.novelty, image.mapping
    if measure is None or (isinstance(mapping, LinearMapping) and not mapping.low):
        return None
    source = with_neighbouring_planes(image, translator.model.source.z_context)
    planes, cells = list(plane_indices(source)), Cells(source, mapping)
    if len(planes) * cells.count <= _SAMPLES * PATCH_CELLS**2:  # at once: patches see their neighbours too
        patches = [Patch(cells, plane, Region.whole(*cells.size)) for plane in planes]
    else:
        patches = drawn_patches([KnownImage(image=source, planes=planes, mapping=mapping)], _SAMPLES)
    judged = [patch.scores(measure) for patch in patches]
    scores, contents = (np.concatenate([each.ravel() for each in part]) for part in zip(*judged, strict=True))
    return novel_share(measure.p_values(scores, contents))


def warn_of_novelty(name: str, share: float, *, is_sampled: bool) -> None:
    """A line where much of an image is novel."""
    if share <= WARNED_SHARE:
        return
    about, advice = ("about ", "; --novelty-map shows where") if is_sampled else ("", "")
    logger.warning("%s: %s%s, so its result may mean nothing there%s", name, about, share_in_words(share), advice)


class NoveltyFile:
    """The file of a map beside an output, of the same place and size; a TIFF where the output's format has no reals.

    Parameters
    ----------
    output, spec, file_format : the output.
    keeps : leave a map that is there already as it is, as work on the output goes on.

    Raises
    ------
    OutputError
        It is refused, or there already.
    """

    def __init__(self, output: Path, spec: OutputSpec, *, file_format: str, overwrite: bool, keeps: bool) -> None:
        if isinstance(output, RemotePath):
            raise OutputError(f"{output}: novelty maps cannot be written to a bucket; leave out --novelty-map")
        self._spec = _map_spec(spec)
        self.path, self._format, self._overwrite = map_path(output, "novelty"), file_format, overwrite
        if incompatibility(self._spec, file_format) is not None:
            self.path = self.path.with_name(self.path.name.removesuffix(known_suffix(output)) + ".tif")
            self._format = "tiff"
        self._is_kept = keeps and self.path.exists()
        if not self._is_kept:
            self._format = check_output(self.path, self._spec, file_format=self._format, overwrite=overwrite)

    def write(self, image: FittedImage, translator: Translator) -> float | None:
        """Write it; the share of the image that is novel, None where the file was there."""
        if self._is_kept:
            return None
        novelty = found_novelty(image, translator)
        tiles = _map_tiles(novelty, self._spec, plane_size(image))
        write_image(self.path, self._spec, tiles, file_format=self._format, overwrite=self._overwrite)
        return novelty.share


def _map_spec(spec: OutputSpec) -> OutputSpec:
    """The file of a map that belongs to an output: of the same place and size, with one channel of float32."""
    metadata = replace(
        spec.metadata,
        channel_names=(CHANNEL_NAME,),
        channel_colors=(),
        display_ranges=(),
        bit_depth=None,
        rgb=False,
        white_is_zero=False,
    )
    return OutputSpec(
        axes=spec.axes,
        shape=(*spec.leading_shape, 1, spec.height, spec.width),
        dtype=np.dtype(np.float32),
        metadata=metadata,
    )


def _map_tiles(novelty: Novelty, spec: OutputSpec, size: tuple[int, int]) -> Iterator[Tile]:
    """Tiles of the file of a map, each pixel with the value of its square.

    Parameters
    ----------
    size : rows and columns of the image as the model sees it, which is of another size where it is rescaled.
    """
    rows, columns = (
        np.minimum(((np.arange(n) + 0.5) * seen / n).astype(np.int64) // CELL_PX, count - 1)
        for n, seen, count in zip((spec.height, spec.width), size, novelty.p_values.shape[-2:], strict=True)
    )
    for plane in np.ndindex(*spec.leading_shape):
        for region in Region.whole(spec.height, spec.width).tiles(_TILE_PX):
            index = np.ix_(rows[slice(*region.rows)], columns[slice(*region.columns)])
            yield plane, region, novelty.p_values[plane][index][None]
