"""Settings from and to TOML."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pix2pix_training.errors import SettingsError


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
