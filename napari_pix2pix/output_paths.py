"""Where outputs go: what ``--out`` of the commands that write no images means, and the names that the widgets propose.

Which output each of many images becomes is decided in `translation.batch`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from pix2pix_training.errors import OutputError

MODEL_NAME = "model.safetensors"
"""Of the model in a run folder."""

_RESULT_SUFFIX = ".ome.tif"
_MOST_BYTES = 200
"""Of a proposed name without its ending, so that the names of maps and of unfinished outputs fit too."""
_FILE_SUFFIXES = (".safetensors", ".onnx", ".pth", ".pt", ".zip", ".toml", ".csv", ".json", ".txt")


def output_file(out: Path, suffixes: Sequence[str], stem: str) -> Path:
    """The file to write.

    Parameters
    ----------
    out : a name with one of `suffixes`; without an ending the folder in which the file is called `stem`.
    suffixes : in lower case, the usual one first.

    Raises
    ------
    OutputError
        `out` has another ending.
    """
    if out.is_dir() or not out.suffix:
        return out / (stem + suffixes[0])
    if out.suffix.lower() not in suffixes:
        raise OutputError(f"{out}: what is written here has the ending {' or '.join(suffixes)}, not {out.suffix}")
    return out


def output_folder(out: Path) -> Path:
    """The folder to write to.

    Raises
    ------
    OutputError
        `out` is no folder yet, and has the ending of a file.
    """
    from napari_pix2pix.formats.registry import readable_suffixes

    if out.suffix.lower() in {*_FILE_SUFFIXES, *readable_suffixes()} and not out.is_dir():
        raise OutputError(f"{out} is the name of a file, and a folder is written; give a name without {out.suffix}")
    return out


def file_name(words: str) -> str:
    """The words as a name for a file, as many of them as may be."""
    name = re.sub(r"[^\w.+-]+", "-", words).strip("-") or "result"
    return os.fsencode(name)[:_MOST_BYTES].decode(errors="ignore")


def result_path(folder: Path, words: str, *, is_geographic: bool) -> Path:
    """The proposed file of a result that the words say all of."""
    return folder / f"{file_name(words)}{'.tif' if is_geographic else _RESULT_SUFFIX}"


def zarr_path(folder: Path, image: str) -> Path:
    """The proposed OME-Zarr for the result of an image of that name."""
    return folder / f"{file_name(image)}.ome.zarr"


def results_folder(images: Path) -> Path | None:
    """The proposed folder for the results of a folder; None for the root of a disk."""
    return images.with_name(f"{images.name}-translated") if images.name else None


def free_run_folder(parent: Path) -> Path:
    """The first of run-1, run-2, ... in `parent` that does not exist."""
    number = 1
    while (parent / f"run-{number}").exists():
        number += 1
    return parent / f"run-{number}"


def next_run_folder(taken: Path) -> Path:
    """The first folder beside `taken` that does not exist, called like it with a greater number: run-2 after run-1."""
    stem, dash, number = taken.name.rpartition("-")
    numbered = bool(dash) and number.isdecimal()
    following = int(number) + 1 if numbered else 2
    while (taken.parent / f"{stem if numbered else taken.name}-{following}").exists():
        following += 1
    return taken.parent / f"{stem if numbered else taken.name}-{following}"
