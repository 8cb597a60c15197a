"""Whether targets lie within the intervals of an error map, image by image."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np

from napari_pix2pix.evaluation import Comparison, translations
from napari_pix2pix.translation.batch import OfOne
from napari_pix2pix.translation.error_maker import error_settings, holds_for
from napari_pix2pix.translation.settings import TranslationSettings
from napari_pix2pix.translation.translator import Translator
from pix2pix_training.array_source import ArraySource, SelectedChannels, plane_indices, plane_size
from pix2pix_training.channel_names import match_names
from pix2pix_training.error_map import error_model
from pix2pix_training.invalid_pixels import FilledSource
from pix2pix_training.model_file import Model
from pix2pix_training.pairs import Pair
from pix2pix_training.regions import Region

_TILE = 1024


def half_widths(
    given: Sequence[Pair], model: Model, settings: TranslationSettings, folder: Path
) -> Generator[OfOne, None, tuple[ArraySource, ...] | None]:
    """Error maps of the sources of pairs, as files in `folder`; None where the model has none for these settings."""
    if model.error is None or not holds_for(model, settings):
        return None
    maker = Translator(error_model(model), error_settings(model, settings))
    made = yield from translations(given, maker, folder)
    names = model.target.channel_names
    return tuple(_ordered(pair.source, names, pair.target.channel_names) for pair in made.pairs)


def _ordered(image: ArraySource, names: Sequence[str], wanted: Sequence[str]) -> ArraySource:
    """Channels, which stand for those called `names`, in the order in which the target has them."""
    order = match_names(names, wanted).order
    return image if order is None else SelectedChannels(image, order)


def coverages(wanted: Comparison, maps: Sequence[ArraySource]) -> Generator[None, None, list[float | None]]:
    """Of each compared image the share of pixels, of all channels, whose target lies within; stops after each tile.

    `maps` are half-widths of what is compared.
    """
    found: list[float | None] = []
    for pair, widths in zip(wanted.pairs, maps, strict=True):
        filled = [FilledSource(image, may_be_empty=True) for image in (pair.source, pair.target, widths)]
        within = count = 0
        for plane in plane_indices(pair.target):
            for part in Region.whole(*plane_size(pair.target)).tiles(_TILE):
                (output, bad), (target, bad_target), (width, _) = (each.read_with_mask(part, plane) for each in filled)
                lies = np.abs(output.astype(np.float64) - target) <= width
                invalid = [mask for mask in (bad, bad_target) if mask is not None]
                valid = ~np.logical_or.reduce(invalid) if invalid else np.ones(part.size, bool)
                within += int(lies[:, valid].sum())
                count += len(lies) * int(valid.sum())
                yield
        found.append(within / count if count else None)
    return found
