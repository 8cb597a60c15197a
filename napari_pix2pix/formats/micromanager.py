"""TIFF files of Micro-Manager: stacks with an index of their own (MMStack), and NDTiff with an index file.

tifffile makes a list of all planes that they declare, and opens the files that they name: both are checked before.
"""

from __future__ import annotations

from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

import tifffile

from napari_pix2pix.formats.metadata import ImageMetadata
from napari_pix2pix.formats.source import MAX_PLANES, shown
from pix2pix_training.errors import ImageError

_LENGTHS = ("Channels", "Slices", "Frames", "Positions")
_INDEX = "NDTiff.index"


def check_micromanager(path: Path, tif: tifffile.TiffFile) -> None:
    """Refuse a file that declares too many planes, or names files elsewhere.

    Raises
    ------
    ImageError
        Says which.
    """
    if tif.is_mmstack:
        declared = _declared_planes(tif.micromanager_metadata or {})
    elif tif.is_ndtiff:
        for name in _indexed_names(path):
            if Path(name).name != name or "\\" in name:
                raise ImageError(f"{path} refers to {name}, outside its own folder; put all files in one folder")
            if not path.with_name(name).is_file():
                raise ImageError(f"{path} is one of several files of an image; {name} is missing beside it, add it")
        declared = _indexed_planes(path)
    else:
        return
    if declared > MAX_PLANES:
        raise ImageError(f"{path} declares {shown(declared)} planes; at most {MAX_PLANES} are allowed")


def _declared_planes(settings: dict[str, Any]) -> int:
    """As tifffile counts them: along each axis the larger of what the summary and the index say."""
    summary, index = settings.get("Summary", {}), settings["IndexMap"]
    lengths = (index[:, :4].max(axis=0) + 1).tolist() if len(index) else [1] * len(_LENGTHS)
    return prod(max(int(n), int(summary.get(name, 1))) for n, name in zip(lengths, _LENGTHS, strict=True))


def _indexed_planes(path: Path) -> int:
    """Of the box around all positions in the index file; positions may be numbers or names."""
    seen: dict[str, tuple[int, int, set[str]]] = {}
    for entry in tifffile.read_ndtiff_index(path.with_name(_INDEX)):
        for axis, position in entry[0].items():
            low, high, names = seen.get(axis, (0, 0, set()))
            if isinstance(position, int):
                low, high = min(low, position), max(high, position)
            else:
                names.add(str(position))
            seen[axis] = low, high, names
    return prod(high - low + 1 + len(names) for low, high, names in seen.values())


def _indexed_names(path: Path) -> set[str]:
    return {entry[1] for entry in tifffile.read_ndtiff_index(path.with_name(_INDEX))}


def set_of(path: Path, tif: tifffile.TiffFile) -> tuple[Path, ...]:
    """All files of the acquisition that a file belongs to, sorted; none for files of other programs."""
    if tif.is_ndtiff:
        return tuple(sorted(path.with_name(name) for name in _indexed_names(path)))
    if tif.is_mmstack and "_MMStack" in path.name:
        prefix = path.name.split("_MMStack")[0]
        return tuple(sorted(path.parent.glob(f"{_escaped(prefix)}_MMStack*.tif")))
    return ()


def _escaped(text: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)


def read_metadata(tif: tifffile.TiffFile) -> ImageMetadata:
    """Scale, time step and channel names, as its summary says them."""
    summary: dict[str, Any] = (tif.micromanager_metadata or {}).get("Summary", {})
    size = _positive(summary.get("PixelSize_um", summary.get("PixelSizeUm")))
    names = summary.get("ChNames")
    interval = _positive(summary.get("Interval_ms"))
    return ImageMetadata(
        pixel_size=None if size is None else (size, size),
        unit=None if size is None else "µm",
        z_spacing=None if size is None else _positive(summary.get("z-step_um")),
        time_step_s=None if interval is None else interval / 1000,
        channel_names=tuple(map(str, names)) if isinstance(names, list) else (),
        file_format="tiff",
    )


def _positive(value: Any) -> float | None:
    with suppress(TypeError, ValueError):
        number = abs(float(value))
        return number if 0 < number < float("inf") else None
    return None
