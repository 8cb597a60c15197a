"""GeoTIFF in and out, judged by rasterio and rio-cogeo."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_pix2pix.formats import cog
from napari_pix2pix.formats.georeference import Georeference, web_mercator
from napari_pix2pix.formats.metadata import ImageMetadata
from napari_pix2pix.formats.source import open_image
from napari_pix2pix.formats.writing import OutputSpec, Tile, check_output, incompatibility, resolve_format, write_image
from pix2pix_training.array_source import ArraySource
from pix2pix_training.errors import OutputError

rasterio = pytest.importorskip("rasterio")
cogeo = pytest.importorskip("rio_cogeo.cogeo")

AnyArray = NDArray[Any]
Pixels = Callable[[ArraySource], AnyArray]
Noise = Callable[[tuple[int, ...], str], AnyArray]
Tiles = Callable[[AnyArray, int], Iterator[Tile]]

_SYSTEMS = ("EPSG:32633", "EPSG:4326", "+proj=laea +lat_0=52 +lon_0=10 +x_0=1 +y_0=2 +ellps=bessel +units=m")
_TRANSFORMS = {
    "north up": (10.0, 0.0, 500_000.3, 0.0, -20.0, 4_600_000.7),
    "rotated": (0.8, 0.6, 12.0, 0.6, -0.8, 34.0),
}
_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64")


@pytest.fixture
def geotiff(tmp_path: Path) -> Callable[..., Path]:
    """A file made by rasterio, from an array of shape (C, Y, X)."""

    def make(array: AnyArray, **options: Any) -> Path:
        path = tmp_path / "made.tif"
        count, height, width = array.shape
        usual = {"crs": _SYSTEMS[0], "transform": rasterio.Affine(*_TRANSFORMS["north up"]), "dtype": array.dtype.name}
        shape = {"count": count, "height": height, "width": width}
        with rasterio.open(path, "w", driver="GTiff", **(usual | shape | options)) as dataset:
            dataset.write(array)
        return path

    return make


def _rewritten(path: Path, out: Path, tiles_of: Tiles, pixels_of: Pixels) -> Path:
    with open_image(path) as source:
        spec = OutputSpec(
            axes=source.axes, shape=source.shape, dtype=source.dtype, metadata=source.metadata, nodata=source.nodata,
            palette=source.palette,
        )  # fmt: skip
        return write_image(out, spec, tiles_of(pixels_of(source), 200), file_format="geotiff")


def _place(path: Path) -> tuple[Any, ...]:
    with rasterio.open(path) as dataset:
        return dataset.crs, tuple(dataset.transform), dataset.nodata, dataset.tags().get("AREA_OR_POINT")


def _is_valid_cog(path: Path) -> bool:
    valid, errors, warnings = cogeo.cog_validate(path, strict=True)
    assert not errors
    assert not warnings
    return bool(valid)


@pytest.mark.parametrize("crs", _SYSTEMS)
@pytest.mark.parametrize("transform", _TRANSFORMS)
@pytest.mark.parametrize("area_or_point", ["Area", "Point"])
def test_place_is_that_of_the_input(
    tmp_path: Path, geotiff: Callable[..., Path], noise: Noise, tiles_of: Tiles, pixels_of: Pixels, crs: str,
    transform: str, area_or_point: str,
) -> None:  # fmt: skip
    path = geotiff(noise((1, 30, 40), "uint8"), crs=crs, transform=rasterio.Affine(*_TRANSFORMS[transform]), nodata=7)
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(AREA_OR_POINT=area_or_point)
    out = _rewritten(path, tmp_path / "out.tif", tiles_of, pixels_of)
    assert _place(out) == _place(path)
    assert _is_valid_cog(out)
    with open_image(out) as source, rasterio.open(path) as dataset:
        place = source.metadata.georeference
        assert place is not None
        assert place.transform == pytest.approx(tuple(dataset.transform)[:6])
        assert source.metadata.file_format == "geotiff"
        assert (place.crs_name == crs) == crs.startswith("EPSG")


@pytest.mark.parametrize("dtype", _DTYPES)
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_pixels_and_overviews(
    tmp_path: Path, noise: Noise, tiles_of: Tiles, pixels_of: Pixels, dtype: str, channels: int
) -> None:
    array = noise((channels, 530, 300), dtype)
    names = tuple(f"band {i} <µ&" for i in range(channels))
    metadata = ImageMetadata(
        rgb=channels == 3, channel_names=names, georeference=web_mercator(pixel_size_m=2, left_m=5, top_m=7)
    )
    spec = OutputSpec(axes="CYX", shape=array.shape, dtype=array.dtype, metadata=metadata)
    path = write_image(tmp_path / "a.tif", spec, tiles_of(array, 100), file_format="geotiff")
    assert _is_valid_cog(path)
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(), array)
        assert dataset.overviews(1) == [2]
        assert dataset.descriptions == names
        assert dataset.crs.to_epsg() == 3857
    with open_image(path) as source:
        np.testing.assert_array_equal(pixels_of(source), array)
        assert source.metadata.channel_names == names
        assert (source.metadata.pixel_size, source.metadata.unit) == ((2.0, 2.0), "m")


def test_bigtiff(
    tmp_path: Path, noise: Noise, tiles_of: Tiles, pixels_of: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cog, "_BIGTIFF", "YES")
    array = noise((2, 530, 300), "uint16")
    metadata = ImageMetadata(georeference=web_mercator(pixel_size_m=2, left_m=5, top_m=7))
    spec = OutputSpec(axes="CYX", shape=array.shape, dtype=array.dtype, metadata=metadata)
    path = write_image(tmp_path / "a.tif", spec, tiles_of(array, 256), file_format="geotiff")
    assert path.read_bytes()[:4] == b"II+\0"
    assert _is_valid_cog(path)
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(), array)


def test_overviews_leave_nodata_out(tmp_path: Path, tiles_of: Tiles) -> None:
    array = np.full((1, 600, 600), 100, np.int16)
    array[0, ::2, ::2] = -9999
    array[0, :100, :100] = -9999
    metadata = ImageMetadata(georeference=web_mercator(pixel_size_m=2, left_m=5, top_m=7))
    spec = OutputSpec(axes="CYX", shape=array.shape, dtype=array.dtype, metadata=metadata, nodata=-9999)
    path = write_image(tmp_path / "a.tif", spec, tiles_of(array, 256), file_format="geotiff")
    with rasterio.open(path) as dataset:
        half = dataset.read(1, out_shape=(300, 300))
    expected = np.full((300, 300), 100)
    expected[:50, :50] = -9999
    np.testing.assert_array_equal(half, expected)


def test_palette(
    tmp_path: Path, geotiff: Callable[..., Path], noise: Noise, tiles_of: Tiles, pixels_of: Pixels
) -> None:
    path = geotiff(noise((1, 30, 40), "uint8") % 4)
    colours = {0: (0, 0, 0, 255), 1: (255, 0, 0, 255), 2: (0, 255, 9, 255), 3: (1, 2, 3, 255)}
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, colours)
    out = _rewritten(path, tmp_path / "out.tif", tiles_of, pixels_of)
    with rasterio.open(out) as dataset:
        written = dataset.colormap(1)
    assert {index: written[index] for index in colours} == colours


@pytest.mark.parametrize("file_format", ["tiff", "ome-tiff"])
def test_other_tiffs_keep_the_place_too(
    tmp_path: Path, geotiff: Callable[..., Path], noise: Noise, tiles_of: Tiles, file_format: str
) -> None:
    path = geotiff(noise((1, 30, 40), "uint8"), nodata=9)
    with open_image(path) as source:
        spec = OutputSpec(axes="CYX", shape=(2, 30, 40), dtype=source.dtype, metadata=source.metadata, nodata=9)
    out = write_image(tmp_path / "a.tif", spec, tiles_of(noise((2, 30, 40), "uint8"), 64), file_format=file_format)
    assert _place(out) == _place(path)
    with open_image(out) as source:
        assert source.metadata.georeference == spec.metadata.georeference


def test_same_format_and_refusals(
    tmp_path: Path, geotiff: Callable[..., Path], noise: Noise, caplog: pytest.LogCaptureFixture
) -> None:
    with open_image(geotiff(noise((1, 30, 40), "uint8"))) as source:
        assert resolve_format(tmp_path / "a.tif", "same", source) == "geotiff"
        assert resolve_format(tmp_path / "a.png", "same", source) == "png"
        metadata = source.metadata
    placeless = OutputSpec(axes="CYX", shape=(1, 3, 4), dtype=np.dtype("u1"), metadata=ImageMetadata())
    with pytest.raises(OutputError, match="no georeference"):
        check_output(tmp_path / "b.tif", placeless, file_format="geotiff", overwrite=False)
    stack = OutputSpec(axes="ZCYX", shape=(2, 1, 3, 4), dtype=np.dtype("u1"), metadata=metadata)
    assert "single plane" in (incompatibility(stack, "geotiff") or "")
    for bands, refused in ((4096, False), (4097, True)):  # no more are read
        spec = OutputSpec(axes="CYX", shape=(bands, 3, 4), dtype=np.dtype("u1"), metadata=metadata)
        assert (incompatibility(spec, "geotiff") is not None) is refused
    with caplog.at_level(logging.WARNING):
        assert check_output(tmp_path / "b.tif", stack, file_format="geotiff", overwrite=False) == "tiff"
    assert "single plane" in caplog.text


def test_part_of_a_place() -> None:
    place = web_mercator(pixel_size_m=2, left_m=100, top_m=50)
    assert place.moved(3, -4).transform == (2, 0, 92, 0, -2, 44)
    turned = Georeference(transform=_TRANSFORMS["rotated"])
    a, b, c, d, e, f = _TRANSFORMS["rotated"]
    assert turned.moved(5, 7).transform == pytest.approx((a, b, c + 7 * a + 5 * b, d, e, f + 7 * d + 5 * e))


def test_damaged_tags_leave_a_plain_image(tmp_path: Path, noise: Noise, pixels_of: Pixels) -> None:
    import tifffile

    array = noise((30, 40), "uint8")
    tags = [(34735, "H", 3, (1, 1, 0), False), (42112, "s", 0, "<GDALMetadata", False), (42113, "s", 0, "none", False)]
    tifffile.imwrite(tmp_path / "a.tif", array, extratags=tags)
    with open_image(tmp_path / "a.tif") as source:
        assert (source.metadata.georeference, source.metadata.file_format, source.nodata) == (None, "tiff", None)
        np.testing.assert_array_equal(pixels_of(source)[0], array)
