"""Categories and labels are scored as classes: accuracy, IoU and Dice, by class, and for the foreground."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_pix2pix.class_evaluation import Classes, classes_of, evaluate_classes
from napari_pix2pix.cli.application import run
from napari_pix2pix.evaluation import evaluate_pairs
from napari_pix2pix.translation.progress import ended
from pix2pix_training.array_source import AnyArray, MemorySource
from pix2pix_training.errors import ImageError, SettingsError
from pix2pix_training.intensity import CategoryMapping
from pix2pix_training.model_file import save_model
from pix2pix_training.pairs import Pair
from tests.identity_model import identity_model

RNG = np.random.default_rng(0)


def _pair(prediction: AnyArray, target: AnyArray, name: str = "pair") -> Pair:
    return Pair(MemorySource(prediction, name="p"), MemorySource(target, name="t"), name)


def _overlap(prediction: AnyArray, target: AnyArray, value: int) -> tuple[float, float]:
    found, wanted = prediction == value, target == value
    both, either = (found & wanted).sum(), (found | wanted).sum()
    return both / either, 2 * both / (found.sum() + wanted.sum())


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "uint64", "bool"])
def test_each_class_is_scored_by_its_overlap(dtype: str) -> None:
    values = [0, 1] if dtype == "bool" else [0, 3, 7]
    target = RNG.choice(values, (1200, 30)).astype(dtype)
    prediction = np.where(RNG.random(target.shape) < 0.7, target, RNG.choice(values, target.shape)).astype(dtype)
    result = evaluate_pairs([_pair(prediction, target)]).classes
    assert result is not None
    for overlap, value in zip(result.classes, values, strict=True):
        assert (overlap.iou, overlap.dice) == pytest.approx(_overlap(prediction, target, value))
        assert overlap.value == (value,)
        assert overlap.pixels == (target == value).sum()
    scored = values[1:] if dtype == "bool" else values
    expected = np.mean([_overlap(prediction, target, value) for value in scored], axis=0)
    assert (result.images[0].iou, result.images[0].dice) == pytest.approx(tuple(expected))
    assert result.images[0].accuracy == pytest.approx((prediction == target).mean())
    most = max((target == value).mean() for value in values)
    assert result.constant.accuracy == pytest.approx(most)


def test_a_perfect_and_a_useless_prediction() -> None:
    target = np.zeros((40, 40), np.uint8)
    target[:10] = 255
    perfect, useless = (
        evaluate_pairs([_pair(prediction, target)], target_values="categories").classes
        for prediction in (target, 255 - target)
    )
    assert perfect is not None
    assert useless is not None
    assert perfect.mean.as_dict() == {"accuracy": 1, "iou": 1, "dice": 1}
    assert useless.mean.as_dict() == {"accuracy": 0, "iou": 0, "dice": 0}
    assert perfect.constant.as_dict() == {"accuracy": 0.75, "iou": 0.25, "dice": pytest.approx(0.4)}


def test_values_that_are_no_class_are_wrong_and_classes_that_are_nowhere_do_not_count() -> None:
    target = np.array([[0, 0, 1, 1]], np.uint8)
    prediction = np.array([[0, 9, 1, 9]], np.uint8)
    scored = ended(evaluate_classes([_pair(prediction, target)], Classes(values=((0,), (1,), (5,)))))
    assert scored.all_pixels.as_dict() == {"accuracy": 0.5, "iou": 0.5, "dice": pytest.approx(2 / 3)}
    assert scored.classes[2].iou is None


def test_images_and_pixels_are_averaged_apart() -> None:
    small, large = np.ones((10, 10), np.uint8), np.ones((10, 30), np.uint8)
    small[0, 0] = large[0, 0] = 0
    pairs = [_pair(small, small, "a"), _pair(np.zeros_like(large), large, "b")]
    scored = ended(evaluate_classes(pairs, Classes(values=((0,), (1,)))))
    assert scored.mean.iou == 0.5
    assert scored.all_pixels.iou == pytest.approx(99 / (99 + 299))


def test_invalid_pixels_do_not_count() -> None:
    target = np.zeros((20, 20), np.uint8)
    target[:5] = 1
    prediction = target.copy()
    prediction[10:] = 1
    opacity = np.full((20, 20), 255, np.uint8)
    opacity[10:] = 0
    pair = Pair(MemorySource(prediction), MemorySource(target, opacity=opacity), "pair")
    scored = ended(evaluate_classes([pair], Classes(values=((0,), (1,)))))
    assert scored.all_pixels.as_dict() == {"accuracy": 1, "iou": 1, "dice": 1}
    assert sum(overlap.pixels for overlap in scored.classes) == 200


def test_colours_are_classes_of_several_channels() -> None:
    colours = np.array([[255, 0, 0], [0, 255, 0], [9, 9, 9]], np.uint8)
    target = RNG.integers(0, 3, (50, 40))
    prediction = np.where(RNG.random(target.shape) < 0.5, target, 0)
    pair = _pair(np.moveaxis(colours[prediction], -1, 0), np.moveaxis(colours[target], -1, 0))
    found = classes_of([pair], "categories")
    assert found is not None
    assert found.values == ((0, 255, 0), (9, 9, 9), (255, 0, 0))
    scored = ended(evaluate_classes([pair], found))
    assert scored.images[0].accuracy == pytest.approx((prediction == target).mean())


def _labels(numbers: int, dtype: str = "uint16") -> AnyArray:
    labels = np.zeros((120, 120), dtype)
    for number in range(numbers):
        y, x = divmod(number, 10)
        labels[y * 12 + 2 : y * 12 + 9, x * 12 + 2 : x * 12 + 9] = number + 1
    return labels


@pytest.mark.parametrize("numbers", [27, 90])
@pytest.mark.parametrize("on", [1, 255])
def test_labels_of_objects_against_a_mask_are_scored_as_foreground(
    numbers: int, on: int, caplog: pytest.LogCaptureFixture
) -> None:
    target = _labels(numbers)
    mask = (np.roll(target, 2, axis=1) > 0).astype(np.uint8) * on
    with caplog.at_level(logging.WARNING):
        result = evaluate_pairs([_pair(mask, target)])
    assert result.classes is not None
    assert result.classes.all_pixels.iou == pytest.approx(_overlap(mask > 0, target > 0, 1)[0])
    assert result.data_range == (0, 1)
    assert result.mean.mae == pytest.approx(((mask > 0) != (target > 0)).mean())
    assert "what is labelled is compared as one class" in caplog.text
    assert "compared as they are stored" not in caplog.text


def test_foreground_can_be_asked_for() -> None:
    target = _labels(27)
    result = evaluate_pairs([_pair(_labels(27)[::-1], target)], target_values="foreground")
    assert result.classes is not None
    assert [overlap.value for overlap in result.classes.classes] == [(0,), (1,)]


@pytest.mark.parametrize(
    ("prediction", "target"),
    [
        (RNG.integers(0, 256, (40, 50), np.uint8), RNG.integers(0, 256, (40, 50), np.uint8)),
        (RNG.integers(0, 256, (40, 50), np.uint8), RNG.choice([0, 255], (40, 50)).astype(np.uint8)),
        (RNG.random((40, 50)), RNG.choice([0, 1], (40, 50)).astype(np.uint8)),
        (RNG.random((40, 50)), RNG.random((40, 50))),
        (RNG.integers(0, 20, (40, 50), np.uint8), RNG.integers(0, 20, (40, 50), np.uint8)),
    ],
)
def test_intensities_are_not_taken_for_classes(prediction: AnyArray, target: AnyArray) -> None:
    result = evaluate_pairs([_pair(prediction, target)], data_range=(0, 255))
    assert result.classes is None
    assert "classes" not in result.as_dict()


def test_what_is_decided_is_said_and_can_be_changed(caplog: pytest.LogCaptureFixture) -> None:
    target = np.kron(RNG.choice([0, 1, 2], (8, 10)), np.ones((5, 5))).astype(np.uint8)
    with caplog.at_level(logging.WARNING):
        assert evaluate_pairs([_pair(target, target)]).classes is not None
    assert "3 different values, so each is scored as a class too; --target-values intensities" in caplog.text
    caplog.clear()
    assert evaluate_pairs([_pair(target, target)], target_values="intensities").classes is None
    assert caplog.text == ""


def test_choices_that_cannot_be_are_refused() -> None:
    noise = RNG.random((40, 50))
    with pytest.raises(ImageError, match="no integers, so they are no categories"):
        evaluate_pairs([_pair(noise, noise)], target_values="categories")
    with pytest.raises(SettingsError, match="target-values is 'labels'; choose auto, intensities"):
        evaluate_pairs([_pair(noise, noise)], target_values="labels")  # type: ignore[arg-type]


def test_a_model_says_whether_its_target_are_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By one that changes nothing: the class of the greatest of three intensities."""
    values = RNG.integers(0, 3, (40, 50))
    one_hot = (np.arange(3)[:, None, None] == values).astype(np.uint8) * 255
    model = identity_model(channels=3)
    save_model(
        replace(model, target=replace(model.target, mapping=CategoryMapping(dtype="uint8", values=((0,), (1,), (2,))))),
        tmp_path / "m.safetensors",
    )
    Image.fromarray(np.moveaxis(one_hot, 0, -1)).save(tmp_path / "source.png")
    wanted = values.astype(np.uint8)
    wanted[:10] = 2
    tifffile.imwrite(tmp_path / "target.tif", wanted)
    files = ["--source", str(tmp_path / "source.png"), "--target", str(tmp_path / "target.tif")]
    assert run(["evaluate", "--model", str(tmp_path / "m.safetensors"), *files, "--json"]) == 0
    said = capsys.readouterr()
    result = json.loads(said.out)
    accuracy = (values == wanted).mean()
    assert result["mean"]["accuracy"] == result["all_pixels"]["accuracy"] == pytest.approx(accuracy)
    assert [entry["value"] for entry in result["classes"]] == [0, 1, 2]
    assert result["images"][0]["iou"] == pytest.approx(np.mean([entry["iou"] for entry in result["classes"]]))
    assert result["warnings"] == []
    assert f"mean: accuracy {accuracy:.4f}" in said.err
    assert "class 2: iou" in said.err
