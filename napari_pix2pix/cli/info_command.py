"""``info``: what a model file or an image holds, as this program understands it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_pix2pix.cli.console import print_json, print_line
from pix2pix_training.errors import InputError

if TYPE_CHECKING:
    from pix2pix_training.model_file import Model


def info(
    path: Annotated[Path, typer.Argument(help="A model file or an image.")],
    series: Annotated[int, typer.Option(help="Which of several images in a file, from 0.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    from napari_pix2pix.formats.remote import as_path
    from napari_pix2pix.formats.source import damage_reported

    path = as_path(path)
    with damage_reported(path):
        if not path.exists():
            raise InputError(f"{path} does not exist")
    is_model = path.suffix.lower() == ".safetensors"
    if as_json:
        print_json(_model_facts(path) if is_model else _image_facts(path, series))
        return
    for line in _model_card(path) if is_model else _lines(_image_facts(path, series)):
        print_line(line)


def _model_facts(path: Path) -> dict[str, Any]:
    from pix2pix_training.model_file import load_model, model_digest, model_header
    from pix2pix_training.networks import parameter_count

    model = load_model(path)
    parameters = parameter_count(model.generator())
    sizes = {"bytes": path.stat().st_size, "parameters": parameters}
    checksums = {"checksum": model_digest(model), "error_map_checksum": _error_map_checksum(model)}
    return {"path": str(path), **sizes, **checksums, **model_header(model)}


def _model_card(path: Path) -> Iterator[str]:
    from pix2pix_training.in_words import card_lines
    from pix2pix_training.model_file import load_model, model_digest

    model = load_model(path)
    yield f"model: {path}, {path.stat().st_size / 1e6:.1f} MB, checksum {model_digest(model)}"
    yield from card_lines(model)
    if (checksum := _error_map_checksum(model)) is not None:
        yield f"checksum of the error map: {checksum}"


def _error_map_checksum(model: Model) -> str | None:
    """What error maps say that made them."""
    from pix2pix_training.error_map import error_model
    from pix2pix_training.model_file import model_digest

    return None if model.error is None else model_digest(error_model(model))


def _image_facts(path: Path, series: int) -> dict[str, Any]:
    from napari_pix2pix.formats import describe_image, open_image

    with open_image(path, series) as image:
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
        return f"{value:.6g}" if abs(value) < 1e5 else f"{value:.12g}"  # coordinates count to the metre
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return str(value)
