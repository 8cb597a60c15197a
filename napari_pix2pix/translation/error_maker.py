"""Error maps of translations: which they hold for, and how they are made."""

from __future__ import annotations

from dataclasses import replace

from napari_pix2pix.translation.settings import TranslationSettings, resolved_inference
from pix2pix_training.errors import SettingsError
from pix2pix_training.model_file import Model


def error_settings(model: Model, settings: TranslationSettings) -> TranslationSettings:
    """With which `error_model` of the model makes the error maps of translations with these settings.

    Raises
    ------
    SettingsError
        The error map does not hold for translations with these settings.
    """
    if not holds_for(model, settings):
        raise SettingsError(
            "the error map holds for single translations in the model's own mode; leave out --statistics, --dropout, "
            "--seed and --dropout-samples, or the error map"
        )
    return replace(settings, statistics=None, dropout=None, seed=None, engines=None, split_level=None)


def holds_for(model: Model, settings: TranslationSettings) -> bool:
    """Whether the error map of a model is one of translations with these settings."""
    return resolved_inference(settings, model) == model.inference and settings.dropout_samples == 1
