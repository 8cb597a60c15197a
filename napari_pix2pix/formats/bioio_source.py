"""Formats of microscope makers (CZI, ND2, LIF), read lazily through bioio and its readers (extra ``bioio``)."""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from napari_pix2pix.formats.metadata import ImageMetadata, sorted_leading
from napari_pix2pix.formats.source import ImageSource, check_decode_budget, check_series
from pix2pix_training.array_source import AnyArray
from pix2pix_training.errors import ImageError
from pix2pix_training.regions import Region

NAME = "bioio"
SUFFIXES = (".czi", ".nd2", ".lif")
SIGNATURES = (b"ZISRAWFILE", b"\xda\xce\xbe\n", b"\x70\0\0\0")
WRITTEN_AS = "ome-tiff"

_PLANE_OPTIONS = {suffix: {"chunk_dims": "YX"} for suffix in (".czi", ".lif")}
"""For readers that otherwise decode all planes along Z for one."""


class BioioSource(ImageSource):
    """One scene of a file; RGB samples are channels.

    Readers that give whole planes only decode one at a time, which is kept until another is asked for.
    """

    def __init__(self, path: Path, image: Any, scene: int) -> None:
        self._data = image.dask_data
        self._letters: str = image.dims.order
        lengths = dict(zip(self._letters, self._data.shape, strict=True))
        self._leading = sorted_leading(self._letters, self._data.shape)
        channels = lengths.get("C", 1) * lengths.get("S", 1)
        super().__init__(
            path,
            axes="".join(self._letters[i] for i in self._leading) + "CYX",
            shape=(*(self._data.shape[i] for i in self._leading), channels, lengths["Y"], lengths["X"]),
            dtype=np.dtype(self._data.dtype).newbyteorder("="),
            metadata=_metadata(image, channels, rgb="S" in self._letters),
        )
        self._be_one_of([str(name) for name in image.scenes], scene)
        if self.dtype.kind not in "buif":
            raise ImageError(f"{path} stores {self.dtype} numbers; only integers and reals are read")
        self._kept: tuple[tuple[int, ...], AnyArray] | None = None
        self._lock = Lock()
        sizes = {axis: max(self._data.chunks[self._letters.index(axis)]) for axis in "YX"}
        check_decode_budget(path, (channels, sizes["Y"], sizes["X"]), self.dtype, "a block")
        self._whole_planes = sizes == {"Y": lengths["Y"], "X": lengths["X"]}

    def _read(self, region: Region, plane: tuple[int, ...]) -> AnyArray:
        if not self._whole_planes:
            return self._computed(plane, region)
        with self._lock:
            if self._kept is None or self._kept[0] != plane:
                self._kept = None
                self._kept = (plane, self._computed(plane, Region.whole(*self.shape[-2:])))
            return self._kept[1][(slice(None), *region.slices)].copy()

    def _computed(self, plane: tuple[int, ...], region: Region) -> AnyArray:
        """Shape (C, region.height, region.width)."""
        selection: list[int | slice] = [slice(None) if letter in "CS" else 0 for letter in self._letters]
        for position, index in zip(self._leading, plane, strict=True):
            selection[position] = index
        selection[self._letters.index("Y")], selection[self._letters.index("X")] = region.slices
        pixels = np.asarray(self._data[tuple(selection)].compute(scheduler="synchronous"), self.dtype)
        kept = [letter for letter in self._letters if letter in "CSYX"]
        ordered = pixels.transpose([kept.index(letter) for letter in "CSYX" if letter in kept])
        return np.ascontiguousarray(ordered.reshape(self.shape[-3], region.height, region.width))

    def close(self) -> None:
        with self._lock:
            self._kept = None


def open_source(path: Path) -> BioioSource:
    """Open the first scene of a file for which a bioio reader is installed.

    Raises
    ------
    ImageError
        bioio or the reader is not installed, or the file cannot be read.
    """
    return open_series(path, 0)


def open_series(path: Path, number: int) -> BioioSource:
    """Open one of the scenes of a file, counted from 0; see `open_source`."""
    try:
        from bioio import BioImage
        from bioio_base.exceptions import UnsupportedFileFormatError
    except ImportError as error:
        raise _missing(path) from error
    try:
        image = BioImage(path, **_PLANE_OPTIONS.get(path.suffix.lower(), {}))
    except UnsupportedFileFormatError as error:
        raise _missing(path) from error
    check_series(path, number, len(image.scenes))
    image.set_scene(number)
    return BioioSource(path, image, number)


def _missing(path: Path) -> ImageError:
    return ImageError(
        f'{path} needs bioio and its reader for {path.suffix or "this"} files: pip install "napari-pix2pix[bioio]"'
    )


def _metadata(image: Any, channels: int, *, rgb: bool) -> ImageMetadata:
    sizes = image.physical_pixel_sizes
    known = bool(sizes.Y) and bool(sizes.X)
    names = tuple(map(str, image.channel_names or ()))
    return ImageMetadata(
        pixel_size=(float(sizes.Y), float(sizes.X)) if known else None,
        z_spacing=float(sizes.Z) if known and sizes.Z else None,
        unit="µm" if known else None,
        channel_names=names if len(names) == channels else (),
        rgb=rgb and channels == 3,
        file_format="bioio",
    )
