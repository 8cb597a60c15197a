"""Which images there are: in a folder, among files of which several are one image, and within a file of several."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_pix2pix.formats.naming import image_stem, is_image_path, natural_key
from napari_pix2pix.formats.source import check_series, members_of, open_image
from pix2pix_training.errors import ImageError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageFile:
    """An image and what to call it: the number `series` (from 0) of the `count` images in a file."""

    path: Path
    series: int
    name: str
    count: int = 1


def files_in(folder: Path) -> list[Path]:
    """The images of a folder by name, numbers by value; of several files that are one image the one that stands for it.

    Folders in it are not looked into; a warning names those that hold images.

    Raises
    ------
    ImageError
        There is none, or the folder cannot be read.
    """
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: natural_key(entry.name))
    except OSError as error:
        raise ImageError(f"{folder} cannot be read: {error.strerror or error}") from error
    files = [entry for entry in entries if is_image_path(entry)]
    nested = [entry.name for entry in entries if _is_folder_of_images(entry)]
    if not files:
        where = f" itself, but in folders ({', '.join(nested[:3])}); give one of these" if nested else ""
        raise ImageError(f"{folder} holds no images (TIFF, PNG, JPEG, BMP, GIF or OME-Zarr){where}")
    if nested:
        logger.warning(
            "%s: images that lie in folders of it (%s) are left out; move them up, or give those folders by themselves",
            folder,
            ", ".join(nested[:3]),
        )
    return once_per_image(files)


def _is_folder_of_images(path: Path) -> bool:
    """Not an image itself, nor hidden, nor unreadable."""
    if path.name.startswith(".") or is_image_path(path) or not path.is_dir():
        return False
    try:
        return any(is_image_path(entry) for entry in path.iterdir())
    except OSError:
        return False


def once_per_image(files: Sequence[Path]) -> list[Path]:
    """The same files in the same order, but of several that are one image (a multi-file OME-TIFF) only one.

    That is the one that names most of them, and says so in a warning.
    """
    members = {file: members_of(file) for file in files}
    belongs: dict[Path, Path] = {}
    for file in sorted(members, key=lambda file: -len(members[file])):
        representative = belongs.get(file, file)
        for member in members[file]:
            belongs.setdefault(member, representative)
    kept = [file for file in files if belongs.get(file, file) == file]
    for file in kept:
        others = sum(belongs.get(other) == file for other in members if other != file)
        if others:
            logger.warning("%s and %d other files beside it belong together and are used once", file, others)
    return kept


def images_within(file: Path, series: int | None = None) -> list[ImageFile]:
    """The images that a file holds, called by the file's stem, and a number where there are several.

    Parameters
    ----------
    series : only this one, called by the stem alone; a file of one image gives that.

    Raises
    ------
    ImageError
        The file cannot be opened, or holds several images and none of this number.
    """
    with open_image(file, 0, "keep") as image:
        count = len(image.series_names)
    stem = image_stem(file)
    if count == 1:
        return [ImageFile(file, 0, stem)]
    if series is None:
        logger.warning("%s holds %d images; all are used, as %s_0 to %s_%d", file, count, stem, stem, count - 1)
        return [ImageFile(file, number, f"{stem}_{number}", count) for number in range(count)]
    check_series(file, series, count)
    return [ImageFile(file, series, stem, count)]
