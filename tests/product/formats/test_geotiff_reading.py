"""What GeoTIFFs say of pixels beside their values: alpha wherever it stands, masks with nodata, scales, damage."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin

from napari_pix2pix.evaluation import evaluate_pairs
from napari_pix2pix.formats import ImageMetadata, OutputSpec, open_image, write_image
from napari_pix2pix.formats.georeference import web_mercator
from napari_pix2pix.formats.pairing import pairs_from_paths
from pix2pix_training.array_source import whole_plane
from pix2pix_training.errors import ImageError
from pix2pix_training.regions import Region

AnyArray = NDArray[Any]

_PLACE = {"crs": "EPSG:32633", "transform": from_origin(5e5, 4.2e6, 2, 2)}


def _noise(*shape: int) -> AnyArray:
    return np.random.default_rng(0).integers(1, 200, shape, np.uint8)


def _geotiff(path: Path, bands: AnyArray, mask: AnyArray | None = None, **options: Any) -> Path:
    count, height, width = bands.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": bands.dtype.name, **_PLACE}
    kinds = options.pop("colorinterp", None)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **(profile | options)) as dataset:
        dataset.write(bands)
        if kinds is not None:
            dataset.colorinterp = kinds
        if mask is not None:
            dataset.write_mask(mask)
    return path


def _alpha_second(path: Path, bands: AnyArray, kind: str) -> Path:
    if kind == "geotiff":
        return _geotiff(path, bands, colorinterp=[ColorInterp.gray, ColorInterp.alpha, *[ColorInterp.undefined] * 2])
    pixels = np.moveaxis(bands, 0, -1)
    options: dict[str, Any] = {"planarconfig": "contig", "extrasamples": [2, 0, 0], "metadata": None}
    tifffile.imwrite(path, pixels, photometric="minisblack", **options)
    return path


@pytest.mark.parametrize("kind", ["geotiff", "tiff"])
def test_alpha_that_is_not_the_last_sample(tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    bands = _noise(4, 30, 40)
    bands[1] = 255
    bands[1, :7] = 0
    with open_image(_alpha_second(tmp_path / "a.tif", bands, kind)) as image:
        pixels, opacity = image.read_with_opacity(whole_plane(image))
    assert not image.metadata.rgb
    np.testing.assert_array_equal(pixels, bands[[0, 2, 3]])
    np.testing.assert_array_equal(opacity, bands[1])
    assert "sample 2 of 4 is declared as alpha and becomes the last channel" in caplog.text


def test_a_mask_and_a_nodata_value_both_count(tmp_path: Path) -> None:
    band, mask = _noise(1, 30, 40), np.full((30, 40), 255, np.uint8)
    mask[:, :5] = 0
    sources, targets = _geotiff(tmp_path / "a.tif", band, mask, nodata=0), _geotiff(tmp_path / "b.tif", band)
    band[0, 3] = 0
    band[0, 10:, :5] += 50  # beneath the mask
    _geotiff(sources, band, mask, nodata=0)
    with open_image(sources) as image:
        _, opacity = image.read_with_opacity(whole_plane(image))
        assert image.nodata == 0
    np.testing.assert_array_equal(opacity, mask)
    assert evaluate_pairs(pairs_from_paths([sources], [targets])).mean.mae == 0


def test_every_scale_of_the_bands_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = _geotiff(tmp_path / "a.tif", _noise(2, 30, 40))
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (1.0, 0.1), (0.0, -5.0)
    open_image(path).close()
    assert (
        "other quantities (scale 1, offset 0; scale 0.1, offset -5); they are taken as they are stored" in caplog.text
    )


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="needs file names that are no text")
def test_names_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"a\xff.tif")
    _geotiff(tmp_path / "a.tif", _noise(1, 30, 40)).rename(path)
    with pytest.raises(ImageError, match="this name is not UTF-8, which GDAL needs of GeoTIFFs; rename the file"):
        open_image(path)
    metadata = ImageMetadata(georeference=web_mercator(pixel_size_m=2, left_m=5, top_m=7))
    spec = OutputSpec(axes="CYX", shape=(1, 30, 40), dtype=np.dtype(np.uint8), metadata=metadata)
    with pytest.raises(ImageError, match="this name is not UTF-8"):
        write_image(path, spec, iter([]), file_format="geotiff", overwrite=True)


@pytest.mark.parametrize("seed", range(6))
def test_damage_is_one_error_and_nothing_else_on_stderr(
    tmp_path: Path, seed: int, capfd: pytest.CaptureFixture[str]
) -> None:
    path = _geotiff(tmp_path / "a.tif", _noise(1, 300, 300), compress="deflate", tiled=True)
    content = bytearray(path.read_bytes())
    start = len(content) // 2 if seed == 0 else 8 + 40 * seed
    content[start : start + 300] = b"\x55" * 300
    path.write_bytes(content)
    with pytest.raises(ImageError) as error, open_image(path) as image:
        image.read(Region(0, 300, 0, 300))
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""


def test_overviews_leave_nan_out(tmp_path: Path) -> None:
    array = np.full((1, 600, 600), 100, np.float32)
    array[0, ::2, ::2] = np.nan
    array[0, :100, :100] = np.nan
    metadata = ImageMetadata(georeference=web_mercator(pixel_size_m=2, left_m=5, top_m=7))
    spec = OutputSpec(axes="CYX", shape=array.shape, dtype=array.dtype, metadata=metadata)
    tiles = iter([((), Region(0, 600, 0, 600), array)])
    path = write_image(tmp_path / "a.tif", spec, tiles, file_format="geotiff")
    with rasterio.open(path, overview_level=0) as dataset:
        half = dataset.read(1)
    expected = np.full((300, 300), 100, np.float32)
    expected[:50, :50] = np.nan
    np.testing.assert_array_equal(half, expected)


def test_a_file_of_very_many_bands_is_refused_at_once(tmp_path: Path) -> None:
    profile: dict[str, Any] = {"driver": "GTiff", "width": 2, "height": 2, "count": 4097, "dtype": "uint8"}
    with rasterio.open(tmp_path / "a.tif", "w", crs="EPSG:32632", transform=from_origin(5e5, 5e6, 1, 1), **profile):
        pass
    with pytest.raises(ImageError, match="declares 4097 bands; GeoTIFFs of at most 4096 are read"):
        open_image(tmp_path / "a.tif")
