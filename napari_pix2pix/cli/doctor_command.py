"""``doctor``: what is installed, which device would be used, which backends can run and why not."""

from __future__ import annotations

from typing import Annotated

import typer

from napari_pix2pix.cli.console import print_json, print_line
from pix2pix_training.errors import Pix2PixError


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    from napari_pix2pix.diagnostics import diagnose

    facts = diagnose()
    if as_json:
        print_json(facts)
    else:
        for name, value in facts.items():
            if isinstance(value, dict):
                print_line(f"{name}:")
                for key, text in value.items():
                    print_line(f"  {key}: {text or 'missing'}")
            elif name != "problems":
                print_line(f"{name}: {value}")
    if facts["problems"]:
        raise Pix2PixError("; ".join(facts["problems"]))
