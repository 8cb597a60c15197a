"""What is known of a layer besides its pixels: by napari, and by the file that it was opened from. No napari, no Qt.

napari keeps neither nodata values nor coordinate reference systems, and its own reader no pixel sizes. The file says
them, and a result keeps them in its layer's metadata, so that one made of it has them too.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from napari_pix2pix._widgets.layer_axes import (
    NO_LABEL,
    Extent,
    axis_letters,
    finest_level,
    is_rgb,
    labelled_channel_axis,
    move_to_front,
)
from napari_pix2pix.formats.georeference import Georeference
from napari_pix2pix.formats.metadata import AxisScale, ImageMetadata
from napari_pix2pix.formats.source import ImageSource, is_zarr, open_image
from napari_pix2pix.formats.units import convert_length, in_seconds, ome_zarr_name, standard_unit
from pix2pix_training.array_source import Opacity
from pix2pix_training.errors import Pix2PixError
from pix2pix_training.regions import Region

logger = logging.getLogger(__name__)

FACTS_KEY = "napari-pix2pix-image"
"""In the metadata of layers that this plugin makes or opens: their `ImageFacts`."""
RESULT_KEY = "napari-pix2pix"
"""In the metadata of results: how they were made."""

_CHANNELS_LAST = 4
"""So many times longer are the two axes before a last one that looks like channels."""
_CLOSE = 1e-3
_RGBA = 4


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """What a file says about an image of `size` (height, width) and `dtype`, with so many channels and planes.

    `mask` is a file with a single plane that says beside its channels where there is data. `path` is the file.
    """

    metadata: ImageMetadata
    nodata: float | None
    size: tuple[int, int]
    dtype: str
    channels: int
    planes: int
    mask: FileMask | None = None
    path: Path | None = None


@dataclass(frozen=True)
class FileMask:
    """How opaque the pixels of a file are, of which a viewer shows the colours only."""

    path: Path

    def read(self, region: Region) -> Opacity | None:
        """Shape (region.height, region.width), 0 where there is no data."""
        with open_image(self.path, 0) as image:
            return image.read_with_opacity(region)[1]


def is_result(layer: Any) -> bool:
    """Whether this plugin has made the pixels of a layer."""
    return RESULT_KEY in layer.metadata


def file_facts(layer: Any) -> ImageFacts | None:
    """What the file of a layer, or the maker of a result, says; None where there is none, or it is of another size."""
    found = getattr(layer, "metadata", {}).get(FACTS_KEY)
    if not isinstance(found, ImageFacts):
        path = file_of(layer)
        found = None if path is None else _facts_of_path(path)
    rows = -3 if is_rgb(layer) else -2
    return found if found is not None and found.size == tuple(finest_level(layer).shape[rows:][:2]) else None


def file_of(layer: Any) -> Path | None:
    """The file that a layer was opened from, by napari or by this plugin; None where it is not known."""
    facts = getattr(layer, "metadata", {}).get(FACTS_KEY)
    path = getattr(getattr(layer, "source", None), "path", None) or getattr(facts, "path", None)
    return Path(path) if path else None


def nodata_of(layer: Any) -> float | None:
    """The value that marks invalid pixels of a layer; None where its pixels are no longer of the file's type."""
    facts = file_facts(layer)
    same_type = facts is not None and facts.dtype == np.dtype(finest_level(layer).dtype).name
    return facts.nodata if facts is not None and same_type else None


def mask_of(layer: Any) -> FileMask | None:
    """What says beside the pixels of a layer where there is data; None where nothing does."""
    facts = file_facts(layer)
    return None if facts is None else facts.mask


def likely_channel_axis(layer: Any) -> int | None:
    """The axis that is labelled as channels; of RGBA that of the colours, where its file has four channels; or None."""
    if not is_rgb(layer):
        return labelled_channel_axis(layer)
    facts = file_facts(layer)
    has_fourth = facts is not None and facts.channels == finest_level(layer).shape[-1] == _RGBA
    return int(layer.ndim) if has_fourth else None


def has_alpha(layer: Any) -> bool:
    """Whether a layer has a fourth sample beside its colours."""
    return is_rgb(layer) and finest_level(layer).shape[-1] == _RGBA


def image_metadata(layer: Any, channel_axis: int | None = None, extent: Extent | None = None) -> ImageMetadata:
    """What an image file would say about a layer, or about the part `extent` of it.

    Scale and units of the layer count where it has some; else its file says how large pixels are.
    """
    known = _of_file(layer)
    letters = axis_letters(layer, channel_axis)
    starts = {} if extent is None else dict(zip(letters.replace("C", ""), (first for first, _ in extent), strict=True))
    if starts and known.georeference is not None:
        known = replace(known, georeference=known.georeference.moved(starts["Y"], starts["X"]))
    known = replace(_scaled(known, layer, letters), rgb=is_rgb(layer), channel_names=(), tiles=None, made_by=())
    return replace(known, scales=tuple(_scales(known, layer, letters, starts)))


def _of_file(layer: Any) -> ImageMetadata:
    """What the file of a layer says; nothing where there is none."""
    facts = file_facts(layer)
    return ImageMetadata() if facts is None else facts.metadata


def _scaled(known: ImageMetadata, layer: Any, letters: str) -> ImageMetadata:
    """`known` with the scale of the layer, where that says more."""
    unit = standard_unit(str(layer.units[-1]))
    size = abs(float(layer.scale[-2])), abs(float(layer.scale[-1]))
    time = _time_step(layer, letters) or known.time_step_s
    if unit is None and (np.allclose(layer.scale[-2:], 1) or _agrees(size, known)):
        return replace(known, time_step_s=time)
    if unit is None:
        return replace(known, pixel_size=None, unit=None, z_spacing=None, time_step_s=time)
    height = _in_unit(size[0], layer.units[-2], unit)
    z = letters.find("Z")
    depth = None if z < 0 else _in_unit(abs(float(layer.scale[z])), layer.units[z], unit)
    return replace(known, pixel_size=(height or size[0], size[1]), unit=unit, z_spacing=depth, time_step_s=time)


def _scales(known: ImageMetadata, layer: Any, letters: str, starts: Mapping[str, int]) -> Iterator[AxisScale]:
    """What the sizes in `known` cannot say: where the first pixel lies, and steps that have no unit."""
    of_file = {scale.letter: scale for scale in known.scales}
    is_turned = not (_is_none(layer.rotate) and _is_none(layer.affine.affine_matrix) and not np.any(layer.shear))
    said = {"T": known.time_step_s, "Z": known.z_spacing, "Y": known.pixel_size, "X": known.pixel_size}
    for axis, letter in enumerate(letters.replace("C", "") if is_rgb(layer) else letters):
        if letter not in said:
            continue
        own = _axis_scale(layer, axis, letter)
        if is_turned or layer.scale[axis] < 0 or (own.unit is None and (own.step, own.origin) == (1, 0)):
            own = of_file.get(letter, own._replace(origin=0.0))
        own = own._replace(origin=own.origin + own.step * starts.get(letter, 0))
        if own.origin or letter in of_file or (said[letter] is None and (own.unit, own.step) != (None, 1)):
            yield own


def _axis_scale(layer: Any, axis: int, letter: str) -> AxisScale:
    label, unit = layer.axis_labels[axis], _unit(layer, axis, letter)
    return AxisScale(
        letter=letter,
        name=letter.lower() if NO_LABEL.fullmatch(label) else label,
        unit=None if unit is None else ome_zarr_name(unit),
        step=abs(float(layer.scale[axis])),
        origin=float(layer.translate[axis]),
    )


def _is_none(matrix: Any) -> bool:
    return bool(np.allclose(matrix, np.eye(len(matrix))))


def _agrees(size: tuple[float, float], known: ImageMetadata) -> bool:
    """Whether a layer without units is as large as its file says."""
    return known.pixel_size is not None and bool(np.allclose(size, known.pixel_size, rtol=_CLOSE))


def _in_unit(length: float, own: Any, unit: str | None) -> float | None:
    """A length along another axis in `unit`; None where that cannot be."""
    own_unit = standard_unit(str(own))
    return length if own_unit == unit else convert_length(length, own_unit or "", unit or "")


def _time_step(layer: Any, letters: str) -> float | None:
    axis = letters.find("T")
    unit = None if axis < 0 else _unit(layer, axis, "T")
    return None if unit is None else in_seconds(abs(float(layer.scale[axis])), unit)


def _unit(layer: Any, axis: int, letter: str) -> str | None:
    """The unit of an axis; where one that is labelled as time has a scale without a unit, seconds."""
    unit = standard_unit(str(layer.units[axis]))
    is_scaled_time = letter == "T" and layer.scale[axis] != 1 and not NO_LABEL.fullmatch(layer.axis_labels[axis])
    return "s" if unit is None and is_scaled_time else unit


def doubts(layer: Any, channel_axis: int | None = None) -> list[str]:
    """Words about what is assumed of the axes of a layer, and may be wrong."""
    words = []
    time = axis_letters(layer, channel_axis).find("T")
    if time >= 0 and standard_unit(str(layer.units[time])) is None and _unit(layer, time, "T") is not None:
        label, step = layer.axis_labels[time], layer.scale[time]
        words.append(f"{layer.name}: the scale {step:g} of axis {label} is taken for seconds.")
    shape = finest_level(layer).shape
    if (
        channel_axis is None
        and not is_rgb(layer)
        and layer.ndim > 2
        and shape[-1] * _CHANNELS_LAST <= min(shape[-3:-1])
    ):
        words.append(
            f"{layer.name}: rows have {shape[-1]} pixels only. If these are channels, {move_to_front('the last axis')}."
        )
    return words


def apart_on_the_earth(layers: Sequence[Any]) -> list[str]:
    """Words about layers of which the files say that they lie elsewhere than the first one's, whatever napari shows."""
    first = layers[0]
    own = _place_on_earth(first)
    rows = -3 if is_rgb(first) else -2
    size = tuple(finest_level(first).shape[rows:][:2])
    words = []
    for layer in layers[1:]:
        place = _place_on_earth(layer)
        if own is not None and place is not None and not own.lies_on(place, size):
            words.append(
                f"{layer.name} and {first.name} lie at different places on the Earth, as their files say, and are "
                "taken pixel upon pixel."
            )
    return words


def _place_on_earth(layer: Any) -> Georeference | None:
    return _of_file(layer).georeference


def file_in_words(layer: Any) -> str:
    """ "; EPSG:4326; pixels of 0 hold no data": what the file of a layer says that napari does not show."""
    place, nodata = _place_on_earth(layer), nodata_of(layer)
    system = "" if place is None or place.crs_name is None else f"; {place.crs_name}"
    return system if nodata is None else f"{system}; pixels of {nodata:g} hold no data"


def pixel_size(layer: Any) -> tuple[tuple[float, float] | None, str | None]:
    """Height and width of a pixel and their unit; None where nobody says in which."""
    metadata = _scaled(_of_file(layer), layer, axis_letters(layer, None))
    return (metadata.pixel_size, metadata.unit) if metadata.unit is not None else (None, None)


def facts_of(image: ImageSource) -> ImageFacts:
    """What an open file says about its image."""
    channels, height, width = image.shape[-3:]
    return ImageFacts(
        metadata=image.metadata,
        nodata=image.nodata,
        size=(height, width),
        dtype=np.dtype(image.dtype).name,
        channels=channels,
        planes=prod(image.shape[:-3]),
        mask=FileMask(image.path) if image.masked and len(image.shape) == 3 else None,
        path=image.path,
    )


def _facts_of_path(file: Path) -> ImageFacts | None:
    """What a file says as it is now; folders that are no OME-Zarr are left alone, which may hold a million tiles."""
    try:
        if not (file.is_file() or is_zarr(file)):
            return None
        return _read_facts(file, file.stat().st_mtime_ns)
    except OSError:
        return None


@lru_cache(maxsize=64)
def _read_facts(path: Path, _changed: int) -> ImageFacts | None:
    try:
        with open_image(path, 0) as image:
            metadata = image.metadata
            if metadata.file_format in ("png", "jpeg"):
                metadata = replace(metadata, orientation=1)  # readers turn such pixels, so the layer is upright
            return replace(facts_of(image), metadata=metadata)
    except Pix2PixError as error:  # napari has read it in another way
        logger.debug("%s says nothing about its layer: %s", path, error)
        return None
