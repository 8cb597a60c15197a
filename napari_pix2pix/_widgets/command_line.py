"""The command line that does what a widget is set to do. Imports neither napari nor Qt."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pix2pix_training.config import TrainingConfig
from pix2pix_training.setting_options import command_words

_PROGRAM = "napari-pix2pix"


def translate_command(
    model: Path, layers: Sequence[Any], options: Mapping[str, Any], out: Path | None = None
) -> tuple[str, bool]:
    """The ``translate`` command for the files of `layers`, and whether all of them have one.

    A layer without a file is named by what it would be saved as. `options` are fields of `TranslationSettings` that
    differ from their defaults; `out` is the result, None for a name beside the first input.
    """
    files = [layer_file(layer) for layer in layers]
    inputs = [str(path) for path, _ in files]
    words = ["translate", *inputs, "--model", str(model), "--out", str(out or f"{Path(inputs[0]).stem}-translated.tif")]
    words += ["--as-channels"] if len(inputs) > 1 else []
    words += _changed(options, {})
    return shlex.join([_PROGRAM, *words]), all(exists for _, exists in files)


def train_command(
    sources: Sequence[Path], targets: Sequence[Path], out: Path, config: TrainingConfig, other: Mapping[str, Any]
) -> str:
    """The ``train`` command; `other` are options that are no part of `config`, those that are None are left out."""
    words = ["train"]
    for option, paths in (("--source", sources), ("--target", targets)):
        words += [word for path in paths for word in (option, str(path))]
    words += ["--out", str(out), *command_words(config)]
    words += [word for name, value in other.items() if value is not None for word in _option(name, value)]
    return shlex.join([_PROGRAM, *words])


def _changed(values: Mapping[str, Any], usual: Mapping[str, Any]) -> list[str]:
    pairs = [(name, value) for name, value in values.items() if value is not None and value != usual.get(name)]
    return [word for name, value in pairs for word in _option(name, value)]


def _option(name: str, value: Any) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if value is True:
        return [flag]
    if isinstance(value, tuple):
        return [flag, ",".join(map(str, value))]
    return [flag, f"{value:g}" if isinstance(value, float) else str(value)]


def layer_file(layer: Any) -> tuple[Path, bool]:
    """The file that a layer was opened from, or the name to save it under, and whether it is there."""
    path = getattr(getattr(layer, "source", None), "path", None)
    if path:
        return Path(path), True
    return Path(re.sub(r"[^\w.-]+", "-", layer.name).strip("-") + ".tif"), False
