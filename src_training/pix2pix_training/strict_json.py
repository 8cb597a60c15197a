"""JSON from a file that anybody may have made: a table of plain values of which none can surprise its reader."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

MOST_LEVELS = 32
_LARGEST_INTEGER = 2**64


def read_table(text: str) -> dict[str, Any]:
    """The table that `text` holds.

    Numbers are finite (NaN alone is told as None) and integers have at most 64 bits, names occur once, text is text
    without control characters, and tables lie in each other at most 32 deep.

    Raises
    ------
    ValueError
        It is something else; says where.
    """
    try:
        content = json.loads(text, object_pairs_hook=_table)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(content, dict):
        raise ValueError(f"it is a {type(content).__name__} where a table belongs")
    return {name: _checked(value, _text(name, "a name"), 1) for name, value in content.items()}


def _table(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the entry {_short(twice)} is there twice")
    return table


def _checked(value: Any, where: str, level: int) -> Any:
    if level > MOST_LEVELS:
        raise ValueError(f"{where[:60]} is nested too deeply")
    match value:
        case dict():
            return {
                name: _checked(entry, f"{where}.{_text(name, f'a name in {where}')}", level + 1)
                for name, entry in value.items()
            }
        case list():
            return [_checked(entry, f"{where}[{number}]", level + 1) for number, entry in enumerate(value)]
        case str():
            return _text(value, where)
        case bool() | None:
            return value
        case int():
            if abs(value) > _LARGEST_INTEGER:
                raise ValueError(f"{where} is an integer of more than 64 bits")
            return value
        case float():
            if math.isnan(value):
                return None
            if math.isinf(value):
                raise ValueError(f"{where} is infinite")
            return value
        case _:
            raise ValueError(f"{where} is a {type(value).__name__}")


def _text(value: str, where: str) -> str:
    if any(ord(character) < ord(" ") and character not in "\n\t" for character in value) or "\x7f" in value:
        raise ValueError(f"{where} has control characters")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{where} is no text") from error
    return value


def _short(name: str) -> str:
    return repr(name if len(name) <= 60 else name[:60] + "...")
