"""Pixels without data, from files to files: never seen by the network, and marked again as the output can."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
from numpy.typing import NDArray
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.enums import MaskFlags
from rasterio.transform import from_origin

from napari_pix2pix.cli.application import run
from napari_pix2pix.formats import open_image
from napari_pix2pix.translation.batch import jobs_for, translate_batch
from napari_pix2pix.translation.pipeline import translate_file
from napari_pix2pix.translation.progress import ended
from napari_pix2pix.translation.settings import TranslationSettings
from napari_pix2pix.translation.translator import Translator
from pix2pix_training.array_source import whole_plane
from pix2pix_training.errors import ImageError, NoValidPixelError, Pix2PixError
from pix2pix_training.model_file import save_model
from tests.identity_model import identity_model

AnyArray = NDArray[Any]

_PLACE = {"crs": "EPSG:32633", "transform": from_origin(5e5, 4.2e6, 2, 2)}
_SIZE = (300, 340)  # more than a tile of the written file


@pytest.fixture
def valid() -> AnyArray:
    valid = np.ones(_SIZE, bool)
    valid[:70] = False
    valid[200:210, 100:290] = False
    return valid


def _noise(channels: int, dtype: str = "uint8") -> AnyArray:
    low, high = (1, 200) if dtype != "uint16" else (1, 60_000)
    return np.random.default_rng(0).integers(low, high, (channels, *_SIZE)).astype(dtype)


def _geotiff(
    path: Path, bands: AnyArray, mask: AnyArray | None = None, *, internal: bool = True, **options: Any
) -> Path:
    profile = {
        "driver": "GTiff", "count": len(bands), "height": bands.shape[1], "width": bands.shape[2],
        "dtype": bands.dtype.name, **_PLACE,
    }  # fmt: skip
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal), rasterio.open(path, "w", **(profile | options)) as dataset:
        dataset.write(bands)
        if mask is not None:
            dataset.write_mask(mask)
    return path


def _translated(path: Path, out: Path, channels: int, dtype: str = "uint8", **settings: Any) -> Path:
    ends = (0.0, 1.0) if dtype == "float32" else None
    model = identity_model(dtype, channels=channels, ends=ends)
    translate_file(path, model, out, TranslationSettings(scheme="exact", tile=128, **settings))
    return out


def _valid_in(path: Path) -> AnyArray:
    with rasterio.open(path) as dataset:
        mask: AnyArray = dataset.dataset_mask() > 0
    return mask


@pytest.mark.parametrize(("channels", "dtype"), [(3, "uint8"), (1, "uint8"), (3, "uint16")])
def test_alpha_of_a_geotiff_hides_pixels_in_the_output(
    tmp_path: Path, valid: AnyArray, channels: int, dtype: str
) -> None:
    colours = _noise(channels, dtype)
    colours[:, ~valid] = 0
    alpha = np.where(valid, np.iinfo(dtype).max, 0).astype(dtype)[None]
    photometric = "RGB" if channels == 3 else "MINISBLACK"
    path = _geotiff(tmp_path / "i.tif", np.concatenate([colours, alpha]), photometric=photometric, ALPHA="YES")
    out = _translated(path, tmp_path / "o.tif", channels, dtype)
    np.testing.assert_array_equal(_valid_in(out), valid)
    with rasterio.open(out) as dataset:
        assert dataset.colorinterp[-1].name == "alpha"
        np.testing.assert_array_equal(dataset.read()[:channels, valid], colours[:, valid])


@pytest.mark.parametrize("internal", [True, False])
@pytest.mark.parametrize(("channels", "dtype"), [(3, "uint8"), (1, "uint8"), (5, "uint16"), (4, "uint8"), (2, "int16")])
def test_mask_within_and_beside_a_geotiff_is_one_within_the_output(
    tmp_path: Path, valid: AnyArray, channels: int, dtype: str, internal: bool
) -> None:
    bands = _noise(channels, dtype)
    path = _geotiff(tmp_path / "i.tif", bands, valid, internal=internal, photometric="MINISBLACK")
    assert (tmp_path / "i.tif.msk").exists() != internal
    out = _translated(path, tmp_path / "o.tif", channels, dtype)
    np.testing.assert_array_equal(_valid_in(out), valid)
    with rasterio.open(out) as dataset:
        assert dataset.mask_flag_enums[0] == [MaskFlags.per_dataset]
        np.testing.assert_array_equal(dataset.read()[:, valid], bands[:, valid])
        assert dataset.count == channels


def test_masks_that_differ_from_band_to_band_leave_what_is_valid_in_all(tmp_path: Path, valid: AnyArray) -> None:
    path = _geotiff(tmp_path / "i.tif", _noise(2), photometric="MINISBLACK")
    masks = np.where(np.stack([valid, valid[:, ::-1]]), 255, 0).astype(np.uint8)
    with rasterio.open(
        tmp_path / "i.tif.msk", "w", driver="GTiff", count=2, height=_SIZE[0], width=_SIZE[1], dtype="uint8"
    ) as dataset:
        dataset.write(masks)
        dataset.update_tags(INTERNAL_MASK_FLAGS_1=0, INTERNAL_MASK_FLAGS_2=0)
    out = _translated(path, tmp_path / "o.tif", 2)
    np.testing.assert_array_equal(_valid_in(out), valid & valid[:, ::-1])


def test_nodata_that_differs_from_band_to_band(tmp_path: Path) -> None:
    bands = _noise(2)
    bands[0, :50], bands[1, :, :40] = 250, 251
    path = _geotiff(tmp_path / "i.tif", bands, photometric="MINISBLACK")
    (tmp_path / "i.tif.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><NoDataValue>250</NoDataValue></PAMRasterBand>'
        '<PAMRasterBand band="2"><NoDataValue>251</NoDataValue></PAMRasterBand></PAMDataset>'
    )
    out = _translated(path, tmp_path / "o.tif", 2)
    expected = np.ones(_SIZE, bool)
    expected[:50] = expected[:, :40] = False
    np.testing.assert_array_equal(_valid_in(out), expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_png_stays_transparent(tmp_path: Path, valid: AnyArray, mode: str) -> None:
    colours = _noise(len(mode) - 1)
    alpha = np.where(valid, 255, 0).astype(np.uint8)
    alpha[150] = 99  # half transparent is shown
    Image.fromarray(np.dstack([*colours, alpha])).save(tmp_path / "i.png")
    out = _translated(tmp_path / "i.png", tmp_path / "o.png", len(mode) - 1)
    with Image.open(out) as image:
        assert image.mode == mode
        written = np.moveaxis(np.asarray(image), -1, 0)
    np.testing.assert_array_equal(written[-1], alpha)
    np.testing.assert_array_equal(written[:-1, valid], colours[:, valid])


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_a_transparent_colour_of_a_png_hides_pixels(tmp_path: Path, valid: AnyArray, mode: str) -> None:
    grey = np.where(valid, _noise(1)[0] % 7, 9).astype(np.uint8)
    image = Image.fromarray(np.dstack([grey] * 3) if mode == "RGB" else grey)
    if mode == "P":
        image = Image.fromarray(grey, "P")
        image.putpalette([value for i in range(10) for value in (i * 20, 255 - i * 20, 7)])
    image.save(tmp_path / "i.png", transparency=(9, 9, 9) if mode == "RGB" else 9)
    out = _translated(tmp_path / "i.png", tmp_path / "o.png", 3 if mode == "RGB" else 1)
    with Image.open(out) as written:
        np.testing.assert_array_equal(np.asarray(written.convert("RGBA"))[..., 3] > 0, valid)


def test_rgba_tiff_without_a_place_stays_rgba(tmp_path: Path, valid: AnyArray) -> None:
    colours, alpha = _noise(3), np.where(valid, 255, 0).astype(np.uint8)
    tifffile.imwrite(
        tmp_path / "i.tif", np.dstack([*colours, alpha]), photometric="rgb", extrasamples=["unassalpha"], metadata=None
    )
    out = _translated(tmp_path / "i.tif", tmp_path / "o.tif", 3)
    with tifffile.TiffFile(out) as tif:
        assert tif.pages.first.shape == (*_SIZE, 4)
        assert tif.pages.first.extrasamples == (2,)
        np.testing.assert_array_equal(tif.asarray()[..., 3], alpha)
    with open_image(out) as image:
        assert (image.metadata.file_format, image.masked, image.shape) == ("tiff", True, (3, *_SIZE))


@pytest.mark.parametrize(
    ("suffix", "marked"), [(".jpg", False), (".ome.tif", False), (".ome.zarr", False), (".png", True)]
)
def test_an_output_that_cannot_mark_pixels_is_told_of(
    tmp_path: Path, valid: AnyArray, caplog: pytest.LogCaptureFixture, suffix: str, marked: bool
) -> None:
    Image.fromarray(np.dstack([*_noise(3), np.where(valid, 255, 0).astype(np.uint8)])).save(tmp_path / "i.png")
    with caplog.at_level(logging.WARNING):
        out = _translated(tmp_path / "i.png", tmp_path / f"o{suffix}", 3)
    assert ("hold no data are 0 in the output" in caplog.text) == (not marked)
    if suffix != ".jpg":
        with open_image(out) as image:
            assert (image.read(whole_plane(image))[:, ~valid] == 0).all()


def test_opaque_alpha_says_nothing_and_png_loses_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.fromarray(np.dstack([*_noise(3), np.full(_SIZE, 255, np.uint8)])).save(tmp_path / "i.png")
    with caplog.at_level(logging.WARNING):
        _translated(tmp_path / "i.png", tmp_path / "o.png", 3)
        assert caplog.text == ""
        _translated(tmp_path / "i.png", tmp_path / "o.jpg", 3)
    (message,) = caplog.messages
    assert message.startswith("JPEG changes values")


def test_reals_are_nan_where_a_mask_hides_them(tmp_path: Path, valid: AnyArray) -> None:
    bands = (_noise(1) / 255).astype(np.float32)
    out = _translated(_geotiff(tmp_path / "i.tif", bands, valid), tmp_path / "o.tif", 1, "float32")
    with rasterio.open(out) as dataset:
        assert np.isnan(dataset.nodata)
        np.testing.assert_array_equal(np.isnan(dataset.read(1)), ~valid)
    np.testing.assert_array_equal(_valid_in(out), valid)


def test_fills_and_statistics_do_not_see_what_is_hidden(tmp_path: Path, valid: AnyArray) -> None:
    """The same output whatever stands beneath the mask, with statistics of the whole image too."""
    outputs = []
    for hidden in (0, 255):
        bands = _noise(1)
        bands[:, ~valid] = hidden
        path = _geotiff(tmp_path / f"{hidden}.tif", bands, valid)
        model = identity_model("uint8", scope="image")
        translate_file(path, model, tmp_path / f"o{hidden}.tif", TranslationSettings(scheme="whole"))
        with rasterio.open(tmp_path / f"o{hidden}.tif") as dataset:
            outputs.append(dataset.read(1)[valid])
    np.testing.assert_array_equal(*outputs)


def test_the_fourth_band_that_rasterio_declares_as_alpha_is_data(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bands = _noise(4)
    path = _geotiff(tmp_path / "i.tif", bands)
    with rasterio.open(path) as dataset:
        assert dataset.colorinterp[3].name == "alpha"
    with caplog.at_level(logging.WARNING):
        out = _translated(path, tmp_path / "o.tif", 4)
    assert "channel 4 is declared as alpha, but its values do not look like a mask" in caplog.text
    with rasterio.open(out) as dataset:
        np.testing.assert_array_equal(dataset.read(), bands)
        assert dataset.dataset_mask().all()


@pytest.mark.parametrize(
    ("choice", "channels", "masked"), [("keep", 4, False), ("mask", 3, True), ("drop", 3, False), ("auto", 3, True)]
)
@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_alpha_is_what_is_asked_for(
    tmp_path: Path, valid: AnyArray, choice: str, channels: int, masked: bool, suffix: str
) -> None:
    bands = np.concatenate([_noise(3), np.where(valid, 255, 0).astype(np.uint8)[None]])
    if suffix == ".png":
        Image.fromarray(np.moveaxis(bands, 0, -1)).save(tmp_path / "i.png")
    else:
        _geotiff(tmp_path / "i.tif", bands, photometric="RGB", ALPHA="YES")
    out = _translated(tmp_path / f"i{suffix}", tmp_path / "o.tif", channels, alpha=choice)
    with open_image(out, alpha="mask" if masked else "keep") as image:
        pixels, opacity = image.read_with_opacity(whole_plane(image))
    assert len(pixels) == channels
    np.testing.assert_array_equal(pixels[:, valid], bands[:channels, valid])
    np.testing.assert_array_equal(np.ones(_SIZE, bool) if opacity is None else opacity > 0, valid | (not masked))


@pytest.mark.parametrize(("choice", "channels", "masked"), [("keep", 4, False), ("mask", 3, True), ("drop", 3, False)])
def test_alpha_is_an_option_of_the_command(
    tmp_path: Path, valid: AnyArray, choice: str, channels: int, masked: bool
) -> None:
    bands = np.concatenate([_noise(3), np.where(valid, 255, 0).astype(np.uint8)[None]])
    path = _geotiff(tmp_path / "i.tif", bands, photometric="RGB", ALPHA="YES")
    model, out = tmp_path / "model.safetensors", tmp_path / "o.tif"
    save_model(identity_model("uint8", channels=channels), model)
    assert run(["translate", str(path), "--model", str(model), "--out", str(out), "--alpha", choice]) == 0
    np.testing.assert_array_equal(_valid_in(out), valid | (not masked))
    with rasterio.open(out) as dataset:
        assert dataset.count == channels + masked
        np.testing.assert_array_equal(dataset.read()[:channels, valid], bands[:channels, valid])


@pytest.mark.parametrize(
    ("count", "photometric", "alpha", "channels"),
    [
        (2, "MINISBLACK", "YES", 2),
        (2, "MINISBLACK", "NO", 2),
        (4, "CMYK", "NO", 4),
        (5, "RGB", "NO", 5),
        (5, "CMYK", "YES", 5),
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_bands_of_data_are_channels_however_they_are_declared(
    tmp_path: Path, count: int, photometric: str, alpha: str, channels: int, dtype: str
) -> None:
    if photometric == "CMYK" and dtype == "uint16":
        pytest.skip("GDAL writes CMYK of 8 bits only")
    path = _geotiff(tmp_path / "i.tif", _noise(count, dtype), photometric=photometric, ALPHA=alpha)
    with open_image(path) as image:
        assert (image.shape[0], image.masked) == (channels, False)


def test_an_empty_tile_of_a_folder_is_written_without_data(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "in").mkdir()
    _geotiff(tmp_path / "in" / "land.tif", _noise(1), nodata=0)
    _geotiff(tmp_path / "in" / "sea.tif", np.zeros((1, *_SIZE), np.uint8), nodata=0)
    model = Translator(identity_model(), TranslationSettings(scheme="exact", tile=128))
    jobs = jobs_for([tmp_path / "in"], tmp_path / "out", file_format="same")
    with caplog.at_level(logging.WARNING):
        report = ended(translate_batch(jobs, model, file_format="same", overwrite=False))
    assert [path.name for path in report.outputs] == ["land.tif", "sea.tif"]
    assert "sea.tif holds no valid pixel, and its output holds none" in caplog.text
    assert not _valid_in(tmp_path / "out" / "sea.tif").any()
    assert _valid_in(tmp_path / "out" / "land.tif").all()


@pytest.mark.parametrize("kind", ["alpha", "mask", "nan", "per image"])
def test_empty_tiles_of_every_kind(tmp_path: Path, kind: str) -> None:
    (tmp_path / "in").mkdir()
    empty = tmp_path / "in" / "empty.tif"
    dtype = "float32" if kind == "nan" else "uint8"
    if kind == "alpha":
        alpha = np.zeros((1, *_SIZE), np.uint8)
        _geotiff(empty, np.concatenate([_noise(1), alpha]), photometric="MINISBLACK", ALPHA="YES")
    elif kind == "nan":
        _geotiff(empty, np.full((1, *_SIZE), np.nan, np.float32))
    else:
        _geotiff(empty, _noise(1), np.zeros(_SIZE, bool))
    _geotiff(tmp_path / "in" / "full.tif", (_noise(1) / 255).astype(dtype) if kind == "nan" else _noise(1))
    model = identity_model(
        dtype, scope="image" if kind == "per image" else "training-set", ends=(0, 1) if kind == "nan" else None
    )
    jobs = jobs_for([tmp_path / "in"], tmp_path / "out", file_format="same")
    report = ended(translate_batch(jobs, Translator(model), file_format="same", overwrite=False))
    assert len(report.outputs) == 2
    assert not _valid_in(tmp_path / "out" / "empty.tif").any()


def test_the_only_image_without_a_valid_pixel_is_an_error(tmp_path: Path) -> None:
    path = _geotiff(tmp_path / "i.tif", np.zeros((1, *_SIZE), np.uint8), nodata=0)
    with pytest.raises(NoValidPixelError, match=r"i\.tif: not one valid pixel"):
        _translated(path, tmp_path / "o.tif", 1)
    assert not (tmp_path / "o.tif").exists()


def test_a_stack_without_a_valid_pixel_is_an_error_before_a_plane_is_written(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "i.tif", np.full((3, *_SIZE), np.nan, np.float32), metadata={"axes": "ZYX"})
    with pytest.raises(Pix2PixError, match=r"i\.tif: not one valid pixel"):
        _translated(tmp_path / "i.tif", tmp_path / "o.tif", 1, "float32")
    assert [path.name for path in tmp_path.iterdir()] == ["i.tif"]


def test_an_empty_plane_of_a_stack_is_written_without_data(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stack = np.stack([_noise(1)[0] / 255, np.full(_SIZE, np.nan), _noise(1)[0] / 255]).astype(np.float32)
    tifffile.imwrite(tmp_path / "i.tif", stack, metadata={"axes": "ZYX"})
    with caplog.at_level(logging.WARNING):
        out = _translated(tmp_path / "i.tif", tmp_path / "o.tif", 1, "float32")
    written = tifffile.imread(out)
    np.testing.assert_array_equal(np.isnan(written), np.isnan(stack))
    assert "(plane 1) holds no valid pixel" in caplog.text


def test_rescaled_images_keep_what_is_hidden(tmp_path: Path, valid: AnyArray) -> None:
    path = _geotiff(tmp_path / "i.tif", _noise(1), valid)
    model = identity_model(pixel_size=(4.0, 4.0), unit="m")
    translate_file(path, model, tmp_path / "o.tif", TranslationSettings(match_pixel_size=True))
    np.testing.assert_array_equal(_valid_in(tmp_path / "o.tif"), valid)


@pytest.mark.parametrize(
    ("dtype", "text"),
    [
        ("uint8", "-9999"),
        ("uint8", "nan"),
        ("uint8", "300"),
        ("uint8", "3.5"),
        ("float32", "1e39"),
        ("uint16", "none"),
        ("int16", ""),
    ],
)
def test_nodata_that_the_type_cannot_hold_changes_no_pixel(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, dtype: str, text: str
) -> None:
    pixels = (_noise(1)[0] - 1).astype(dtype) if dtype != "float32" else (_noise(1)[0] / 256).astype(dtype)
    tags = [(42113, "s", 0, text, True), (33550, "d", 3, (2.0, 2.0, 0.0), True), (33922, "d", 6, (0.0,) * 6, True)]
    tifffile.imwrite(tmp_path / "i.tif", pixels, extratags=tags, metadata=None)
    with caplog.at_level(logging.WARNING):
        out = _translated(tmp_path / "i.tif", tmp_path / "o.tif", 1, dtype)
    with rasterio.open(out) as dataset:
        np.testing.assert_array_equal(dataset.read(1), pixels)
        assert dataset.nodata is None
    assert ("which pixels of" in caplog.text) == (text != "")


def test_nodata_that_the_output_cannot_hold_becomes_a_mask(tmp_path: Path, valid: AnyArray) -> None:
    bands = _noise(1, "int16")
    bands[:, ~valid] = -9999
    path = _geotiff(tmp_path / "i.tif", bands, nodata=-9999)
    model = identity_model("int16", ends=(0.0, 200.0))
    target = identity_model("uint8", ends=(0.0, 200.0)).target
    translate_file(path, replace(model, target=target), tmp_path / "o.tif")
    with rasterio.open(tmp_path / "o.tif") as dataset:
        assert (dataset.nodata, dataset.dtypes[0]) == (None, "uint8")
        np.testing.assert_array_equal(dataset.read(1)[valid], bands[0, valid])
    np.testing.assert_array_equal(_valid_in(tmp_path / "o.tif"), valid)


@pytest.mark.parametrize("nodata", [0, None])
@pytest.mark.parametrize("bigtiff", ["YES", "NO"])
@pytest.mark.parametrize("tiled", [True, False])
def test_sparse_files_read_as_nodata_or_zero(tmp_path: Path, nodata: float | None, bigtiff: str, tiled: bool) -> None:
    options = {"blockxsize": 64, "blockysize": 64} if tiled else {"blockysize": 16}
    path = tmp_path / "i.tif"
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=200, width=200, dtype="uint8", nodata=nodata, tiled=tiled,
        SPARSE_OK=True, compress="deflate", BIGTIFF=bigtiff, **_PLACE, **options,
    ) as dataset:  # fmt: skip
        part = _noise(1)[:, :64, :200]
        dataset.write(part, window=((0, 64), (0, 200)))
    with tifffile.TiffFile(path) as tif:
        assert 0 in tif.pages.first.databytecounts
    out = _translated(path, tmp_path / "o.tif", 1)
    with rasterio.open(out) as dataset:
        np.testing.assert_array_equal(dataset.read()[:, :64], part)
        assert (dataset.read()[:, 64:] == 0).all()
        np.testing.assert_array_equal(dataset.dataset_mask()[64:] > 0, np.full((136, 200), nodata is None))


def _world_file(image: Path, suffix: str) -> None:
    image.with_suffix(suffix).write_text("2\n0\n0\n-2\n500001\n4199999\n")


@pytest.mark.parametrize(
    ("name", "world"), [("w.tif", ".tfw"), ("w.tif", ".wld"), ("w.png", ".pgw"), ("w.jpg", ".jgw"), ("w.tif", ".TFW")]
)
@pytest.mark.parametrize("with_prj", [False, True])
def test_world_files_give_the_place(tmp_path: Path, name: str, world: str, with_prj: bool) -> None:
    Image.fromarray(_noise(1)[0]).save(tmp_path / name)
    _world_file(tmp_path / name, world)
    if with_prj:
        (tmp_path / "w.prj").write_text(rasterio.crs.CRS.from_epsg(32633).to_wkt(morph_to_esri_dialect=True))
    out = _translated(tmp_path / name, tmp_path / "o.tif", 1)
    with rasterio.open(out) as dataset:
        assert dataset.transform == from_origin(5e5, 4.2e6, 2, 2)
        assert dataset.crs == (rasterio.crs.CRS.from_epsg(32633) if with_prj else None)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".ome.zarr"])
def test_a_place_that_the_output_cannot_hold_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str
) -> None:
    path = _geotiff(tmp_path / "i.tif", _noise(1))
    with caplog.at_level(logging.WARNING):
        _translated(path, tmp_path / f"o{suffix}", 1)
    assert "where on the Earth the image lies" in caplog.text


def test_control_points_and_polynomials_are_kept(tmp_path: Path) -> None:
    points = [GroundControlPoint(row=r, col=c, x=10 + c / 9, y=50 - r / 9, z=0) for r in (0, 99) for c in (0, 50)]
    path = _geotiff(tmp_path / "i.tif", _noise(1), crs=None, transform=None)
    with rasterio.open(path, "r+") as dataset:
        dataset.gcps = (points, rasterio.crs.CRS.from_epsg(4326))
    out = _translated(path, tmp_path / "o.tif", 1)
    with rasterio.open(out) as dataset:
        written, crs = dataset.gcps
    assert crs == rasterio.crs.CRS.from_epsg(4326)
    assert [(p.row, p.col, p.x, p.y) for p in written] == [(p.row, p.col, p.x, p.y) for p in points]


def test_names_of_bands_are_names_of_channels(tmp_path: Path) -> None:
    path = _geotiff(tmp_path / "i.tif", _noise(4), photometric="MINISBLACK")
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = ("blue", "green", "red", "near infrared")
    with open_image(path) as image:
        assert image.metadata.channel_names == ("blue", "green", "red", "near infrared")


def test_a_damaged_block_of_a_geotiff_is_one_line(tmp_path: Path) -> None:
    path = _geotiff(tmp_path / "i.tif", _noise(1), compress="deflate", tiled=True, blockxsize=64, blockysize=64)
    content = bytearray(path.read_bytes())
    content[-4000:] = b"\xff" * 4000
    path.write_bytes(bytes(content))
    with pytest.raises(ImageError, match=r"i\.tif cannot be read, it may be damaged"):
        _translated(path, tmp_path / "o.tif", 1)


@pytest.mark.parametrize(
    ("nodata", "dtype", "by_itself"),
    [(-9999, "int16", True), (-3.4028234663852886e38, "float32", True), (1e20, "float32", True), (0, "uint8", False)],
)
def test_nodata_in_one_band_is_no_value_unless_it_can_be_a_colour(
    tmp_path: Path, nodata: float, dtype: str, by_itself: bool
) -> None:
    bands = _noise(2).astype(dtype)
    bands[:, :70] = nodata
    bands[1, 200:210, 100:290] = nodata
    source = _geotiff(tmp_path / "in.tif", bands, nodata=nodata)
    translator = Translator(identity_model(dtype, channels=2, ends=(0, 255)), TranslationSettings())
    report = translate_file((source,), translator, tmp_path / "out.tif")
    expected = bands.copy()
    if by_itself:
        expected[:, 200:210, 100:290] = nodata
    else:  # valid, so that it is kept off the value
        expected[1, 200:210, 100:290] = nodata + 1
    with rasterio.open(tmp_path / "out.tif") as dataset:
        np.testing.assert_allclose(dataset.read(), expected, rtol=1e-6)
        assert dataset.nodata == pytest.approx(nodata)
    assert report.clipped_share == (0, 0)
