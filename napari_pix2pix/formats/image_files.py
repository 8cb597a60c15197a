"""Which images there are: by their names, in a folder, among files of which several are one image or its channels, and
within a file of several.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from unicodedata import normalize

from napari_pix2pix.formats.metadata import DescribedSource
from napari_pix2pix.formats.registry import readable_suffixes
from napari_pix2pix.formats.source import ImageSource, check_series, members_of, open_image
from napari_pix2pix.formats.units import size_ratio, sizes_differ
from pix2pix_training.array_source import AnyArray, Opacity, StackedChannels, plane_size
from pix2pix_training.choices import AlphaChoice
from pix2pix_training.errors import ImageError
from pix2pix_training.pairs import natural_key
from pix2pix_training.regions import Region

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


def apart(first: DescribedSource, others: Iterable[DescribedSource]) -> str | None:
    """Which image, taken pixel upon pixel with the first, does not lie on it as far as the files say, in words."""
    own = first.metadata
    for other in others:
        found = other.metadata
        if own.orientation != found.orientation:
            return (
                f"{first.name} says that its rows and columns lie otherwise than those of {other.name} (orientation "
                f"{own.orientation} and {found.orientation}), and the two are taken pixel upon pixel as they are stored"
            )
        places = own.georeference, found.georeference
        if places[0] and places[1] and not places[0].lies_on(places[1], plane_size(first)):
            return f"{first.name} and {other.name} lie at different places on the Earth, and are taken pixel upon pixel"
        ratio = size_ratio(own.pixel_size, own.unit, found.pixel_size, found.unit)
        if ratio and sizes_differ(ratio):
            sizes = [" x ".join(f"{length:.4g}" for length in m.pixel_size or ()) + f" {m.unit}" for m in (own, found)]
            return f"{first.name} has pixels of {sizes[0]} and {other.name} of {sizes[1]}, taken pixel upon pixel"
    return None


class ChannelFiles(ImageSource):
    """Open files of equal size, their channels one after the other; named by the files where the files do not."""

    def __init__(self, members: Sequence[ImageSource]) -> None:
        stacked = StackedChannels(members)
        first = members[0]
        words = apart(first, members[1:])
        if words:
            logger.warning("%s", words)
        names = tuple(name for member in members for name in _channel_names(member))
        super().__init__(
            first.path,
            axes=stacked.axes,
            shape=stacked.shape,
            dtype=stacked.dtype,
            metadata=replace(first.metadata, channel_names=names, channel_colors=(), display_ranges=(), rgb=False),
            nodata=stacked.nodata,
            palette=stacked.palette,
        )
        self.name = stacked.name
        self.masked = stacked.masked
        self._stacked = stacked
        self._members = members

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Without those that are made of the names of files, which differ from image to image."""
        return self._stacked.channel_names

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(file for member in self._members for file in member.files)

    def _read(self, region: Region, plane: tuple[int, ...]) -> AnyArray:
        return self._stacked.read(region, plane)

    def _read_with_opacity(self, region: Region, plane: tuple[int, ...]) -> tuple[AnyArray, Opacity | None]:
        return self._stacked.read_with_opacity(region, plane)

    def close(self) -> None:
        for member in self._members:
            member.close()


def open_images(paths: Sequence[Path], series: int | None = None, alpha: AlphaChoice = "auto") -> ImageSource:
    """Open one file, or several as the channels of one image.

    Parameters
    ----------
    series : of files that hold several images the one of this number, from 0; by default the first, with a warning.
    alpha : what an alpha channel is; see `open_image`.

    Raises
    ------
    ImageError
        A file cannot be opened, or the sizes differ.
    """
    members: list[ImageSource] = []
    try:
        members.extend(_open_one(path, series, alpha) for path in paths)
        return members[0] if len(members) == 1 else ChannelFiles(members)
    except BaseException:
        for member in members:
            member.close()
        raise


def _open_one(path: Path, series: int | None, alpha: AlphaChoice) -> ImageSource:
    image = open_image(path, 0 if series else series, alpha)
    if not series or len(image.series_names) == 1:
        return image
    image.close()
    return open_image(path, series, alpha)


def _channel_names(member: ImageSource) -> tuple[str, ...]:
    own, count = member.metadata.channel_names, member.shape[-3]
    if len(own) == count:
        return own
    stem = image_stem(member.path)
    return (stem,) if count == 1 else tuple(f"{stem} {i}" for i in range(count))
