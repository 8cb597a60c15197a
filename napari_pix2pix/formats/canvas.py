"""An unfinished image file that is written part by part, in any order, and can be gone on with after a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from pix2pix_training.array_source import AnyArray
from pix2pix_training.regions import Region


class Canvas(Protocol):
    """A file, or folder, that fills; what is noted of each part is ready for JSON."""

    def frame(self, size: int | None = None) -> tuple[int, str]:
        """What there is besides pixels, which no part changes: how much stands before them, and a checksum of all.

        `size` is given where parts may have been written; without it there are none yet.
        """
        ...

    def write_part(self, plane: tuple[int, ...], region: Region, pixels: AnyArray) -> Any:
        """Write a part, shape (C, region.height, region.width); a note of it, when it is on the disk."""
        ...

    def restore(self, plane: tuple[int, ...], region: Region, note: Any) -> bool:
        """Take in a part that an earlier run has noted; whether it is as it was then."""
        ...

    def finish(self, path: Path) -> None:
        """Complete the image, which will be called `path`; all parts must be there."""
        ...

    def close(self) -> None:
        """Close it, whatever there is of it."""
        ...
