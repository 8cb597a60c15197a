"""What PNG, JPEG and BMP have in common: one plane without chunks, decoded and encoded in one piece."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import prod
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pix2pix.formats.metadata import ImageMetadata
from napari_pix2pix.formats.opacity import to_opacity
from napari_pix2pix.formats.source import DECODE_BUDGET_BYTES, ImageSource, check_decode_budget
from napari_pix2pix.formats.units import convert_length
from napari_pix2pix.formats.writing import OutputSpec, Tile
from pix2pix_training.array_source import AnyArray, Opacity, Region
from pix2pix_training.errors import ImageError


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


def collected(spec: OutputSpec, tiles: Iterable[Tile]) -> AnyArray:
    """The whole image: shape (Y, X) for one channel, else (Y, X, samples)."""
    image = np.empty((spec.height, spec.width, spec.samples), spec.dtype)
    for _, region, pixels in tiles:
        image[region.slices] = np.moveaxis(pixels, 0, -1)
    return image[..., 0] if spec.samples == 1 else image


def micrometres(metadata: ImageMetadata) -> tuple[float, float] | None:
    """Pixel size (y, x)."""
    if metadata.pixel_size is None or metadata.unit is None:
        return None
    y, x = (convert_length(size, metadata.unit, "µm") for size in metadata.pixel_size)
    return None if y is None or x is None else (y, x)
