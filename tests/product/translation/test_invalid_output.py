"""Invalid pixels keep a mark that no valid pixel has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_pix2pix.translation.invalid_output import invalid_marker
from napari_pix2pix.translation.pipeline import translate_array
from napari_pix2pix.translation.settings import TranslationSettings
from pix2pix_training.image_description import ImageDescription
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.intensity import CategoryMapping, dtype_mapping
from pix2pix_training.network_config import GeneratorConfig
from tests.product.translation.conftest import random_image, random_model

CONFIG = GeneratorConfig(base_width=4, depth=3, source_channels=1, target_channels=1)


@pytest.mark.parametrize(
    ("dtype", "nodata", "expected"),
    [
        ("float32", -9999.0, -9999.0),
        ("float32", None, np.nan),
        ("float16", -3.4e38, np.nan),
        ("uint8", 255.0, 255),
        ("uint8", -9999.0, 0),
        ("int16", -9999.0, -9999),
        ("int16", 0.5, 0),
        ("bool", 1.0, 0),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_marker_of_intensities(dtype: str, nodata: float | None, expected: float) -> None:
    found = invalid_marker(np.dtype(dtype), nodata, dtype_mapping(np.dtype(dtype), 1))
    np.testing.assert_equal(found, expected)


@pytest.mark.parametrize(("nodata", "expected"), [(9.0, 9), (0.0, 254), (-1.0, 254)])
def test_marker_of_categories_is_none_of_them(nodata: float, expected: int) -> None:
    mapping = CategoryMapping(dtype="uint8", values=((0,), (1,), (255,)))
    assert invalid_marker(np.dtype("uint8"), nodata, mapping) == expected


@pytest.mark.parametrize("nodata", [0, 128, 255])
def test_valid_pixels_never_equal_nodata(nodata: int) -> None:
    model = random_model(CONFIG, InferenceConfig(statistics="image"))
    image = random_image(1, 60, 50)
    image[image == nodata] = 100
    plain = translate_array(image, model, TranslationSettings(scheme="whole"))
    assert (plain == nodata).any() or nodata != 128
    hole = image.copy()
    hole[:, 10:20, 5:15] = nodata
    result = translate_array(hole, model, TranslationSettings(scheme="whole"), nodata=nodata)
    np.testing.assert_array_equal((result == nodata)[0], (hole == nodata)[0])


def test_nodata_of_reals_is_kept_instead_of_nan() -> None:
    model = random_model(CONFIG, InferenceConfig(statistics="image"))
    model = replace(model, target=ImageDescription(mapping=dtype_mapping(np.dtype("float32"), 1)))
    image = random_image(1, 40, 40)
    image[:, :8] = 7
    result = translate_array(image, model, TranslationSettings(scheme="whole"), nodata=7)
    assert (result[:, :8] == 7).all()
    assert np.isfinite(result).all()
