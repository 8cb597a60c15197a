"""Stores that are not one OME-Zarr image: what is opened, and what is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from napari_pix2pix.formats.metadata import ImageMetadata
from napari_pix2pix.formats.source import describe_image, open_image
from napari_pix2pix.formats.writing import OutputSpec, check_output
from pix2pix_training.array_source import ArraySource
from pix2pix_training.errors import ImageError, OutputError

AnyArray = NDArray[Any]
Pixels = Callable[[ArraySource], AnyArray]
Noise = Callable[[tuple[int, ...], str], AnyArray]


def _array(path: Path, array: AnyArray, **options: Any) -> Path:
    stored = zarr.create_array(path, shape=array.shape, dtype=array.dtype, **options)
    stored[...] = array
    return path


def _image(path: Path, array: AnyArray, zarr_format: Any = 3, **more: Any) -> Path:
    """An OME-Zarr image with the axes YX."""
    group = zarr.open_group(path, mode="a", zarr_format=zarr_format)
    group.create_array("0", shape=array.shape, dtype=array.dtype)[...] = array
    images: Any = [{"axes": _YX, "datasets": [{"path": "0", "coordinateTransformations": [_SCALE]}]}]
    group.attrs.update({"ome": {"version": "0.5", "multiscales": images, **more}})
    return path


_YX: Any = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "yx"]
_SCALE: Any = {"type": "scale", "scale": [0.5, 0.5]}


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    ("shape", "axes", "expected"),
    [
        ((20, 30), "YX", "CYX"),
        ((3, 20, 30), "CYX", "CYX"),
        ((7, 20, 30), "ZYX", "ZCYX"),
        ((20, 30, 3), "YXC", "CYX"),
        ((7, 20, 30, 4), "ZYXC", "ZCYX"),
        ((2, 7, 20, 30), "CZYX", "ZCYX"),
        ((2, 3, 7, 20, 30), "TCZYX", "TZCYX"),
    ],
)
def test_plain_array_is_read_and_the_guess_of_its_axes_is_said(
    tmp_path: Path,
    noise: Noise,
    pixels_of: Pixels,
    caplog: pytest.LogCaptureFixture,
    zarr_format: int,
    shape: tuple[int, ...],
    axes: str,
    expected: str,
) -> None:
    array = noise(shape, "uint8")
    path = _array(tmp_path / "a.zarr", array, zarr_format=zarr_format)
    with open_image(path) as source:
        assert source.axes == expected
        assert f"they are read as {axes}" in caplog.text
        canonical = array.transpose([axes.index(letter) for letter in expected if letter in axes])
        np.testing.assert_array_equal(pixels_of(source), canonical.reshape(source.shape))


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("c", "y", "x"), "CYX"),
        (("y", "x", "c"), "CYX"),
        (("time", "lat", "lon"), "TCYX"),
        (("z", "row", "col"), "ZCYX"),
    ],
)
def test_plain_array_with_named_axes_needs_no_guess(
    tmp_path: Path,
    noise: Noise,
    caplog: pytest.LogCaptureFixture,
    zarr_format: int,
    names: tuple[str, ...],
    expected: str,
) -> None:
    options = {"dimension_names": names} if zarr_format == 3 else {"attributes": {"_ARRAY_DIMENSIONS": list(names)}}
    path = _array(tmp_path / "a.zarr", noise((5, 6, 7), "uint16"), zarr_format=zarr_format, **options)
    with open_image(path) as source:
        assert source.axes == expected
    assert not caplog.records


@pytest.mark.parametrize("shape", [(5,), (1, 2, 3, 4, 5, 6)])
def test_array_that_is_no_image(tmp_path: Path, noise: Noise, shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match=rf"is a Zarr array of {len(shape)} axes; images have 2 to 5"):
        open_image(_array(tmp_path / "a.zarr", noise(shape, "uint8")))


def test_level_of_an_image_has_its_axes_and_sizes(
    tmp_path: Path, noise: Noise, caplog: pytest.LogCaptureFixture
) -> None:
    path = _image(tmp_path / "a.zarr", noise((20, 30), "uint8"))
    with open_image(path / "0") as source:
        assert (source.metadata.pixel_size, source.metadata.unit) == ((0.5, 0.5), "µm")
    assert not caplog.records


def test_levels_in_the_wrong_order(tmp_path: Path, noise: Noise, caplog: pytest.LogCaptureFixture) -> None:
    path = _image(tmp_path / "a.zarr", noise((10, 15), "uint8"))
    group = zarr.open_group(path, mode="r+")
    group.create_array("1", shape=(20, 30), dtype="uint8")
    ome: Any = group.attrs.asdict()["ome"]
    fine = {"path": "1", "coordinateTransformations": [{"type": "scale", "scale": [0.25, 0.25]}]}
    ome["multiscales"][0]["datasets"].append(fine)
    group.attrs["ome"] = ome
    with open_image(path) as source:
        assert (source.shape, source.metadata.pixel_size) == ((1, 20, 30), (0.25, 0.25))
    assert "lists its levels in another order; the finest, 1, is read" in caplog.text


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("listed", [False, True])
def test_several_images_of_one_store(
    tmp_path: Path, noise: Noise, pixels_of: Pixels, caplog: pytest.LogCaptureFixture, zarr_format: Any, listed: bool
) -> None:
    """As bioformats2raw writes them."""
    names = ["second", "first"] if listed else ["0", "1"]
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=zarr_format)
    layout: dict[str, Any] = {"bioformats2raw.layout": 3}
    group.attrs.update({"ome": layout} if zarr_format == 3 else layout)
    if listed:
        series: dict[str, Any] = {"series": names}
        group.create_group("OME").attrs.update({"ome": series} if zarr_format == 3 else series)
    arrays = [noise((20, 30), "uint8"), noise((5, 6), "uint16")]
    for name, array in zip(names, arrays, strict=True):
        _image(tmp_path / "a.zarr" / name, array, zarr_format)
    with open_image(tmp_path / "a.zarr") as source:
        np.testing.assert_array_equal(pixels_of(source)[0], arrays[0])
        assert describe_image(source)["images_in_file"] == names
    assert "holds 2 images" in caplog.text
    with open_image(tmp_path / "a.zarr", 1) as source:
        np.testing.assert_array_equal(pixels_of(source)[0], arrays[1])
    with pytest.raises(ImageError, match="holds no image number 2"):
        open_image(tmp_path / "a.zarr", 2)


def test_one_image_as_bioformats2raw_writes_it(tmp_path: Path, noise: Noise, caplog: pytest.LogCaptureFixture) -> None:
    zarr.open_group(tmp_path / "a.zarr", mode="w").attrs["ome"] = {"bioformats2raw.layout": 3}
    _image(tmp_path / "a.zarr" / "0", noise((20, 30), "uint8"))
    with open_image(tmp_path / "a.zarr") as source:
        assert source.shape == (1, 20, 30)
    assert not caplog.records


def test_labels_beside_an_image_are_said(tmp_path: Path, noise: Noise, caplog: pytest.LogCaptureFixture) -> None:
    path = _image(tmp_path / "a.zarr", noise((20, 30), "uint8"))
    labels = zarr.open_group(path / "labels", mode="w")
    labels.attrs["ome"] = {"version": "0.5", "labels": ["nuclei"]}
    _image(path / "labels" / "nuclei", noise((20, 30), "uint8"), **{"image-label": {}})
    with open_image(path) as source:
        assert source.shape == (1, 20, 30)
    assert "has labels beside its image (nuclei), which are neither read nor carried over" in caplog.text
    with open_image(path / "labels" / "nuclei") as source:
        assert source.shape == (1, 20, 30)


def _group(path: Path, ome: dict[str, Any], **attributes: Any) -> Path:
    zarr.open_group(path, mode="w").attrs.update({"ome": ome, **attributes})
    return path


def test_plate_lists_its_wells(tmp_path: Path, noise: Noise) -> None:
    wells = [{"path": f"{row}/{column}"} for row in "AB" for column in range(1, 5)]
    path = _group(tmp_path / "a.zarr", {"plate": {"wells": wells}})
    zarr.open_group(path / "A", mode="w")
    _group(path / "A" / "1", {"well": {"images": [{"path": "0"}, {"path": "1"}]}})
    _image(path / "A" / "1" / "0", noise((20, 30), "uint8"))
    message = r"is a plate of 8 wells \(A/1, A/2, A/3, A/4, B/1, B/2, \.\.\.\) .*such as .*a\.zarr/A/1/0"
    with pytest.raises(ImageError, match=message):
        open_image(path)
    with pytest.raises(ImageError, match=r"is a well of 2 images \(0, 1\) .*such as .*a\.zarr/A/1/0"):
        open_image(path / "A" / "1")


@pytest.mark.parametrize(
    ("ome", "attributes", "message"),
    [
        ({"labels": ["nuclei", "cells"]}, {}, r"is a group of labels \(nuclei, cells\); give one of them"),
        ({}, {"encoding-type": "anndata"}, r"is a Zarr store of anndata without an OME image of its own"),
        ({}, {}, r"is a Zarr store without an OME image of its own, and no image within"),
        ({"multiscales": []}, {}, r"without an OME image"),
        ({"multiscales": "none"}, {}, r"without an OME image"),
    ],
)
def test_groups_without_an_image(tmp_path: Path, ome: dict[str, Any], attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        open_image(_group(tmp_path / "a.zarr", ome, **attributes))
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize("inner", ["array", "image"])
def test_images_within_a_group_are_named(tmp_path: Path, noise: Noise, inner: str) -> None:
    path = _group(tmp_path / "a.zarr", {})
    zarr.open_group(path / "images", mode="w")
    make = _array if inner == "array" else _image
    make(path / "images" / "blobs", noise((20, 30), "uint8"))
    with pytest.raises(
        ImageError, match=r"give one of the images within \(images/blobs\), such as .*a\.zarr/images/blobs"
    ):
        open_image(path)


@pytest.mark.parametrize("name", ["../b.zarr/0", "/etc"])
def test_series_outside_the_store(tmp_path: Path, name: str) -> None:
    path = _group(tmp_path / "a.zarr", {"bioformats2raw.layout": 3})
    _group(path / "OME", {"series": [name]})
    with pytest.raises(ImageError, match="outside its own folder"):
        open_image(path)


@pytest.mark.parametrize(
    "images", [[{}], [{"datasets": None}], [{"datasets": [{"path": ""}]}], [{"datasets": [{"name": "0"}]}], "none", [1]]
)
def test_damaged_store_is_not_replaced(tmp_path: Path, noise: Noise, images: Any) -> None:
    path = _image(tmp_path / "a.zarr", noise((20, 30), "uint8"), multiscales=images)
    spec = OutputSpec(axes="CYX", shape=(1, 20, 30), dtype=np.dtype("uint8"), metadata=ImageMetadata())
    with pytest.raises(OutputError, match=r"holds more than an image \(0\)"):
        check_output(path, spec, file_format="ome-zarr", overwrite=True)


@pytest.mark.parametrize("other", ["labels", "tables", "notes.txt"])
def test_store_that_holds_more_than_its_image_is_not_replaced(tmp_path: Path, noise: Noise, other: str) -> None:
    path = _image(tmp_path / "a.zarr", noise((20, 30), "uint8"))
    (path / ".DS_Store").write_text("")
    spec = OutputSpec(axes="CYX", shape=(1, 20, 30), dtype=np.dtype("uint8"), metadata=ImageMetadata())
    assert check_output(path, spec, file_format="ome-zarr", overwrite=True) == "ome-zarr"
    (path / other).mkdir()
    with pytest.raises(OutputError, match=rf"holds more than an image \({other}\), which would be lost"):
        check_output(path, spec, file_format="ome-zarr", overwrite=True)
