"""Pixel size, channels and display settings of a TIFF, from OME-XML, ImageJ's fields, or the resolution tags."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any
from xml.etree.ElementTree import Element
from xml.sax.saxutils import unescape

import numpy as np
import tifffile

from napari_pix2pix.formats.acquisition import from_imagej, from_ome, from_tiff_tags, time_step
from napari_pix2pix.formats.georeference import GDAL_METADATA, Georeference, read_georeference
from napari_pix2pix.formats.metadata import (
    METADATA_KEY,
    Colour,
    ImageMetadata,
    convert_length,
    from_record,
    meaningful_pixel_size,
    standard_unit,
)
from napari_pix2pix.formats.tiff_ome import parsed_xml

ORIENTATION_TAG = 274

_MICROMETRES_PER_RESOLUTION_UNIT = {2: 25_400.0, 3: 10_000.0}


def read_metadata(tif: tifffile.TiffFile, channels: int) -> ImageMetadata:
    """Metadata of the first series; lists that do not have one entry per channel are left out."""
    page = tif.series[0].keyframe
    metadata = _placed(_native(tif), read_georeference(page))
    metadata = replace(
        metadata,
        rgb=channels == 3 and getattr(page.photometric, "name", "") in ("RGB", "YCBCR"),
        bit_depth=metadata.bit_depth or _bit_depth(page),
        acquisition=metadata.acquisition or from_tiff_tags(page),
        orientation=_orientation(page) or metadata.orientation,
    )
    return _with_fitting_lists(metadata, channels)


def _placed(metadata: ImageMetadata, georeference: Georeference | None) -> ImageMetadata:
    """With the place on the Earth; the pixel size of a GeoTIFF is that of its transform."""
    if georeference is None:
        return metadata
    if metadata.file_format != "tiff":
        return replace(metadata, georeference=georeference)
    size = georeference.pixel_size
    return replace(
        metadata,
        georeference=georeference,
        file_format="geotiff",
        pixel_size=size,
        unit=None if size is None else georeference.unit,
    )


def _native(tif: tifffile.TiffFile) -> ImageMetadata:
    kind = tif.series[0].kind
    if kind == "ome":
        return _from_ome(tif)
    if kind == "imagej":
        return _from_imagej(tif)
    return _from_plain(tif)


def _with_fitting_lists(metadata: ImageMetadata, channels: int) -> ImageMetadata:
    return replace(
        metadata,
        channel_names=metadata.channel_names if len(metadata.channel_names) == channels else (),
        channel_colors=metadata.channel_colors if len(metadata.channel_colors) == channels else (),
        display_ranges=metadata.display_ranges if len(metadata.display_ranges) == channels else (),
    )


def _bit_depth(page: tifffile.TiffPage) -> int | None:
    bits = page.bitspersample
    return int(bits) if 1 < bits < np.dtype(page.dtype).itemsize * 8 else None


def _orientation(page: tifffile.TiffPage) -> int | None:
    """1 to 8, None where the file does not say."""
    number = page.tags.valueof(ORIENTATION_TAG)
    return int(number) if isinstance(number, int) and 1 <= number <= 8 else None


def _from_plain(tif: tifffile.TiffFile) -> ImageMetadata:
    page = tif.series[0].keyframe
    if record := _plain_record(page):
        return replace(from_record(record), file_format="tiff")
    size = _tagged_pixel_size(page)
    names = _gdal_channel_names(page)
    return ImageMetadata(pixel_size=size, unit="µm" if size else None, channel_names=names, file_format="tiff")


def _plain_record(page: tifffile.TiffPage) -> dict[str, Any]:
    """What this program wrote about its own image; empty for files of others."""
    with suppress(ValueError, TypeError, KeyError):
        return _as_record(json.loads(page.shaped_description or "")[METADATA_KEY])
    with suppress(StopIteration, ValueError):
        return _as_record(json.loads(next(_gdal_text(i) for i in _gdal_items(page) if i.get("name") == METADATA_KEY)))
    return {}


def _gdal_items(page: tifffile.TiffPage) -> list[Element]:
    """Entries of GDAL's own metadata; none where they are missing or malformed."""
    root = parsed_xml(str(page.tags.valueof(GDAL_METADATA, "")).strip("\0"))
    return [] if root is None else root.findall("Item")


def _gdal_text(item: Element) -> str:
    """GDAL escapes texts twice."""
    return unescape(item.text or "", {"&quot;": '"'})


def _gdal_channel_names(page: tifffile.TiffPage) -> tuple[str, ...]:
    described = {
        item.get("sample"): _gdal_text(item) for item in _gdal_items(page) if item.get("role") == "description"
    }
    count = page.samplesperpixel
    names = tuple(described.get(str(index), "") for index in range(count))
    return names if any(names) else ()


def palette_entries(tif: tifffile.TiffFile) -> int | None:
    """How many colours of the palette are meant, where this program wrote the file; a TIFF always stores 2**bits."""
    root = parsed_xml(tif.ome_metadata)
    record = _plain_record(tif.series[0].keyframe) if root is None else _ome_record(root)
    entries = record.get("palette_entries")
    return entries if isinstance(entries, int) and entries > 0 else None


def _pixels_per_unit(page: tifffile.TiffPage) -> tuple[float, float] | None:
    """Vertical and horizontal resolution, if both are positive."""
    with suppress(KeyError, ZeroDivisionError, TypeError, ValueError):
        (x, per_x), (y, per_y) = page.tags[282].value, page.tags[283].value
        if x > 0 and y > 0 and per_x > 0 and per_y > 0:
            return y / per_y, x / per_x
    return None


def _tagged_pixel_size(page: tifffile.TiffPage) -> tuple[float, float] | None:
    """In micrometres, where the resolution is given per inch or centimetre."""
    resolution = _pixels_per_unit(page)
    unit = _MICROMETRES_PER_RESOLUTION_UNIT.get(int(page.tags.valueof(296, 2)))
    if resolution is None or unit is None:
        return None
    return meaningful_pixel_size((unit / resolution[0], unit / resolution[1]))


def _from_imagej(tif: tifffile.TiffFile) -> ImageMetadata:
    fields: dict[str, Any] = tif.imagej_metadata or {}
    if METADATA_KEY in (properties := _properties(fields)):
        with suppress(ValueError):
            return replace(from_record(json.loads(properties[METADATA_KEY])), file_format="imagej")
    metadata = _imagej_scale(tif, fields)
    return replace(
        metadata,
        channel_colors=_imagej_colours(fields),
        display_ranges=_imagej_ranges(fields),
        acquisition=from_imagej(fields),
        time_step_s=time_step(fields.get("finterval"), fields.get("tunit")),
        file_format="imagej",
    )


def _properties(fields: dict[str, Any]) -> dict[str, Any]:
    properties = fields.get("Properties")
    return properties if isinstance(properties, dict) else {}


def _imagej_scale(tif: tifffile.TiffFile, fields: dict[str, Any]) -> ImageMetadata:
    unit = standard_unit(str(fields.get("unit", "")))
    resolution = _pixels_per_unit(tif.series[0].keyframe)
    if unit is None:
        size = _tagged_pixel_size(tif.series[0].keyframe)
        return ImageMetadata(pixel_size=size, unit="µm" if size else None)
    spacing = fields.get("spacing")
    return ImageMetadata(
        pixel_size=(1 / resolution[0], 1 / resolution[1]) if resolution else None,
        z_spacing=float(spacing) if isinstance(spacing, int | float) and spacing > 0 else None,
        unit=unit,
    )


def _imagej_colours(fields: dict[str, Any]) -> tuple[Colour, ...]:
    """The brightest colour of each channel's look-up table; shape of a table is (3, 256)."""
    tables: Sequence[Any] = fields.get("LUTs") or ()
    return tuple((int(table[0][-1]), int(table[1][-1]), int(table[2][-1])) for table in tables)


def _imagej_ranges(fields: dict[str, Any]) -> tuple[tuple[float, float], ...]:
    flat: Sequence[Any] = fields.get("Ranges") or ()
    if not flat and "min" in fields and "max" in fields:
        flat = (fields["min"], fields["max"])
    return tuple((float(low), float(high)) for low, high in zip(flat[::2], flat[1::2], strict=False))


def _from_ome(tif: tifffile.TiffFile) -> ImageMetadata:
    root = parsed_xml(tif.ome_metadata)
    image = None if root is None else _image_element(root)
    pixels = None if image is None else image.find("{*}Pixels")
    if root is None or image is None or pixels is None:
        return ImageMetadata(file_format="ome-tiff")
    if record := _ome_record(root):
        return replace(from_record(record), file_format="ome-tiff")
    unit = standard_unit(pixels.get("PhysicalSizeXUnit", "µm"))
    x, y, z = (_physical_size(pixels, axis, unit) for axis in "XYZ")
    channels = pixels.findall("{*}Channel")
    return ImageMetadata(
        pixel_size=(y, x) if x is not None and y is not None else None,
        z_spacing=z,
        unit=unit if (x, y, z) != (None, None, None) else None,
        channel_names=_ome_names(channels),
        channel_colors=_ome_colours(channels),
        bit_depth=_significant_bits(pixels, tif.series[0].keyframe),
        acquisition=from_ome(root, image),
        time_step_s=time_step(pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit")),
        file_format="ome-tiff",
    )


def _ome_record(root: Element) -> dict[str, Any]:
    """What this program wrote about its own image; empty for files of others."""
    for annotation in root.iterfind("{*}StructuredAnnotations/{*}MapAnnotation"):
        text = annotation.findtext("{*}Value/{*}M")
        if annotation.get("Namespace") == METADATA_KEY and text is not None:
            with suppress(ValueError):
                return _as_record(json.loads(text))
    return {}


def _as_record(loaded: object) -> dict[str, Any]:
    return loaded if isinstance(loaded, dict) else {}


def _image_element(root: Element) -> Element | None:
    """The first image that has pixels in the file, as tifffile chooses its first series."""
    return next((image for image in root.iterfind("{*}Image") if image.find("{*}Pixels/{*}TiffData") is not None), None)


def _physical_size(pixels: Element, axis: str, unit: str | None) -> float | None:
    with suppress(ValueError):
        size = float(pixels.get(f"PhysicalSize{axis}", ""))
        own_unit = standard_unit(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        if size > 0 and unit is not None and own_unit is not None:
            return convert_length(size, own_unit, unit)
    return None


def _significant_bits(pixels: Element, page: tifffile.TiffPage) -> int | None:
    text = pixels.get("SignificantBits", "")
    fewer = text.isdecimal() and 0 < int(text) < np.dtype(page.dtype).itemsize * 8
    return int(text) if fewer and np.dtype(page.dtype).kind in "iu" else None


def _ome_names(channels: list[Element]) -> tuple[str, ...]:
    names = tuple(channel.get("Name", "") for channel in channels)
    return names if any(names) else ()


def _ome_colours(channels: list[Element]) -> tuple[Colour, ...]:
    """OME stores red, green, blue and alpha as one signed number, white where there is none."""
    if not any("Color" in channel.attrib for channel in channels):
        return ()
    return tuple(_colour(channel.get("Color", "-1")) for channel in channels)


def _colour(text: str) -> Colour:
    try:
        number = int(text) & 0xFFFFFFFF
    except ValueError:
        return 255, 255, 255
    return number >> 24, (number >> 16) & 255, (number >> 8) & 255
