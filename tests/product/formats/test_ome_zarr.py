"""OME-Zarr 0.4 and 0.5 written by zarr itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from napari_pix2pix.formats.pairing import pairs_from_paths
from napari_pix2pix.formats.source import open_image
from pix2pix_training.array_source import ArraySource
from pix2pix_training.errors import ImageError
from pix2pix_training.regions import Region

AnyArray = NDArray[Any]
Pixels = Callable[[ArraySource], AnyArray]
Noise = Callable[[tuple[int, ...], str], AnyArray]

_AXIS_TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}


def _write(path: Path, array: AnyArray, axes: str, *, version: str = "0.5", **changes: Any) -> Path:
    """An OME-Zarr with one level; `changes` replace entries of its metadata."""
    zarr_format: Any = 3 if version == "0.5" else 2
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    chunks = tuple(min(length, 16) for length in array.shape)
    group.create_array("0", shape=array.shape, chunks=chunks, dtype=array.dtype)[:] = array
    image: dict[str, Any] = {
        "axes": [
            {"name": axis, "type": _AXIS_TYPES[axis]} | ({"unit": "micrometer"} if axis in "zyx" else {})
            for axis in axes
        ],
        "datasets": [
            {
                "path": "0",
                "coordinateTransformations": [
                    {"type": "scale", "scale": [{"z": 2.0, "y": 0.5, "x": 0.25}.get(axis, 1.0) for axis in axes]}
                ],
            }
        ],
    }
    metadata: dict[str, Any] = {"multiscales": [image | changes.pop("image", {})]} | changes
    group.attrs.update({"ome": {"version": "0.5"} | metadata} if version == "0.5" else metadata)
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(
    ("axes", "expected"),
    [("yx", "CYX"), ("cyx", "CYX"), ("zyx", "ZCYX"), ("tzcyx", "TZCYX"), ("tczyx", "TZCYX"), ("czyx", "ZCYX")],
)
def test_pixels_and_axes(
    tmp_path: Path, pixels_of: Pixels, noise: Noise, version: str, axes: str, expected: str
) -> None:
    lengths = {"t": 3, "c": 2, "z": 4, "y": 20, "x": 30}
    array = noise(tuple(lengths[axis] for axis in axes), "uint16")
    path = _write(tmp_path / "a.ome.zarr", array, axes, version=version)
    canonical = array.transpose([axes.index(axis) for axis in expected.lower() if axis in axes])
    canonical = canonical if "c" in axes else canonical[..., None, :, :]
    with open_image(path) as source:
        assert (source.axes, source.dtype) == (expected, array.dtype)
        np.testing.assert_array_equal(pixels_of(source), canonical)
        plane = tuple(n - 1 for n in source.shape[:-3])
        np.testing.assert_array_equal(source.read(Region(3, 19, 5, 29), plane), canonical[plane][:, 3:19, 5:29])


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_metadata(tmp_path: Path, noise: Noise, version: str) -> None:
    omero = {
        "channels": [
            {"label": "DAPI", "color": "0000FF", "window": {"start": 0, "end": 100, "min": 0, "max": 65535}},
            {"label": "GFP", "color": "00FF00", "window": {"start": 5, "end": 200, "min": 0, "max": 65535}},
        ]
    }
    path = _write(tmp_path / "a.zarr", noise((2, 4, 20, 30), "uint16"), "czyx", version=version, omero=omero)
    with open_image(path) as source:
        found = source.metadata
    assert (found.pixel_size, found.z_spacing, found.unit) == ((0.5, 0.25), 2.0, "µm")
    assert found.channel_names == ("DAPI", "GFP")
    assert found.channel_colors == ((0, 0, 255), (0, 255, 0))
    assert found.display_ranges == ((0.0, 100.0), (5.0, 200.0))
    assert found.file_format == "ome-zarr"


@pytest.mark.parametrize(
    "omero", [None, {"channels": []}, {"channels": [{}, 3]}, {"channels": [{"color": "blue"}] * 2}]
)
def test_odd_channel_descriptions_are_left_out(tmp_path: Path, noise: Noise, omero: Any) -> None:
    with open_image(_write(tmp_path / "a.zarr", noise((2, 20, 30), "uint8"), "cyx", omero=omero)) as source:
        assert source.metadata.channel_names == ()
        assert source.metadata.channel_colors == ()


def test_chunk_without_a_file_holds_the_fill_value(tmp_path: Path, pixels_of: Pixels, noise: Noise) -> None:
    array = noise((20, 30), "uint8")
    array[:16, :16] = 0
    path = _write(tmp_path / "a.zarr", array, "yx")
    with open_image(path) as source:
        np.testing.assert_array_equal(pixels_of(source)[0], array)


def test_damaged_chunk_is_one_line(tmp_path: Path, noise: Noise) -> None:
    path = _write(tmp_path / "a.zarr", noise((20, 30), "uint8"), "yx")
    chunk = path / "0" / "c" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-5])
    with open_image(path) as source, pytest.raises(ImageError, match=r"a\.zarr cannot be read") as caught:
        source.read(Region(0, 20, 0, 30))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ({"datasets": [{"path": "../b.zarr/0"}]}, "outside its own folder"),
        ({"datasets": [{"path": "/etc"}]}, "outside its own folder"),
        ({"datasets": [{"path": "7"}]}, "cannot be read"),
        ({"datasets": []}, "cannot be read"),
        ({"axes": [{"name": "c"}, {"name": "x"}]}, "Y and X are needed"),
        ({"axes": [{"name": "y"}]}, "Y and X are needed"),
    ],
)
def test_metadata_that_is_wrong(tmp_path: Path, noise: Noise, image: dict[str, Any], message: str) -> None:
    path = _write(tmp_path / "a.zarr", noise((20, 30), "uint8"), "yx", image=image)
    with pytest.raises(ImageError, match=message) as caught:
        open_image(path)
    assert "\n" not in str(caught.value)


def test_store_without_an_image(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "a.zarr", mode="w")
    with pytest.raises(ImageError, match="is a Zarr store without an OME image"):
        open_image(tmp_path / "a.zarr")


def test_complex_numbers(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.zarr", np.zeros((4, 4), np.complex64), "yx")
    with pytest.raises(ImageError, match="stores complex64 numbers"):
        open_image(path)


@pytest.mark.parametrize("shape", [(10**7, 4, 4), (4, 10**6, 10**6)])
def test_absurd_sizes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.create_array("0", shape=shape, chunks=(1, *shape[1:]), dtype="uint8")
    group.attrs["ome"] = {"multiscales": [{"axes": ["z", "y", "x"], "datasets": [{"path": "0"}]}]}
    with pytest.raises(
        ImageError, match=r"at most 1000000 planes are allowed|a chunk of 1 x 1000000 x 1000000 would take"
    ):
        open_image(tmp_path / "a.zarr")


def test_folders_of_ome_zarr_are_paired(tmp_path: Path, pixels_of: Pixels, noise: Noise) -> None:
    array = noise((20, 30), "uint8")
    for folder in ("a", "b"):
        for name in ("x", "y"):
            _write(tmp_path / folder / f"{name}.ome.zarr", array, "yx")
    pairs = pairs_from_paths([tmp_path / "a"], [tmp_path / "b"])
    assert [pair.name for pair in pairs] == ["x", "y"]
    np.testing.assert_array_equal(pixels_of(pairs[1].target)[0], array)
