"""Scores of image pairs: data range, constant baseline, tiles, regions, invalid pixels."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from napari_pix2pix.cli.application import run
from napari_pix2pix.evaluation import default_range, evaluate_pairs, translations
from napari_pix2pix.translation.progress import ended
from napari_pix2pix.translation.translator import Translator
from pix2pix_training.array_source import MemorySource
from pix2pix_training.errors import ImageError, NoValidPixelError
from pix2pix_training.metrics import score
from pix2pix_training.pairs import Pair
from pix2pix_training.regions import Region
from tests.identity_model import identity_model


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


def test_invalid_pixels_do_not_count(caplog: pytest.LogCaptureFixture) -> None:
    target = np.random.default_rng(0).random((1, 40, 40)).astype(np.float32)
    prediction = target + np.float32(0.5)
    target[0, :10] = np.nan
    assert evaluate_pairs([pair(prediction, target)]).mean.mae == pytest.approx(0.5)
    assert caplog.text == ""
    prediction[0, :2] = np.nan
    prediction[0, -5:] = np.nan
    assert evaluate_pairs([pair(prediction, target)]).mean.mae == pytest.approx(0.5)
    assert "p: 200 pixels without data have a target (t), and are left out of the scores" in caplog.text


def test_other_channel_counts_are_refused(target: NDArray[np.uint16]) -> None:
    with pytest.raises(ImageError, match="1 channel and its target t has 2"):
        evaluate_pairs([pair(target[:1], target)])


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """A target of two named channels, and predictions of it in this order and in the other."""
    image = np.random.default_rng(0).integers(0, 256, (2, 40, 50), np.uint8)
    for name, channels, names in (
        ("target", image, ["DAPI", "GFP"]),
        ("same", image, ["DAPI", "GFP"]),
        ("turned", image[::-1], ["gfp", "dapi"]),
        ("wrong", image, ["GFP", "Cy5"]),
    ):
        tifffile.imwrite(
            tmp_path / f"{name}.ome.tif",
            channels,
            metadata={"axes": "CYX", "Channel": {"Name": names}},
            photometric="minisblack",
        )
    return tmp_path


@pytest.mark.parametrize(("prediction", "said"), [("same", False), ("turned", True)])
def test_channels_of_a_prediction_are_compared_by_name(
    named: Path, prediction: str, said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--prediction", str(named / f"{prediction}.ome.tif"), "--target", str(named / "target.ome.tif")]
    assert run(["evaluate", *files, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["mean"]["mae"] == 0
    assert ["by name" in warning for warning in result["warnings"]] == [True] * said


def test_channels_of_a_prediction_whose_names_contradict_are_refused(
    named: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--prediction", str(named / "wrong.ome.tif"), "--target", str(named / "target.ome.tif")]
    assert run(["evaluate", *files]) == 2
    assert "are called GFP, Cy5, those of" in capsys.readouterr().err


@pytest.mark.parametrize(("dtype", "said"), [("uint16", True), ("float32", True), ("uint8", False)])
def test_predictions_of_another_type_are_said(dtype: str, said: bool, caplog: pytest.LogCaptureFixture) -> None:
    target = np.random.default_rng(0).integers(0, 256, (1, 40, 50), np.uint8)
    with caplog.at_level(logging.WARNING):
        evaluate_pairs([pair(target.astype(dtype), target)])
    assert (
        f"p has {dtype} pixels, its target uint8 pixels; they are compared as they are stored" in caplog.text
    ) == said


def test_scores_of_a_model_say_what_was_clipped_and_leave_out_what_is_invalid(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = np.random.default_rng(0).integers(50, 100, (1, 40, 50)).astype(np.uint8)
    image[:, 30:] = 250
    opacity = np.full((40, 50), 255, np.uint8)
    opacity[:10] = 0
    source = MemorySource(np.where(opacity == 0, 0, image), name="s", opacity=opacity)
    translator = Translator(identity_model(ends=(0, 200)))
    with caplog.at_level(logging.WARNING):
        made = ended(translations([Pair(source, MemorySource(image.clip(0, 200)), "pair")], translator, tmp_path))
    assert made.clipped_share == pytest.approx((1 / 3,))
    assert "s: 33 % of the values lie beyond 0 to 200" in caplog.text
    assert evaluate_pairs(made.pairs).mean.mae == 0


def test_a_translation_that_is_scored_is_called_after_its_source(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 40, 50)).astype(np.uint8)
    pairs = [Pair(MemorySource(image, name="s"), MemorySource(image.astype(np.uint16)), "pair")]
    with caplog.at_level(logging.WARNING):
        evaluate_pairs(ended(translations(pairs, Translator(identity_model()), tmp_path)).pairs)
    assert "the translation of s has uint8 pixels, its target uint16 pixels" in caplog.text
    assert str(tmp_path) not in caplog.text


def test_pairs_without_a_valid_pixel_in_common_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(1, 255, (1, 40, 50)).astype(np.uint8) for _ in range(3)]
    empty = MemorySource(np.zeros((1, 40, 50), np.uint8), nodata=0, name="empty")
    full = [MemorySource(image, nodata=0, name=f"image {i}") for i, image in enumerate(images)]
    pairs = [Pair(full[0], full[1], "a"), Pair(empty, full[1], "b"), Pair(full[2], empty, "c")]
    with caplog.at_level(logging.WARNING):
        result = evaluate_pairs(pairs)
    assert [name for name, _ in result.images] == ["a"]
    assert result.mean == evaluate_pairs(pairs[:1]).mean
    assert caplog.text.count("the pair is not scored") == 2
    with pytest.raises(NoValidPixelError, match="nothing to score"):
        evaluate_pairs(pairs[1:])


def test_an_empty_plane_of_a_stack_does_not_count() -> None:
    rng = np.random.default_rng(0)
    stack, target = (rng.random((3, 1, 40, 50)) for _ in range(2))
    stack[1] = np.nan
    found = evaluate_pairs([Pair(MemorySource(stack), MemorySource(target), "a")], data_range=(0, 1))
    kept = [0, 2]
    expected = evaluate_pairs([Pair(MemorySource(stack[kept]), MemorySource(target[kept]), "a")], data_range=(0, 1))
    assert found.mean == expected.mean
