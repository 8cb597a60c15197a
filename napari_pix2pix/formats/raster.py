"""What PNG, JPEG, BMP and GIF have in common: one plane without chunks, decoded and encoded in one piece."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from math import prod
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Exif, Image, fromarray
from PIL.ImageCms import ImageCmsProfile

from napari_pix2pix.formats.metadata import ImageMetadata, from_record
from napari_pix2pix.formats.opacity import to_opacity
from napari_pix2pix.formats.source import DECODE_BUDGET_BYTES, ImageSource, check_decode_budget
from napari_pix2pix.formats.writing import OutputSpec, Tile
from pix2pix_training.array_source import AnyArray, Opacity
from pix2pix_training.errors import ImageError
from pix2pix_training.regions import Region

logger = logging.getLogger(__name__)

ORIENTATION_TAG = 0x0112


class RasterSource(ImageSource):
    """An image that is decoded whole; `decode` gives shape (C, Y, X), its last channel is alpha where there is one."""

    decoded_whole = True

    def __init__(
        self,
        path: Path,
        decode: Callable[[], AnyArray],
        *,
        shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        metadata: ImageMetadata,
        palette: NDArray[np.uint8] | None = None,
        masked: bool = False,
    ) -> None:
        check_decode_budget(path, shape, dtype, "an image")
        super().__init__(path, axes="CYX", shape=shape, dtype=dtype, metadata=metadata, palette=palette)
        self.masked = masked
        self._decode = decode
        self._pixels: AnyArray | None = None
        self._lock = Lock()

    def _read(self, region: Region, plane: tuple[int, ...]) -> AnyArray:
        return self._decoded()[(slice(self.shape[0]), *region.slices)].copy()

    def _read_with_opacity(self, region: Region, plane: tuple[int, ...]) -> tuple[AnyArray, Opacity | None]:
        samples = self._decoded()[(slice(None), *region.slices)].copy()
        return (samples[:-1], to_opacity(samples[-1])) if self.masked else (samples, None)

    def _decoded(self) -> AnyArray:
        with self._lock:
            if self._pixels is None:
                self._pixels = self._decode_checked()
            return self._pixels

    def _decode_checked(self) -> AnyArray:
        pixels = self._decode()
        expected = (self.shape[0] + self.masked, *self.shape[1:])
        if (pixels.shape, pixels.dtype) != (expected, self.dtype):
            raise ImageError(
                f"{self.path} is damaged: it decodes to {pixels.shape} of {pixels.dtype}, "
                f"its header says {expected} of {self.dtype}"
            )
        return pixels

    def close(self) -> None:
        with self._lock:
            self._pixels = None


def channels_first(pixels: AnyArray) -> AnyArray:
    """Shape (Y, X) or (Y, X, C) to (C, Y, X)."""
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0))


def single_plane_reason(spec: OutputSpec, name: str) -> str | None:
    """Why a format of single planes, written in one piece, cannot hold an image."""
    if spec.leading_shape and prod(spec.leading_shape) > 1:
        return f"{name} holds a single plane, the image has planes {spec.leading_shape}; use the format ome-tiff"
    if spec.channels not in (1, 3):
        return f"{name} holds 1 or 3 channels, the image has {spec.channels}; use the format tiff"
    if spec.nbytes > DECODE_BUDGET_BYTES:
        size = f"{spec.height} x {spec.width}"
        return f"an image of {size} pixels is too large for {name}, which is written in one piece; use the format tiff"
    return None


def eight_bit_reason(spec: OutputSpec, name: str) -> str | None:
    """Why a format of 8 bits without alpha, or of 256 colours, cannot hold an image."""
    if spec.dtype not in (np.uint8, np.bool_) or (spec.dtype == np.bool_ and spec.channels != 1):
        return f"{name} cannot hold {spec.channels} channels of {spec.dtype}; use the format png or tiff"
    if spec.palette is not None and (spec.dtype != np.uint8 or len(spec.palette) > 256):
        return f"{name} holds palettes of at most 256 colours, with 8-bit indices; use the format tiff"
    return single_plane_reason(spec, name)


def collected(spec: OutputSpec, tiles: Iterable[Tile]) -> Generator[None, None, AnyArray]:
    """The whole image, given back in the end: shape (Y, X) for one channel, else (Y, X, samples)."""
    image = np.empty((spec.height, spec.width, spec.samples), spec.dtype)
    for _, region, pixels in tiles:
        image[region.slices] = np.moveaxis(pixels, 0, -1)
        yield
    return image[..., 0] if spec.samples == 1 else image


def with_palette(pixels: AnyArray, spec: OutputSpec) -> Image:
    """Pixels (Y, X) or (Y, X, samples) as an image of Pillow, in the colours of the palette where there is one."""
    image = fromarray(pixels)
    if spec.palette is not None:
        image.putpalette(spec.palette.tobytes())
    return image


def encoded(image: Image, file_format: str, **options: Any) -> bytes:
    """An image as the bytes of its file; Pillow itself does not notice where the last of them do not fit on a disk."""
    content = BytesIO()
    image.save(content, file_format, **options)
    return content.getvalue()


def upright(pixels: AnyArray, orientation: int) -> AnyArray:
    """Pixels (C, Y, X) as they are meant to be seen; `orientation` counts as EXIF does, 1 is upright already."""
    flipped = pixels[..., ::-1] if orientation in (2, 4, 5, 7) else pixels
    turns = {3: 2, 4: 2, 5: 1, 6: -1, 7: -1, 8: 1}.get(orientation, 0)
    return np.ascontiguousarray(np.rot90(flipped, turns, axes=(-2, -1)))


def is_sideways(orientation: int) -> bool:
    """Whether height and width change places; see `upright`."""
    return orientation in (5, 6, 7, 8)


def read_orientation(exif: bytes | None) -> int:
    """From the block of EXIF in a file; 1 where there is none, or a damaged one."""
    with suppress(Exception):  # Pillow raises errors of many kinds
        if exif:
            block = Exif()
            block.load(exif)
            found = int(block.get(ORIENTATION_TAG, 1))
            return found if 1 <= found <= 8 else 1
    return 1


def own_metadata(text: str | bytes, *, sideways: bool) -> ImageMetadata | None:
    """What this program wrote into a file as text, of the image as it is meant to be seen; None where it is damaged."""
    with suppress(ValueError, RecursionError):
        own = from_record(json.loads(text))
        size = own.pixel_size[::-1] if own.pixel_size is not None and sideways else own.pixel_size
        return replace(own, pixel_size=size, orientation=1)
    return None


def exif_of(metadata: ImageMetadata) -> Exif | None:
    """The block of EXIF that says how stored rows and columns lie; None where they are upright."""
    if metadata.orientation == 1:
        return None
    block = Exif()
    block[ORIENTATION_TAG] = metadata.orientation
    return block


def say_colour_profile(path: Path, profile: bytes | None) -> None:
    """A word where values are not those of sRGB, as they would be in a file that says nothing."""
    if not profile:
        return
    name = "unknown"
    with suppress(Exception):  # of the library behind it
        name = str(ImageCmsProfile(BytesIO(profile)).profile.profile_description).strip()
    if "srgb" not in name.lower():
        logger.warning(
            "%s has a colour profile (%s), which is not applied: values are used as they are stored", path, name
        )


def say_frames(path: Path, image: Image) -> None:
    """A word where a file holds several frames."""
    count = getattr(image, "n_frames", 1)
    if count > 1:
        logger.warning("%s is an animation of %d frames; the first is used", path, count)
