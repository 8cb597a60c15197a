"""What the classes of settings say of each setting, for whatever shows settings or names them in a command.

Options of the command line, rows of forms and commands to copy are made of it, so a new setting is in all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pix2pix_training.config import TrainingConfig
from pix2pix_training.presets import preset, usual_depth
from pix2pix_training.validated import Setting, Written, choices, from_dict, labels

_LENGTHS = ("epochs", "steps", "minutes")
_KINDS = (bool, int, float, str, Path)

Place = tuple[str, ...]
FITTED_TO_TIME: tuple[Place, ...] = (("generator", "base_width"), ("patch_size",), ("batch_size",))
"""What a run of so many minutes picks itself where it is not given; see `time_budget`."""


@dataclass(frozen=True, kw_only=True)
class SettingOption:
    """One setting.

    Attributes
    ----------
    option : such as ``--patch-size``, or ``--on/--off`` for a truth value.
    name : the same as a name in Python, which no other setting of the class has.
    paths : names of the settings that it sets, from the outermost table to the entry.
    annotation : its type, with limits and words; see `validated`.
    kind : type of a value as it is given on the command line; of an entry, where the setting is a list.
    is_list : whether the option may be given again for more values.
    choices : the words that are allowed, empty where any value may be.
    default : in the class; presets have others.
    written : how it is written as a text, if it is.
    """

    option: str
    name: str
    paths: tuple[Place, ...]
    annotation: Any
    kind: type
    is_list: bool
    choices: tuple[str, ...]
    default: Any
    setting: Setting
    written: Written | None

    @property
    def group(self) -> str:
        """Settings that belong together."""
        return self.setting.group or " of the ".join(reversed(self.paths[0][:-1]))

    @property
    def label(self) -> str:
        name = self.paths[0][-1].replace("_", " ")
        return self.setting.label or name[0].upper() + name[1:]

    @property
    def labels(self) -> dict[str, str]:
        """Values that are offered, in words; empty where any may be."""
        words = labels(self.annotation)
        return {value: words.get(value, value) for value in self.choices or words}

    def write(self, value: Any) -> str:
        """A value, or an entry of a list, as text."""
        return str(value) if self.written is None else self.written.write(value)

    @property
    def help(self) -> str:
        """One line, with the choices, and that the option of a list can be given again."""
        if self.is_list:
            return f"{self.setting.help.removesuffix('.')}; again for more."
        if not self.choices:
            return self.setting.help
        return f"{self.setting.help.removesuffix('.')}: {', '.join(self.choices[:-1])} or {self.choices[-1]}."

    @property
    def usual(self) -> str:
        """The default in words; empty for a truth value that is off and for an empty list."""
        if self.default is None:
            return self.setting.unset
        return "" if self.default is False or self.default == () else str(self.default)

    def words(self, value: Any) -> list[str]:
        """The option with a value, as words of a command."""
        if self.kind is bool:
            on, _, off = self.option.partition("/")
            return [word for word in [on if value else off] if word]
        values = value if self.is_list else [value]
        return [word for each in values for word in (self.option, self.write(each))]


@cache
def setting_options(cls: type = TrainingConfig) -> tuple[SettingOption, ...]:
    """The options of all settings of a class, in their order there, those of its tables last."""
    return tuple(_options_of(cls, ()))


def _options_of(cls: type, prefix: Place) -> Iterator[SettingOption]:
    hints = get_type_hints(cls, include_extras=True)
    defaults = {each.name: each.default for each in fields(cls)}
    for name, annotation in hints.items():
        for setting in (part for part in get_args(annotation) if isinstance(part, Setting)):
            yield _option((*prefix, name), annotation, setting, defaults[name])
    for name, annotation in hints.items():
        if is_dataclass(annotation) and isinstance(annotation, type):
            yield from _options_of(annotation, (*prefix, name))


def _option(path: Place, annotation: Any, setting: Setting, default: Any) -> SettingOption:
    parts = list(_parts(annotation))
    written = next((part for part in parts if isinstance(part, Written)), None)
    words = tuple(map(str, choices(annotation)))
    kind = str if written or words else next(part for part in parts if part in _KINDS)
    dashed = path[-1].replace("_", "-")
    option = setting.option or (f"--{dashed}/--no-{dashed}" if kind is bool else f"--{dashed}")
    return SettingOption(
        option=option,
        name=option.split("/")[0].removeprefix("--").replace("-", "_"),
        paths=(path, setting.also) if setting.also else (path,),
        annotation=annotation,
        kind=kind,
        is_list=written is None and any(get_origin(part) is tuple for part in parts),
        choices=words,
        default=None if default is MISSING else default,
        setting=setting,
        written=written,
    )


def _parts(annotation: Any) -> Iterator[Any]:
    """All that an annotation is made of."""
    yield annotation
    for part in get_args(annotation) if get_origin(annotation) is not Literal else ():
        yield from _parts(part)


def settings_of_options(values: Mapping[str, Any], cls: type = TrainingConfig) -> dict[str, Any]:
    """Nested tables of the settings whose options were given: `values` by `SettingOption.name`, None where not."""
    tables: dict[str, Any] = {}
    for option in setting_options(cls):
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
    """The preset of `config`, and the options that make of it what `config` is, but for what the data decides.

    What a run would fit to its time is among them.
    """
    usual = by_path(preset(config.preset))
    usual["generator", "depth"] = usual_depth(config.preset, config.patch_size)
    if config.minutes is not None:
        usual |= dict.fromkeys(FITTED_TO_TIME)
    return ["--preset", config.preset, *changed_words(config, usual)]


def changed_words(settings: Any, usual: Mapping[Place, Any]) -> list[str]:
    """The options of what differs in `settings` from the `usual` values."""
    wanted, known, words = by_path(settings), dict(usual), list[str]()
    for option in setting_options(settings.__class__):
        value = wanted[option.paths[0]]
        if value is not None and value != known[option.paths[0]]:
            words += option.words(value)
            known |= dict.fromkeys(option.paths, value)
    return words


def by_path(settings: Any, prefix: Place = ()) -> dict[Place, Any]:
    """All values by the names of their tables and their own."""
    values: dict[Place, Any] = {}
    for field in fields(settings):
        value, path = getattr(settings, field.name), (*prefix, field.name)
        values |= by_path(value, path) if is_dataclass(value) else {path: value}
    return values


def places_of(*layers: Mapping[str, Any]) -> set[Place]:
    """The settings that layers of `training_config` have a value for."""
    places: set[Place] = set()
    for layer in layers:
        for name, value in layer.items():
            if isinstance(value, Mapping):
                places |= {(name, *inner) for inner in places_of(value)}
            elif value is not None:
                places.add((name,))
    return places


def training_config(start: Mapping[str, Any], *layers: Mapping[str, Any]) -> TrainingConfig:
    """The preset that the last of the `layers` names, changed by what the model to `start` from decides, and by each.

    Layers are nested tables of settings, of the TOML file and of the options. With another patch than that of the
    preset, the network has as many down-samplings as are usual for it, unless a layer says how many. A ResNet has the
    one decoder that there is for it.
    """
    name = next((layer["preset"] for layer in reversed(layers) if layer.get("preset") is not None), "seamless")
    base = preset(name)  # type: ignore[arg-type]  # an unknown name is refused there
    merged = asdict(base)
    for size in [layer["patch_size"] for layer in layers if type(layer.get("patch_size")) is int]:
        merged["generator"]["depth"] = usual_depth(base.preset, size)
    for layer in (start, *layers):
        if _entry(layer, "generator", "architecture") == "resnet":
            merged["generator"]["decoder"] = "transposed"
    _merge(merged, start)
    for layer in layers:
        if any(layer.get(name) is not None for name in _LENGTHS):
            merged.update(dict.fromkeys(_LENGTHS))
        _merge(merged, layer)
    return from_dict(TrainingConfig, merged)


def _entry(layer: Mapping[str, Any], table: str, name: str) -> Any:
    entries = layer.get(table)
    return entries.get(name) if isinstance(entries, Mapping) else None


def _merge(base: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for name, value in changes.items():
        if isinstance(value, Mapping) and isinstance(base.get(name), dict):
            _merge(base[name], value)
        elif value is not None:
            base[name] = value
