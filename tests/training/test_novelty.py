"""Whether an image is like those of training: what is measured, what it tells apart, and how models keep it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from scipy.ndimage import gaussian_filter

from pix2pix_training.array_source import AnyArray, MemorySource
from pix2pix_training.errors import ImageError, ModelFileError
from pix2pix_training.in_words import card_lines
from pix2pix_training.intensity import dtype_mapping
from pix2pix_training.model_file import load_model, save_model
from pix2pix_training.novelty import CELL_PX, LEAST_YARDSTICK, NoveltyMeasure, feature_count
from pix2pix_training.novelty_survey import Cells, KnownImage, measured_novelty, with_novelty
from pix2pix_training.regions import Region
from tests.product.conftest import model_for
from tests.training.runs import data_of, pair_of, trained

SIDE = 192


def texture(seed: int, side: int = SIDE, channels: int = 2) -> AnyArray:
    """Blobs of a certain size and contrast; shape (C, side, side), uint8."""
    rng = np.random.default_rng(seed)
    blobs = gaussian_filter(rng.normal(size=(channels, side, side)), (0, 2, 2))
    pixels: AnyArray = np.clip(110 + 300 * blobs + rng.normal(0, 4, blobs.shape), 0, 255).astype(np.uint8)
    return pixels


def known(image: AnyArray) -> KnownImage:
    return KnownImage(image=MemorySource(image), planes=[()], mapping=dtype_mapping(image.dtype, image.shape[0]))


def cells_of(image: AnyArray, nodata: float | None = None) -> Cells:
    return Cells(MemorySource(image, nodata=nodata), dtype_mapping(image.dtype, image.shape[0]))


def judged(
    measure: NoveltyMeasure, image: AnyArray, nodata: float | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    cells = cells_of(image, nodata)
    return cells.scores(measure, Region.whole(*cells.size), ())


def scores(measure: NoveltyMeasure, image: AnyArray, nodata: float | None = None) -> NDArray[np.float64]:
    return judged(measure, image, nodata)[0]


@pytest.fixture(scope="module")
def measure() -> NoveltyMeasure:
    found = measured_novelty([known(texture(n)) for n in range(8)], [known(texture(n)) for n in range(20, 27)])
    assert found is not None
    return found


def novel_share(measure: NoveltyMeasure, image: AnyArray) -> float:
    return float((measure.p_values(*judged(measure, image)) < 0.01).mean())


def test_the_yardstick_are_images_that_are_held_out(measure: NoveltyMeasure) -> None:
    assert (measure.traits.yardstick, measure.traits.images) == ("held-out", 7)
    assert measure.traits.distances == 7 * (SIDE // CELL_PX) ** 2
    assert measure.weights["cells"].shape == (8 * (SIDE // CELL_PX) ** 2, feature_count(2))


def test_images_like_those_of_training_are_hardly_novel(measure: NoveltyMeasure) -> None:
    assert np.mean([novel_share(measure, texture(seed)) for seed in range(40, 48)]) < 0.05


@pytest.mark.parametrize(
    "change",
    [
        lambda image: gaussian_filter(image, (0, 3, 3)),
        lambda image: np.clip(image + np.random.default_rng(0).normal(0, 40, image.shape), 0, 255).astype(np.uint8),
        lambda image: np.minimum(image, 255 - 128) + 128,
        lambda image: image // 4,
        lambda image: np.repeat(image[:1], 2, 0),
        lambda image: image.repeat(4, 1).repeat(4, 2)[:, :SIDE, :SIDE],
    ],
    ids=["blur", "noise", "brightness", "dark", "channel", "magnified"],
)
def test_other_images_are_novel(measure: NoveltyMeasure, change: object) -> None:
    assert novel_share(measure, change(texture(40))) > 0.9  # type: ignore[operator]


def test_only_the_part_that_is_strange_is_novel(measure: NoveltyMeasure) -> None:
    image = texture(41, 384)
    image[:, :128, :128] = 255 - image[:, :128, :128] // 3
    novel = measure.p_values(*judged(measure, image)) < 0.01
    assert novel[:4, :4].all()
    assert novel[5:].mean() < 0.05


def test_features_do_not_change_with_quarter_turns_and_mirror_images(measure: NoveltyMeasure) -> None:
    image = texture(42)
    turned = np.ascontiguousarray(np.rot90(image, axes=(1, 2))[:, :, ::-1])
    expected = np.rot90(scores(measure, image))[:, ::-1]
    np.testing.assert_allclose(scores(measure, turned), expected, rtol=1e-4)


def test_rectangles_of_cells_give_what_the_whole_image_gives(measure: NoveltyMeasure) -> None:
    image = texture(43, 250)[:, :, :201]
    cells = cells_of(image)
    assert cells.size == (8, 7)
    whole = scores(measure, image)
    for part in Region.whole(*cells.size).tiles(3, 2):
        np.testing.assert_allclose(cells.scores(measure, part, ())[0], whole[part.slices], rtol=1e-9)


def test_cells_with_hardly_valid_pixels_are_not_judged(measure: NoveltyMeasure) -> None:
    image = texture(44)
    image[image == 0] = 1
    image[:, :70] = 0
    found = scores(measure, image, nodata=0)
    assert np.isnan(found[:3]).all()  # the third row of cells reaches from 64 to 95, and 6 rows of it are invalid
    assert np.isfinite(found[3:]).all()
    assert np.isnan(measure.p_values(*judged(measure, image, nodata=0))[:3]).all()


def test_an_image_that_is_emptier_than_any_is_novel_though_each_part_of_it_is_known() -> None:
    def spots(seed: int) -> AnyArray:
        image = np.full((1, SIDE, SIDE), 10, np.uint8)
        image[:, 32:96, 32:96] = texture(seed, 64, 1) // 2
        return image

    found = measured_novelty([known(spots(n)) for n in range(16)], [known(spots(n)) for n in range(16, 24)])
    assert found is not None and found.traits.least_content is not None
    assert novel_share(found, spots(30)) < 0.1
    assert novel_share(found, np.full_like(spots(30), 10)) == 1
    few = measured_novelty([known(spots(n)) for n in range(8)], [known(spots(n)) for n in range(8, 15)])
    assert few is not None and few.traits.least_content is None


def test_an_image_smaller_than_a_cell_is_one_cell(measure: NoveltyMeasure) -> None:
    assert scores(measure, texture(45, 20)).shape == (1, 1)


def test_for_want_of_held_out_images_a_part_of_the_training_images_is_the_yardstick() -> None:
    found = measured_novelty([known(texture(n, 512)) for n in range(6)], [known(texture(20, 64))])
    assert found is not None
    assert found.traits.yardstick == "training"
    assert novel_share(found, texture(50, 512)) < 0.1


def test_small_images_give_no_measure() -> None:
    assert measured_novelty([known(texture(0, 64))], []) is None
    assert measured_novelty([], []) is None


def test_a_run_keeps_the_measure_of_its_images_in_the_model_file(tmp_path: Path) -> None:
    def pairs(seeds: range) -> list[AnyArray]:
        return [texture(seed, 256, 1) for seed in seeds]

    data = data_of(
        [pair_of(image, image, str(n)) for n, image in enumerate(pairs(range(3)))],
        [pair_of(image, image, str(n)) for n, image in enumerate(pairs(range(10, 14)))],
    )
    trained(tmp_path / "run", data)
    model = load_model(tmp_path / "run" / "model.safetensors")
    assert model.novelty is not None
    assert (model.novelty.traits.yardstick, model.novelty.traits.images) == ("held-out", 4)
    assert any(line.startswith("novelty: compared with 192 places") for line in card_lines(model))
    assert novel_share(model.novelty, texture(20, 256, 1)) < 0.1
    assert novel_share(model.novelty, 255 - texture(20, 256, 1) // 4) > 0.9

    save_model(model, tmp_path / "again.safetensors")
    again = load_model(tmp_path / "again.safetensors").novelty
    assert again is not None and again.traits == model.novelty.traits
    assert all(torch.equal(again.weights[name], tensor) for name, tensor in model.novelty.weights.items())
    with safe_open(tmp_path / "again.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["pix2pix"])["format_version"] == 2

    wrong = replace(model.novelty, traits=replace(model.novelty.traits, distances=LEAST_YARDSTICK + 1))
    save_model(replace(model, novelty=wrong), tmp_path / "wrong.safetensors")
    with pytest.raises(ModelFileError, match=r"novelty\.yardstick"):
        load_model(tmp_path / "wrong.safetensors")


def test_a_model_that_has_none_gets_a_measure_from_images_like_its_own() -> None:
    images = [pair_of(image, image) for image in (texture(seed, 256, 1) for seed in range(9))]
    split = data_of(images[:6], images[6:]).split
    found = with_novelty(model_for(1, 1), split).novelty
    assert found is not None and found.traits.yardstick == "held-out"
    assert novel_share(found, texture(20, 256, 1)) < 0.1
    assert novel_share(found, texture(20, 256, 1) // 4) > 0.9
    with pytest.raises(ImageError, match="has 1 channels of uint8, and the model takes 2 of uint8"):
        with_novelty(model_for(2, 1), split)
    with pytest.raises(ImageError, match="too few pixels"):
        with_novelty(model_for(1, 1), data_of(images[:1]).split)


def test_a_run_on_small_images_has_no_measure(tmp_path: Path) -> None:
    trained(tmp_path / "run")
    assert load_model(tmp_path / "run" / "model.safetensors").novelty is None
