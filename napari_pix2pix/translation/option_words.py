"""Lines that speak of options of the command line, in other words: those of Python, or of the forms."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache, wraps
from typing import ParamSpec, TypeVar

from napari_pix2pix.translation.settings import TranslationSettings
from pix2pix_training.errors import Pix2PixError
from pix2pix_training.setting_options import SettingOption, setting_options

P = ParamSpec("P")
T = TypeVar("T")

_ARGUMENTS = {
    "--data-range": "data_range",
    "--device": "device",
    "--error-map": "error_map=True",
    "--init": "init",
    "--out": "out",
    "--novelty-map": "novelty_map=True",
    "--overwrite": "overwrite=True",
    "--resume": "resume=True",
    "--series": "series",
    "--shard": "part",
    "--source": "source",
    "--target": "target",
    "--with-mapping": "with_mapping=True",
}
"""What scripts have for options that are no settings."""
_OPTION = re.compile(r"--[a-z][a-z-]*")


def in_other_words(line: str, words: Mapping[str, str]) -> str:
    """A line with `words` for options; what it advises without there being words for it is left out."""
    known = "|".join(rf"{re.escape(option)}(?![\w-])" for option in sorted(words, key=len, reverse=True))
    return _followable(re.sub(known, lambda found: words[found.group()], line), lambda part: bool(_OPTION.search(part)))


def in_words_of_command(line: str, options: Collection[str], others: Collection[str]) -> str:
    """A line without what it advises by options that are not among those of the command, nor of others that it names.

    Parameters
    ----------
    options : of the command, such as "--tile".
    others : names of the other commands.
    """
    named = re.compile(rf"\b(?:{'|'.join(map(re.escape, others))})\b[^;]*? --[a-z]")

    def is_lost(part: str) -> bool:
        return not named.search(part) and any(option not in options for option in _OPTION.findall(part))

    return _followable(line, is_lost)


def _followable(line: str, is_lost: Callable[[str], bool]) -> str:
    """A line without the clauses after its first one, or alternatives in these, that are lost to its reader."""
    first, *clauses = line.split("; ")
    kept = (
        ", or ".join(part for part in re.split(r",? or ", c) if not is_lost(part)) if is_lost(c) else c for c in clauses
    )
    return "; ".join([first, *filter(None, kept)])


def in_python_words(line: str) -> str:
    """A line in which options are arguments of `Pix2Pix`, fields of settings among them: ``tile=64``."""
    return in_other_words(_NUMBERED.sub(_with_number, line), _python_words())


def _with_number(found: re.Match[str]) -> str:
    setting = _settings().get(found.group(1))
    return found.group() if setting is None or setting.choices else _argument(setting, found.group(2))


_NUMBERED = re.compile(r"(--[a-z-]+) (\d+(?:[.,]\d+)*)(?!\w)")


def spoken_in_python(function: Callable[P, T]) -> Callable[P, T]:
    """Of a function for scripts: its errors are in the words of Python."""

    @wraps(function)
    def speaking(*args: P.args, **values: P.kwargs) -> T:
        try:
            return function(*args, **values)
        except Pix2PixError as error:
            error.args = (in_python_words(str(error)),)
            raise

    return speaking


@cache
def _settings() -> dict[str, SettingOption]:
    of_both = (*setting_options(), *setting_options(TranslationSettings))
    return {word: setting for setting in of_both for word in setting.option.split("/")}


@cache
def _python_words() -> dict[str, str]:
    return {**dict(_words()), **_ARGUMENTS}


def _words() -> Iterator[tuple[str, str]]:
    for option, setting in _settings().items():
        *tables, name = setting.paths[0]
        if setting.kind is bool:
            yield option, _argument(setting, str(option == setting.option.split("/")[0]))
        else:
            yield option, f"{name} of {tables[0]}" if tables else name
            yield from ((f"{option} {value}", _argument(setting, repr(value))) for value in setting.choices)


def _argument(setting: SettingOption, value: str) -> str:
    *tables, name = setting.paths[0]
    value = f"({value.replace(',', ', ')})" if "," in value else value
    return f"{tables[0]}={{{name!r}: {value}}}" if tables else f"{name}={value}"
