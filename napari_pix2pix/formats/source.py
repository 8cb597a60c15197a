"""Opens image files: one interface for every format, one kind of error, and what was understood of a file."""

from __future__ import annotations

import logging
import struct
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_pix2pix.formats.georeference import Georeference, files_of_place, read_place
from napari_pix2pix.formats.metadata import ImageMetadata, placed
from napari_pix2pix.formats.registry import Format, format_named, formats
from napari_pix2pix.formats.remote import ZARR_FILES, RemotePath, as_path, trouble
from napari_pix2pix.formats.remote_servers import redacted
from pix2pix_training.array_source import AnyArray, Closable, Opacity
from pix2pix_training.choices import AlphaChoice
from pix2pix_training.errors import ImageError, Pix2PixError
from pix2pix_training.regions import Region

logger = logging.getLogger(__name__)

DECODE_BUDGET_BYTES = 2 << 30
"""Most bytes that one indivisible piece of a file (a tile, a strip, a whole PNG) may take when decoded."""

MAX_PLANES = 1_000_000
"""Most planes (T x Z x C) that a file may declare."""

RGB_NAMES = ("red", "green", "blue")

_READ_BY_PARTS = ("tiff", "ome-tiff", "imagej", "geotiff", "ome-zarr", "png", "jpeg", "bmp", "gif")
"""Formats that are read from servers too."""

Alpha = Literal["none", "declared", "certain"]
"""A file's last channel is no alpha, is declared as alpha (which many programs do without being asked), or is alpha."""


class ImageSource(Closable):
    """An open image file: an `ArraySource` that also knows its path and metadata, and can be closed.

    Reading is thread-safe. Use it as a context manager, or call `close`.

    Attributes
    ----------
    decoded_whole : a read of any region decodes the whole image and keeps it until `close`.
    masked : the file says beside its values which pixels hold data; see `read_with_opacity`.
    alpha : whether the last channel says how opaque pixels are; see `with_alpha`.
    series : number of the image within its file, from 0.
    series_names : of each image that the file holds, what the file calls it, "" where it does not.
    """

    decoded_whole = False
    masked = False
    alpha: Alpha = "none"
    series = 0
    series_names: tuple[str, ...] = ("",)

    def __init__(
        self,
        path: Path,
        *,
        axes: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        metadata: ImageMetadata,
        nodata: float | None = None,
        palette: NDArray[np.uint8] | None = None,
    ) -> None:
        self.path = path
        self.name = str(path)
        self.axes = axes
        self.shape = shape
        self.dtype = dtype
        self.metadata = metadata
        self.nodata = nodata
        self.palette = palette

    @property
    def channel_names(self) -> tuple[str, ...]:
        """What the file calls its channels, one name each; empty where it does not say."""
        names, count = self.metadata.channel_names, self.shape[-3]
        if len(names) == count:
            return names
        return RGB_NAMES if self.metadata.rgb and count == len(RGB_NAMES) else ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All files or folders that hold the image, `path` first."""
        return (self.path,)

    def read(self, region: Region, plane: tuple[int, ...] = ()) -> AnyArray:
        """Pixels of one plane, shape (channels, region.height, region.width), in the stored dtype.

        Raises
        ------
        ImageError
            The region or plane does not lie within the image, or the file is damaged there.
        """
        self._check(region, plane)
        with damage_reported(self.path):
            return self._read(region, plane)

    def read_with_opacity(self, region: Region, plane: tuple[int, ...] = ()) -> tuple[AnyArray, Opacity | None]:
        """Pixels as `read` gives them, and how opaque they are, None where the file is not `masked`."""
        self._check(region, plane)
        with damage_reported(self.path):
            return self._read_with_opacity(region, plane)

    def _be_one_of(self, names: Sequence[str], number: int) -> None:
        """Be the image of this number among several in a file, of which each has a name or ""."""
        self.series, self.series_names = number, tuple(names)
        if len(self.series_names) > 1:
            self.name = f"{self.path} (image {number})"

    @abstractmethod
    def _read(self, region: Region, plane: tuple[int, ...]) -> AnyArray: ...

    def _read_with_opacity(self, region: Region, plane: tuple[int, ...]) -> tuple[AnyArray, Opacity | None]:
        """A subclass that sets `masked` says more."""
        return self._read(region, plane), None

    def with_alpha(self, choice: AlphaChoice) -> ImageSource:
        """The image with its alpha channel as `choice` says; see `napari_pix2pix.formats.alpha`."""
        if self.alpha == "none" and not (choice == "drop" and self.masked):
            return self
        from napari_pix2pix.formats.opacity import chosen

        return chosen(self, choice)

    @abstractmethod
    def close(self) -> None:
        """Release the file; reading is no longer possible."""

    def _check(self, region: Region, plane: tuple[int, ...]) -> None:
        height, width = self.shape[-2:]
        leading = self.shape[:-3]
        if not (0 <= region.y0 <= region.y1 <= height and 0 <= region.x0 <= region.x1 <= width):
            raise ImageError(
                f"{self.path}: region {region.y0}:{region.y1},{region.x0}:{region.x1} does not lie within the image "
                f"of {height} x {width} pixels"
            )
        if len(plane) != len(leading) or any(not 0 <= i < n for i, n in zip(plane, leading, strict=True)):
            raise ImageError(f"{self.path}: there is no plane {plane}; the image has planes {leading}")


def open_image(path: str | Path, series: int | None = None, alpha: AlphaChoice = "auto") -> ImageSource:
    """Open an image file lazily; what it is, is told from its first bytes, not from its name.

    Parameters
    ----------
    path : path or address (``https://``, ``s3://``, ``gs://``) of a TIFF (OME, ImageJ, BigTIFF, GeoTIFF), PNG, JPEG,
        BMP, GIF or OME-Zarr; also the path of the companion file of a multi-file OME-TIFF, or of a folder of map tiles
        that make one image (z/x/y.png, or GeoTIFFs on a common grid).
    series : which of several images in the file, from 0; by default the first, with a warning if there are others.
    alpha : what an alpha channel becomes; see `AlphaChoice`.

    Returns
    -------
    ImageSource
        Axes are normalised to leading axes (T, Z, ...) and CYX: RGB samples are channels, a 2-D image has one.
        Leading axes of length 1 are left out. It is read at full resolution.

    Raises
    ------
    ImageError
        The file does not exist, is not an image, is damaged or larger than allowed, or has no image of that number.
    """
    path = as_path(path)
    with damage_reported(path):
        found = _format_of(path)
        assert found.open_source is not None
        if isinstance(path, RemotePath) and found.name not in _READ_BY_PARTS:
            raise ImageError(f"{path} is of the format {found.name}, which is read from disks only; download it first")
        if series and found.open_series is None:
            check_series(path, series, 1)
        image = found.open_series(path, series) if series and found.open_series else found.open_source(path)
    image = _with_alpha(image, alpha)
    if image.metadata.georeference is None and (beside := files_of_place(path)):
        if isinstance(path, RemotePath):
            logger.warning("%s: %s beside it, which may say where it lies, is not read", path, beside[0].name)
        else:
            image.metadata = placed(image.metadata, read_place(path, image.metadata.file_format))
    if series is None and len(image.series_names) > 1:
        count = len(image.series_names)
        logger.warning(
            "%s holds %d images and number 0 is used; for another give its number, series 1 to %d",
            path,
            count,
            count - 1,
        )
    return image


def members_of(path: Path) -> tuple[Path, ...]:
    """All files of the image that a file is one of, itself included; only itself where it cannot be read."""
    with suppress(ImageError), damage_reported(path):
        return _format_of(path).members(path)
    return (path,)


def _with_alpha(image: ImageSource, choice: AlphaChoice) -> ImageSource:
    try:
        return image.with_alpha(choice)
    except BaseException:
        image.close()
        raise


def check_series(path: Path, number: int, count: int) -> None:
    """Refuse the number of an image that a file with `count` images does not hold.

    Raises
    ------
    ImageError
        Says how many there are.
    """
    if not 0 <= number < count:
        held = "one image, number 0" if count == 1 else f"{count} images, numbers 0 to {count - 1}"
        raise ImageError(f"{path} holds no image number {number}; it holds {held}")


def _format_of(path: Path) -> Format:
    try:
        if not path.exists():
            raise ImageError(f"{path} does not exist")
        if not path.is_dir() and not path.is_file():  # a pipe or a device might never end
            raise ImageError(f"{path} is no ordinary file; write the image to one first")
        found = _format_of_folder(path) if path.is_dir() else _format_by_name(path) or _format_by_content(path)
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}") from error
    assert found is not None
    return found


def _format_of_folder(path: Path) -> Format | None:
    return format_named("ome-zarr" if is_zarr(path) else "tiles")


def _format_by_name(path: Path) -> Format | None:
    """Slides: most of them begin like a TIFF or a JPEG."""
    suffix = path.suffix.lower()
    known = (entry for entry in formats() if entry.open_source and not entry.signatures and suffix)
    return next((entry for entry in known if suffix in entry.suffixes), None)


def _format_by_content(path: Path) -> Format:
    beginning = _first_bytes(path)
    matching = [entry for entry in formats() if beginning.startswith(entry.signatures)]
    for entry in sorted(matching, key=lambda entry: entry.recognises is None):
        if entry.recognises is None or entry.recognises(path):
            return entry
    reason = "is empty" if not beginning else "is not an image of a known format"
    raise ImageError(
        f"{path} {reason}; readable are TIFF, PNG, JPEG, BMP and GIF files, OME-Zarr, slides and CZI, ND2, LIF"
    )


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr group or array."""
    return any((path / name).is_file() for name in ZARR_FILES)


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(10)


@contextmanager
def damage_reported(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises into an `ImageError`; decoders of damaged files raise anything."""
    try:
        yield
    except Pix2PixError:
        raise
    except MemoryError as error:
        raise ImageError(f"{path} cannot be read: not enough memory to decode it") from error
    except (Exception, struct.error) as error:
        if (told := trouble(path, error)) is not None:
            raise ImageError(f"{path} cannot be read: {told.strerror}") from error
        reason = (redacted(str(error)).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ImageError(f"{path} cannot be read, it may be damaged or cut short: {reason}") from error


_MOST_SHOWN = 10**12


def shown(*numbers: int) -> str:
    """Sizes for messages, "3 x 4"; a damaged file may declare numbers of a thousand digits."""
    return " x ".join(str(n) if abs(n) < _MOST_SHOWN else f"over {_MOST_SHOWN:,}".replace(",", " ") for n in numbers)


def check_decode_budget(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], what: str) -> None:
    """Refuse, before anything is allocated, a piece of a file that decodes to more than the budget.

    Raises
    ------
    ImageError
        `shape` of `dtype` takes more than `DECODE_BUDGET_BYTES`.
    """
    size = prod(shape) * dtype.itemsize
    if size > DECODE_BUDGET_BYTES:
        taken = f"{size / 2**30:.1f}" if size < 2**70 else shown(size >> 30)
        raise ImageError(
            f"{path}: {what} of {shown(*shape)} would take {taken} GiB when decoded, "
            f"{DECODE_BUDGET_BYTES / 2**30:.0f} GiB are allowed; save it as a tiled TIFF"
        )


def describe_image(image: ImageSource) -> dict[str, Any]:
    """Everything that is known of an open image besides its pixels, ready for JSON; what is unknown is left out.

    `shape` belongs to `axes`; `pixel_size` is (y, x) in `unit`; `transform` and `bounds` (left, bottom, right, top) are
    in the coordinates of `crs`. `scales` says of axes what those fields cannot, see `ImageMetadata.scales`.
    """
    metadata = image.metadata
    own = {
        field.name: getattr(metadata, field.name)
        for field in fields(metadata)
        if field.name not in ("alpha", "georeference", "made_by", "scales", "tiles", "white_is_zero")
    }
    facts = {
        "path": str(image.path),
        "format": own.pop("file_format"),
        "axes": image.axes,
        "shape": list(image.shape),
        "dtype": image.dtype.name,
        **own,
        "scales": {s.letter: {"step": s.step, "unit": s.unit, "origin": s.origin} for s in metadata.scales},
        "nodata": image.nodata,
        "masked": ("by alpha" if metadata.alpha else "by a mask") if image.masked else None,
        "white_is_zero": metadata.white_is_zero or None,
        **_series(image),
        "tiles": None if metadata.tiles is None else len(metadata.tiles.tiles),
        "palette_colours": None if image.palette is None else len(image.palette),
        **_place(metadata.georeference, *image.shape[-2:]),
        "made_by": dict(metadata.made_by),
    }
    return {name: value for name, value in facts.items() if value not in (None, (), {})}


def _series(image: ImageSource) -> dict[str, Any]:
    """Of files that hold several images."""
    if len(image.series_names) == 1:
        return {}
    return {"series": image.series, "images_in_file": [name or str(i) for i, name in enumerate(image.series_names)]}


def _place(georeference: Georeference | None, height: int, width: int) -> dict[str, Any]:
    if georeference is None:
        return {}
    transform = georeference.transform
    bounds = None if transform is None else _bounds(transform, height, width)
    return {"crs": georeference.crs_name or "unknown", "transform": transform, "bounds": bounds}


def _bounds(transform: tuple[float, ...], height: int, width: int) -> tuple[float, float, float, float]:
    a, b, c, d, e, f = transform
    corners = [(row, column) for row in (0, height) for column in (0, width)]
    xs = [a * column + b * row + c for row, column in corners]
    ys = [d * column + e * row + f for row, column in corners]
    return min(xs), min(ys), max(xs), max(ys)
