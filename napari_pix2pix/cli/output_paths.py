"""What ``--out`` of the commands that write no images means: a file by its ending, else a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pix2pix_training.errors import OutputError

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
