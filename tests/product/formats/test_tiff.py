"""TIFF of every kind against what tifffile reads."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_pix2pix.formats import tiff_pages
from napari_pix2pix.formats.source import open_image
from pix2pix_training.array_source import ArraySource, whole_plane
from pix2pix_training.errors import ImageError
from pix2pix_training.regions import Region

AnyArray = NDArray[Any]
Pixels = Callable[[ArraySource], AnyArray]
Noise = Callable[[tuple[int, ...], str], AnyArray]

_TYPES = (
    "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64",
)  # fmt: skip
_STORAGE: dict[str, dict[str, Any]] = {
    "plain": {},
    "strips": {"rowsperstrip": 7},
    "tiles": {"tile": (16, 32)},
    "zstd tiles": {"tile": (16, 32), "compression": "zstd"},
    "deflate strips": {"rowsperstrip": 7, "compression": "zlib", "predictor": True},
    "lzw tiles": {"tile": (32, 16), "compression": "lzw", "predictor": True},
    "big": {"bigtiff": True},
    "big-endian": {"byteorder": ">"},
    "big-endian tiles": {"byteorder": ">", "tile": (16, 16), "compression": "zlib"},
}


@pytest.mark.parametrize("dtype", _TYPES)
@pytest.mark.parametrize("storage", ["plain", "zstd tiles"])
def test_every_type(tmp_path: Path, pixels_of: Pixels, noise: Noise, dtype: str, storage: str) -> None:
    array = noise((45, 70), dtype)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack", metadata=None, **_STORAGE[storage])
    with open_image(tmp_path / "a.tif") as source:
        assert (source.axes, source.shape, source.dtype) == ("CYX", (1, 45, 70), np.dtype(dtype))
        np.testing.assert_array_equal(pixels_of(source)[0], array)


@pytest.mark.parametrize("storage", _STORAGE)
@pytest.mark.parametrize(
    ("shape", "options", "expected"),
    [
        ((45, 70), {"photometric": "minisblack"}, (1, 45, 70)),
        ((45, 70, 3), {"photometric": "rgb"}, (3, 45, 70)),
        ((3, 45, 70), {"photometric": "rgb", "planarconfig": "separate"}, (3, 45, 70)),
        ((45, 70, 5), {"photometric": "minisblack", "planarconfig": "contig"}, (5, 45, 70)),
        ((4, 45, 70), {"photometric": "minisblack"}, (4, 1, 45, 70)),
        ((2, 45, 70, 3), {"photometric": "rgb"}, (2, 3, 45, 70)),
        ((2, 3, 45, 70), {"photometric": "rgb", "planarconfig": "separate"}, (2, 3, 45, 70)),
    ],
)
def test_every_storage(
    tmp_path: Path,
    pixels_of: Pixels,
    noise: Noise,
    shape: tuple[int, ...],
    options: dict[str, Any],
    expected: tuple[int, ...],
    storage: str,
) -> None:
    array = noise(shape, "uint16")
    tifffile.imwrite(tmp_path / "a.tif", array, metadata=None, **options, **_STORAGE[storage])
    channels_first = np.moveaxis(array, -1, -3) if shape[-1] in (3, 5) else array
    region = Region(9, 40, 13, 66)
    with open_image(tmp_path / "a.tif") as source:
        assert source.shape == expected
        np.testing.assert_array_equal(pixels_of(source), channels_first.reshape(expected))
        plane = tuple(n - 1 for n in expected[:-3])
        last = channels_first.reshape(expected)[plane]
        np.testing.assert_array_equal(source.read(region, plane), last[(slice(None), *region.slices)])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_region_equals_the_slice(tmp_path: Path, noise: Noise, data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 60))
    storage = data.draw(st.sampled_from(sorted(_STORAGE)))
    array = noise((height, width, 3), "uint8")
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", metadata=None, **_STORAGE[storage])
    y0, y1 = sorted(data.draw(st.integers(0, height)) for _ in range(2))
    x0, x1 = sorted(data.draw(st.integers(0, width)) for _ in range(2))
    with open_image(tmp_path / "a.tif") as source:
        np.testing.assert_array_equal(source.read(Region(y0, y1, x0, x1)), np.moveaxis(array[y0:y1, x0:x1], -1, 0))


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_packed_bits(tmp_path: Path, pixels_of: Pixels, noise: Noise, bits: int) -> None:
    array = noise((20, 24), "uint16") % 2**bits
    stored = np.unpackbits(array.astype(">u2").view(np.uint8).reshape(20, 24, 2), axis=-1)[..., -bits:]
    tifffile.imwrite(
        tmp_path / "a.tif",
        iter([np.packbits(stored.reshape(20, -1), axis=-1).tobytes()]),
        shape=array.shape,
        dtype=array.dtype,
        bitspersample=bits,
        rowsperstrip=20,
        photometric="minisblack",
        metadata=None,
    )
    with open_image(tmp_path / "a.tif") as source:
        assert source.dtype == np.uint16
        assert source.metadata.bit_depth == bits
        np.testing.assert_array_equal(pixels_of(source)[0], array)


def test_palette(tmp_path: Path, pixels_of: Pixels, noise: Noise) -> None:
    indices, colours = noise((20, 24), "uint8"), noise((256, 3), "uint8")
    tifffile.imwrite(
        tmp_path / "a.tif", indices, photometric="palette", colormap=colours.T.astype(np.uint16) * 257, metadata=None
    )
    with open_image(tmp_path / "a.tif") as source:
        np.testing.assert_array_equal(source.palette, colours)
        np.testing.assert_array_equal(pixels_of(source)[0], indices)


def test_grey_ramp_is_no_palette(tmp_path: Path, noise: Noise) -> None:
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint16) * 257, (3, 256))
    tifffile.imwrite(tmp_path / "a.tif", noise((9, 9), "uint8"), photometric="palette", colormap=ramp, metadata=None)
    with open_image(tmp_path / "a.tif") as source:
        assert source.palette is None


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "bool"])
def test_zero_for_white_keeps_the_stored_values(tmp_path: Path, pixels_of: Pixels, noise: Noise, dtype: str) -> None:
    array = noise((9, 16), dtype)
    tifffile.imwrite(tmp_path / "fax.tif", array, photometric="miniswhite", metadata=None)
    with open_image(tmp_path / "fax.tif") as source:
        np.testing.assert_array_equal(pixels_of(source)[0], array)
        assert source.metadata.white_is_zero


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((20, 30, 1), (1, 20, 30)),
        ((20, 30, 1, 1), (1, 20, 30)),
        ((4, 20, 30, 1), (4, 1, 20, 30)),
        ((20, 1), (1, 20, 1)),
        ((1, 30), (1, 1, 30)),
        ((1, 1), (1, 1, 1)),
        ((1, 1, 1), (1, 1, 1)),
        ((20, 1, 1), (1, 20, 1)),
        ((1, 30, 1), (1, 1, 30)),
        ((4, 1, 30), (4, 1, 1, 30)),
        ((1, 1, 20, 30), (1, 20, 30)),
    ],
)
def test_axes_of_length_one_anywhere(
    tmp_path: Path, pixels_of: Pixels, noise: Noise, shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    array = noise(shape, "uint8")
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack")
    with open_image(tmp_path / "a.tif") as source:
        np.testing.assert_array_equal(pixels_of(source), array.reshape(expected))


@pytest.mark.parametrize("axes", ["YXC", "YXS", "YXQ"])
def test_channels_last_under_any_name(tmp_path: Path, pixels_of: Pixels, noise: Noise, axes: str) -> None:
    array = noise((20, 30, 3), "uint8")
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", metadata={"axes": axes})
    with open_image(tmp_path / "a.tif") as source:
        np.testing.assert_array_equal(pixels_of(source), np.moveaxis(array, -1, 0))


def test_channels_last_without_saying_so_are_remarked_on(
    tmp_path: Path, noise: Noise, caplog: pytest.LogCaptureFixture
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise((20, 30, 2), "uint8"), photometric="minisblack")
    with open_image(tmp_path / "a.tif") as source:
        assert source.shape == (20, 1, 30, 2)
    assert "read as 20 planes of 30 x 2 pixels" in caplog.text


@pytest.mark.parametrize(("kind", "channels"), [("UNASSALPHA", 3), ("ASSOCALPHA", 3), ("UNSPECIFIED", 4)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_declared_alpha_that_looks_like_a_mask_is_one(
    tmp_path: Path, noise: Noise, kind: str, channels: int, dtype: str
) -> None:
    array = noise((9, 16, 4), dtype)
    array[..., 3] = np.iinfo(dtype).max
    array[:4, :, 3] = 0
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", extrasamples=[kind], metadata=None)
    with open_image(tmp_path / "a.tif") as source:
        pixels, opacity = source.read_with_opacity(whole_plane(source))
    np.testing.assert_array_equal(pixels, np.moveaxis(array, -1, 0)[:channels])
    assert (opacity is not None) == (channels == 3)
    if opacity is not None:
        np.testing.assert_array_equal(opacity, np.where(array[..., 3] > 0, 255, 0))


def test_declared_alpha_of_other_values_is_a_channel(
    tmp_path: Path, pixels_of: Pixels, noise: Noise, caplog: pytest.LogCaptureFixture
) -> None:
    array = noise((9, 16, 4), "uint8")
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", extrasamples=["UNASSALPHA"], metadata=None)
    with caplog.at_level(logging.WARNING), open_image(tmp_path / "a.tif") as source:
        np.testing.assert_array_equal(pixels_of(source), np.moveaxis(array, -1, 0))
    assert "channel 4 is declared as alpha, but" in caplog.text


@pytest.mark.parametrize(("text", "value"), [("-9999", -9999.0), ("255 ", 255.0), ("nan", np.nan), ("none", None)])
def test_nodata_of_gdal(tmp_path: Path, noise: Noise, text: str, value: float | None) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", noise((4, 4), "float32"), metadata=None, extratags=[(42113, "s", 0, text, True)]
    )
    with open_image(tmp_path / "a.tif") as source:
        np.testing.assert_equal(source.nodata, value)


def test_ome_hyperstack(tmp_path: Path, pixels_of: Pixels, noise: Noise) -> None:
    array = noise((3, 2, 4, 10, 12), "uint16")
    metadata = {
        "axes": "TZCYX",
        "PhysicalSizeX": 250.0, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "µm",
        "PhysicalSizeZ": 1.5, "PhysicalSizeZUnit": "µm", "SignificantBits": 12,
        "Channel": {"Name": ["DAPI", "GFP", "RFP", "Cy5"], "Color": [65535, 16711935, -16776961, -1]},
    }  # fmt: skip
    tifffile.imwrite(tmp_path / "a.ome.tif", array, photometric="minisblack", metadata=metadata)
    with open_image(tmp_path / "a.ome.tif") as source:
        assert source.axes == "TZCYX"
        np.testing.assert_array_equal(pixels_of(source), array)
        found = source.metadata
    assert found.unit == "nm"
    assert found.pixel_size == pytest.approx((500.0, 250.0))
    assert found.z_spacing == pytest.approx(1500.0)
    assert found.channel_names == ("DAPI", "GFP", "RFP", "Cy5")
    assert found.channel_colors == ((0, 0, 255), (0, 255, 0), (255, 0, 0), (255, 255, 255))
    assert found.bit_depth == 12
    assert found.file_format == "ome-tiff"


@pytest.mark.parametrize("axes", ["ZTCYX", "CTZYX", "TCZYX", "ZCTYX"])
def test_other_orders_of_ome_axes_become_tzc(tmp_path: Path, pixels_of: Pixels, noise: Noise, axes: str) -> None:
    array = noise((2, 3, 4, 5, 6), "uint8")
    tifffile.imwrite(tmp_path / "a.ome.tif", array, photometric="minisblack", metadata={"axes": axes})
    with open_image(tmp_path / "a.ome.tif") as source:
        assert source.axes == "TZCYX"
        np.testing.assert_array_equal(pixels_of(source), array.transpose([axes.index(axis) for axis in "TZCYX"]))


def test_pyramid_is_read_at_full_resolution(tmp_path: Path, pixels_of: Pixels, noise: Noise) -> None:
    array = noise((64, 96), "uint8")
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        tif.write(array, subifds=1, tile=(32, 32), metadata={"axes": "YX"})
        tif.write(array[::2, ::2], subfiletype=1, tile=(32, 32))
    with open_image(tmp_path / "a.ome.tif") as source:
        np.testing.assert_array_equal(pixels_of(source)[0], array)


def test_first_series_is_read(tmp_path: Path, pixels_of: Pixels, noise: Noise) -> None:
    first = noise((20, 30), "uint8")
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(first, metadata=None)
        tif.write(noise((40, 10), "uint16"), metadata=None)
    with open_image(tmp_path / "a.tif") as source:
        np.testing.assert_array_equal(pixels_of(source)[0], first)


def test_imagej_hyperstack(tmp_path: Path, pixels_of: Pixels, noise: Noise) -> None:
    array = noise((3, 2, 4, 10, 12), "uint16")
    tables = [np.stack([np.arange(256) * share for share in shares]).astype(np.uint8) for shares in np.eye(4, 3)]
    tifffile.imwrite(
        tmp_path / "a.tif",
        array,
        imagej=True,
        resolution=(4.0, 2.0),
        metadata={
            "axes": "TZCYX", "unit": "micron", "spacing": 3.0, "LUTs": tables, "Ranges": (0.0, 10.0) * 3 + (5.0, 6.0),
        },
    )  # fmt: skip
    with open_image(tmp_path / "a.tif") as source:
        assert source.axes == "TZCYX"
        np.testing.assert_array_equal(pixels_of(source), array)
        found = source.metadata
    assert (found.pixel_size, found.z_spacing, found.unit) == ((0.5, 0.25), 3.0, "µm")
    assert found.channel_colors == ((255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0))
    assert found.display_ranges == ((0.0, 10.0), (0.0, 10.0), (0.0, 10.0), (5.0, 6.0))
    assert found.file_format == "imagej"


def test_imagej_image_of_one_look_up_table(tmp_path: Path, pixels_of: Pixels, noise: Noise) -> None:
    """tifffile gives a single table by itself, and several as a list."""
    array = noise((10, 12), "uint16")
    table = np.stack([np.zeros(256), np.arange(256), np.zeros(256)]).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", array, imagej=True, metadata={"LUTs": [table], "Ranges": (0.0, 10.0)})
    with open_image(tmp_path / "a.tif") as source:
        np.testing.assert_array_equal(pixels_of(source)[0], array)
        assert source.metadata.channel_colors == ((0, 255, 0),)
        assert source.metadata.display_ranges == ((0.0, 10.0),)


@pytest.mark.parametrize(
    ("header", "words", "planes"),
    [
        ("images=5\nslices=5\n", "", 5),
        ("images=5\nslices=3\n", "holds 5 planes, and the channels, slices and frames in its ImageJ header are 3", 3),
        ("images=5\nslices=5\ncf=0\nc0=-3.0\nc1=0.5\nvunit=OD\n", "(a calibration of ImageJ, in OD)", 5),
    ],
)
def test_what_imagej_says_and_is_not_used_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, noise: Noise, header: str, words: str, planes: int
) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif",
        noise((5, 10, 12), "uint8"),
        metadata=None,
        description=f"ImageJ=1.54f\nunit=micron\nspacing=-2.5\n{header}",
        resolution=(4, 4),
    )
    with open_image(tmp_path / "a.tif") as source:
        assert source.shape == (planes, 1, 10, 12)
        assert source.metadata.z_spacing == 2.5  # ImageJ too takes it without its sign
    assert words in caplog.text
    assert bool(caplog.text) == bool(words)


def test_ome_metadata_without_planes_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, pixels_of: Pixels, noise: Noise
) -> None:
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" '
        'DimensionOrder="XYZCT" Type="uint8" SizeX="12" SizeY="10" SizeZ="3" SizeC="1" SizeT="1"/></Image></OME>'
    )
    array = noise((3, 10, 12), "uint8")
    tifffile.imwrite(tmp_path / "a.ome.tif", array, metadata=None, description=xml, photometric="minisblack")
    with open_image(tmp_path / "a.ome.tif") as source:
        np.testing.assert_array_equal(pixels_of(source)[:, 0], array)
    assert "its OME metadata does not say which planes the file holds, and is ignored" in caplog.text


def test_imagej_stack_described_by_its_first_page_only(tmp_path: Path, pixels_of: Pixels, noise: Noise) -> None:
    array = noise((5, 10, 12), "uint16")
    tifffile.imwrite(tmp_path / "a.tif", array, imagej=True, metadata={"axes": "ZYX"}, truncate=True)
    with open_image(tmp_path / "a.tif") as source:
        np.testing.assert_array_equal(pixels_of(source)[:, 0], array)


@pytest.mark.parametrize(
    ("resolution", "unit", "expected"),
    [
        ((10_000, 20_000), "CENTIMETER", (0.5, 1.0)),
        ((254, 254), "INCH", (100.0, 100.0)),
        ((72, 72), "INCH", None),
        ((96, 96), "INCH", None),
        ((300, 300), "NONE", None),
    ],
)
def test_resolution_tags(
    tmp_path: Path, noise: Noise, resolution: tuple[int, int], unit: str, expected: tuple[float, float] | None
) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", noise((4, 4), "uint8"), resolution=resolution, resolutionunit=unit, metadata=None
    )
    with open_image(tmp_path / "a.tif") as source:
        size = source.metadata.pixel_size
        assert size == (None if expected is None else pytest.approx(expected))
        assert source.metadata.unit == (None if expected is None else "µm")


@pytest.mark.parametrize("storage", ["plain", "zstd tiles", "deflate strips"])
def test_threads_read_the_same(tmp_path: Path, noise: Noise, storage: str) -> None:
    array = noise((45, 70), "uint16")
    tifffile.imwrite(tmp_path / "a.tif", array, metadata=None, **_STORAGE[storage])
    failures: list[int] = []

    def read_rows(source: ArraySource, start: int) -> None:
        for y in [*range(start, 45), *range(start)]:
            equal = np.array_equal(source.read(Region(y, y + 1, 3, 69))[0, 0], array[y, 3:69])
            failures.extend([] if equal else [y])

    with open_image(tmp_path / "a.tif") as source:
        threads = [Thread(target=read_rows, args=(source, start)) for start in range(0, 45, 6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []


def test_only_the_tiles_touched_are_decoded(tmp_path: Path, noise: Noise) -> None:
    array = noise((64, 64), "uint8")
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, array, tile=(16, 16), compression="zlib", metadata=None)
    with tifffile.TiffFile(path) as tif:
        page = tif.pages.first
        offset, length = page.dataoffsets[15], page.databytecounts[15]
    content = bytearray(path.read_bytes())
    content[offset : offset + length] = bytes(length)  # the last of 4 x 4 tiles is damaged
    path.write_bytes(content)
    with open_image(path) as source:
        np.testing.assert_array_equal(source.read(Region(0, 48, 0, 64))[0], array[:48])
        with pytest.raises(ImageError, match="damaged or cut short"):
            source.read(Region(47, 49, 47, 49))


def test_decoded_pieces_are_kept_up_to_a_limit(
    tmp_path: Path, noise: Noise, pixels_of: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiff_pages, "CACHE_BYTES", 600)
    array = noise((64, 64), "uint8")
    tifffile.imwrite(tmp_path / "a.tif", array, tile=(16, 16), compression="zlib", metadata=None)
    with open_image(tmp_path / "a.tif") as source:
        for _ in range(2):
            np.testing.assert_array_equal(pixels_of(source)[0], array)


@pytest.mark.parametrize("shape", [(40, 56, 2), (40, 56, 5), (40, 56, 7), (3, 40, 56, 5)])
@pytest.mark.parametrize("options", [{}, {"metadata": None}])
def test_channels_behind_rows_and_columns_that_the_file_does_not_name_are_asked_for(
    tmp_path: Path, shape: tuple[int, ...], options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, np.uint8), photometric="minisblack", **options)
    open_image(tmp_path / "a.tif").close()
    assert f"planes of 56 x {shape[-1]} pixels, as it is stored; if these are {shape[-1]} channels" in caplog.text


@pytest.mark.parametrize("shape", [(40, 56, 30), (3, 56, 5), (5, 40, 56)])
def test_planes_that_are_no_channels_are_read_without_a_word(
    tmp_path: Path, shape: tuple[int, ...], caplog: pytest.LogCaptureFixture
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, np.uint8), photometric="minisblack")
    open_image(tmp_path / "a.tif").close()
    assert caplog.text == ""
