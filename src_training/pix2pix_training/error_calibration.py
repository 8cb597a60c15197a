"""An error map for a model that has none, or is to be used on other images: learnt and calibrated on pairs."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace

from pix2pix_training.array_source import ArraySource, channel_count
from pix2pix_training.batches import Batches
from pix2pix_training.config import TrainingConfig
from pix2pix_training.dataset import PatchDataset
from pix2pix_training.device import resolve_device
from pix2pix_training.error_training import MOST_STEPS, error_config, held_out_parts, with_error_map
from pix2pix_training.errors import ImageError, SettingsError
from pix2pix_training.events import LearningErrors, Preparing
from pix2pix_training.fitting import own_mapping
from pix2pix_training.intensity import CategoryMapping, Mapping
from pix2pix_training.model_file import Model
from pix2pix_training.pairs import Split, check_consistent
from pix2pix_training.preparation import PreparedPair, prepare, require_room

PART_PX = 512
"""Side of the part of a held-out image that calibrates, at most."""


def with_calibration(
    model: Model,
    split: Split,
    *,
    coverage: float = 0.9,
    patch_size: int = 256,
    steps: int = MOST_STEPS,
    seed: int = 0,
    device: str = "auto",
) -> Generator[Preparing | LearningErrors, None, Model]:
    """The model with an error map; its generator stays as it is.

    Parameters
    ----------
    split : pairs that the error network learns on, and others that calibrate it.
    coverage : share of pixels whose target lies within the interval.
    steps : of the error network, with four patches each.

    Raises
    ------
    InputError
        The pairs do not fit the model, its targets are categories, or none are left to calibrate on.
    """
    if isinstance(model.target.mapping, CategoryMapping):
        raise SettingsError("the target of the model are categories, whose errors have no size; there is no error map")
    if not split.validation:
        raise SettingsError("nothing is held out, so there is nothing to calibrate on; hold some pairs out")
    config = TrainingConfig(
        generator=error_config(model.generator_config, patch_size), patch_size=patch_size, steps=steps, seed=seed
    )
    everything = [*split.training, *split.validation]
    check_consistent(everything)
    _require_fit(everything[0].source, model.source.mapping, "source")
    _require_fit(everything[0].target, model.target.mapping, "target")
    require_room(split.training, config)
    start = model.source.mapping, model.target.mapping
    prepared = yield from prepare(split, config, start, z_context=model.source.z_context)
    training, held_out = (_seen_by(model, pairs) for pairs in (prepared.training, prepared.validation))
    dataset = PatchDataset(
        [each.pair for each in training],
        patch_size=patch_size,
        augmentation=config.augmentation,
        sampling=config.sampling,
        target_mapping=model.target.mapping,
        seed=seed,
        planes=[each.planes for each in training],
    )
    where = resolve_device(device)
    batches = Batches(dataset, [each.source_mapping for each in training], where, batch_size=1, ahead=True)
    try:
        return (
            yield from with_error_map(
                model,
                batches,
                held_out_parts(held_out, size_px=PART_PX, choosing=0),
                patch_size=patch_size,
                coverage=coverage,
                steps=steps,
                seed=seed,
                device=where,
            )
        )
    finally:
        batches.close()


def _require_fit(image: ArraySource, mapping: Mapping, side: str) -> None:
    found = f"{channel_count(image)} of {image.dtype}"
    if channel_count(image) != mapping.image_channels or image.dtype.name != mapping.dtype:
        raise ImageError(
            f"{image.name}: a {side} with channels {found}, and the model has {mapping.image_channels} of "
            f"{mapping.dtype}; give images like those that it was trained on"
        )


def _seen_by(model: Model, pairs: Sequence[PreparedPair]) -> list[PreparedPair]:
    """The pairs with the values of their sources as the model maps them."""
    mapping = model.source.mapping
    return [replace(each, source_mapping=own_mapping(mapping, each.source, each.pair.source.dtype)) for each in pairs]
