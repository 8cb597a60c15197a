"""What an OME-Zarr says of place, scale, time, axes and channels is understood, and said again by an output."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import zarr
from yaozarrs import validate_zarr_store
from yaozarrs._axis import ValidSpaceUnit, ValidTimeUnit

from napari_pix2pix.formats.metadata import ImageMetadata
from napari_pix2pix.formats.source import open_image
from napari_pix2pix.formats.writing import OutputSpec, check_output, write_image
from pix2pix_training.array_source import plane_indices, whole_plane
from pix2pix_training.regions import Region

_LENGTHS = {"t": 3, "c": 2, "z": 2, "y": 20, "x": 30}
_TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}

Image = dict[str, Any]


def _axes(letters: str, units: dict[str, str] | None = None) -> list[dict[str, str]]:
    units = units or {}
    return [
        {"name": letter, "type": _TYPES[letter]} | ({"unit": units[letter]} if letter in units else {})
        for letter in letters
    ]


def _store(path: Path, axes: list[Any], version: str = "0.5", **image: Any) -> Path:
    """An OME-Zarr with two levels; `image` are entries of its multiscale besides axes and paths."""
    lengths = [_LENGTHS[str(axis["type"])[0]] if axis.get("type") in ("time", "channel") else 0 for axis in axes]
    space = [position for position, length in enumerate(lengths) if length == 0]
    for position, length in zip(reversed(space), (30, 20, 2), strict=False):
        lengths[position] = length
    group = zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2)
    for level in range(2):
        shape = tuple(n >> level if position in space[-2:] else n for position, n in enumerate(lengths))
        array = group.create_array(str(level), shape=shape, chunks=shape, dtype="uint8")
        array[...] = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    transforms = image.pop("transforms", [{"type": "scale", "scale": [1.0] * len(axes)}])
    extra = image.pop("group", {})
    multiscale = {
        "axes": axes,
        "datasets": [{"path": str(level), "coordinateTransformations": transforms} for level in range(2)],
        **image,
    }
    if version == "0.5":
        group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale], **extra}
    else:
        group.attrs.update({"multiscales": [{"version": "0.4", **multiscale}], **extra})
    return path


def _copied(path: Path, target: Path, **changes: Any) -> tuple[ImageMetadata, Image]:
    """Write an image again, with its own metadata; those, and the multiscale of the copy."""
    with open_image(path) as source:
        metadata = replace(source.metadata, **changes)
        spec = OutputSpec(axes=source.axes, shape=source.shape, dtype=source.dtype, metadata=metadata)
        whole = whole_plane(source)
        tiles = ((plane, whole, source.read(whole, plane)) for plane in plane_indices(source))
        write_image(target, spec, tiles, file_format="ome-zarr")
        validate_zarr_store(target)
        with open_image(target) as copy:
            assert copy.metadata == metadata
            assert copy.axes == source.axes
    attributes: Any = zarr.open_group(target, mode="r").attrs.asdict()
    return metadata, attributes["ome"]["multiscales"][0]


def _transforms(image: Image, level: int = 0) -> tuple[list[float], list[float]]:
    """Scale and translation."""
    scale, *rest = image["datasets"][level]["coordinateTransformations"]
    return scale["scale"], rest[0]["translation"] if rest else [0.0] * len(scale["scale"])


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_translation_is_kept(tmp_path: Path, version: str) -> None:
    units = dict.fromkeys("zyx", "micrometer")
    transforms = [
        {"type": "scale", "scale": [2.0, 0.5, 0.25]},
        {"type": "translation", "translation": [7.0, 20.0, -3.5]},
    ]
    path = _store(tmp_path / "a.zarr", _axes("zyx", units), version, transforms=transforms)
    metadata, image = _copied(path, tmp_path / "b.ome.zarr")

    assert (metadata.pixel_size, metadata.z_spacing, metadata.unit) == ((0.5, 0.25), 2.0, "µm")
    scale, translation = _transforms(image)
    assert [axis["name"] for axis in image["axes"]] == ["c", "z", "y", "x"]
    assert (scale, translation) == ([1.0, 2.0, 0.5, 0.25], [0.0, 7.0, 20.0, -3.5])


def test_levels_of_a_translated_image_lie_where_their_pixels_are(tmp_path: Path) -> None:
    transforms = [{"type": "scale", "scale": [0.5, 0.5]}, {"type": "translation", "translation": [20.0, 30.0]}]
    path = _store(tmp_path / "a.zarr", _axes("yx", {"y": "micrometer", "x": "micrometer"}), transforms=transforms)
    with open_image(path) as source:
        spec = OutputSpec(axes="CYX", shape=(1, 600, 600), dtype=np.dtype("uint8"), metadata=source.metadata)
    tiles = iter([((), Region(0, 600, 0, 600), np.zeros(spec.shape, np.uint8))])
    write_image(tmp_path / "b.zarr", spec, tiles, file_format="ome-zarr")
    attributes: Any = zarr.open_group(tmp_path / "b.zarr", mode="r").attrs.asdict()
    scale, translation = _transforms(attributes["ome"]["multiscales"][0], level=1)
    assert (scale[1:], translation[1:]) == ([1.0, 1.0], [20.25, 30.25])


@pytest.mark.parametrize("unit", [None, "second", "millisecond", "hour", "fortnight"])
def test_time_step_is_kept_in_its_unit(tmp_path: Path, unit: str | None) -> None:
    axes = _axes("tyx", {"y": "micrometer", "x": "micrometer"} | ({"t": unit} if unit else {}))
    path = _store(tmp_path / "a.zarr", axes, transforms=[{"type": "scale", "scale": [2.5, 0.5, 0.5]}])
    metadata, image = _copied(path, tmp_path / "b.ome.zarr")

    assert metadata.time_step_s == {"second": 2.5, "millisecond": 0.0025, "hour": 9000.0}.get(unit or "")
    assert image["axes"][0] == {"name": "t", "type": "time"} | ({"unit": unit} if unit else {})
    assert _transforms(image)[0] == [2.5, 1.0, 0.5, 0.5]


def test_scale_without_a_unit_is_kept_without_one(tmp_path: Path) -> None:
    transforms = [{"type": "scale", "scale": [3.0, 0.5, 0.25]}]
    metadata, image = _copied(_store(tmp_path / "a.zarr", _axes("zyx"), transforms=transforms), tmp_path / "b.ome.zarr")

    assert (metadata.pixel_size, metadata.z_spacing, metadata.unit) == (None, None, None)
    assert _transforms(image)[0] == [1.0, 3.0, 0.5, 0.25]
    assert all("unit" not in axis for axis in image["axes"])


@pytest.mark.parametrize(("letter", "unit"), [("x", unit) for unit in (*get_args(ValidSpaceUnit), "furlong")])
def test_units_of_length_are_kept(tmp_path: Path, letter: str, unit: str) -> None:
    path = _store(tmp_path / "a.zarr", _axes("yx", {"y": unit, "x": unit}))
    metadata, image = _copied(path, tmp_path / "b.ome.zarr")
    assert metadata.pixel_size == (1.0, 1.0)
    assert [axis.get("unit") for axis in image["axes"]] == [None, unit, unit]


@pytest.mark.parametrize("unit", get_args(ValidTimeUnit))
def test_units_of_time_are_kept(tmp_path: Path, unit: str) -> None:
    _, image = _copied(_store(tmp_path / "a.zarr", _axes("tyx", {"t": unit})), tmp_path / "b.ome.zarr")
    assert image["axes"][0]["unit"] == unit


def test_units_that_differ_from_axis_to_axis_are_kept(tmp_path: Path) -> None:
    axes = _axes("zyx", {"z": "nanometer", "y": "micrometer", "x": "millimeter"})
    path = _store(tmp_path / "a.zarr", axes, transforms=[{"type": "scale", "scale": [500.0, 2.0, 0.002]}])
    metadata, image = _copied(path, tmp_path / "b.ome.zarr")
    assert (metadata.pixel_size, metadata.z_spacing, metadata.unit) == ((0.002, 0.002), 0.0005, "mm")
    assert [axis.get("unit") for axis in image["axes"]] == [None, "nanometer", "micrometer", "millimeter"]
    assert _transforms(image)[0] == [1.0, 500.0, 2.0, 0.002]


def test_a_unit_of_depth_alone_is_kept(tmp_path: Path) -> None:
    path = _store(tmp_path / "a.zarr", _axes("zyx", {"z": "micrometer"}),
                  transforms=[{"type": "scale", "scale": [2.0, 1.0, 1.0]}])  # fmt: skip
    metadata, image = _copied(path, tmp_path / "b.ome.zarr")
    assert (metadata.pixel_size, metadata.z_spacing, metadata.unit) == (None, 2.0, "µm")
    assert [axis.get("unit") for axis in image["axes"]] == [None, "micrometer", None, None]


def test_an_unknown_depth_gets_no_unit(tmp_path: Path) -> None:
    axes = _axes("zyx", {"y": "micrometer", "x": "micrometer"})
    _, image = _copied(_store(tmp_path / "a.zarr", axes), tmp_path / "b.ome.zarr", scales=())
    assert [axis.get("unit") for axis in image["axes"]] == [None, None, "micrometer", "micrometer"]


def test_transformations_of_level_and_image_follow_each_other(tmp_path: Path) -> None:
    path = _store(
        tmp_path / "a.zarr",
        _axes("yx", {"y": "micrometer", "x": "micrometer"}),
        transforms=[{"type": "scale", "scale": [1.0, 2.0]}, {"type": "translation", "translation": [10.0, 20.0]}],
        coordinateTransformations=[
            {"type": "scale", "scale": [0.5, 0.25]},
            {"type": "translation", "translation": [1.0, 2.0]},
        ],
    )
    metadata, image = _copied(path, tmp_path / "b.ome.zarr")
    assert metadata.pixel_size == (0.5, 0.5)
    assert _transforms(image) == ([1.0, 0.5, 0.5], [0.0, 6.0, 7.0])


def test_names_of_axes_are_kept(tmp_path: Path) -> None:
    axes = [
        {"name": "time", "type": "time"},
        {"name": "marker", "type": "channel"},
        {"name": "depth", "type": "space"},
        {"name": "row", "type": "space"},
        {"name": "col", "type": "space"},
    ]
    path = _store(tmp_path / "a.zarr", axes)
    with open_image(path) as source:
        assert (source.axes, source.shape) == ("TZCYX", (3, 2, 2, 20, 30))
    _, image = _copied(path, tmp_path / "b.ome.zarr")
    assert [axis["name"] for axis in image["axes"]] == ["time", "marker", "depth", "row", "col"]
    array = zarr.open_array(tmp_path / "b.ome.zarr" / "0", mode="r")
    assert getattr(array.metadata, "dimension_names", None) == ("time", "marker", "depth", "row", "col")


@pytest.mark.parametrize(("name", "expected"), [("cells", "cells"), ("/", "b"), ("0", "b"), (None, "b")])
def test_name_of_the_image_is_kept(tmp_path: Path, name: str | None, expected: str) -> None:
    path = _store(tmp_path / "a.zarr", _axes("yx"), **({"name": name} if name else {}))
    _, image = _copied(path, tmp_path / "b.ome.zarr")
    assert image["name"] == expected


def test_channels_colours_and_windows_are_kept(tmp_path: Path) -> None:
    channels = [
        {"label": "DAPI", "color": "0000FF", "window": {"start": 1, "end": 100, "min": 0, "max": 255}},
        {"label": "GFP", "color": "00FF00", "window": {"start": 5, "end": 200, "min": 0, "max": 255}},
    ]
    path = _store(tmp_path / "a.zarr", _axes("cyx"), "0.4", group={"omero": {"channels": channels}})
    _copied(path, tmp_path / "b.ome.zarr")
    attributes: Any = zarr.open_group(tmp_path / "b.ome.zarr", mode="r").attrs.asdict()
    found = attributes["ome"]["omero"]["channels"]
    assert [{name: own[name] for name in ("label", "color", "window")} for own in found] == channels


@pytest.mark.parametrize("step", [-0.5, 0.0, float("nan")])
def test_steps_that_are_none_are_left_out(tmp_path: Path, step: float, caplog: pytest.LogCaptureFixture) -> None:
    axes = _axes("yx", {"y": "micrometer", "x": "micrometer"})
    path = _store(tmp_path / "a.zarr", axes, transforms=[{"type": "scale", "scale": [step, 0.5]}])
    with open_image(path) as source:
        assert (source.metadata.pixel_size, source.metadata.unit) == (None, None)
    assert f"size of {step:g} along y, which is left out" in caplog.text


@pytest.mark.parametrize(
    ("transformation", "kind"),
    [
        ({"type": "affine", "affine": [[1, 0, 5], [0, 1, 5], [0, 0, 1]]}, "affine"),
        ({"type": "scale", "scale": [2.0, 2.0, 2.0]}, "scale"),
        ({"type": "translation", "path": "offsets"}, "translation"),
    ],
)
def test_transformation_that_is_not_understood_is_said(
    tmp_path: Path, transformation: dict[str, Any], kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An identity, as SpatialData writes it, changes nothing."""
    path = _store(tmp_path / "a.zarr", _axes("yx"), coordinateTransformations=[{"type": "identity"}, transformation])
    with open_image(path) as source:
        assert source.metadata.scales == ()
    (record,) = caplog.records
    assert f"a transformation of its coordinates ({kind}) is not understood and left out" in record.getMessage()


def test_sizes_changed_by_another_program_are_believed(tmp_path: Path) -> None:
    axes = _axes("cyx", {"y": "micrometer", "x": "micrometer"})
    _copied(_store(tmp_path / "a.zarr", axes), tmp_path / "b.ome.zarr", channel_names=("a", "b"), bit_depth=7)
    group = zarr.open_group(tmp_path / "b.ome.zarr", mode="r+")
    ome: Any = group.attrs.asdict()["ome"]
    ome["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"] = [1.0, 0.3, 0.3]
    ome["omero"]["channels"][1]["label"] = "membrane"
    group.attrs["ome"] = ome
    with open_image(tmp_path / "b.ome.zarr") as source:
        found = source.metadata
    assert (found.pixel_size, found.bit_depth, found.channel_names) == ((0.3, 0.3), 7, ("a", "membrane"))


def test_place_that_no_longer_fits_the_pixel_size_is_not_kept(tmp_path: Path) -> None:
    axes = _axes("yx", {"y": "nanometer", "x": "nanometer"})
    transforms = [{"type": "scale", "scale": [500.0, 500.0]}, {"type": "translation", "translation": [20.0, 30.0]}]
    path = _store(tmp_path / "a.zarr", axes, transforms=transforms)
    with open_image(path) as source:
        metadata = replace(source.metadata, pixel_size=(2.0, 2.0), unit="µm")
        spec = OutputSpec(axes="CYX", shape=source.shape, dtype=source.dtype, metadata=metadata)
        tiles = iter([((), whole_plane(source), source.read(whole_plane(source)))])
        write_image(tmp_path / "b.zarr", spec, tiles, file_format="ome-zarr")
    attributes: Any = zarr.open_group(tmp_path / "b.zarr", mode="r").attrs.asdict()
    image = attributes["ome"]["multiscales"][0]
    assert _transforms(image) == ([1.0, 2.0, 2.0], [0.0, 0.0, 0.0])
    assert image["axes"][-1] == {"name": "x", "type": "space", "unit": "micrometer"}


@pytest.mark.parametrize(("suffix", "file_format"), [(".tif", "tiff"), (".ome.tif", "ome-tiff"), (".png", "png")])
def test_place_survives_a_format_without_a_field_for_it(tmp_path: Path, suffix: str, file_format: str) -> None:
    transforms = [{"type": "scale", "scale": [0.5, 0.5]}, {"type": "translation", "translation": [20.0, 30.0]}]
    path = _store(tmp_path / "a.zarr", _axes("yx", {"y": "micrometer", "x": "micrometer"}), transforms=transforms)
    with open_image(path) as source:
        spec = OutputSpec(axes="CYX", shape=source.shape, dtype=source.dtype, metadata=source.metadata)
        tiles = iter([((), whole_plane(source), source.read(whole_plane(source)))])
        write_image(tmp_path / f"b{suffix}", spec, tiles, file_format=file_format)
        with open_image(tmp_path / f"b{suffix}") as copy:
            assert copy.metadata.scales == source.metadata.scales


@pytest.mark.parametrize(
    ("units", "step", "words"),
    [
        ({}, 0.5, "how far apart its pixels are (0.5 without a unit along y, 0.5 without a unit along x)"),
        ({"y": "micrometer", "x": "micrometer"}, 0.0, "how far apart its pixels are (0.5 micrometer along x)"),
    ],
)
@pytest.mark.parametrize("file_format", ["ome-tiff", "tiff", "png", "imagej"])
def test_steps_that_a_format_has_no_field_for_are_said(
    tmp_path: Path, units: dict[str, str], step: float, words: str, file_format: str, caplog: pytest.LogCaptureFixture
) -> None:
    transforms = [{"type": "scale", "scale": [step, 0.5]}]
    with open_image(_store(tmp_path / "a.zarr", _axes("yx", units), transforms=transforms)) as source:
        spec = OutputSpec(axes=source.axes, shape=source.shape, dtype=source.dtype, metadata=source.metadata)
    check_output(tmp_path / "a", spec, file_format=file_format, overwrite=False)
    assert f"does not say {words}" in caplog.text
    caplog.clear()
    check_output(tmp_path / "b.zarr", spec, file_format="ome-zarr", overwrite=False)
    assert "how far apart" not in caplog.text
