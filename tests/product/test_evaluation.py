"""Scores of image pairs: data range, constant baseline, tiles, regions, invalid pixels."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_pix2pix.evaluation import default_range, evaluate_pairs
from pix2pix_training.array_source import MemorySource, Region
from pix2pix_training.errors import ImageError
from pix2pix_training.metrics import score
from pix2pix_training.pairs import Pair


@pytest.fixture
def target() -> NDArray[np.uint16]:
    return np.random.default_rng(0).integers(1000, 3000, (2, 60, 1100)).astype(np.uint16)


def pair(prediction: NDArray[np.generic], target: NDArray[np.generic]) -> Pair:
    return Pair(MemorySource(prediction, name="p"), MemorySource(target, name="t"), "pair")


def test_images_wider_than_a_tile_are_scored_as_a_whole(target: NDArray[np.uint16]) -> None:
    prediction = (target * 0.9).astype(np.uint16)
    result = evaluate_pairs([pair(prediction, target)], data_range=(1000, 3000))
    assert result.mean.as_dict() == pytest.approx(score(prediction, target, 2000.0).as_dict())


def test_range_comes_from_the_targets_not_from_the_type(target: NDArray[np.uint16]) -> None:
    low, high = default_range([MemorySource(target)])
    assert [low, high] == pytest.approx([1002, 2997], abs=3)
    assert default_range([MemorySource(target.astype(np.uint8))]) == (0, 255)
    with pytest.raises(ImageError, match="constant"):
        default_range([MemorySource(np.full((1, 9, 9), 5, np.uint16))])


def test_constant_baseline_is_the_best_constant(target: NDArray[np.uint16]) -> None:
    result = evaluate_pairs([pair(target, target)])
    values = target.astype(float)
    medians = np.median(values, axis=(1, 2), keepdims=True)
    assert result.constant.mae == pytest.approx(np.abs(values - medians).mean(), rel=1e-3)
    span = result.data_range[1] - result.data_range[0]
    assert result.constant.psnr == pytest.approx(10 * np.log10(span**2 / values.var(axis=(1, 2)).mean()), rel=1e-3)
    assert result.mean.mae == 0


def test_region_scores_a_part(target: NDArray[np.uint16]) -> None:
    prediction = target.copy()
    prediction[:, :, 500:] = 0
    assert evaluate_pairs([pair(prediction, target)], region=Region(0, 60, 0, 500)).mean.mae == 0


def test_invalid_pixels_do_not_count() -> None:
    target = np.random.default_rng(0).random((1, 40, 40)).astype(np.float32)
    prediction = target + np.float32(0.5)
    target[0, :10] = np.nan
    prediction[0, -5:] = np.nan
    assert evaluate_pairs([pair(prediction, target)]).mean.mae == pytest.approx(0.5)


def test_other_channel_counts_are_refused(target: NDArray[np.uint16]) -> None:
    with pytest.raises(ImageError, match="1 channels and its target t has 2"):
        evaluate_pairs([pair(target[:1], target)])
