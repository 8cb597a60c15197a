"""Images in which 0 is white: translated values are those that every reader finds in the input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
from numpy.typing import NDArray
from PIL import Image

from napari_pix2pix.formats import open_image
from napari_pix2pix.translation.pipeline import translate_file
from napari_pix2pix.translation.settings import TranslationSettings
from pix2pix_training.array_source import whole_plane
from tests.identity_model import identity_model

Reader = Callable[[Path], NDArray[Any]]


def _by_rasterio(path: Path) -> NDArray[Any]:
    with rasterio.open(path) as dataset:
        pixels: NDArray[Any] = dataset.read(1)
    return pixels


_READERS: dict[str, Reader] = {
    "tifffile": tifffile.imread,
    "rasterio": _by_rasterio,
    "Pillow, which inverts what it shows": lambda path: np.asarray(Image.open(path)),
}


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("reader", _READERS)
@pytest.mark.parametrize("dtype", ["bool", "uint8"])
@pytest.mark.parametrize("photometric", ["miniswhite", "minisblack"])
@pytest.mark.parametrize("file_format", ["tiff", "ome-tiff"])
def test_every_reader_finds_the_values_of_the_input(
    tmp_path: Path, reader: str, dtype: str, photometric: str, file_format: str
) -> None:
    """tifffile writes arrays of bool so."""
    array = np.random.default_rng(0).integers(0, 256 if dtype == "uint8" else 2, (40, 56)).astype(dtype)
    path = tmp_path / "in.tif"
    tifffile.imwrite(path, array, photometric=photometric)
    translate_file(path, identity_model(dtype), tmp_path / "out.tif", file_format=file_format)
    np.testing.assert_array_equal(_READERS[reader](tmp_path / "out.tif"), _READERS[reader](path))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), array)


def test_an_output_of_another_type_is_an_image_of_its_own(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "in.tif", np.zeros((40, 56), bool), photometric="miniswhite")
    settings = TranslationSettings(convert_values="type")
    translate_file(tmp_path / "in.tif", identity_model(), tmp_path / "out.tif", settings)
    with tifffile.TiffFile(tmp_path / "out.tif") as tif:
        assert tif.pages.first.photometric == tifffile.PHOTOMETRIC.MINISBLACK


@pytest.mark.parametrize("ending", ["png", "jpg", "ome.zarr"])
def test_formats_that_cannot_say_that_0_is_white_keep_the_values_and_it_is_said(
    tmp_path: Path, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    array = np.repeat(np.repeat(np.arange(35, dtype=np.uint8).reshape(5, 7), 8, axis=0), 8, axis=1)
    tifffile.imwrite(tmp_path / "in.tif", array, photometric="miniswhite")
    translate_file(tmp_path / "in.tif", identity_model(), tmp_path / f"out.{ending}")
    assert "does not say that 0 is white (values stay as they are stored" in caplog.text
    with open_image(tmp_path / f"out.{ending}") as image:
        np.testing.assert_allclose(image.read(whole_plane(image))[0], array, atol=2)
