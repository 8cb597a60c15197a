"""Several files as the channels of one image, as microscopes and satellites often save them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from napari_pix2pix.formats.naming import image_stem
from napari_pix2pix.formats.source import ImageSource, open_image
from pix2pix_training.array_source import AnyArray, Opacity, StackedChannels
from pix2pix_training.config import AlphaChoice
from pix2pix_training.regions import Region


class ChannelFiles(ImageSource):
    """Open files of equal size, their channels one after the other; named by the files where the files do not."""

    def __init__(self, members: Sequence[ImageSource]) -> None:
        stacked = StackedChannels(members)
        first = members[0]
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
