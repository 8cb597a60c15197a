"""Error maps of translations: what makes them, and how."""

from __future__ import annotations

from dataclasses import replace

from napari_pix2pix.translation.settings import TranslationSettings, resolved_inference
from pix2pix_training.error_map import error_model
from pix2pix_training.errors import SettingsError
from pix2pix_training.model_file import Model


def error_maker(model: Model, settings: TranslationSettings) -> tuple[Model, TranslationSettings]:
    """What makes the error maps of translations with these settings: a model of its own, and the settings for it.

    Raises
    ------
    SettingsError
        The model has no error map, or it does not hold for translations with these settings.
    """
    maker = error_model(model)
    if resolved_inference(settings, model) != model.inference or settings.dropout_samples > 1:
        raise SettingsError(
            "the error map holds for single translations in the model's own mode; leave out --statistics, --dropout, "
            "--seed and --dropout-samples, or the error map"
        )
    own = replace(settings, statistics=None, dropout=None, seed=None, engines=None, split_level=None)
    return maker, own
