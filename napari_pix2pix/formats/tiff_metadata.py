"""Pixel size, channels and display settings of a TIFF, as the program that wrote it says them.

Of Micro-Manager's stacks with an index of their own (MMStack), and NDTiff with an index file, also which files belong
together: tifffile makes a list of all planes that they declare, and opens the files that they name.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from math import inf, prod
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element
from xml.sax.saxutils import unescape

import numpy as np
import tifffile

from napari_pix2pix.formats import ome_xml
from napari_pix2pix.formats.georeference import GDAL_METADATA
from napari_pix2pix.formats.metadata import (
    METADATA_KEY,
    Colour,
    ImageMetadata,
    from_imagej,
    from_record,
    from_tiff_tags,
    resolution_fields,
    time_step,
)
from napari_pix2pix.formats.source import MAX_PLANES, shown
from napari_pix2pix.formats.units import standard_unit
from pix2pix_training.errors import ImageError

logger = logging.getLogger(__name__)

ORIENTATION_TAG = 274

_UNITS_PER_INCH = {2: 1.0, 3: 2.54}
"""By the number of the unit in the tag: inch, centimetre."""
_LENGTHS = ("Channels", "Slices", "Frames", "Positions")
_INDEX = "NDTiff.index"


def read_metadata(
    path: Path, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, root: Element | None, channels: int
) -> ImageMetadata:
    """Metadata of a series; lists that do not have one entry per channel are left out.

    Parameters
    ----------
    root : the OME-XML of the file, None where it has none.
    """
    page = series.keyframe
    metadata = _native(path, tif, series, root)
    metadata = replace(
        metadata,
        rgb=channels == 3 and getattr(page.photometric, "name", "") in ("RGB", "YCBCR"),
        white_is_zero=page.photometric == tifffile.PHOTOMETRIC.MINISWHITE,
        bit_depth=metadata.bit_depth or _bit_depth(page),
        acquisition=metadata.acquisition or from_tiff_tags(page),
        orientation=_orientation(page) or metadata.orientation,
    )
    return _with_fitting_lists(metadata, channels)


def _native(path: Path, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, root: Element | None) -> ImageMetadata:
    page = series.keyframe
    if series.kind == "ome" and root is not None:
        return _from_ome(tif, series, root)
    if series.kind == "imagej":
        return _from_imagej(path, tif, page)
    if series.kind == "lsm":
        return _from_lsm(tif)
    if series.kind == "stk":
        return _from_stk(tif)
    if series.kind in ("mmstack", "ndtiff"):
        return micromanager_metadata(tif)
    return _from_plain(path, page)


def _from_ome(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, root: Element) -> ImageMetadata:
    """Of the image in the XML with the name and size of the series; of equal ones, the one of its position."""
    page = series.keyframe
    dtype = np.dtype(page.dtype)
    wanted = _name_and_size(series)
    described = [one for one in ome_xml.pixels_of(root) if ome_xml.describes(one, *wanted)]
    position = sum(_name_and_size(other) == wanted for other in tif.series[: tif.series.index(series)])
    if position >= len(described):
        return ImageMetadata(file_format="ome-tiff")
    return ome_xml.read_metadata(root, *described[position], dtype.itemsize * 8 if dtype.kind in "iu" else 0)


def _name_and_size(series: tifffile.TiffPageSeries) -> tuple[str, int, int]:
    page = series.keyframe
    return image_name(series), int(page.imagelength), int(page.imagewidth)


_METRES_TO_MICROMETRES = 1e6


def _from_lsm(tif: tifffile.TiffFile) -> ImageMetadata:
    """The header of Zeiss' LSM files counts in metres and seconds."""
    header: dict[str, Any] = tif.lsm_metadata or {}
    x, y, z = (_positive(header.get(f"VoxelSize{axis}")) for axis in "XYZ")
    colours: dict[str, Any] = header.get("ChannelColors") or {}
    return ImageMetadata(
        pixel_size=(y * _METRES_TO_MICROMETRES, x * _METRES_TO_MICROMETRES) if x and y else None,
        z_spacing=z * _METRES_TO_MICROMETRES if x and y and z else None,
        unit="µm" if x and y else None,
        time_step_s=_positive(header.get("TimeIntervall")),  # spelt so in the format
        channel_names=tuple(map(str, colours.get("ColorNames") or ())),
        channel_colors=tuple((int(c[0]), int(c[1]), int(c[2])) for c in colours.get("Colors") or ()),
        file_format="tiff",
    )


def _from_stk(tif: tifffile.TiffFile) -> ImageMetadata:
    """What MetaMorph says about a stack."""
    fields: dict[str, Any] = tif.stk_metadata or {}
    unit = standard_unit(str(fields.get("CalibrationUnits", "")))
    x, y = (_positive(fields.get(f"{axis}Calibration")) for axis in "XY")
    known = bool(fields.get("SpatialCalibration", True)) and unit is not None and x is not None and y is not None
    distances = [distance for step in fields.get("ZDistance", ()) if (distance := _positive(step)) is not None]
    return ImageMetadata(
        pixel_size=(y or 0.0, x or 0.0) if known else None,
        z_spacing=distances[0] if known and distances else None,
        unit=unit if known else None,
        file_format="tiff",
    )


def _positive(value: object) -> float | None:
    with suppress(TypeError, ValueError):
        number = float(str(value))
        return number if 0 < number < inf else None
    return None


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


def _from_plain(path: Path, page: tifffile.TiffPage) -> ImageMetadata:
    if record := _plain_record(path, page):
        return replace(from_record(record), file_format="tiff")
    names = _gdal_channel_names(path, page)
    return ImageMetadata(channel_names=names, file_format="tiff", **_tagged_resolution(page))


def _plain_record(path: Path, page: tifffile.TiffPage) -> dict[str, Any]:
    """What this program wrote about its own image; empty for files of others."""
    with suppress(ValueError, TypeError, KeyError, RecursionError):
        return _as_record(json.loads(page.shaped_description or "")[METADATA_KEY])
    with suppress(StopIteration, ValueError, RecursionError):
        items = _gdal_items(path, page)
        return _as_record(json.loads(next(_gdal_text(i) for i in items if i.get("name") == METADATA_KEY)))
    return {}


def _as_record(loaded: object) -> dict[str, Any]:
    return loaded if isinstance(loaded, dict) else {}


def _gdal_items(path: Path, page: tifffile.TiffPage) -> list[Element]:
    """Entries of GDAL's own metadata; none where they are missing or malformed."""
    root = ome_xml.parsed_xml(path, str(page.tags.valueof(GDAL_METADATA, "")).strip("\0"))
    return [] if root is None else root.findall("Item")


def _gdal_text(item: Element) -> str:
    """GDAL escapes texts twice."""
    return unescape(item.text or "", {"&quot;": '"'})


def _gdal_channel_names(path: Path, page: tifffile.TiffPage) -> tuple[str, ...]:
    described = {
        item.get("sample"): _gdal_text(item) for item in _gdal_items(path, page) if item.get("role") == "description"
    }
    count = page.samplesperpixel
    names = tuple(described.get(str(index), "") for index in range(count))
    return names if any(names) else ()


def palette_entries(path: Path, page: tifffile.TiffPage, root: Element | None) -> int | None:
    """How many colours of the palette are meant, where this program wrote the file; a TIFF always stores 2**bits."""
    record = _plain_record(path, page) if root is None else ome_xml.own_record(root)
    entries = record.get("palette_entries")
    return entries if isinstance(entries, int) and entries > 0 else None


def _pixels_per_unit(page: tifffile.TiffPage) -> tuple[float, float] | None:
    """Vertical and horizontal resolution, if both are positive."""
    with suppress(KeyError, ZeroDivisionError, TypeError, ValueError):
        (x, per_x), (y, per_y) = page.tags[282].value, page.tags[283].value
        if x > 0 and y > 0 and per_x > 0 and per_y > 0:
            return y / per_y, x / per_x
    return None


def _tagged_resolution(page: tifffile.TiffPage) -> dict[str, Any]:
    """Fields of the metadata, where the resolution is given per inch or centimetre."""
    resolution = _pixels_per_unit(page)
    units_per_inch = _UNITS_PER_INCH.get(int(page.tags.valueof(296, 2)))
    if resolution is None or units_per_inch is None:
        return {}
    return resolution_fields((resolution[0] * units_per_inch, resolution[1] * units_per_inch))


def _from_imagej(path: Path, tif: tifffile.TiffFile, page: tifffile.TiffPage) -> ImageMetadata:
    fields: dict[str, Any] = tif.imagej_metadata or {}
    if METADATA_KEY in (properties := _properties(fields)):
        with suppress(ValueError, RecursionError):
            return replace(from_record(json.loads(properties[METADATA_KEY])), file_format="imagej")
    if "cf" in fields:
        logger.warning(
            "%s: its pixels stand for other quantities (a calibration of ImageJ, in %s); they are taken as they are "
            "stored, and the output says nothing of that",
            path,
            fields.get("vunit") or "a unit without a name",
        )
    metadata = _imagej_scale(page, fields)
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


def _imagej_scale(page: tifffile.TiffPage, fields: dict[str, Any]) -> ImageMetadata:
    unit = standard_unit(str(fields.get("unit", "")))
    resolution = _pixels_per_unit(page)
    if unit is None:
        return ImageMetadata(**_tagged_resolution(page))
    return ImageMetadata(
        pixel_size=(1 / resolution[0], 1 / resolution[1]) if resolution else None,
        z_spacing=_magnitude(fields.get("spacing")),
        unit=unit,
    )


def _imagej_colours(fields: dict[str, Any]) -> tuple[Colour, ...]:
    """The brightest colour of each channel's look-up table; shape of a table is (3, 256), a single one stands alone."""
    found = fields.get("LUTs")
    tables: Sequence[Any] = [found] if isinstance(found, np.ndarray) else found or ()
    return tuple((int(table[0][-1]), int(table[1][-1]), int(table[2][-1])) for table in tables)


def _imagej_ranges(fields: dict[str, Any]) -> tuple[tuple[float, float], ...]:
    flat: Sequence[Any] = fields.get("Ranges") or ()
    if not flat and "min" in fields and "max" in fields:
        flat = (fields["min"], fields["max"])
    return tuple((float(low), float(high)) for low, high in zip(flat[::2], flat[1::2], strict=False))


def image_name(series: tifffile.TiffPageSeries) -> str:
    """What the file calls an image, "" where it does not."""
    return "" if series.name == "Baseline" else str(series.name or "")


def check_micromanager(path: Path, tif: tifffile.TiffFile) -> None:
    """Refuse a file that declares too many planes, or names files elsewhere.

    Raises
    ------
    ImageError
        Says which.
    """
    if tif.is_mmstack:
        declared = _declared_planes(tif.micromanager_metadata or {})
    elif tif.is_ndtiff:
        for name in _indexed_names(path):
            if Path(name).name != name or "\\" in name:
                raise ImageError(f"{path} refers to {name}, outside its own folder; put all files in one folder")
            if not path.with_name(name).is_file():
                raise ImageError(f"{path} is one of several files of an image; {name} is missing beside it, add it")
        declared = _indexed_planes(path)
    else:
        return
    if declared > MAX_PLANES:
        raise ImageError(f"{path} declares {shown(declared)} planes; at most {MAX_PLANES} are allowed")


def _declared_planes(settings: dict[str, Any]) -> int:
    """As tifffile counts them: along each axis the larger of what the summary and the index say."""
    summary, index = settings.get("Summary", {}), settings["IndexMap"]
    lengths = (index[:, :4].max(axis=0) + 1).tolist() if len(index) else [1] * len(_LENGTHS)
    return prod(max(int(n), int(summary.get(name, 1))) for n, name in zip(lengths, _LENGTHS, strict=True))


def _indexed_planes(path: Path) -> int:
    """Of the box around all positions in the index file; positions may be numbers or names."""
    seen: dict[str, tuple[int, int, set[str]]] = {}
    for entry in tifffile.read_ndtiff_index(path.with_name(_INDEX)):
        for axis, position in entry[0].items():
            low, high, names = seen.get(axis, (0, 0, set()))
            if isinstance(position, int):
                low, high = min(low, position), max(high, position)
            else:
                names.add(str(position))
            seen[axis] = low, high, names
    return prod(high - low + 1 + len(names) for low, high, names in seen.values())


def _indexed_names(path: Path) -> set[str]:
    return {entry[1] for entry in tifffile.read_ndtiff_index(path.with_name(_INDEX))}


def micromanager_files(path: Path, tif: tifffile.TiffFile) -> tuple[Path, ...]:
    """All files of the acquisition that a file belongs to, sorted; none for files of other programs."""
    if tif.is_ndtiff:
        return tuple(sorted(path.with_name(name) for name in _indexed_names(path)))
    if tif.is_mmstack and "_MMStack" in path.name:
        prefix = path.name.split("_MMStack")[0]
        return tuple(sorted(path.parent.glob(f"{_escaped(prefix)}_MMStack*.tif")))
    return ()


def _escaped(text: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)


def micromanager_metadata(tif: tifffile.TiffFile) -> ImageMetadata:
    """Scale, time step and channel names, as its summary says them."""
    summary: dict[str, Any] = (tif.micromanager_metadata or {}).get("Summary", {})
    size = _magnitude(summary.get("PixelSize_um", summary.get("PixelSizeUm")))
    names = summary.get("ChNames")
    interval = _magnitude(summary.get("Interval_ms"))
    return ImageMetadata(
        pixel_size=None if size is None else (size, size),
        unit=None if size is None else "µm",
        z_spacing=None if size is None else _magnitude(summary.get("z-step_um")),
        time_step_s=None if interval is None else interval / 1000,
        channel_names=tuple(map(str, names)) if isinstance(names, list) else (),
        file_format="tiff",
    )


def _magnitude(value: Any) -> float | None:
    with suppress(TypeError, ValueError):
        number = abs(float(value))
        return number if 0 < number < float("inf") else None
    return None
