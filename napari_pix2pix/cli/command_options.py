"""Options of commands, made of the classes of settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from pix2pix_training.setting_options import SettingOption, setting_options, settings_of_options

T = TypeVar("T")
Command = Callable[..., None]


def with_setting_options(
    *classes: type,
    without: Collection[str] = (),
    panel: str = "Settings",
    default: Callable[[SettingOption], str] = attrgetter("usual"),
) -> Callable[[Command], Command]:
    """Give a command an option for each setting of `classes` in place of its ``**settings``; None where not given.

    `without` names settings that the command decides itself; they are grouped in the help under `panel`,
    which says the `default` of each, if there is a word for it.
    """

    def decorated(command: Command) -> Command:
        parameters = inspect.signature(command, eval_str=True).parameters.values()
        own = [parameter for parameter in parameters if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
        of_settings = [
            inspect.Parameter(
                option.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=_annotation(option, panel, default(option)),
            )
            for cls in classes
            for option in setting_options(cls)
            if option.name not in without
        ]
        command.__signature__ = inspect.Signature([*own, *of_settings])  # type: ignore[attr-defined]
        return command

    return decorated


def changed(settings: T, options: Mapping[str, Any]) -> T:
    """Settings with what was given of the options of their class."""
    return replace(settings, **settings_of_options(options, type(settings)))  # type: ignore[type-var]


def _annotation(option: SettingOption, panel: str, default: str) -> Any:
    kind: Any = list[option.kind] if option.is_list else option.kind  # type: ignore[name-defined]
    return Annotated[
        kind | None,
        typer.Option(
            option.option,
            help=option.help,
            show_default=default or False,
            rich_help_panel=f"{panel}: {option.group}" if option.group else panel,
            metavar="FOLDER" if option.kind is Path else None,
        ),
    ]
