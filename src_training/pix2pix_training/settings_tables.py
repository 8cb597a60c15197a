"""Settings classes from and to plain tables, as TOML and the JSON of a model file hold them."""

from __future__ import annotations

import json
import math
import tomllib
import types
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pix2pix_training.errors import SettingsError

T = TypeVar("T")
_SHOWN_CHARACTERS = 60


def from_dict(cls: type[T], data: Mapping[str, Any], *, where: str = "settings") -> T:
    """Build a settings dataclass from plain data, checking names and types; nested dataclasses from nested tables.

    Raises `SettingsError` that names the entry.
    """
    if not isinstance(data, Mapping):
        raise SettingsError(f"{where} should be a table of settings, not {type(data).__name__}")
    hints = get_type_hints(cls)
    known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    for name in data:
        if name not in known:
            raise SettingsError(f"{where} has an unknown entry {_shown(name)}; known are {', '.join(sorted(known))}")
    for f in fields(cls):  # type: ignore[arg-type]
        if f.name not in data and f.default is MISSING and f.default_factory is MISSING:
            raise SettingsError(f"{where} lacks the entry {f.name!r}")
    return cls(**{name: _convert(hints[name], value, f"{where}.{name}") for name, value in data.items()})


def settings_from_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file of settings, as they stand there; `SettingsError` where it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise SettingsError(f"{path}: does not exist") from error
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:  # also what is no UTF-8, or no TOML
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SettingsError(f"{path}: not a readable TOML file ({reason})") from error


def to_toml(config: Any) -> str:
    """A settings dataclass as TOML; entries that are None are left out."""
    return "\n".join(_toml_lines(asdict(config), prefix="")) + "\n"


def _toml_lines(table: Mapping[str, Any], prefix: str) -> list[str]:
    lines = [f"{name} = {_toml_value(value)}" for name, value in table.items() if not isinstance(value, dict | None)]
    for name, value in table.items():
        if isinstance(value, dict):
            lines += ["", f"[{prefix}{name}]", *_toml_lines(value, f"{prefix}{name}.")]
    return lines


def _toml_value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml_value(v) for v in value) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value) if isinstance(value, bool) else repr(value)


def _convert(kind: Any, value: Any, where: str) -> Any:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in get_args(kind):
            return None
        return _convert(next(a for a in get_args(kind) if a is not type(None)), value, where)
    if origin is Literal:
        if value not in get_args(kind):
            raise SettingsError(f"{where} is {_shown(value)}; choose one of {', '.join(map(str, get_args(kind)))}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise SettingsError(f"{where} should be a list, not {type(value).__name__}")
        args = get_args(kind)
        item_kinds = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        if len(item_kinds) != len(value):
            raise SettingsError(f"{where} should have {len(item_kinds)} entries, not {len(value)}")
        return tuple(_convert(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(item_kinds, value, strict=True)))
    if is_dataclass(kind):
        return from_dict(kind, value, where=where)  # type: ignore[arg-type]
    if kind is float:
        return _finite(value, where)
    if type(value) is not kind:
        raise SettingsError(f"{where} is {_shown(value)}, a {type(value).__name__}; it should be a {kind.__name__}")
    if kind is str and not _is_text(value):
        raise SettingsError(f"{where} holds bytes that are no text; write it in UTF-8")
    return value


def _finite(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SettingsError(f"{where} is {_shown(value)}, a {type(value).__name__}; it should be a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise SettingsError(f"{where} is {_shown(value)}; it should be a finite number")
    return number


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: Any) -> str:
    """A value in a message, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        return "a huge number"
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
