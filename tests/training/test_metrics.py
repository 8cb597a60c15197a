"""Scores equal those of scikit-image, whole or gathered from tiles."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from pix2pix_training.metrics import SSIM_RADIUS, ScoreAccumulator, Scores, mean_scores, score
from pix2pix_training.regions import Region


@pytest.fixture
def images() -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    rng = np.random.default_rng(0)
    target = rng.integers(200, 3000, (2, 70, 91)).astype(np.uint16)
    prediction = (0.7 * target + rng.integers(0, 900, target.shape)).astype(np.uint16)
    return prediction, target


def test_scores_equal_scikit_image(images: tuple[NDArray[np.uint16], NDArray[np.uint16]]) -> None:
    prediction, target = images
    found = score(prediction, target, 2800.0)
    as_float = prediction.astype(float), target.astype(float)
    ssim = [
        structural_similarity(  # type: ignore[no-untyped-call]
            p, t, data_range=2800.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for p, t in zip(*as_float, strict=True)
    ]
    assert found.mae == pytest.approx(np.abs(as_float[0] - as_float[1]).mean())
    psnr = peak_signal_noise_ratio(as_float[1], as_float[0], data_range=2800.0)  # type: ignore[no-untyped-call]
    assert found.psnr == pytest.approx(psnr)
    assert found.ssim == pytest.approx(np.mean(ssim), abs=1e-6)
    assert found.pearson == pytest.approx(np.corrcoef(prediction.ravel(), target.ravel())[0, 1])


def test_tiles_give_the_scores_of_the_whole(images: tuple[NDArray[np.uint16], NDArray[np.uint16]]) -> None:
    prediction, target = images
    accumulator = ScoreAccumulator(2800.0)
    for inner in Region.whole(70, 91).tiles(23):
        outer = Region(
            max(0, inner.y0 - SSIM_RADIUS),
            min(70, inner.y1 + SSIM_RADIUS),
            max(0, inner.x0 - SSIM_RADIUS),
            min(91, inner.x1 + SSIM_RADIUS),
        )
        within = Region(inner.y0 - outer.y0, inner.y1 - outer.y0, inner.x0 - outer.x0, inner.x1 - outer.x0)
        accumulator.add(prediction[:, *outer.slices], target[:, *outer.slices], within)
    found, expected = accumulator.scores(), score(prediction, target, 2800.0)
    assert found.as_dict() == pytest.approx(expected.as_dict())


def test_invalid_pixels_are_not_scored(images: tuple[NDArray[np.uint16], NDArray[np.uint16]]) -> None:
    prediction, target = images
    valid = np.ones(target.shape[1:], bool)
    valid[:30] = False
    accumulator = ScoreAccumulator(2800.0)
    accumulator.add(prediction, target, valid=valid)
    assert accumulator.scores().mae == pytest.approx(score(prediction[:, 30:], target[:, 30:], 1.0).mae)


def test_undefined_scores_are_none_not_numbers() -> None:
    constant = np.full((1, 20, 20), 5.0)
    found = score(constant, np.random.default_rng(0).random((1, 20, 20)), 1.0)
    assert found.pearson is None
    assert score(np.zeros((1, 4, 4)), np.ones((1, 4, 4)), 1.0).ssim is None
    assert score(constant, constant, 1.0).psnr is None


def test_mean_leaves_out_what_is_undefined() -> None:
    scores = [Scores(mae=1.0, psnr=10.0, ssim=None, pearson=0.5), Scores(mae=3.0, psnr=20.0, ssim=0.4, pearson=None)]
    assert mean_scores(scores) == Scores(mae=2.0, psnr=15.0, ssim=0.4, pearson=0.5)
