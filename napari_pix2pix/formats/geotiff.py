"""GeoTIFF, read by rasterio: place, nodata, masks and what GDAL keeps in files beside an image. `cog` writes it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from napari_pix2pix.formats import cog, tiff, tiff_writing
from napari_pix2pix.formats.cog import CogCanvas
from napari_pix2pix.formats.georeference import (
    GDAL_METADATA,
    GDAL_NODATA,
    DatasetPool,
    files_of_place,
    georeference_of,
    has_place_tags,
    use_rasterio,
)
from napari_pix2pix.formats.metadata import ImageMetadata, placed
from napari_pix2pix.formats.opacity import to_opacity, usable_nodata
from napari_pix2pix.formats.remote import RemotePath, opened_tiff
from napari_pix2pix.formats.remote_servers import redacted
from napari_pix2pix.formats.source import Alpha, ImageSource, check_decode_budget
from napari_pix2pix.formats.tiff import check_structure, images_in
from napari_pix2pix.formats.tiff_metadata import read_metadata
from napari_pix2pix.formats.writing import OutputSpec
from pix2pix_training.array_source import AnyArray, Opacity, least_opaque
from pix2pix_training.errors import ImageError
from pix2pix_training.invalid_pixels import OPAQUE
from pix2pix_training.regions import Region

if TYPE_CHECKING:
    import rasterio

logger = logging.getLogger(__name__)

NAME = "geotiff"
SUFFIXES = tiff.SUFFIXES
SIGNATURES = tiff.SIGNATURES
LOSES = ("origin", "steps", "white")

_MOST_PAGES_OF_ONE_IMAGE = 64
_SCALES_SHOWN = 4
_MOST_BANDS = 4096
"""That are read, and so that are written: rasterio compares each band with all others, and many more would take minutes
for a region."""


def recognises(path: Path) -> bool:
    """Whether a TIFF is a single image about which GDAL knows more than the TIFF itself says."""
    with opened_tiff(path) as tif:
        if not tif.pages or tif.is_ome or tif.is_imagej:
            return False
        page: Any = tif.pages.first
        if page.photometric == tifffile.PHOTOMETRIC.SEPARATED:  # GDAL gives colours instead of the inks
            return False
        tagged = has_place_tags(page) or GDAL_METADATA in page.tags or GDAL_NODATA in page.tags
        others: Iterator[Any] = islice(tif.pages, 1, _MOST_PAGES_OF_ONE_IMAGE)
        has_mask = any(other.is_mask for other in others)
        if not (tagged or has_mask or files_of_place(path) or _mask_file(path).is_file()):
            return False
        check_structure(path, tif)
        images = images_in(path, tif)
        return len(images) == 1 and len(images[0].pages) == 1


def _mask_file(path: Path) -> Path:
    return path.with_name(path.name + ".msk")


class GeoTiffSource(ImageSource):
    """A TIFF of one plane as rasterio sees it; bands are channels, one that is declared as alpha the last of them."""

    def __init__(self, path: Path) -> None:
        self._datasets = DatasetPool(path, driver="GTiff")
        with self._datasets.borrowed() as dataset, opened_tiff(path) as tif:
            page = tif.pages.first
            tiff.check_supported(path, page)
            if dataset.count > _MOST_BANDS:
                raise ImageError(f"{path} declares {dataset.count} bands; GeoTIFFs of at most {_MOST_BANDS} are read")
            kinds = [kind.name for kind in dataset.colorinterp]
            alpha = [band for band, kind in zip(dataset.indexes, kinds, strict=True) if kind == "alpha"]
            alpha = alpha[-1:] if dataset.count > 1 else []
            colours = [band for band in dataset.indexes if band not in alpha]
            self._bands = [*colours, *alpha]
            self._mask_bands = _mask_bands(dataset, colours)
            self._nodata = _nodata(path, page, dataset, colours)
            _say_scale(path, dataset)
            tiff.say_alpha_moved(path, alpha[0] - 1 if alpha else None, dataset.count)
            metadata = read_metadata(path, tif, tif.series[0], None, len(colours))
            if alpha and alpha[0] != dataset.count:  # the first three samples are not what is left
                of_colours = [kinds[band - 1] for band in colours]
                metadata = replace(metadata, rgb=metadata.rgb and of_colours == ["red", "green", "blue"])
            super().__init__(
                path,
                axes="CYX",
                shape=(dataset.count, dataset.height, dataset.width),
                dtype=np.dtype(page.dtype).newbyteorder("="),
                metadata=placed(_named(metadata, dataset, colours), georeference_of(dataset, path)),
                nodata=self._nodata[0] if len(set(self._nodata)) == 1 else None,
                palette=tiff.palette_of(path, tif, page, None),
            )
            check_decode_budget(path, dataset.block_shapes[0], self.dtype, "a block")
        self.alpha: Alpha = "declared" if alpha else "none"
        self.masked = bool(self._mask_bands) or self._is_nodata_by_band

    @property
    def files(self) -> tuple[Path, ...]:
        return (
            self.path,
            *files_of_place(self.path),
            *([_mask_file(self.path)] if _mask_file(self.path).is_file() else []),
        )

    @property
    def _is_nodata_by_band(self) -> bool:
        return len(set(self._nodata)) > 1

    def _read(self, region: Region, plane: tuple[int, ...]) -> AnyArray:
        with self._datasets.borrowed() as dataset, _causes_told(self.path):
            return self._stored(dataset.read(self._bands, window=_window(region)))

    def _stored(self, pixels: AnyArray) -> AnyArray:
        """GDAL has no type for bits and for reals of 16 bits."""
        return pixels.astype(self.dtype, copy=False)

    def _read_with_opacity(self, region: Region, plane: tuple[int, ...]) -> tuple[AnyArray, Opacity | None]:
        with self._datasets.borrowed() as dataset, _causes_told(self.path):
            pixels = self._stored(dataset.read(self._bands, window=_window(region)))
            masks = [to_opacity(dataset.read_masks(band, window=_window(region))) for band in self._mask_bands]
        if self._is_nodata_by_band:
            masks += [_opaque_but(channel, value) for channel, value in zip(pixels, self._nodata, strict=False)]
        return pixels, least_opaque(masks)

    def close(self) -> None:
        self._datasets.close()


def open_source(path: Path) -> ImageSource:
    """Open a TIFF of one plane by rasterio; one that GDAL cannot open as a plain TIFF, which then has no place."""
    use_rasterio()
    from rasterio.errors import RasterioIOError

    if isinstance(path, RemotePath) and _mask_file(path).is_file():
        logger.warning("%s: its mask, %s beside it, is not read", path, _mask_file(path).name)
    try:
        return GeoTiffSource(path)
    except RasterioIOError as error:
        logger.warning("%s is read without its place and its mask: GDAL cannot open it (%s)", path, _cause(error))
        return tiff.open_source(path)


def _say_scale(path: Path, dataset: rasterio.DatasetReader) -> None:
    scales = dict.fromkeys(zip(dataset.scales, dataset.offsets, strict=True))
    if set(scales) != {(1, 0)}:
        logger.warning(
            "%s: its pixels stand for other quantities (%s); they are taken as they are stored, and the output says "
            "nothing of that",
            path,
            "; ".join(f"scale {scale:g}, offset {offset:g}" for scale, offset in islice(scales, _SCALES_SHOWN)),
        )


def _window(region: Region) -> tuple[tuple[int, int], tuple[int, int]]:
    return (region.y0, region.y1), (region.x0, region.x1)


@contextmanager
def _causes_told(path: Path) -> Iterator[None]:
    """The errors of rasterio say little; what GDAL said stands in their cause."""
    from rasterio.errors import RasterioError

    try:
        yield
    except RasterioError as error:
        raise ImageError(f"{path} cannot be read, it may be damaged or cut short: {_cause(error)}") from error


def _cause(error: BaseException) -> str:
    return redacted(" ".join(str(error.__cause__ or error).split()))[:200]


def _nodata(
    path: Path, page: tifffile.TiffPage, dataset: rasterio.DatasetReader, bands: Sequence[int]
) -> tuple[float | None, ...]:
    """Of each band: what the TIFF says, else a file beside it."""
    if GDAL_NODATA in page.tags:
        return (tiff.declared_nodata(path, page),) * len(bands)
    values = dataset.nodatavals
    texts = ["" if values[band - 1] is None else repr(values[band - 1]) for band in bands]
    return tuple(usable_nodata(path, text, np.dtype(page.dtype)) for text in texts)


def _mask_bands(dataset: rasterio.DatasetReader, bands: Sequence[int]) -> tuple[int, ...]:
    """Numbers of the bands whose masks say more than values and alpha do; one where all bands have the same."""
    of_bands = dataset.mask_flag_enums
    flags = [{flag.name for flag in of_bands[band - 1]} for band in bands]
    if any(not band for band in flags):
        return tuple(bands)
    return (bands[0],) if flags[0] == {"per_dataset"} else ()


def _opaque_but(channel: AnyArray, nodata: float | None) -> Opacity:
    """Opaque where a channel is not nodata."""
    return np.where(channel == nodata, 0, OPAQUE).astype(np.uint8)


def _named(metadata: ImageMetadata, dataset: rasterio.DatasetReader, bands: Sequence[int]) -> ImageMetadata:
    """Descriptions of bands are names of channels."""
    descriptions = dataset.descriptions
    names = tuple(descriptions[band - 1] or "" for band in bands)
    return metadata if metadata.channel_names or not any(names) else replace(metadata, channel_names=names)


def incompatibility(spec: OutputSpec) -> str | None:
    """Why GeoTIFF cannot hold an image."""
    if spec.metadata.georeference is None:
        return "the image has no georeference (CRS and transform) for a GeoTIFF; use the format tiff"
    return unplaced_incompatibility(spec)


def unplaced_incompatibility(spec: OutputSpec) -> str | None:
    """The same, wherever the image lies."""
    if spec.dtype == np.float16 or (spec.dtype == np.bool_ and spec.channels > 1):
        return f"GeoTIFF cannot hold {spec.channels} channels of {spec.dtype}; use the format tiff"
    if spec.channels > _MOST_BANDS:
        return (
            f"GeoTIFFs of at most {_MOST_BANDS} bands are written, the image has {spec.channels}; use the format tiff"
        )
    if spec.metadata.orientation != 1:
        return "GeoTIFF has no field for the way that rows and columns are turned; use the format tiff"
    if prod(spec.leading_shape) > 1:
        return f"GeoTIFF holds a single plane, the image has planes {spec.leading_shape}; use the format tiff"
    return tiff_writing.incompatibility(spec)


def holds_nodata(spec: OutputSpec) -> bool:
    """GDAL's tag says it, of any number."""
    del spec
    return True


def holds_mask(spec: OutputSpec) -> bool:
    """As alpha where the input had that, else as a mask within the file."""
    del spec
    return True


def substitutes(spec: OutputSpec) -> tuple[str, ...]:
    """A plain TIFF keeps the georeference."""
    return () if spec.metadata.georeference is None else ("tiff",)


def begin(path: Path, spec: OutputSpec, part_px: int = 0) -> None:
    """Write a file in which pixels wait; `spec` has been checked to fit the format."""
    del part_px
    cog.begin(path, spec)


def open_canvas(path: Path, spec: OutputSpec, part_px: int) -> CogCanvas:
    """Open what `begin` has made, to be filled part by part."""
    return CogCanvas(path, spec, part_px)
