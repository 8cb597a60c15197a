"""The options of the command line that the settings of a training run have, made of the settings classes.

Whatever shows settings or names them in a command takes them from here, so a new setting is an option at once.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pix2pix_training.config import Setting, TrainingConfig, preset, usual_depth
from pix2pix_training.settings_tables import from_dict

_LENGTHS = ("epochs", "steps", "minutes")

Path = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SettingOption:
    """One option.

    Attributes
    ----------
    option : such as ``--patch-size``, or ``--on/--off`` for a truth value.
    name : the same as a name in Python.
    paths : names of the settings that it sets, from the outermost table to the entry.
    kind : type of a value; of an entry, where the setting is a list.
    is_list : whether the option may be given again for more values.
    choices : the words that are allowed, empty where any value may be.
    """

    option: str
    name: str
    paths: tuple[Path, ...]
    kind: type
    is_list: bool
    choices: tuple[str, ...]
    help: str

    def words(self, value: Any) -> list[str]:
        """The option with a value, as words of a command."""
        if self.kind is bool:
            on, off = self.option.split("/")
            return [on if value else off]
        values = value if self.is_list else [value]
        return [word for each in values for word in (self.option, str(each))]


@cache
def setting_options() -> tuple[SettingOption, ...]:
    """The options of all settings of a `TrainingConfig`, in their order there, those of its tables last."""
    return tuple(_options_of(TrainingConfig, ()))


def _options_of(cls: type, prefix: Path) -> Iterator[SettingOption]:
    hints = get_type_hints(cls, include_extras=True)
    for name, kind in hints.items():
        if get_origin(kind) is Annotated:
            bare, setting = get_args(kind)
            yield _option((*prefix, name), bare, setting)
    for name, kind in hints.items():
        if is_dataclass(kind) and isinstance(kind, type):
            yield from _options_of(kind, (*prefix, name))


def _option(path: Path, kind: Any, setting: Setting) -> SettingOption:
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(each for each in get_args(kind) if each is not type(None))
    is_list = get_origin(kind) is tuple
    if is_list:
        kind = get_args(kind)[0]
    choices = tuple(map(str, get_args(kind))) if get_origin(kind) is Literal else ()
    dashed = path[-1].replace("_", "-")
    option = setting.option or (f"--{dashed}/--no-{dashed}" if kind is bool else f"--{dashed}")
    name = option.split("/")[0].removeprefix("--").replace("-", "_")
    # One width for both networks, unless the discriminator's own option says another.
    shared: tuple[Path, ...] = (("discriminator", "base_width"),) if path == ("generator", "base_width") else ()
    return SettingOption(
        option=option,
        name=name,
        paths=(path, *shared),
        kind=str if choices else kind,
        is_list=is_list,
        choices=choices,
        help=setting.help,
    )


def settings_of_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested tables of the settings whose options were given: `values` by `SettingOption.name`, None where not."""
    tables: dict[str, Any] = {}
    for option in setting_options():
        value = values.get(option.name)
        if value is None or (option.is_list and not value):
            continue
        for path in option.paths:
            table = tables
            for name in path[:-1]:
                table = table.setdefault(name, {})
            table[path[-1]] = value
    return tables


def command_words(config: TrainingConfig) -> list[str]:
    """The preset of `config`, and the options that make of it what `config` is, but for what the data decides."""
    words = ["--preset", config.preset]
    wanted, known = _by_path(config), _by_path(preset(config.preset))
    known["generator", "depth"] = usual_depth(config.preset, config.patch_size)
    for option in setting_options():
        value = wanted[option.paths[0]]
        if value is not None and value != known[option.paths[0]]:
            words += option.words(value)
            known |= dict.fromkeys(option.paths, value)
    return words


def _by_path(settings: Any, prefix: Path = ()) -> dict[Path, Any]:
    values: dict[Path, Any] = {}
    for field in fields(settings):
        value, path = getattr(settings, field.name), (*prefix, field.name)
        values |= _by_path(value, path) if is_dataclass(value) else {path: value}
    return values


def training_config(start: Mapping[str, Any], *layers: Mapping[str, Any]) -> TrainingConfig:
    """The preset that the last of the `layers` names, changed by what the model to `start` from decides, and by each.

    Layers are nested tables of settings, of the TOML file and of the options. With another patch than that of the
    preset, the network has as many down-samplings as are usual for it, unless a layer says how many.
    """
    name = next((layer["preset"] for layer in reversed(layers) if layer.get("preset") is not None), "seamless")
    base = preset(name)  # type: ignore[arg-type]  # an unknown name is refused there
    merged = asdict(base)
    for size in [layer["patch_size"] for layer in layers if type(layer.get("patch_size")) is int]:
        merged["generator"]["depth"] = usual_depth(base.preset, size)
    _merge(merged, start)
    for layer in layers:
        if any(layer.get(name) is not None for name in _LENGTHS):
            merged.update(dict.fromkeys(_LENGTHS))
        _merge(merged, layer)
    return from_dict(TrainingConfig, merged)


def _merge(base: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for name, value in changes.items():
        if isinstance(value, Mapping) and isinstance(base.get(name), dict):
            _merge(base[name], value)
        elif value is not None:
            base[name] = value
