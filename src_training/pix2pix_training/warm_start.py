"""Starting a training run from a model: its generator, and its discriminator where the file carries one."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pix2pix_training.config import DiscriminatorConfig, GeneratorConfig, TrainingConfig
from pix2pix_training.errors import SettingsError
from pix2pix_training.model_file import Model
from pix2pix_training.training_step import TrainingStep


def settings_of(model: Model) -> dict[str, Any]:
    """What a run must share with the model that it starts from, as nested entries of a `TrainingConfig`."""
    settings: dict[str, Any] = {"generator": asdict(model.generator_config), "inference": asdict(model.inference)}
    if model.discriminator is not None:
        settings["discriminator"] = asdict(model.discriminator.config)
        settings["objective"] = {"conditional": model.discriminator.conditional}
    return settings


def start_from(model: Model, networks: TrainingStep, config: TrainingConfig) -> None:
    """Load the weights of `model` into the networks of a run; without a discriminator in it, that one starts anew.

    Raises `SettingsError` where the networks differ.
    """
    _check_same_shape("generator", model.generator_config, config.generator)
    networks.generator.load_state_dict(model.weights)
    if model.discriminator is None or networks.discriminator is None:
        return
    _check_same_shape("discriminator", model.discriminator.config, config.discriminator)
    if model.discriminator.conditional != config.objective.conditional:
        raise SettingsError(
            f"the model's discriminator has conditional = {model.discriminator.conditional}, asked is "
            f"{config.objective.conditional}; train with the same"
        )
    networks.discriminator.load_state_dict(model.discriminator.weights)


def _check_same_shape(
    network: str, found: GeneratorConfig | DiscriminatorConfig, asked: GeneratorConfig | DiscriminatorConfig
) -> None:
    if found == asked:
        return
    wanted = asdict(asked)
    details = ", ".join(
        f"{name} {value} in the model, {wanted[name]} asked"
        for name, value in asdict(found).items()
        if value != wanted[name]
    )
    raise SettingsError(f"the model to start from has another {network} ({details}); train with the same one")
