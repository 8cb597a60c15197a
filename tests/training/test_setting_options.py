"""Options made of the settings: none is missing, and a command with them gives the settings back."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pix2pix_training.choices import Preset
from pix2pix_training.config import ObjectiveConfig, TrainingConfig
from pix2pix_training.inference_config import Credits, InferenceConfig
from pix2pix_training.network_config import DiscriminatorConfig
from pix2pix_training.patch_config import AugmentationConfig, SamplingConfig
from pix2pix_training.presets import preset
from pix2pix_training.setting_options import (
    FITTED_TO_TIME,
    command_words,
    places_of,
    setting_options,
    settings_of_options,
)
from pix2pix_training.validated import choices

DECIDED_BY_THE_DATA = {("generator", "source_channels"), ("generator", "target_channels")}


def _paths(settings: Any, prefix: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    for field in fields(settings):
        value, path = getattr(settings, field.name), (*prefix, field.name)
        found |= _paths(value, path) if is_dataclass(value) else {path}
    return found


def test_every_setting_is_an_option() -> None:
    options = setting_options()
    assert {path for option in options for path in option.paths} == _paths(TrainingConfig()) - DECIDED_BY_THE_DATA
    names = [word for option in options for word in option.option.split("/")]
    assert len(set(names)) == len(names)
    assert {"--learning-rate", "--gan-mode", "--validation-size", "--keep-constant", "--author"} <= set(names)
    assert all(option.help and option.help[-1] == "." for option in options)
    assert all(all(choice in option.help for choice in option.choices) for option in options)


def test_what_was_not_given_is_in_no_table() -> None:
    values: dict[str, Any] = {"patch_size": 64, "depth": None, "author": [], "base_width": 8, "skip_constant": False}
    assert settings_of_options(values) == {
        "patch_size": 64,
        "generator": {"base_width": 8},
        "discriminator": {"base_width": 8},
        "sampling": {"skip_constant": False},
    }


@pytest.mark.parametrize("name", choices(Preset))
def test_a_preset_alone_needs_no_further_option(name: Any) -> None:
    assert command_words(preset(name)) == ["--preset", name]


configs = st.builds(
    lambda base, **changes: replace(base, **changes),
    st.sampled_from(choices(Preset)).map(preset),
    steps=st.none() | st.integers(1, 10**6),
    patch_size=st.sampled_from([256, 512]),
    learning_rate=st.floats(0, 1, exclude_min=True),
    target_values=st.sampled_from(["auto", "categories"]),
    compile=st.booleans(),
    discriminator=st.builds(DiscriminatorConfig, base_width=st.sampled_from([8, 64]), spectral_norm=st.booleans()),
    objective=st.builds(ObjectiveConfig, gan_mode=st.sampled_from(["lsgan", "hinge"]), conditional=st.booleans()),
    sampling=st.builds(SamplingConfig, skip_constant=st.booleans()),
    augmentation=st.builds(AugmentationConfig, flips=st.sampled_from(["none", "both"]), quarter_turns=st.booleans()),
    inference=st.builds(InferenceConfig, seed=st.integers(0, 9), dropout=st.sampled_from(["off", "seeded"])),
    credits=st.builds(
        Credits,
        authors=st.lists(st.text("aé ", min_size=1), max_size=2).map(tuple),
        license=st.none() | st.just("MIT"),
        citation=st.none() | st.text("xyz/", min_size=1),
    ),
)


@given(configs, st.sampled_from([8, 32, 64]))
def test_the_copied_command_trains_with_the_same_settings(config: TrainingConfig, width: int) -> None:
    from pix2pix_training.setting_options import training_config

    config = replace(config, generator=replace(config.generator, base_width=width))
    assert training_config({}, settings_of_options(_parsed(command_words(config)))) == config


@pytest.mark.parametrize("name", choices(Preset))
def test_a_copied_command_leaves_nothing_to_be_fitted_to_its_time(name: Any) -> None:
    values = settings_of_options(_parsed(command_words(replace(preset(name), minutes=10.0))))
    assert places_of(values) >= set(FITTED_TO_TIME)
    assert values["patch_size"] == 256


def _parsed(words: list[str]) -> dict[str, Any]:
    """Values by name, as a parser of options would give them."""
    by_word = {word: option for option in setting_options() for word in option.option.split("/")}
    values: dict[str, Any] = {}
    rest = iter(words)
    for word in rest:
        option = by_word[word]
        if option.kind is bool:
            values[option.name] = word == option.option.split("/")[0]
        elif option.is_list:
            values.setdefault(option.name, []).append(option.kind(next(rest)))
        else:
            values[option.name] = option.kind(next(rest))
    return values


def test_a_resnet_of_the_preset_has_the_decoder_that_there_is_for_it() -> None:
    from pix2pix_training.setting_options import training_config

    config = training_config({}, settings_of_options({"architecture": "resnet", "patch_size": 64}))
    assert config.generator.decoder == "transposed"
    assert training_config({}, {"patch_size": 64}).generator.decoder == "resize"
