"""``info``: what a model file or an image holds, as this program understands it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_pix2pix.cli.console import print_json
from pix2pix_training.errors import InputError


def info(
    path: Annotated[Path, typer.Argument(help="A model file or an image.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Describe a model file or an image."""
    if not path.exists():
        raise InputError(f"{path} does not exist")
    facts = _model_facts(path) if path.suffix.lower() == ".safetensors" else _image_facts(path)
    if as_json:
        print_json(facts)
    else:
        for line in _lines(facts):
            typer.echo(line)


def _model_facts(path: Path) -> dict[str, Any]:
    from dataclasses import asdict

    from pix2pix_training.model_file import load_model
    from pix2pix_training.networks import build_generator, parameter_count

    model = load_model(path)
    sides = {
        name: {"kind": type(side.mapping).__name__, **asdict(side)}
        for name, side in (("source", model.source), ("target", model.target))
    }
    return {
        "path": str(path),
        "bytes": path.stat().st_size,
        "generator": asdict(model.generator_config),
        "parameters": parameter_count(build_generator(model.generator_config)),
        **sides,
        "inference": asdict(model.inference),
        "metrics": dict(model.metrics),
        "training": dict(model.training),
    }


def _image_facts(path: Path) -> dict[str, Any]:
    from napari_pix2pix.images import describe_image, open_image

    with open_image(path) as image:
        return describe_image(image)


def _lines(facts: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield f"{indent}{name}:"
            yield from _lines(value, indent + "  ")
        elif value is not None and value != ():
            yield f"{indent}{name}: {_text(value)}"


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return str(value)
