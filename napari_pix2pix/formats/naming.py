"""Names of image files: which endings are images, and what a file is called without its ending."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from unicodedata import normalize

from napari_pix2pix.formats.registry import readable_suffixes

COMPANION_SUFFIX = ".companion.ome"


def is_image_path(path: Path) -> bool:
    """Whether a name ends like an image that `open_image` can read; hidden files are not images."""
    return path.suffix.lower() in readable_suffixes() and not path.name.startswith(".")


def image_stem(path: Path) -> str:
    """A name without its image ending: "scan" for scan.ome.tif, scan.tif and scan.png."""
    stem = path.name[: -len(COMPANION_SUFFIX)] if path.name.lower().endswith(COMPANION_SUFFIX) else path.stem
    return stem[:-4] if stem.lower().endswith(".ome") else stem


def composed(name: str) -> str:
    """One spelling of letters with accents; some systems store letter and accent (NFD), others both as one (NFC)."""
    return normalize("NFC", name)


def as_spelled(path: Path) -> Path:
    """A path to a file whose folder spells its name differently, see `composed`; others as they are."""
    with suppress(OSError):  # what no file can be called; said where it is opened
        if not path.exists() and path.parent.is_dir():
            return next((other for other in path.parent.iterdir() if composed(other.name) == composed(path.name)), path)
    return path


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key by which "tile10" comes after "tile9", equal on every platform."""
    parts = re.findall(r"(\d+)|(\D+)", text)
    return (*((0, int(digits), "") if digits else (1, 0, other) for digits, other in parts), (-1, 0, text))
