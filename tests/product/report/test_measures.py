"""Figures of a page that no score has: lines through intensities, MS-SSIM over tiles, where an image is worst."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_pix2pix.evaluation import Comparison, comparison
from napari_pix2pix.report.controls import pixel_fit
from napari_pix2pix.report.measures import Measures, fits_of, measured
from napari_pix2pix.report.objects import ObjectRule, Objects
from napari_pix2pix.translation.progress import ended
from pix2pix_training.array_source import MemorySource
from pix2pix_training.errors import SettingsError
from pix2pix_training.intensity import CategoryMapping
from pix2pix_training.pairs import Pair
from pix2pix_training.reconstruction import ms_ssim_loss
from pix2pix_training.regions import Region


def compared(prediction: NDArray[np.generic], target: NDArray[np.generic], **options: object) -> Comparison:
    pair = Pair(MemorySource(prediction, name="p"), MemorySource(target, name="t"), "pair")
    return comparison([pair], **options)  # type: ignore[arg-type]


def measures_of(wanted: Comparison) -> Measures:
    return ended(measured(wanted.pairs[0], wanted))


@pytest.mark.parametrize("size", [(1100, 300), (90, 1041), (30, 40)])
def test_ms_ssim_of_tiles_is_that_of_the_whole_image(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    target = rng.uniform(-1, 1, (2, *size)).astype(np.float32)
    prediction = (0.7 * target + rng.normal(0, 0.1, target.shape)).astype(np.float32)
    found = measures_of(compared(prediction, target, data_range=(-1.0, 1.0)))
    expected = 1 - ms_ssim_loss(*(torch.from_numpy(image[None]).double() for image in (prediction, target)))
    assert found.ms_ssim == pytest.approx(float(expected), abs=1e-9)


def test_line_through_intensities_of_each_channel() -> None:
    target = np.random.default_rng(0).integers(40_000, 41_000, (2, 50, 60)).astype(np.float64)
    prediction = np.stack([0.5 * target[0] + 100, target[1] - 7])
    wanted = compared(prediction, target, data_range=(40_000.0, 41_000.0))
    first, second = fits_of(measures_of(wanted).moments, 40_000.0)
    assert (first.slope, first.intercept, first.pearson) == pytest.approx((0.5, 100, 1))
    assert (second.slope, second.bias, second.mae) == pytest.approx((1, -7, 7))


def test_pixels_without_data_count_nowhere() -> None:
    target = np.random.default_rng(0).random((1, 60, 60)).astype(np.float32)
    prediction = target.copy()
    prediction[0, :30] = 9
    target[0, :30] = np.nan
    found = measures_of(compared(prediction, target, data_range=(0.0, 1.0)))
    (fit,) = fits_of(found.moments, 0.0)
    assert (fit.slope, fit.bias, found.ms_ssim) == pytest.approx((1, 0, 1))
    assert found.histogram.sum() == 30 * 60


def test_of_a_large_image_the_window_with_the_largest_error_is_shown() -> None:
    target = np.zeros((2, 1, 1300, 700), np.uint8)
    target[0, 0, 0, 0] = 200
    prediction = target.copy()
    prediction[1, 0, 1200, 650] = 90
    window = measures_of(compared(prediction, target)).window
    assert window.plane == (1,)
    assert (window.region.height, window.region.width) == (512, 512)
    assert (*window.region.rows, *window.region.columns) == (788, 1300, 188, 700)


def test_fit_of_each_pixel_finds_what_no_neighbour_is_needed_for() -> None:
    source = np.random.default_rng(0).integers(0, 200, (2, 30, 40)).astype(np.float32)
    target = (3 * source[:1] - 2 * source[1:] + 5).astype(np.float32)
    wanted = compared(np.zeros_like(target), target, data_range=(0.0, 1.0))
    fitted = ended(pixel_fit([MemorySource(source)], wanted, None)).pairs[0].source
    np.testing.assert_allclose(fitted.read(Region.whole(30, 40)), target, atol=1e-9)


def test_fit_of_each_category_is_its_mean_and_of_classes_the_most_frequent() -> None:
    labels = np.random.default_rng(0).integers(0, 3, (1, 30, 40)).astype(np.uint8)
    mapping = CategoryMapping(dtype="uint8", values=((0,), (1,), (2,)))
    target = np.array([50, 10, 90], np.uint8)[labels]
    wanted = compared(np.zeros_like(target), target)
    fitted = ended(pixel_fit([MemorySource(labels)], wanted, mapping)).pairs[0].source
    np.testing.assert_allclose(fitted.read(Region.whole(30, 40)), target, atol=1e-9)
    classes = np.array([7, 0, 7], np.uint8)[labels]
    wanted = compared(classes, classes, target_values="categories")
    fitted = ended(pixel_fit([MemorySource(labels)], wanted, mapping)).pairs[0].source
    np.testing.assert_array_equal(fitted.read(Region.whole(30, 40)), classes)


def objects_of(prediction: NDArray[np.generic], target: NDArray[np.generic], **options: object) -> Objects:
    above = options.pop("above", None)
    wanted = compared(prediction, target, **options)
    return ended(ObjectRule(wanted, above).objects(wanted.pairs[0]))  # type: ignore[arg-type]


def test_objects_are_counted_matched_and_measured() -> None:
    labels = np.zeros((1, 60, 60), np.uint16)
    labels[0, 5:15, 5:15], labels[0, 5:15, 15:25], labels[0, 30:40, 30:40] = 11, 12, 13  # the first two touch
    mask = np.zeros((1, 60, 60), np.uint8)
    mask[0, 5:15, 5:25], mask[0, 31:41, 30:40], mask[0, 50:52, 50:52] = 1, 1, 1
    found = objects_of(mask, labels, target_values="foreground")
    assert (found.found, found.true, found.same) == (2, 3, 1)  # the last is too small
    assert found.f1 == pytest.approx(2 / 5)
    assert found.size_ratio == pytest.approx(150 / 100)


def test_objects_above_a_threshold_of_intensities() -> None:
    image = np.zeros((1, 40, 40), np.float32)
    image[0, 5:10, 5:10] = 0.8
    assert objects_of(image * 0.9, image, data_range=(0.0, 1.0), above=0.5).f1 == 1
    assert objects_of(image * 0.5, image, data_range=(0.0, 1.0), above=0.5).found == 0
    with pytest.raises(SettingsError, match="has 2 channels; leave it out"):
        objects_of(np.repeat(image, 2, 0), np.repeat(image, 2, 0), data_range=(0.0, 1.0), above=0.5)


def test_pairs_without_valid_pixels_do_not_shift_the_others() -> None:
    target = np.random.default_rng(0).random((1, 20, 20)).astype(np.float32)
    empty = np.full_like(target, np.nan)
    pairs = [Pair(MemorySource(each), MemorySource(target), str(n)) for n, each in enumerate((target, empty, target))]
    wanted = comparison(pairs)
    assert wanted.numbers == (0, 2)
    assert replace(wanted).span > 0
