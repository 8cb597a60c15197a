"""A loader, and what loaders of several kinds share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from napari_pix2pix.formats import describe_image, open_image
from pix2pix_training.array_source import plane_indices, plane_size
from pix2pix_training.regions import Region
from tests.fuzz.mutation import byte_edits, edited, edited_document, node_edits

HEADER = 400
_LARGEST_READ_PX = 512


@dataclass(frozen=True)
class Loader:
    """`damage` draws what `load` puts into an empty folder, and reads."""

    damage: st.SearchStrategy[Any]
    load: Callable[[Path, Any], None]


def read_image(path: Path) -> None:
    """Open, describe, and read a part of each plane as the program does."""
    with open_image(path) as image:
        describe_image(image)
        height, width = plane_size(image)
        region = Region(0, min(height, _LARGEST_READ_PX), 0, min(width, _LARGEST_READ_PX))
        for _, plane in zip(range(4), plane_indices(image), strict=False):
            image.read(region, plane)


def random_pixels(*shape: int, dtype: Any = np.uint8) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def file_loader(name: str, content: Callable[[], bytes], read: Callable[[Path], Any], header: int = HEADER) -> Loader:
    def load(folder: Path, edits: Any) -> None:
        (folder / name).write_bytes(edited(content(), edits))
        read(folder / name)

    return Loader(st.deferred(lambda: byte_edits(len(content()), header)), load)


def document_loader(
    document: Callable[[], Any], write: Callable[[Path, Any], Path], read: Callable[[Path], Any]
) -> Loader:
    def load(folder: Path, edits: Any) -> None:
        read(write(folder, edited_document(document(), edits)))

    return Loader(st.deferred(lambda: node_edits(document())), load)


def saved_bytes(save: Callable[[Path], Any], name: str = "file") -> bytes:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        save(Path(folder) / name)
        return (Path(folder) / name).read_bytes()


def clear(folder: Path) -> None:
    """Remove what a loader has put into its folder."""
    import shutil

    for path in folder.iterdir():
        with suppress(OSError):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
