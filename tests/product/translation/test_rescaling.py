"""Images of another pixel size than the model's: said, or rescaled there and back."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_pix2pix.formats import open_image
from napari_pix2pix.formats.resampling import ResampledSource
from napari_pix2pix.translation.pipeline import translate_array, translate_file
from napari_pix2pix.translation.settings import TranslationSettings
from pix2pix_training.array_source import AnyArray, MemorySource, whole_plane
from pix2pix_training.errors import ImageError
from pix2pix_training.image_description import ImageDescription
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.intensity import CategoryMapping
from pix2pix_training.model_file import Model
from pix2pix_training.network_config import GeneratorConfig
from tests.product.translation.conftest import random_image, random_model

TILES = TranslationSettings(scheme="exact", tile=32, match_pixel_size=True)
WHOLE = TranslationSettings(scheme="whole")
CONFIG = GeneratorConfig(base_width=4, depth=3, source_channels=1, target_channels=2)


@pytest.fixture
def model() -> Model:
    """Trained at 0.5 µm."""
    model = random_model(CONFIG, InferenceConfig(statistics="image"))
    return replace(model, source=replace(model.source, pixel_size=(0.5, 0.5), unit="µm"))


def _save(path: Path, image: AnyArray, size: tuple[float, float] | None, nodata: int | None = None) -> Path:
    scale = {} if size is None else {"resolution": (1e4 / size[1], 1e4 / size[0]), "resolutionunit": "CENTIMETER"}
    tags = [] if nodata is None else [(42113, "s", 0, str(nodata), False)]
    tifffile.imwrite(path, image, extratags=tags, **scale)  # type: ignore[arg-type]
    return path


def _resampled(image: AnyArray, size: tuple[int, int], *, nearest: bool = False) -> AnyArray:
    source = ResampledSource(MemorySource(image), size, nearest=nearest)
    return source.read(whole_plane(source))


def _read(path: Path) -> AnyArray:
    with open_image(path) as source:
        return source.read(whole_plane(source))


def test_equals_resampling_the_whole_image(model: Model, tmp_path: Path) -> None:
    image = random_image(1, 90, 121)
    path = _save(tmp_path / "in.tif", image[0], (0.25, 0.75))
    report = translate_file(path, model, tmp_path / "out.tif", TILES)
    small = _resampled(image, (45, 182))
    expected = _resampled(translate_array(small, model, replace(TILES, match_pixel_size=False)), (90, 121))
    np.testing.assert_array_equal(_read(tmp_path / "out.tif"), expected)
    close = _resampled(translate_array(small, model, WHOLE), (90, 121)).astype(int) - expected
    assert np.abs(close).max() <= 1
    with open_image(tmp_path / "out.tif") as written, open_image(path) as source:
        assert written.metadata.pixel_size == source.metadata.pixel_size
    assert report.pixels == 90 * 121
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.tif", "out.tif"]


def test_categories_by_the_nearest_pixel(model: Model, tmp_path: Path) -> None:
    classes = CategoryMapping(dtype="uint8", values=((3,), (200,)))
    model = replace(model, target=ImageDescription(mapping=classes))
    image = random_image(1, 60, 50)
    translate_file(_save(tmp_path / "in.tif", image[0], (1.0, 1.0)), model, tmp_path / "out.tif", TILES)
    result = _read(tmp_path / "out.tif")
    labels = translate_array(_resampled(image, (120, 100)), model, replace(TILES, match_pixel_size=False))
    np.testing.assert_array_equal(result, _resampled(labels, (60, 50), nearest=True))
    assert set(np.unique(result)) <= {3, 200}


def test_invalid_pixels_are_those_of_the_input(model: Model, tmp_path: Path) -> None:
    image = np.maximum(random_image(1, 80, 70), 1)
    image[:, 30:47, 11:19] = 0
    translate_file(_save(tmp_path / "in.tif", image[0], (1.0, 1.0), 0), model, tmp_path / "out.tif", TILES)
    result = _read(tmp_path / "out.tif")
    np.testing.assert_array_equal(result == 0, np.broadcast_to(image == 0, result.shape))


def test_equal_pixels_are_left_alone(model: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = random_image(1, 60, 50)
    path = _save(tmp_path / "in.tif", image[0], (0.52, 0.48))
    with caplog.at_level(logging.WARNING):
        for settings in (TILES, replace(TILES, match_pixel_size=False)):
            translate_file(path, model, tmp_path / "out.tif", settings, overwrite=True)
            expected = translate_array(image, model, replace(TILES, match_pixel_size=False))
            np.testing.assert_array_equal(_read(tmp_path / "out.tif"), expected)
    assert caplog.text == ""


def test_another_pixel_size_is_said(model: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = _save(tmp_path / "in.tif", random_image(1, 60, 50)[0], (0.25, 0.25))
    with caplog.at_level(logging.WARNING):
        translate_file(path, model, tmp_path / "out.tif", WHOLE)
    assert "pixels are 0.25 x 0.25 µm, the model was trained on 0.5 x 0.5 µm; --match-pixel-size" in caplog.text


@pytest.mark.parametrize(
    ("size", "trained", "message"),
    [
        (None, (0.5, 0.5), r"in\.tif does not say how large its pixels are"),
        ((0.25, 0.25), None, "the model does not say how large its pixels are"),
        ((500.0, 500.0), (0.5, 0.5), "pixels are 500 x 500 µm, .* check the pixel size and its unit"),
    ],
)
def test_sizes_that_cannot_be_matched(
    model: Model, tmp_path: Path, size: tuple[float, float] | None, trained: tuple[float, float] | None, message: str
) -> None:
    model = replace(model, source=replace(model.source, pixel_size=trained))
    path = _save(tmp_path / "in.tif", random_image(1, 60, 50)[0], size)
    with pytest.raises(ImageError, match=message):
        translate_file(path, model, tmp_path / "out.tif", TILES)
    assert not (tmp_path / "out.tif").exists()
