"""What is written from tiles is what comes back, for this reader and for others; and what is refused."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from napari_pix2pix.formats import ome_tiff, tiff_writing
from napari_pix2pix.formats.georeference import web_mercator
from napari_pix2pix.formats.metadata import AxisScale, ImageMetadata
from napari_pix2pix.formats.registry import writable_formats
from napari_pix2pix.formats.source import open_image
from napari_pix2pix.formats.writing import (
    OutputSpec,
    Tile,
    check_output,
    incompatibility,
    map_path,
    output_suffix,
    resolve_format,
    write_image,
)
from pix2pix_training.array_source import ArraySource
from pix2pix_training.errors import ImageError, InputError, OutputError, Pix2PixError
from pix2pix_training.regions import Region

AnyArray = NDArray[Any]
Pixels = Callable[[ArraySource], AnyArray]
Noise = Callable[[tuple[int, ...], str], AnyArray]
Tiles = Callable[[AnyArray, int], Iterator[Tile]]

_ONE_IMAGE = [name for name in writable_formats() if name != "tiles"]  # see test_map_tiles.py
_LOSSLESS = [name for name in writable_formats() if name != "jpeg"]
_TYPES = (
    "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64",
)  # fmt: skip
_SHAPES = ((1, 300, 517), (3, 257, 40), (5, 1, 9), (3, 1, 40, 256), (2, 3, 2, 30, 70))


def _metadata(channels: int) -> ImageMetadata:
    return ImageMetadata(
        pixel_size=(0.325, 0.11),
        z_spacing=0.7,
        unit="µm",
        channel_names=tuple(f'"{index}" <µ&' for index in range(channels)),
        channel_colors=tuple((index, 255, 128) for index in range(channels)),
        display_ranges=tuple((0.0, index + 0.5) for index in range(channels)),
    )


def _spec(array: AnyArray, **changes: Any) -> OutputSpec:
    axes = {3: "CYX", 4: "ZCYX", 5: "TZCYX"}[array.ndim]
    usual: dict[str, Any] = {"shape": array.shape, "dtype": array.dtype, "metadata": _metadata(array.shape[-3])}
    return OutputSpec(**({"axes": axes} | usual | changes))


def _placed_spec(array: AnyArray) -> OutputSpec:
    """What every format can hold."""
    return _spec(array, metadata=ImageMetadata(georeference=web_mercator(pixel_size_m=1, left_m=0, top_m=0)))


def _round_trips() -> Iterator[tuple[str, str, tuple[int, ...], bool]]:
    """Every lossless format with every type and shape that it can hold."""
    for file_format, dtype, shape, rgb in product(_LOSSLESS, _TYPES, _SHAPES, (False, True)):
        spec = _spec(np.empty(shape, dtype), metadata=ImageMetadata(rgb=rgb))
        if rgb == spec.rgb and incompatibility(spec, file_format) is None:
            yield file_format, dtype, shape, rgb


@pytest.mark.parametrize(("file_format", "dtype", "shape", "rgb"), _round_trips())
def test_lossless_round_trip(
    tmp_path: Path, pixels_of: Pixels, noise: Noise, tiles_of: Tiles, file_format: str, dtype: str,
    shape: tuple[int, ...], rgb: bool,
) -> None:  # fmt: skip
    array = noise(shape, dtype)
    spec = _spec(array, metadata=replace(_metadata(shape[-3]), rgb=rgb))
    path = write_image(tmp_path / "out", spec, tiles_of(array, 100), file_format=file_format)
    with open_image(path) as source:
        assert (source.axes, source.shape, source.dtype) == (spec.axes, array.shape, array.dtype)
        np.testing.assert_array_equal(pixels_of(source), array)
        expected = replace(spec.metadata, file_format=file_format, rgb=rgb or (file_format == "png" and shape[0] == 3))
        assert source.metadata == expected


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(height=st.integers(1, 600), width=st.integers(2, 600), size=st.integers(50, 700), data=st.data())
def test_tiles_of_any_size(
    tmp_path: Path, pixels_of: Pixels, noise: Noise, tiles_of: Tiles, height: int, width: int, size: int,
    data: st.DataObject,
) -> None:  # fmt: skip
    array = noise((2, height, width), "uint8")
    file_format = data.draw(st.sampled_from(["tiff", "ome-tiff", "imagej"]))
    write_image(tmp_path / "out", _spec(array), tiles_of(array, size), file_format=file_format, overwrite=True)
    with open_image(tmp_path / "out") as source:
        np.testing.assert_array_equal(pixels_of(source), array)


@pytest.mark.parametrize("file_format", ["tiff", "ome-tiff", "imagej"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_tifffile_reads_the_same(tmp_path: Path, noise: Noise, tiles_of: Tiles, file_format: str, dtype: str) -> None:
    array = noise((2, 3, 2, 30, 70), dtype)
    write_image(tmp_path / "a.tif", _spec(array), tiles_of(array, 32), file_format=file_format)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.series[0].axes == "TZCYX"
        np.testing.assert_array_equal(tif.asarray(), array)


def test_pillow_reads_the_same_plain_tiff_and_png(tmp_path: Path, noise: Noise, tiles_of: Tiles) -> None:
    array = noise((3, 300, 40), "uint8")
    spec = _spec(array, metadata=ImageMetadata(rgb=True))
    for name, file_format in (("a.tif", "tiff"), ("a.png", "png")):
        write_image(tmp_path / name, spec, tiles_of(array, 64), file_format=file_format)
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / name)), np.moveaxis(array, 0, -1))


def test_ome_xml_is_valid_and_says_what_other_programs_need(tmp_path: Path, noise: Noise, tiles_of: Tiles) -> None:
    array = noise((2, 3, 2, 30, 70), "uint16")
    spec = _spec(array, metadata=replace(_metadata(2), bit_depth=12))
    write_image(tmp_path / "a.ome.tif", spec, tiles_of(array, 32), file_format="ome-tiff")
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        document = tifffile.xml2dict(tif.ome_metadata or "")
    pixels = document["OME"]["Image"]["Pixels"]
    assert (pixels["SizeT"], pixels["SizeZ"], pixels["SizeC"]) == (2, 3, 2)
    assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeY"], pixels["PhysicalSizeZ"]) == (0.11, 0.325, 0.7)
    assert pixels["PhysicalSizeXUnit"] == "µm"
    assert pixels["SignificantBits"] == 12
    assert [channel["Name"] for channel in pixels["Channel"]] == ['"0" <µ&', '"1" <µ&']
    assert [channel["Color"] % 2**32 for channel in pixels["Channel"]] == [0x00FF80FF, 0x01FF80FF]


def test_imagej_header_says_what_imagej_needs(tmp_path: Path, noise: Noise, tiles_of: Tiles) -> None:
    array = noise((2, 3, 2, 30, 70), "uint16")
    write_image(tmp_path / "a.tif", _spec(array), tiles_of(array, 32), file_format="imagej")
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        header = tif.imagej_metadata or {}
        x_resolution, y_resolution = tif.pages.first.resolution
    assert (header["frames"], header["slices"], header["channels"]) == (2, 3, 2)
    assert (header["unit"], header["spacing"], header["mode"]) == ("um", 0.7, "composite")
    assert header["Labels"][:2] == ['"0" <µ&', '"1" <µ&']
    assert header["Ranges"] == (0.0, 0.5, 0.0, 1.5)
    assert (x_resolution, y_resolution) == pytest.approx((1 / 0.11, 1 / 0.325))


@pytest.mark.parametrize(("unit", "per_centimetre"), [("µm", 10_000), ("mm", 10)])
def test_resolution_of_plain_tiff_is_per_centimetre(
    tmp_path: Path, noise: Noise, tiles_of: Tiles, unit: str, per_centimetre: float
) -> None:
    array = noise((1, 30, 70), "uint8")
    spec = _spec(array, metadata=replace(_metadata(1), unit=unit))
    write_image(tmp_path / "a.tif", spec, tiles_of(array, 32), file_format="tiff")
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        page = tif.pages.first
        assert page.resolutionunit == tifffile.RESUNIT.CENTIMETER
        assert page.resolution == pytest.approx((per_centimetre / 0.11, per_centimetre / 0.325))
        assert page.compression == tifffile.COMPRESSION.ZSTD
        assert page.tile == (256, 256)


@pytest.mark.parametrize("file_format", ["tiff", "ome-tiff", "png"])
@pytest.mark.parametrize("entries", [2, 7, 256])
def test_palette_comes_back_as_it_was(
    tmp_path: Path, pixels_of: Pixels, noise: Noise, tiles_of: Tiles, file_format: str, entries: int
) -> None:
    palette = noise((entries, 3), "uint8")
    array = (noise((1, 30, 70), "uint16") % entries).astype(np.uint8)
    spec = _spec(array, palette=palette)
    write_image(tmp_path / "a", spec, tiles_of(array, 32), file_format=file_format)
    with open_image(tmp_path / "a") as source:
        np.testing.assert_array_equal(source.palette, palette)
        np.testing.assert_array_equal(pixels_of(source), array)
    shown = np.asarray(Image.open(tmp_path / "a").convert("RGB"))
    np.testing.assert_array_equal(shown, palette[array[0]])


@pytest.mark.parametrize("nodata", [-9999.0, -3.4e38, float("nan")])
@pytest.mark.parametrize("file_format", ["tiff", "ome-tiff"])
def test_nodata_is_kept(tmp_path: Path, noise: Noise, tiles_of: Tiles, file_format: str, nodata: float) -> None:
    array = noise((1, 30, 70), "float32")
    write_image(tmp_path / "a", _spec(array, nodata=nodata), tiles_of(array, 32), file_format=file_format)
    with open_image(tmp_path / "a") as source:
        np.testing.assert_equal(source.nodata, nodata)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_close_to_the_original(tmp_path: Path, pixels_of: Pixels, tiles_of: Tiles, channels: int) -> None:
    gradient = np.add.outer(np.arange(64), np.arange(96)).astype(np.uint8)
    array = np.stack([gradient] * channels)
    spec = _spec(array, metadata=ImageMetadata(pixel_size=(50.0, 100.0), unit="µm", rgb=channels == 3))
    write_image(tmp_path / "a.jpg", spec, tiles_of(array, 32), file_format="jpeg")
    with open_image(tmp_path / "a.jpg") as source:
        assert np.abs(pixels_of(source).astype(int) - array).max() <= 3
        assert source.metadata.pixel_size == pytest.approx((50.0, 100.0), rel=0.01)


def test_large_ome_planes_get_a_pyramid_of_means(
    tmp_path: Path, pixels_of: Pixels, noise: Noise, tiles_of: Tiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ome_tiff, "PYRAMID_FROM_PX", 500)
    array = noise((2, 2, 301, 1025), "uint8")
    write_image(tmp_path / "a.ome.tif", _spec(array), tiles_of(array, 300), file_format="ome-tiff")
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        levels = [level.asarray() for level in tif.series[0].levels]
    assert [level.shape[-2:] for level in levels] == [(301, 1025), (151, 513), (76, 257), (38, 129)]
    np.testing.assert_array_equal(levels[0], array)
    blocks = array[..., :300, :1024].reshape(2, 2, 150, 2, 512, 2).mean(axis=(3, 5))
    np.testing.assert_array_equal(levels[1][..., :150, :512], np.rint(blocks))
    with open_image(tmp_path / "a.ome.tif") as source:
        np.testing.assert_array_equal(pixels_of(source), array)


@pytest.mark.parametrize("changes", [{"palette": np.eye(3, dtype=np.uint8) * 255}, {"categories": True}])
def test_pyramid_of_classes_invents_no_values(
    tmp_path: Path, noise: Noise, tiles_of: Tiles, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    monkeypatch.setattr(ome_tiff, "PYRAMID_FROM_PX", 500)
    array = (noise((1, 301, 525), "uint16") % 3).astype(np.uint8)
    write_image(tmp_path / "a.ome.tif", _spec(array, **changes), tiles_of(array, 300), file_format="ome-tiff")
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        np.testing.assert_array_equal(tif.series[0].levels[1].asarray(), array[0, ::2, ::2])


def test_pyramid_leaves_gaps_out(
    tmp_path: Path, noise: Noise, tiles_of: Tiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ome_tiff, "PYRAMID_FROM_PX", 500)
    array = (noise((1, 300, 524), "uint16") % 3).astype(np.uint8)
    write_image(tmp_path / "a.ome.tif", _spec(array, nodata=0.0), tiles_of(array, 300), file_format="ome-tiff")
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        half = tif.series[0].levels[1].asarray()
    blocks = np.moveaxis(array[0].reshape(150, 2, 262, 2), 2, 1).reshape(150, 262, 4)
    count = (blocks > 0).sum(-1)
    means = np.rint(blocks.sum(-1) / np.maximum(count, 1))
    np.testing.assert_array_equal(half, np.where(count == 0, 0, means))
    assert (half == 0).any()


def test_more_than_four_gigabytes_become_a_bigtiff(
    tmp_path: Path, pixels_of: Pixels, noise: Noise, tiles_of: Tiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiff_writing, "_BIGTIFF_FROM_BYTES", 10_000)
    array = noise((2, 301, 525), "uint8")
    write_image(tmp_path / "a.tif", _spec(array), tiles_of(array, 300), file_format="tiff")
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.is_bigtiff
    with open_image(tmp_path / "a.tif") as source:
        np.testing.assert_array_equal(pixels_of(source), array)


_REFUSALS: list[tuple[str, dict[str, Any], str]] = [
    ("png", {"dtype": np.dtype("float32")}, "PNG cannot hold 1 channels of float32; use the format tiff"),
    ("png", {"axes": "ZCYX", "shape": (2, 1, 8, 9)}, r"PNG holds a single plane.*use the format ome-tiff"),
    ("png", {"shape": (2, 8, 9)}, "PNG holds 1 or 3 channels, the image has 2; use the format tiff"),
    ("png", {"shape": (1, 100_000, 100_000)}, "too large for PNG"),
    ("png", {"shape": (3, 8, 9), "dtype": np.dtype("bool")}, "PNG cannot hold 3 channels of bool"),
    ("png", {"dtype": np.dtype("uint16"), "palette": np.zeros((2, 3), np.uint8)}, "8-bit indices"),
    ("jpeg", {"dtype": np.dtype("uint16")}, "JPEG cannot hold uint16; use the format png or tiff"),
    ("jpeg", {"palette": np.zeros((2, 3), np.uint8)}, "JPEG cannot hold a palette"),
    ("jpeg", {"shape": (1, 8, 70_000)}, "at most 65500 pixels per side"),
    ("ome-tiff", {"dtype": np.dtype("float16")}, "OME-TIFF cannot hold float16; use the format tiff"),
    ("ome-tiff", {"axes": "PTZCYX", "shape": (2, 2, 2, 1, 8, 9)}, "cannot hold the axes PTZCYX"),
    ("tiff", {"dtype": np.dtype("complex64")}, "TIFF cannot hold complex64"),
    ("tiff", {"dtype": np.dtype("float32"), "palette": np.zeros((2, 3), np.uint8)}, "8- or 16-bit indices"),
    ("tiff", {"shape": (2, 8, 9), "palette": np.zeros((2, 3), np.uint8)}, "one channel of indices"),
    ("imagej", {"dtype": np.dtype("complex64")}, "cannot hold complex64"),
    ("webp", {}, "there is no format 'webp' to write"),
]


@pytest.mark.parametrize(("file_format", "changes", "message"), _REFUSALS)
def test_formats_say_what_they_cannot_hold(
    tmp_path: Path, file_format: str, changes: dict[str, Any], message: str
) -> None:
    spec = _spec(np.zeros((1, 8, 9), np.uint8), **changes)
    with pytest.raises(OutputError, match=message) as caught:
        write_image(tmp_path / "a", spec, _never_asked(), file_format=file_format)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def _never_asked() -> Iterator[Tile]:
    pytest.fail("a tile was asked for although the output is refused")
    yield


@pytest.mark.parametrize("file_format", ["tiff", "ome-tiff", "imagej", "ome-zarr", "png", "jpeg", "geotiff"])
@pytest.mark.parametrize("dtype", [
    "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64",
])  # fmt: skip
def test_every_type_is_held_or_refused_with_a_format_that_holds_it(
    tmp_path: Path, noise: Noise, tiles_of: Tiles, pixels_of: Pixels, file_format: str, dtype: str
) -> None:
    place = web_mercator(pixel_size_m=1.0, left_m=0.0, top_m=0.0) if file_format == "geotiff" else None
    array = noise((1, 40, 50), dtype)
    spec = _spec(array, metadata=ImageMetadata(georeference=place))
    reason = incompatibility(spec, file_format)
    if reason is not None:
        named = reason.partition("use the format ")[2].replace(" or ", " ").split()
        assert named and any(incompatibility(spec, other) is None for other in named)
        return
    path = write_image(tmp_path / "a", spec, tiles_of(array, 32), file_format=file_format)
    with open_image(path) as source:
        assert source.dtype == array.dtype
        if file_format != "jpeg":
            np.testing.assert_array_equal(pixels_of(source), array)


def test_axes_must_fit_the_shape() -> None:
    with pytest.raises(ImageError, match="cannot have the axes"):
        _spec(np.zeros((1, 8, 9), np.uint8), axes="YXC")


@pytest.mark.parametrize(("dtype", "written"), [("int32", "ome-tiff"), ("float64", "ome-tiff"), ("float16", "tiff")])
def test_what_imagej_cannot_hold_becomes_another_tiff(tmp_path: Path, dtype: str, written: str) -> None:
    spec = _spec(np.zeros((1, 8, 9), dtype))
    assert check_output(tmp_path / "a.tif", spec, file_format="imagej", overwrite=False) == written


@pytest.mark.parametrize("file_format", _ONE_IMAGE)
def test_existing_output_is_left_alone(tmp_path: Path, file_format: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match="exists already"):
        write_image(path, _placed_spec(np.zeros((1, 8, 9), np.uint8)), _never_asked(), file_format=file_format)
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("file_format", _ONE_IMAGE)
def test_overwriting_replaces(tmp_path: Path, tiles_of: Tiles, file_format: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    array = np.zeros((1, 8, 9), np.uint8)
    write_image(path, _placed_spec(array), tiles_of(array, 5), file_format=file_format, overwrite=True)
    with open_image(path) as source:
        assert source.shape == array.shape


@pytest.mark.parametrize("file_format", _ONE_IMAGE)
@pytest.mark.parametrize(
    "failure", [ValueError("bad"), KeyboardInterrupt(), GeneratorExit(), OSError(errno.EIO, "I/O")]
)
def test_failing_tiles_leave_nothing_behind(
    tmp_path: Path, tiles_of: Tiles, file_format: str, failure: BaseException
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    array = np.zeros((1, 600, 600), np.uint8)

    def tiles() -> Iterator[Tile]:
        yield from list(tiles_of(array, 300))[:2]
        raise failure

    expected = Pix2PixError if isinstance(failure, OSError) else type(failure)
    with pytest.raises(expected):
        write_image(path, _placed_spec(array), tiles(), file_format=file_format, overwrite=True)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("file_format", _ONE_IMAGE)
def test_full_disk_is_one_line(
    tmp_path: Path, tiles_of: Tiles, monkeypatch: pytest.MonkeyPatch, file_format: str
) -> None:
    array = np.zeros((1, 600, 600), np.uint8)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Pix2PixError, match="the disk is full") as caught:
        write_image(tmp_path / "a", _placed_spec(array), tiles_of(array, 300), file_format=file_format)
    assert not isinstance(caught.value, InputError)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file_format", _ONE_IMAGE)
def test_missing_tiles_are_noticed(tmp_path: Path, tiles_of: Tiles, file_format: str) -> None:
    array = np.zeros((1, 64, 64), np.uint8)
    tiles = iter(list(tiles_of(array, 32))[:-1])
    with pytest.raises(Pix2PixError, match="is incomplete: 3072 of 4096 pixels"):
        write_image(tmp_path / "a", _placed_spec(array), tiles, file_format=file_format)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "tile", [np.zeros((1, 7, 9), np.uint8), np.zeros((2, 8, 9), np.uint8), np.zeros((1, 8, 9), np.uint16)]
)
def test_tile_of_another_shape_or_type_is_refused(tmp_path: Path, tile: AnyArray) -> None:
    spec = _spec(np.zeros((1, 8, 9), np.uint8))
    with pytest.raises(Pix2PixError, match="does not fit"):
        write_image(tmp_path / "a", spec, iter([((), Region(0, 8, 0, 9), tile)]), file_format="tiff")


@pytest.mark.parametrize(
    ("name", "requested", "expected"),
    [
        ("a.ome.tif", "same", "ome-tiff"),
        ("a.OME.TIFF", "same", "ome-tiff"),
        ("a.tif", "same", "tiff"),
        ("a.png", "same", "png"),
        ("a.jpeg", "same", "jpeg"),
        ("a", "same", "ome-tiff"),
        ("a.tif", "ome-tiff", "ome-tiff"),
        ("a.tif", "imagej", "imagej"),
        ("a", "png", "png"),
        ("a.TIFF", "geotiff", "geotiff"),
        ("a.zarr", "same", "ome-zarr"),
        ("a.v2", "tiles", "tiles"),
    ],
)
def test_format_of_an_output_without_an_input_file(name: str, requested: str, expected: str) -> None:
    assert resolve_format(Path(name), requested, None) == expected


@pytest.mark.parametrize(
    ("written", "name", "expected"),
    [
        ("png", "out", "png"),
        ("jpeg", "out", "jpeg"),
        ("imagej", "out", "imagej"),
        ("imagej", "out.tif", "imagej"),
        ("imagej", "out.ome.tif", "ome-tiff"),
        ("ome-tiff", "out", "ome-tiff"),
        ("ome-tiff", "out.tif", "tiff"),
        ("tiff", "out.png", "png"),
    ],
)
def test_same_format_as_the_input(tmp_path: Path, tiles_of: Tiles, written: str, name: str, expected: str) -> None:
    array = np.zeros((1, 8, 9), np.uint8)
    path = write_image(tmp_path / "in", _spec(array), tiles_of(array, 8), file_format=written)
    with open_image(path) as source:
        assert resolve_format(Path(name), "same", source) == expected


def test_bmp_in_gives_png_out(tmp_path: Path) -> None:
    Image.new("L", (3, 3)).save(tmp_path / "a.bmp")
    with open_image(tmp_path / "a.bmp") as source:
        assert resolve_format(Path("out"), "same", source) == "png"


@pytest.mark.parametrize(
    ("name", "requested", "message"),
    [
        ("a.png", "tiff", r"the ending \.png does not fit the format tiff; use \.tif"),
        ("a.tif", "png", r"does not fit the format png; use \.png"),
        ("a.webp", "webp", "there is no format 'webp'"),
        ("a.gif", "gif", "there is no format 'gif'"),
        ("a.webp", "same", r"no format that is written has the ending \.webp; use \.tif, \.ome\.tif"),
        ("a.webp", "png", r"no format that is written has the ending \.webp"),
        ("a.bmp", "png", r"the ending \.bmp does not fit the format png; use \.png"),
        ("a.ome.tif", "tiff", r"the ending \.ome\.tif does not fit the format tiff"),
        ("a.ome.tif", "geotiff", r"the ending \.ome\.tif does not fit the format geotiff"),
        ("a.zarr", "ome-tiff", r"the ending \.zarr does not fit the format ome-tiff"),
        ("a.tif", "tiles", "does not fit the format tiles; use a name without an ending"),
    ],
)
def test_contradicting_formats(name: str, requested: str, message: str) -> None:
    with pytest.raises(OutputError, match=message):
        resolve_format(Path(name), requested, None)


@pytest.mark.parametrize(
    ("file_format", "source", "expected"),
    [
        ("tiff", "a.tiff", ".tiff"), ("tiff", "a.png", ".tif"), ("ome-tiff", "a.ome.tiff", ".ome.tiff"),
        ("ome-tiff", "a.tif", ".ome.tif"), ("jpeg", "a.JPEG", ".jpeg"), ("png", None, ".png"),
    ],
)  # fmt: skip
def test_ending_of_an_output(file_format: str, source: str | None, expected: str) -> None:
    assert output_suffix(file_format, None if source is None else Path(source)) == expected


@pytest.mark.parametrize(
    ("changes", "axes", "said"),
    [
        ({}, "CYX", {}),
        ({"georeference": web_mercator(pixel_size_m=1, left_m=0, top_m=0)}, "CYX",
         dict.fromkeys(("png", "jpeg", "imagej", "ome-zarr", "bmp", "gif"), "where on the Earth the image lies")),
        ({"scales": (AxisScale("X", "x", None, 1.0, 5.0),)}, "CYX",
         dict.fromkeys(("png", "jpeg", "imagej", "tiff", "ome-tiff", "bmp", "gif"), "where the first pixel lies")),
        ({"orientation": 6}, "CYX",
         dict.fromkeys(("imagej", "ome-zarr", "bmp", "gif"), "how rows and columns lie (orientation 6)")),
        ({}, "ICYX",
         dict.fromkeys(("imagej", "ome-tiff", "ome-zarr"), "what the axis I is (it becomes T or Z)")),
        ({}, "TCYX", {}),
    ],
)  # fmt: skip
def test_what_a_format_has_no_field_for_is_said(
    tmp_path: Path, changes: dict[str, Any], axes: str, said: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    shape = (2, 1, 4, 6)[-len(axes) :]
    spec = OutputSpec(axes=axes, shape=shape, dtype=np.dtype("uint8"), metadata=ImageMetadata(**changes))
    for file_format in _ONE_IMAGE:
        caplog.clear()
        if incompatibility(spec, file_format) is None:
            check_output(tmp_path / "a", spec, file_format=file_format, overwrite=False)
            assert [record.getMessage().partition("does not say ")[2] for record in caplog.records] == [
                words for name, words in said.items() if name == file_format
            ]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("out/cell.ome.tif", "out/cell-error.ome.tif"),
        ("cell.1.PNG", "cell.1-error.PNG"),
        ("cells.ome.zarr", "cells-error.ome.zarr"),
        ("tiles", "tiles-error"),
    ],
)
def test_a_map_is_called_after_its_output(output: str, expected: str) -> None:
    assert map_path(Path(output), "error") == Path(expected)
