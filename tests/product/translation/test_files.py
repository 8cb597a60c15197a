"""Files in, files out, read back from disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_pix2pix.formats import describe_image, open_image
from napari_pix2pix.formats.georeference import GDAL_NODATA, georeference_tags, web_mercator
from napari_pix2pix.translation.batch import Job, jobs_for, translate_batch
from napari_pix2pix.translation.pipeline import translate_array, translate_file
from napari_pix2pix.translation.progress import ended
from napari_pix2pix.translation.settings import TranslationSettings
from napari_pix2pix.translation.translator import Translator
from pix2pix_training.array_source import MemorySource
from pix2pix_training.errors import ImageError, OutputError
from pix2pix_training.image_description import ImageDescription
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.intensity import CategoryMapping
from pix2pix_training.model_file import Model
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.regions import Region
from tests.identity_model import identity_model
from tests.product.translation.conftest import random_image, random_model

EXACT = TranslationSettings(scheme="exact", tile=64)


@pytest.fixture
def model() -> Model:
    model = random_model(
        GeneratorConfig(base_width=3, depth=3, source_channels=1, target_channels=2), InferenceConfig()
    )
    return replace(model, target=replace(model.target, channel_names=("nuclei", "membrane")))


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    path = tmp_path / "stack.ome.tif"
    pixels = np.stack([random_image(1, 150, 110, seed=z)[0] for z in range(3)])
    metadata = {"axes": "ZYX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0}
    units = {f"PhysicalSize{axis}Unit": "µm" for axis in "XYZ"}
    tifffile.imwrite(path, pixels, metadata={**metadata, **units})
    return path


def test_pixels_and_metadata_arrive(stack: Path, model: Model, tmp_path: Path) -> None:
    out = tmp_path / "out.ome.tif"
    report = translate_file(stack, model, out, EXACT)
    with open_image(out) as written, open_image(stack) as source:
        assert (written.axes, written.shape, written.dtype.name) == ("ZCYX", (3, 2, 150, 110), "uint8")
        assert written.metadata.channel_names == ("nuclei", "membrane")
        for name in ("pixel_size", "z_spacing", "unit"):
            assert getattr(written.metadata, name) == getattr(source.metadata, name)
        whole = Region(0, 150, 0, 110)
        expected = translate_array(source.read(whole, (1,)), model, EXACT)
        np.testing.assert_array_equal(written.read(whole, (1,)), expected)
    assert (report.pixels, report.tiles, report.scheme, report.tile) == (3 * 150 * 110, 3 * 3 * 2, "exact", 56)
    assert (report.backend, report.device, report.precision, report.tiles_reused) == ("torch", "cpu", "fp32", 0)
    assert report.split_level is not None
    assert report.seconds > 0 < report.seconds_setup
    assert report.mac_overhead > 1


def test_nothing_is_overwritten_or_left_behind(stack: Path, model: Model, tmp_path: Path) -> None:
    out = tmp_path / "out.tif"
    out.write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        translate_file(stack, model, out, EXACT)
    assert out.read_text() == "mine"
    translate_file(stack, model, out, EXACT, overwrite=True)
    assert tifffile.imread(out).shape == (3, 2, 150, 110)


def test_wrong_channels_are_refused_before_work(tmp_path: Path, model: Model) -> None:
    path = tmp_path / "rgb.png"
    tifffile.imwrite(path.with_suffix(".tif"), random_image(3, 30, 30).transpose(1, 2, 0), photometric="rgb")
    with pytest.raises(ImageError, match="3 channels, the model expects 1"):
        translate_file(path.with_suffix(".tif"), model, tmp_path / "out.tif")
    assert not (tmp_path / "out.tif").exists()


def test_czi_becomes_ome_tiff(tmp_path: Path, model: Model) -> None:
    pytest.importorskip("bioio_czi", reason="needs bioio with its reader of CZI")
    czi = pytest.importorskip("pylibCZIrw.czi", reason="needs pylibCZIrw to write a CZI")
    pixels = np.random.default_rng(0).integers(0, 2**16, (2, 2, 70, 50), np.uint16)
    with czi.create_czi(str(tmp_path / "stack.czi")) as file:
        for z, c in np.ndindex(2, 2):
            file.write(pixels[z, c][..., None], plane={"Z": z, "C": c})
        names = {0: "DAPI", 1: "GFP"}
        file.write_metadata("stack", channel_names=names, scale_x=0.25e-6, scale_y=0.5e-6, scale_z=2e-6)
    wide = random_model(replace(model.generator_config, source_channels=2), InferenceConfig(), dtype="uint16")
    wide = replace(wide, target=replace(wide.target, channel_names=("nuclei", "membrane")))
    (job,) = jobs_for([tmp_path / "stack.czi"], tmp_path / "out.ome.tif", file_format="same")
    ended(translate_batch([job], Translator(wide, EXACT), file_format="same", overwrite=False))
    expected = translate_array(pixels, wide, EXACT, axes="ZCYX")
    with tifffile.TiffFile(tmp_path / "out.ome.tif") as written, open_image(tmp_path / "out.ome.tif") as source:
        assert (written.series[0].axes, written.series[0].dtype.name) == ("ZCYX", "uint16")
        np.testing.assert_array_equal(written.asarray(), expected)
        found = source.metadata
    assert (found.pixel_size, found.z_spacing, found.unit) == ((0.5, 0.25), 2.0, "µm")
    assert found.channel_names == ("nuclei", "membrane")


def test_categories_keep_their_colours(tmp_path: Path, stack: Path, model: Model) -> None:
    colors = ((255, 0, 0), (0, 0, 255))
    mapping = CategoryMapping(dtype="uint8", values=((0,), (4,)), colors=colors)
    out = tmp_path / "labels.tif"
    translate_file(stack, replace(model, target=ImageDescription(mapping=mapping)), out, EXACT)
    with open_image(out) as written:
        assert written.palette is not None
        assert tuple(written.palette[4]) == (0, 0, 255)


def test_geotiff_keeps_its_place_and_nodata(model: Model, tmp_path: Path) -> None:
    place = web_mercator(pixel_size_m=10, left_m=1000, top_m=2000)
    tags = [(*tag, False) for tag in georeference_tags(place)]
    image = random_image(1, 90, 70)[0]
    image[20:30, 40:60] = 0
    tifffile.imwrite(tmp_path / "in.tif", image, extratags=[*tags, (GDAL_NODATA, "s", 0, "0", False)])
    translate_file(tmp_path / "in.tif", model, tmp_path / "out.tif", EXACT)
    with open_image(tmp_path / "in.tif") as source, open_image(tmp_path / "out.tif") as written:
        assert (written.metadata.georeference, written.nodata) == (place, 0)
        assert (written.metadata.file_format, written.metadata.pixel_size) == ("geotiff", (10, 10))
        assert source.metadata.georeference == place
        pixels = written.read(Region(0, 90, 0, 70))
    np.testing.assert_array_equal(pixels == 0, np.broadcast_to(image == 0, pixels.shape))
    assert describe_image(written)["bounds"] == (1000, 1100, 1700, 2000)
    assert describe_image(written)["crs"] == "EPSG:3857"


def test_map_tiles_are_translated_as_one_raster(model: Model, tmp_path: Path) -> None:
    raster = random_image(1, 192, 128)[0]
    for row, column in np.ndindex(3, 2):
        path = tmp_path / "in" / "4" / str(column + 6) / f"{row + 2}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(raster[64 * row :, 64 * column :][:64, :64]).save(path)
    colours = random_model(replace(model.generator_config, target_channels=3), InferenceConfig(statistics="image"))
    (job,) = jobs_for([tmp_path / "in"], tmp_path / "out", file_format="same")
    ended(translate_batch([job], Translator(colours, EXACT), file_format="same", overwrite=False))
    with open_image(tmp_path / "out") as written:
        pixels = written.read(Region(0, 192, 0, 128))
    np.testing.assert_array_equal(pixels, translate_array(raster, colours, EXACT))
    assert len(list((tmp_path / "out").rglob("*.png"))) == 6


def test_transparent_tiles_are_translated_as_no_data(tmp_path: Path) -> None:
    raster = random_image(3, 128, 128)
    alpha = np.full((128, 128), 255, np.uint8)
    alpha[40:90, 50:] = 0
    for row, column in np.ndindex(2, 2):
        if (row, column) == (1, 1):
            continue  # a missing tile
        path = tmp_path / "in" / "4" / str(column + 6) / f"{row + 2}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        rgba = np.dstack([*raster, alpha])
        Image.fromarray(rgba[64 * row :, 64 * column :][:64, :64]).save(path)
    model = random_model(
        GeneratorConfig(base_width=3, depth=3, source_channels=3, target_channels=3), InferenceConfig()
    )
    translate_file(tmp_path / "in", model, tmp_path / "out", EXACT)
    assert len(list((tmp_path / "out").rglob("*.png"))) == 3
    alpha[64:, 64:] = 0
    masked = MemorySource(raster, opacity=alpha)
    expected = np.zeros_like(raster)
    for _, region, pixels in Translator(model, EXACT).tiles(masked):
        expected[:, *region.slices] = pixels
    for row, column in ((0, 0), (0, 1), (1, 0)):
        written = np.asarray(Image.open(tmp_path / "out" / "4" / str(column + 6) / f"{row + 2}.png"))
        np.testing.assert_array_equal(written[..., 3], alpha[64 * row :, 64 * column :][:64, :64])
        np.testing.assert_array_equal(
            written[..., :3], np.moveaxis(expected, 0, -1)[64 * row :, 64 * column :][:64, :64]
        )


def test_georeferenced_tiles_need_the_mosaic_option(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.tif", "b.tif"):
        tifffile.imwrite(folder / name, np.zeros((8, 8), np.uint8))
    assert len(jobs_for([folder], tmp_path / "out", file_format="tiff")) == 2
    assert jobs_for([folder], tmp_path / "out", file_format="same", mosaic=True) == [Job((folder,), tmp_path / "out")]


@pytest.mark.parametrize(("dtype", "value"), [("uint64", 2**64 - 1), ("int64", -(2**63) + 3), ("int64", 2**62 + 1)])
def test_a_constant_image_of_64_bits_lies_within_its_own_range(
    tmp_path: Path, dtype: str, value: int, caplog: pytest.LogCaptureFixture
) -> None:
    tifffile.imwrite(tmp_path / "in.tif", np.full((40, 56), value, dtype))
    settings = TranslationSettings(convert_values="image")
    report = translate_file(tmp_path / "in.tif", identity_model(), tmp_path / "out.tif", settings)
    assert report.clipped_share == (0.0,)
    assert "beyond" not in caplog.text


@pytest.mark.parametrize("ending", ["tif", "png", "ome.zarr"])
def test_a_file_with_other_pixels_is_not_taken_for_the_finished_output(tmp_path: Path, ending: str) -> None:
    path, out = tmp_path / "in.tif", tmp_path / f"out.{ending}"
    tifffile.imwrite(path, np.zeros((40, 56), np.uint8))
    translate_file(path, identity_model(), out)
    assert translate_file(path, identity_model(), out, resume=True).tiles_reused == 1
    tifffile.imwrite(path, np.zeros((40, 60), np.uint8))
    with pytest.raises(OutputError, match=r"is there already, of \(1, 40, 56\) uint8, and is not what would be made"):
        translate_file(path, identity_model(), out, resume=True)


def test_an_output_of_bits_is_known_again(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "in.tif", np.zeros((40, 56), bool))
    for ending in ("tif", "png", "bmp", "gif", "ome.zarr"):
        out = tmp_path / f"out.{ending}"
        translate_file(tmp_path / "in.tif", identity_model("bool"), out)
        translate_file(tmp_path / "in.tif", identity_model("bool"), out, resume=True)
