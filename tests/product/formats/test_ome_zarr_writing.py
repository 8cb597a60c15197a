"""OME-Zarr as other programs see it: structure, pyramid, metadata, checksums."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray
from yaozarrs import validate_zarr_store

from napari_pix2pix.formats import ome_zarr_layout
from napari_pix2pix.formats.metadata import ImageMetadata
from napari_pix2pix.formats.ome_zarr_layout import Layout, layout_of, unit_side
from napari_pix2pix.formats.ome_zarr_store import create_store, require_store
from napari_pix2pix.formats.source import open_image
from napari_pix2pix.formats.writing import OutputSpec, Tile, write_image
from pix2pix_training.array_source import ArraySource
from pix2pix_training.errors import ImageError, OutputError

AnyArray = NDArray[Any]
Pixels = Callable[[ArraySource], AnyArray]
Noise = Callable[[tuple[int, ...], str], AnyArray]
Tiles = Callable[[AnyArray, int], Iterator[Tile]]

METADATA = ImageMetadata(
    pixel_size=(0.5, 0.25),
    z_spacing=2.0,
    unit="µm",
    channel_names=("nuclei", "membrane"),
    channel_colors=((0, 0, 255), (255, 255, 0)),
    display_ranges=((10.0, 200.0), (0.0, 90.0)),
)


def _spec(array: AnyArray, axes: str = "CYX", **changes: Any) -> OutputSpec:
    usual: dict[str, Any] = {"axes": axes, "shape": array.shape, "dtype": array.dtype, "metadata": METADATA}
    return OutputSpec(**(usual | changes))


def _written(path: Path, array: AnyArray, spec: OutputSpec, tiles: Iterator[Tile]) -> zarr.Group:
    write_image(path, spec, tiles, file_format="ome-zarr")
    validate_zarr_store(path)
    return zarr.open_group(path, mode="r")


def _levels(group: zarr.Group) -> list[AnyArray]:
    return [np.asarray(group[dataset["path"]]) for dataset in _image(group)["datasets"]]


def _ome(group: zarr.Group) -> Any:
    return group.attrs.asdict()["ome"]


def _image(group: zarr.Group) -> Any:
    return _ome(group)["multiscales"][0]


@pytest.fixture
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units of 64 pixels with chunks of 16, so that a small image has several of each and levels above them."""
    monkeypatch.setattr(ome_zarr_layout, "CHUNK_PX", 16)
    monkeypatch.setattr(ome_zarr_layout, "_UNITS_PX", (64,))
    monkeypatch.setattr(ome_zarr_layout, "_SMALLEST_LEVEL_PX", 16)


@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize("tile", [37, 64, 300])
def test_pyramid_of_means(tmp_path: Path, noise: Noise, tiles_of: Tiles, tile: int) -> None:
    array = noise((2, 3, 2, 141, 205), "uint8")
    group = _written(tmp_path / "a.ome.zarr", array, _spec(array, "TZCYX"), tiles_of(array, tile))
    levels = [level.swapaxes(1, 2) for level in _levels(group)]
    assert [level.shape[-2:] for level in levels] == [(141, 205), (71, 103), (36, 52), (18, 26), (9, 13)]
    np.testing.assert_array_equal(levels[0], array)
    for fine, coarse in pairwise(levels):
        even = np.pad(fine, [(0, 0)] * 3 + [(0, fine.shape[-2] % 2), (0, fine.shape[-1] % 2)], mode="edge")
        blocks = even.reshape(*even.shape[:3], even.shape[3] // 2, 2, even.shape[4] // 2, 2).mean(axis=(4, 6))
        np.testing.assert_array_equal(coarse, np.rint(blocks))


def test_arrays_are_sharded_checked_and_named(tmp_path: Path, noise: Noise, tiles_of: Tiles) -> None:
    array = noise((2, 3, 2, 30, 1100), "uint16")
    group = _written(tmp_path / "a.ome.zarr", array, _spec(array, "TZCYX"), tiles_of(array, 512))
    full = group["0"]
    assert isinstance(full, zarr.Array)
    assert (full.shape, full.shards, full.chunks) == ((2, 2, 3, 30, 1100), (1, 2, 1, 1024, 1024), (1, 1, 1, 512, 512))
    stored = json.loads((tmp_path / "a.ome.zarr" / "0" / "zarr.json").read_text())
    assert stored["dimension_names"] == ["t", "c", "z", "y", "x"]
    inner = stored["codecs"][0]["configuration"]["codecs"]
    assert inner[-1] == {"name": "zstd", "configuration": {"level": 2, "checksum": True}}


def test_axes_scales_and_channels(tmp_path: Path, noise: Noise, tiles_of: Tiles) -> None:
    array = noise((3, 2, 600, 40), "uint16")
    group = _written(tmp_path / "a.ome.zarr", array, _spec(array, "ZCYX"), tiles_of(array, 512))
    image = _image(group)
    assert image["name"] == "a"
    assert image["axes"] == [
        {"name": "c", "type": "channel"},
        *({"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"),
    ]
    assert image["datasets"][1]["coordinateTransformations"] == [
        {"type": "scale", "scale": [1.0, 2.0, 1.0, 0.5]},
        {"type": "translation", "translation": [0.0, 0.0, 0.25, 0.125]},
    ]
    channels = _ome(group)["omero"]["channels"]
    assert [(c["label"], c["color"]) for c in channels] == [("nuclei", "0000FF"), ("membrane", "FFFF00")]
    assert channels[0]["window"] == {"min": 0.0, "max": 65535.0, "start": 10.0, "end": 200.0}


def test_display_range_of_reals_is_what_occurs(tmp_path: Path, noise: Noise, tiles_of: Tiles) -> None:
    array = noise((1, 30, 40), "float32")
    array[0, :3] = np.nan
    spec = _spec(array, metadata=ImageMetadata())
    group = _written(tmp_path / "a.ome.zarr", array, spec, tiles_of(array, 16))
    window = _ome(group)["omero"]["channels"][0]["window"]
    assert (window["start"], window["end"]) == (np.nanmin(array), np.nanmax(array))


@pytest.mark.usefixtures("small_units")
def test_classes_become_labels(tmp_path: Path, pixels_of: Pixels, noise: Noise, tiles_of: Tiles) -> None:
    array = (noise((1, 141, 205), "uint16") % 3).astype(np.uint8)
    palette = noise((3, 3), "uint8")
    spec = _spec(array, metadata=replace(METADATA, channel_names=("class",)), palette=palette, categories=True)
    group = _written(tmp_path / "a.ome.zarr", array, spec, tiles_of(array, 50))
    assert [axis["name"] for axis in _image(group)["axes"]] == ["y", "x"]
    for fine, coarse in pairwise(_levels(group)):
        np.testing.assert_array_equal(coarse, fine[::2, ::2])
    colors = _ome(group)["image-label"]["colors"]
    assert colors[2] == {"label-value": 2, "rgba": [*palette[2].tolist(), 255]}
    with open_image(tmp_path / "a.ome.zarr") as source:
        np.testing.assert_array_equal(source.palette, palette)
        np.testing.assert_array_equal(pixels_of(source), array)


def test_nodata_is_kept_and_left_out_of_the_pyramid(tmp_path: Path, noise: Noise, tiles_of: Tiles) -> None:
    array = np.full((1, 600, 40), 7, np.float32)
    array[0, ::2] = -9999
    spec = _spec(array, metadata=ImageMetadata(), nodata=-9999.0)
    group = _written(tmp_path / "a.ome.zarr", array, spec, tiles_of(array, 512))
    np.testing.assert_array_equal(_levels(group)[1], 7)
    with open_image(tmp_path / "a.ome.zarr") as source:
        assert source.nodata == -9999


@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize("file_format", ["ome-zarr", "ome-tiff"])
def test_nan_is_left_out_of_every_level_of_a_pyramid(
    tmp_path: Path, tiles_of: Tiles, file_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_pix2pix.formats.ome_tiff.PYRAMID_FROM_PX", 32)
    array = np.full((2, 140, 204), 7, np.float32)
    array[0, ::2, ::2] = np.nan
    path = tmp_path / ("a.zarr" if file_format == "ome-zarr" else "a.ome.tif")
    write_image(path, _spec(array), tiles_of(array, 50), file_format=file_format)
    if file_format == "ome-zarr":
        levels = _levels(zarr.open_group(path, mode="r"))
    else:
        with tifffile.TiffFile(path) as tif:
            levels = [level.asarray() for level in tif.series[0].levels]
    assert len(levels) > 2
    for level in levels[1:]:
        np.testing.assert_array_equal(level, 7)


def test_what_killed_writers_left_is_not_published(tmp_path: Path, noise: Noise, tiles_of: Tiles) -> None:
    array = noise((1, 300, 300), "uint8")
    stray = "0.0123456789abcdef0123456789abcdef.partial"

    def interrupted() -> Iterator[Tile]:
        (folder,) = tmp_path.rglob("0/zarr.json")
        for name in (f"0/c/0/0/{stray}", f"1/c/0/0/{stray}", "0/zarr.0123456789abcdef0123456789abcdef.partial"):
            file = folder.parent.parent / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"half a shard")
        yield from tiles_of(array, 300)

    _written(tmp_path / "a.ome.zarr", array, _spec(array, metadata=ImageMetadata()), interrupted())
    assert [path for path in (tmp_path / "a.ome.zarr").rglob("*") if path.suffix == ".partial"] == []


def test_damage_is_noticed_when_read(tmp_path: Path, pixels_of: Pixels, noise: Noise, tiles_of: Tiles) -> None:
    array = noise((1, 300, 300), "uint8")
    path = write_image(tmp_path / "a.ome.zarr", _spec(array, metadata=ImageMetadata()), tiles_of(array, 300),
                       file_format="ome-zarr")  # fmt: skip
    shard = path / "0" / "c" / "0" / "0" / "0"
    content = bytearray(shard.read_bytes())
    content[1000] ^= 1
    shard.write_bytes(content)
    with open_image(path) as source, pytest.raises(ImageError, match="damaged"):
        pixels_of(source)


@pytest.mark.parametrize(("width", "unit"), [(1000, 1024), (200_000, 1024), (400_000, 512), (10**7, 256)])
def test_units_of_wide_images_are_smaller(width: int, unit: int) -> None:
    spec = OutputSpec(axes="CYX", shape=(1, 10, width), dtype=np.dtype("uint8"), metadata=ImageMetadata())
    layout = layout_of(spec)
    assert layout.unit_px == unit
    assert isinstance(layout, Layout)
    assert unit_side(spec, (10, min(width, 8192))) == 1024
    assert unit_side(spec, (10, min(width, 8192 + 768))) == (1024 if width == 1000 else 256)


def test_a_folder_that_is_no_image_is_never_replaced(tmp_path: Path, noise: Noise, tiles_of: Tiles) -> None:
    (tmp_path / "a.ome.zarr").mkdir()
    (tmp_path / "a.ome.zarr" / "mine.txt").write_text("precious")
    array = noise((2, 30, 40), "uint8")
    with pytest.raises(OutputError, match="is a folder"):
        write_image(tmp_path / "a.ome.zarr", _spec(array), tiles_of(array, 16), file_format="ome-zarr", overwrite=True)
    assert (tmp_path / "a.ome.zarr" / "mine.txt").read_text() == "precious"


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text elsewhere")
def test_a_file_name_that_is_no_text_gives_a_name_that_is(tmp_path: Path, noise: Noise, tiles_of: Tiles) -> None:
    path = tmp_path / os.fsdecode(b"a\xff.ome.zarr")
    array = noise((1, 20, 24), "uint8")
    spec = _spec(array, metadata=ImageMetadata())
    write_image(path, spec, tiles_of(array, 64), file_format="ome-zarr")
    group = zarr.open_group(path, mode="r")
    assert _image(group)["name"] == "a?"
    np.testing.assert_array_equal(_levels(group)[0], array)


def test_nothing_is_written_in_the_background_when_an_image_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What zarr writes at a time goes on where one of it fails, below a folder that is removed meanwhile."""

    def refuse(*_arguments: Any) -> None:
        raise AssertionError("zarr writes")

    for method in ("set", "set_if_not_exists"):
        monkeypatch.setattr(zarr.storage.LocalStore, method, refuse)
    spec = OutputSpec(axes="CYX", shape=(1, 64, 64), dtype=np.dtype("u1"), metadata=ImageMetadata())
    create_store(tmp_path / "a.ome.zarr", layout_of(spec, 256), "a")
    require_store(tmp_path / "a.ome.zarr")
