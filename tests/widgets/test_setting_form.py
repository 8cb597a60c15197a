"""Every setting is a row of a form, an option, an entry of a TOML file and a word of the copied command."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer.main
from pydantic import Field

from napari_pix2pix._widgets.command_line import train_command, translate_command
from napari_pix2pix.cli.application import application
from napari_pix2pix.translation.settings import TranslationSettings
from pix2pix_training.choices import Norm
from pix2pix_training.config import TrainingConfig
from pix2pix_training.setting_options import (
    SettingOption,
    by_path,
    changed_words,
    setting_options,
    settings_of_options,
    training_config,
)
from pix2pix_training.settings_tables import settings_from_toml, to_toml
from pix2pix_training.validated import Lenient, Setting, from_dict, limits, validated

pytest.importorskip("qtpy")

LENGTHS = {"epochs", "steps", "minutes"}
FITTING = {"depth": 7, "patch_size": 512}
TEXTS = {"authors": ("A. One", "B. Two"), "channels": (2, 0), "max_memory": 300 * 2**20, "device": "cpu"}


def another(option: SettingOption, value: Any) -> Any:
    """A value that is allowed, and not the one there is."""
    if option.labels:
        return next(other for other in option.labels if other != value)
    low, high, _ = limits(option.annotation)
    match option.kind.__name__:
        case "bool":
            return not value
        case "int" | "float":
            near = (value if value is not None else low) + option.setting.step
            return near if near <= high else value - option.setting.step
        case "Path":
            return Path("/")
    return TEXTS.get(option.paths[0][-1], "some words")


def set_row(form: Any, option: SettingOption, value: Any) -> None:
    """As a user would."""
    if option.is_list:
        value = "; ".join(value)
    elif option.written is not None:
        value = option.write(value)
    form.fields[option.name].value = value


def options_of(command: str) -> set[str]:
    parameters = typer.main.get_command(application([command])).commands[command].params  # type: ignore[attr-defined]
    return {name for each in parameters for name in (*each.opts, *each.secondary_opts)}


def given(command: str, cls: type) -> dict[str, Any]:
    """Tables of settings of the options in a command, as the command line reads them."""
    by_word = {word: option for option in setting_options(cls) for word in option.option.split("/")}
    values: dict[str, Any] = {}
    words = iter(shlex.split(command)[2:])
    for word in words:
        if (option := by_word.get(word)) is None:
            continue
        if option.kind is bool:
            values[option.name] = word == option.option.split("/")[0]
        elif option.is_list:
            values.setdefault(option.name, []).append(next(words))
        else:
            values[option.name] = option.kind(next(words))
    return settings_of_options(values, cls)


def test_every_setting_of_a_run_is_an_option_a_row_and_in_the_copied_command(train: Any, tmp_path: Path) -> None:
    known = options_of("train")
    form = train.settings.form
    for option in setting_options():
        assert set(option.option.split("/")) <= known
    assert set(form.fields) == {option.name for option in setting_options()} - LENGTHS, "which are rows of their own"
    for option in setting_options():
        if option.name in LENGTHS:
            continue
        form.restore_defaults()
        form.native("patch_size").setValue(256)
        value = FITTING.get(option.name) or another(option, form.value(option.name))
        set_row(form, option, value)
        config = train.settings.config(target_is_labels=False)
        assert by_path(config)[option.paths[0]] == value, option.name
        command = train_command([Path("a")], [Path("b")], Path("run"), config, {})
        assert option.words(value)[0] in shlex.split(command)
        assert training_config({}, given(command, TrainingConfig)) == config, option.name
        (tmp_path / "run.toml").write_text(to_toml(config))
        assert from_dict(TrainingConfig, settings_from_toml(tmp_path / "run.toml")) == config


def test_what_is_restored_is_the_preset(train: Any) -> None:
    form = train.settings.form
    for preset in ("paper", "faithful", "seamless"):
        train.settings.preset.choose(preset)
        form.native("batch_size").setValue(7)
        form.restore.click()
        usual = training_config({}, {"preset": train.settings.preset.value, "validate_every": 100, "minutes": 10.0})
        config = training_config({}, settings_of_options(form.values()), {"minutes": 10.0})
        sizes = {"patch_size": usual.patch_size, "generator": {"base_width": 64, "depth": usual.generator.depth}}
        sizes["discriminator"] = {"base_width": 64}
        assert training_config({}, by_table(config), sizes) == usual


def by_table(config: TrainingConfig) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(config)


def test_a_model_to_start_from_decides_the_networks(train: Any, grey_model: Path) -> None:
    train.settings.init.set_path(grey_model)
    fields = train.settings.form.fields
    decided = {"architecture", "base_width", "depth", "norm", "decoder", "statistics", "dropout_seed"}
    assert not any(fields[name].enabled for name in decided)
    assert all(fields[name].enabled for name in ("patch_size", "l1_weight", "author", "flips"))
    train.settings.init.set_path(None)
    assert all(field.enabled for field in fields.values())


def test_every_setting_of_a_translation_is_an_option_a_row_and_in_the_copied_command(translate: Any) -> None:
    known, form = options_of("translate"), translate.settings.form
    options = setting_options(TranslationSettings)
    assert {option.option for option in options} <= known
    assert set(form.fields) == {option.name for option in options} - {"alpha", "match_pixel_size"}, "of the layers"
    translate.settings.offer_samples(True)
    wanted: dict[str, Any] = {}
    for option in options:
        if option.name not in form.fields or option.name in ("backend", "statistics"):
            continue
        value = another(option, option.default)
        set_row(form, option, value)
        wanted[option.name] = value
        if option.name == "dropout":
            form.fields["dropout"].value = wanted["dropout"] = "seeded"
        made = translate.settings.options()
        assert made == wanted, option.name
        command = translate_command(Path("m"), [Path("a.tif")], made)
        settings = TranslationSettings(**wanted)
        assert TranslationSettings(**given(command, TranslationSettings)) == settings, option.name


@validated
class OfTomorrow:
    """Settings with another field of each kind."""

    twist: Annotated[int, Field(ge=0, le=9), Setting("How much it is twisted.", unit="turns")] = 3
    share: Annotated[float, Field(gt=0, le=1), Setting("Share that is twisted.", step=0.1)] = 0.5
    lining: Annotated[Norm | None, Setting("What it is lined with.", unset="nothing")] = None
    names: Annotated[tuple[str, ...], Lenient, Setting("A name.", option="--name")] = ()


def test_a_new_setting_is_one_field(viewer: Any) -> None:
    from napari_pix2pix._widgets.setting_form import SettingForm

    form = SettingForm(setting_options(OfTomorrow))
    assert [text for text, _ in form.rows(form.fields)] == ["Twist", "Share", "Lining", "Names"]
    assert form.native("twist").toolTip() == "How much it is twisted."
    assert (form.native("twist").minimum(), form.native("twist").maximum()) == (0, 9)
    assert form.native("twist").text() == "3 turns"
    assert form.values() == {"twist": 3, "share": 0.5, "lining": None, "name": ()}
    form.fields["twist"].value, form.fields["share"].value, form.fields["name"].value = 5, 0.25, "a; b"
    form.choice("lining").choose("instance")
    settings = OfTomorrow(**settings_of_options(form.values(), OfTomorrow))
    words = changed_words(settings, by_path(OfTomorrow()))
    expected = ["--twist", "5", "--share", "0.25", "--lining", "instance", "--name", "a", "--name", "b"]
    assert words == expected
    assert OfTomorrow(**given(shlex.join(["x", "y", *words]), OfTomorrow)) == settings
    assert 'names = ["a", "b"]' in to_toml(settings)


def test_a_value_with_more_digits_than_are_shown_is_kept(train: Any) -> None:
    train.settings.preset.choose("paper")
    assert train.settings.form.value("scale_jitter") == 286 / 256
    train.settings.form.native("scale_jitter").setValue(1.2)
    assert train.settings.form.value("scale_jitter") == 1.2
