"""Grid and detail of evaluated images: what is looked at, what is left out, where it is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_pix2pix.evaluation import evaluate_pairs
from napari_pix2pix.spectral_evaluation import _middle, spectrum_of
from pix2pix_training.array_source import MemorySource
from pix2pix_training.metrics import detail_ratio, grid_ratio
from pix2pix_training.pairs import Pair
from tests.product.test_cli import result_of

FIELD: NDArray[np.float32] = gaussian_filter(np.random.default_rng(0).normal(size=(1, 160, 160)), (0, 1, 1)).astype(
    np.float32
)
LINES = np.zeros_like(FIELD)
LINES[..., ::4] = 0.4


def pair(prediction: NDArray[np.float32], target: NDArray[np.float32] = FIELD) -> Pair:
    return Pair(MemorySource(prediction), MemorySource(target), "pair")


def test_a_grid_and_blur_are_told_relative_to_the_targets() -> None:
    blurred = gaussian_filter(FIELD, (0, 1, 1))
    for image in (FIELD + LINES, blurred, FIELD):
        found = spectrum_of([pair(image)] * 2)
        assert found.grid == grid_ratio([image], [FIELD])
        assert found.detail == detail_ratio(image, FIELD)
    evaluation = evaluate_pairs([pair(FIELD + LINES)])
    assert evaluation.spectrum is not None
    assert evaluation.spectrum.grid is not None
    assert evaluation.spectrum.grid[4] > 3
    assert evaluation.as_dict()["grid"] == evaluation.spectrum.grid
    assert evaluation.as_dict()["detail"] == detail_ratio(FIELD + LINES, FIELD)


def test_images_with_invalid_pixels_are_left_out() -> None:
    holed = FIELD.copy()
    holed[0, 80, 80] = np.nan
    assert spectrum_of([pair(FIELD, holed)]).as_dict() == {"grid": None, "detail": None}
    assert spectrum_of([pair(holed), pair(FIELD)]).detail == 1.0


def test_classes_have_no_spectrum() -> None:
    classes = (FIELD > 0).astype(np.uint8)
    found = evaluate_pairs(
        [Pair(MemorySource(classes), MemorySource(classes), "classes")], target_values="categories"
    ).as_dict()
    assert not {"grid", "detail"} & found.keys()


def test_the_middle_of_large_stacks_is_looked_at() -> None:
    stack = np.arange(3 * 1 * 1500 * 40, dtype=np.float32).reshape(3, 1, 1500, 40)
    found = _middle(MemorySource(stack, axes="ZCYX"))
    assert found is not None
    assert np.array_equal(found, stack[1, :, 238:1262])


def test_evaluate_says_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, image in (("result.tif", FIELD + LINES), ("target.tif", FIELD)):
        tifffile.imwrite(tmp_path / name, image[0])
    command = ["evaluate", "--prediction", str(tmp_path / "result.tif"), "--target", str(tmp_path / "target.tif")]
    result = result_of(command, capsys)
    assert set(result["grid"]) == {"2", "4", "8"} and result["grid"]["4"] > 3
    assert result["detail"] > 1.2
