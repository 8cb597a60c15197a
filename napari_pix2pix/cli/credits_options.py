"""Options that say whom a model comes from and how it may be used, shared by the commands that write models."""

from __future__ import annotations

from typing import Annotated

import typer

from pix2pix_training.config import Credits
from pix2pix_training.setting_options import setting_options

_HELP = {option.option: option.help for option in setting_options()}
Authors = Annotated[list[str] | None, typer.Option("--author", help=_HELP["--author"])]
License = Annotated[str | None, typer.Option("--license", help=_HELP["--license"])]
Citation = Annotated[str | None, typer.Option("--citation", help=_HELP["--citation"])]


def credits_from(authors: list[str] | None, license_: str | None, citation: str | None, base: Credits) -> Credits:
    """What the options say; `base` where they say nothing."""
    return Credits(
        authors=tuple(authors) if authors else base.authors,
        license=license_ or base.license,
        citation=citation or base.citation,
    )
