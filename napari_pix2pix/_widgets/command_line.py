"""The command line that does what a widget is set to do. Imports neither napari nor Qt."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from napari_pix2pix._widgets.layer_facts import file_facts, file_of
from napari_pix2pix._widgets.layer_sources import source_of
from napari_pix2pix.translation.settings import TranslationSettings
from pix2pix_training.config import TrainingConfig
from pix2pix_training.setting_options import by_path, changed_words, command_words

_PROGRAM = "napari-pix2pix"


NamedFiles = list[tuple[Path, bool]]
"""Paths, and whether there is a file."""


def translate_command(
    model: Path,
    inputs: Sequence[Path],
    options: Mapping[str, Any],
    out: Path | None = None,
    other: Mapping[str, Any] | None = None,
) -> str:
    """The ``translate`` command.

    `options` are fields of `TranslationSettings`, None for their defaults; `out` is the result, None for a name beside
    the first input; `other` are options that are no settings, those that are None are left out.
    """
    words = ["translate", *map(str, inputs), "--model", str(model)]
    words += ["--out", str(out or f"{inputs[0].stem}-translated.tif")]
    words += ["--as-channels"] if len(inputs) > 1 else []
    settings = TranslationSettings(**{name: value for name, value in options.items() if value is not None})
    words += changed_words(settings, by_path(TranslationSettings()))
    return shlex.join([_PROGRAM, *words, *_options(other or {})])


def train_command(
    sources: Sequence[Path], targets: Sequence[Path], out: Path, config: TrainingConfig, other: Mapping[str, Any]
) -> str:
    """The ``train`` command; `other` are options that are no part of `config`, those that are None are left out."""
    words = ["train"]
    for option, paths in (("--source", sources), ("--target", targets)):
        words += [word for path in paths for word in (option, str(path))]
    words += ["--out", str(out), *command_words(config)]
    return shlex.join([_PROGRAM, *words, *_options(other)])


def _options(values: Mapping[str, Any]) -> list[str]:
    """Words of options; that of True stands alone, None is left out."""
    words = []
    for name, value in values.items():
        if value is not None:
            words.append(f"--{name.replace('_', '-')}")
            words += [] if value is True else [f"{value:g}" if isinstance(value, float) else str(value)]
    return words


def files_of(layers: Sequence[Any], channel_axis: int | None) -> NamedFiles:
    """The files that layers were opened from, where they hold just that, else the names to save the layers under."""
    paths = [_file_of(layer, channel_axis) for layer in layers]
    return [
        (path, True) if path is not None and paths.count(path) == 1 else (_name_for(layer), False)
        for layer, path in zip(layers, paths, strict=True)
    ]


def _file_of(layer: Any, channel_axis: int | None) -> Path | None:
    """None too for a layer that is one of the channels of its file, or a part of it."""
    path, facts = file_of(layer), file_facts(layer)
    if path is None or facts is None:
        return None
    image = source_of([layer], channel_axis=channel_axis)
    is_whole = (facts.channels, facts.planes) == (image.shape[-3], prod(image.shape[:-3]))
    return path if is_whole else None


def _name_for(layer: Any) -> Path:
    return Path(re.sub(r"[^\w.-]+", "-", layer.name).strip("-") + ".tif")
