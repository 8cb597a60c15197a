"""Writes docs/reference/commands.md, the options of all commands, from the settings.

python -m benchmarks.commands_page
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import typer.main

from napari_pix2pix.cli.application import COMMANDS, application
from pix2pix_training.choices import Preset
from pix2pix_training.presets import preset
from pix2pix_training.setting_options import SettingOption, by_path, setting_options
from pix2pix_training.validated import choices

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "commands.md"
HEAD = """# Options of all commands

This page is written from the settings by `python -m benchmarks.commands_page`. What the options are for, and how they
work together, is on the page [command line](command-line.md).
"""


def commands_page() -> str:
    """The page as Markdown."""
    commands = typer.main.get_command(application(COMMANDS)).commands  # type: ignore[attr-defined]
    return "\n".join([HEAD, *(line for name in COMMANDS for line in _command(name, commands[name].params))])


def _command(name: str, parameters: list[Any]) -> Iterator[str]:
    arguments = [_argument(p) for p in parameters if not p.opts[0].startswith("-")]
    required = [f"{p.opts[0]} {_value(p)}" for p in parameters if p.required and p.opts[0].startswith("-")]
    yield f"## {name}\n\n{COMMANDS[name][1]}\n"
    yield "```\n" + " ".join(["napari-pix2pix", name, *arguments, *required, "[options]"]) + "\n```\n"
    of_training = {option.option: option for option in setting_options()} if name == "train" else {}
    for panel, members in groupby(sorted(parameters, key=_panel), key=_panel):
        if panel:
            yield f"### {name}: {panel.replace('Settings: ', '').lower()}\n"
        yield "| option | default | meaning |\n|---|---|---|"
        for parameter in members:
            option = of_training.get("/".join([*parameter.opts, *parameter.secondary_opts])) if panel else None
            yield _row(parameter, option)
        yield ""


def _panel(parameter: Any) -> str:
    return str(parameter.rich_help_panel or "")


def _argument(parameter: Any) -> str:
    return f"{parameter.name.upper().removesuffix('S')}{'...' if parameter.nargs == -1 else ''}"


def _value(parameter: Any) -> str:
    return "" if getattr(parameter, "is_flag", False) else str(parameter.metavar or parameter.name.upper())


def _row(parameter: Any, option: SettingOption | None) -> str:
    named = parameter.opts[0].startswith("-")
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts]) if named else ""
    default = _default(parameter) if option is None else _default_of_presets(option)
    cells = (names or f"`{_argument(parameter)}`", default, parameter.help or "")
    return "| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |"


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    value = parameter.default
    if value is None or value == [] or value is False or value == ():
        return ""
    return str(value)


def _default_of_presets(option: SettingOption) -> str:
    """One value, or those of the presets where they differ."""
    words = {name: _words(option, by_path(preset(name))[option.paths[0]]) for name in choices(Preset)}
    if len(set(words.values())) == 1 or option.name == "preset":
        return words["seamless"]
    return ", ".join(f"{word or 'none'} ({name})" for name, word in words.items())


def _words(option: SettingOption, value: Any) -> str:
    if value is None or value == ():
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else option.write(value)


if __name__ == "__main__":
    PAGE.write_text(commands_page(), encoding="utf-8")
