"""Whole-slide images, read tile by tile at full resolution through OpenSlide (extra ``slides``)."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from napari_pix2pix.formats.metadata import Acquisition, ImageMetadata
from napari_pix2pix.formats.source import ImageSource
from pix2pix_training.array_source import AnyArray
from pix2pix_training.errors import ImageError
from pix2pix_training.regions import Region

NAME = "slide"
SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide")
WRITTEN_AS = "ome-tiff"

_WHITE = "FFFFFF"


class SlideSource(ImageSource):
    """Level 0 of a slide as RGB; what was not scanned has the slide's background colour (white if it names none)."""

    def __init__(self, path: Path, slide: Any) -> None:
        width, height = slide.dimensions
        super().__init__(
            path,
            axes="CYX",
            shape=(3, height, width),
            dtype=np.dtype(np.uint8),
            metadata=_metadata(slide.properties),
        )
        self._slide = slide
        self._background = "#" + slide.properties.get("openslide.background-color", _WHITE)

    @property
    def downsampling(self) -> tuple[float, ...]:
        """Of each level, the finest first."""
        return tuple(self._slide.level_downsamples)

    def level_size(self, level: int) -> tuple[int, int]:
        """Height and width."""
        width, height = self._slide.level_dimensions[level]
        return height, width

    def _read(self, region: Region, plane: tuple[int, ...]) -> AnyArray:
        return self.read_level(0, region)

    def read_level(self, level: int, region: Region) -> AnyArray:
        """Pixels of a level, shape (3, region.height, region.width); `region` is in its pixels."""
        size, factor = (region.width, region.height), self._slide.level_downsamples[level]
        scanned = self._slide.read_region((round(region.x0 * factor), round(region.y0 * factor)), level, size)
        result = Image.new("RGB", size, self._background)
        result.paste(scanned, mask=scanned.getchannel("A"))
        return np.ascontiguousarray(np.moveaxis(np.asarray(result), -1, 0))

    def close(self) -> None:
        self._slide.close()


def open_source(path: Path) -> SlideSource:
    """Open a slide in any format that OpenSlide knows.

    Raises
    ------
    ImageError
        OpenSlide is not installed, does not know the format, or finds the file damaged.
    """
    try:
        import openslide
    except (ImportError, OSError) as error:
        raise ImageError(
            f'{path} is a whole-slide image, which needs OpenSlide: pip install "napari-pix2pix[slides]"'
        ) from error
    if openslide.OpenSlide.detect_format(path) is None:
        raise ImageError(f"{path} is not a whole-slide image that OpenSlide knows; it may be damaged")
    return SlideSource(path, openslide.OpenSlide(path))


def _metadata(properties: Any) -> ImageMetadata:
    y, x = (_number(properties, f"openslide.mpp-{axis}") for axis in "yx")
    known = y is not None and x is not None
    return ImageMetadata(
        pixel_size=(y, x) if y is not None and x is not None else None,
        unit="µm" if known else None,
        rgb=True,
        file_format="slide",
        acquisition=_acquisition(properties),
    )


def _number(properties: Any, name: str) -> float | None:
    with suppress(KeyError, ValueError):
        number = float(properties[name])
        return number if number > 0 else None
    return None


def _acquisition(properties: Any) -> Acquisition:
    found = {"make": properties.get("openslide.vendor"), "objective": properties.get("openslide.objective-power")}
    return tuple((name, text) for name, text in found.items() if text)
