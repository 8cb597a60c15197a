"""The ablation benchmark: classes of label images, the FCN score, the tables, the budget, and all of it together."""

from __future__ import annotations

import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage.color import rgb2lab

from benchmarks.ablation import Request, parsed, planned, prepared, processes, run
from benchmarks.ablation_configurations import (
    ENCODER_DECODER_L1,
    GAN,
    L1,
    L1_CGAN,
    LABELS_L1,
    PATCH_286,
    PIXEL,
    TABLES,
    Configuration,
    distinct_configurations,
    training_config,
)
from benchmarks.ablation_plan import Plan, affordable_steps, load_plan, makespan, require_agreement, save_plan
from benchmarks.ablation_report import Found, orderings
from benchmarks.ablation_training import _training_data
from benchmarks.color_histograms import intersections, lab, mean_chroma
from benchmarks.fcn_score import (
    FcnScores,
    ScorerConfig,
    confusion_matrices,
    fcn_scores,
    predicted_classes,
    scores_of,
    training_steps,
)
from benchmarks.labelled_photos import class_map, colored, nearest_classes, read_labelled_photos, recovered_palette
from pix2pix_training.array_source import whole_plane
from pix2pix_training.errors import ImageError, SettingsError

PALETTE = np.array([(0, 0, 200), (0, 60, 255), (255, 80, 0), (120, 255, 140), (170, 0, 0)], np.uint8)
Bytes = NDArray[np.uint8]


def rectangles(seed: int, size: int = 160) -> Bytes:
    """A class map (size, size) of rectangles of at least 16 pixels on class 0."""
    rng = np.random.default_rng(seed)
    classes = np.zeros((size, size), np.uint8)
    for number in range(12):
        y, x = rng.integers(0, size - 48, 2)
        height, width = rng.integers(16, 48, 2)
        classes[y : y + height, x : x + width] = 1 + number % (len(PALETTE) - 1)
    return classes


def as_jpeg(image: Bytes, size: int) -> Bytes:
    """A picture (3, Y, X) resized with blur and compressed with chroma at half the resolution."""
    picture = Image.fromarray(np.moveaxis(image, 0, -1)).resize((size, size), Image.Resampling.BILINEAR)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=80, subsampling=2)
    return np.moveaxis(np.asarray(Image.open(file)), -1, 0)


def test_palette_and_classes_survive_resizing_and_compression() -> None:
    truth = [rectangles(seed) for seed in range(4)]
    labels = [as_jpeg(colored(classes[None], PALETTE)[0], 240) for classes in truth]
    palette = recovered_palette(labels)
    assert len(palette) == len(PALETTE)
    distance = np.abs(palette[:, None].astype(int) - PALETTE[None]).max(axis=2)
    assert sorted(distance.argmin(axis=1)) == list(range(len(PALETTE)))
    assert distance.min(axis=1).max() <= 6
    enlarged = np.asarray(Image.fromarray(truth[0]).resize((240, 240), Image.Resampling.NEAREST))
    found = distance.argmin(axis=1)[class_map(labels[0], palette)]
    assert (found == enlarged).mean() > 0.97


def test_a_mixture_at_a_border_is_none_of_the_absent_classes() -> None:
    columns = [(0, 0, 200)] * 19 + [(170, 0, 0), (128, 40, 100)] + [(255, 80, 0)] * 19
    label = np.repeat(np.array(columns, np.uint8).T[:, None], 40, axis=1)
    assert set(np.unique(class_map(label, PALETTE))) == {0, 2}


def test_photos_are_not_taken_for_labels() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 64, 64), np.uint8)
    with pytest.raises(ImageError, match="0 separate colours"):
        recovered_palette([noise])


def test_scores_of_a_known_confusion_matrix() -> None:
    confusion = np.array([[3, 1, 0], [1, 5, 0], [0, 0, 0]])
    pixel, by_class, iou = scores_of(confusion)
    assert pixel == pytest.approx(8 / 10)
    assert by_class == pytest.approx((3 / 4 + 5 / 6) / 2)
    assert iou == pytest.approx((3 / 5 + 5 / 7) / 2)


def test_confusion_counts_truth_in_rows() -> None:
    truth = np.array([[[0, 0], [1, 2]]], np.uint8)
    predicted = np.array([[[0, 1], [1, 1]]], np.uint8)
    assert confusion_matrices(predicted, truth, 3).tolist() == [[[1, 1, 0], [0, 1, 0], [0, 1, 0]]]


def test_errors_come_from_differences_between_images() -> None:
    alike = np.array([[[3, 1], [0, 4]]] * 5)
    unlike = np.array([[[4, 0], [0, 4]], [[0, 4], [4, 0]]] * 5)
    assert fcn_scores(alike).errors == pytest.approx((0, 0, 0))
    scores = fcn_scores(unlike)
    assert scores.values[0] == pytest.approx(0.5)
    assert scores.errors[0] == pytest.approx(0.5 / np.sqrt(10), rel=0.2)


def test_the_scorer_learns_to_tell_classes_by_colour() -> None:
    classes = np.stack([rectangles(seed, 64) for seed in range(6)])
    photos = colored(classes, PALETTE)
    config = ScorerConfig(steps=40, base_width=4, depth=2)
    for network in training_steps(photos, classes, len(PALETTE), config, torch.device("cpu")):
        scorer = network
    right = (predicted_classes(scorer, photos) == classes).mean()
    assert right > (classes == 0).mean() + 0.1


def test_configurations_in_several_tables_are_one() -> None:
    rows = [row for table in TABLES for row in table.rows]
    distinct = distinct_configurations(TABLES)
    assert (len(rows), len(distinct)) == (16, 13)
    assert [row.configuration for row in rows].count(L1_CGAN) == 3
    assert len({configuration.name for configuration in distinct}) == 13


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        (L1, ("unet", "none", 100, True, 3)),
        (GAN, ("unet", "vanilla", 0, False, 3)),
        (L1_CGAN, ("unet", "vanilla", 100, True, 3)),
        (ENCODER_DECODER_L1, ("encoder-decoder", "none", 100, True, 3)),
        (PIXEL, ("unet", "vanilla", 100, True, 0)),
        (PATCH_286, ("unet", "vanilla", 100, True, 5)),
    ],
)
def test_training_differs_from_the_paper_in_what_is_ablated_alone(
    configuration: Configuration, expected: tuple[object, ...]
) -> None:
    config = training_config(configuration, base_width=8, size=128, steps=30, seed=2)
    objective = config.objective
    assert expected == (
        config.generator.architecture,
        objective.gan_mode,
        objective.l1_weight,
        objective.conditional,
        config.discriminator.layers,
    )
    assert (config.generator.depth, config.generator.dropout, config.batch_size, config.keep) == (7, "paper", 1, "last")
    assert (config.generator.base_width, config.discriminator.base_width, config.steps, config.seed) == (8, 8, 30, 2)


def test_time_is_divided_into_equal_steps() -> None:
    assert makespan([3, 2, 2], 2) == 4
    assert affordable_steps(100, [1, 2, 2], jobs=1) == 20
    assert affordable_steps(100, [1, 2, 2], jobs=2) == 33
    with pytest.raises(SettingsError, match="too short"):
        affordable_steps(4, [1, 2, 2], jobs=1)


def test_an_output_folder_keeps_to_its_plan(tmp_path: Path) -> None:
    plan = Plan(size=128, base_width=8, held_out=5, steps=70, scorer=ScorerConfig(steps=9))
    save_plan(plan, tmp_path / "plan.json")
    assert load_plan(tmp_path / "plan.json") == plan
    require_agreement(plan, {"steps": None, "size": 128, "scorer_steps": 9}, tmp_path)
    with pytest.raises(SettingsError, match="was begun with steps 70, now it is 80"):
        require_agreement(plan, {"steps": 80}, tmp_path)


def found_with(values: list[float]) -> dict[Configuration, Found]:
    """Findings for the table of receptive fields; images do not differ, so every difference is clear."""
    return {
        row.configuration: Found(
            configuration=row.configuration,
            scores=FcnScores(values=(value,) * 3, redrawn=np.full((10, 3), value)),
            seeds={},
            trainings={},
            outputs=np.zeros((0, 3, 1, 1), np.uint8),
        )
        for row, value in zip(TABLES[2].rows, values, strict=True)
    }


def test_ordering_is_held_against_the_papers() -> None:
    by_pixel = orderings(TABLES[2], found_with([0.1, 0.3, 0.4, 0.2]))[0]
    assert by_pixel.ours == by_pixel.paper == ("70 x 70", "16 x 16", "286 x 286", "1 x 1")
    assert (by_pixel.same, by_pixel.compared, by_pixel.clear_same, by_pixel.clear) == (6, 6, 6, 6)
    assert by_pixel.kendall_tau == pytest.approx(1)
    by_pixel, _, by_iou = orderings(TABLES[2], found_with([0.4, 0.2, 0.1, 0.3]))
    assert by_pixel.ours == ("1 x 1", "286 x 286", "16 x 16", "70 x 70")
    assert by_pixel.same == 0
    assert by_pixel.kendall_tau == pytest.approx(-1)
    assert by_iou.compared == 5  # the paper's class IoU is the same for 16 and 70


@pytest.fixture
def facades(tmp_path: Path) -> Path:
    """Eight pairs of 128 pixels; the photo shows each class in a brightness of its own."""
    folder = tmp_path / "facades"
    for side in ("label", "photo"):
        (folder / side).mkdir(parents=True)
    brightness = np.array([(40,) * 3, (90,) * 3, (140,) * 3, (190,) * 3, (240,) * 3], np.uint8)
    for number in range(8):
        classes = rectangles(number, 128)[None]
        for side, colors in (("label", PALETTE), ("photo", brightness)):
            Image.fromarray(np.moveaxis(colored(classes, colors)[0], 0, -1)).save(folder / side / f"{number}.png")
    return folder


def test_pairs_are_split_the_same_way_every_time(facades: Path) -> None:
    first = read_labelled_photos(facades, size=64, held_out=3)
    second = read_labelled_photos(facades, size=128, held_out=3)
    assert first.names == second.names
    assert (len(first.photos[first.training]), len(first.classes[first.evaluation])) == (5, 3)
    assert first.photos.shape == (8, 3, 64, 64)
    assert first.label_images(first.evaluation).shape == (3, 3, 64, 64)
    with pytest.raises(ImageError, match="8 of 8 pairs cannot be held out"):
        read_labelled_photos(facades, size=64, held_out=8)


@pytest.fixture
def request_for(facades: Path, tmp_path: Path) -> Request:
    """All tables with the smallest networks, for two steps each."""
    return Request(
        data=facades,
        out=tmp_path / "out",
        base_width=1,
        held_out=2,
        steps=2,
        scorer_steps=2,
        scorer_width=2,
        device="cpu",
    )


def test_the_whole_program_and_going_on_with_it(request_for: Request) -> None:
    out = request_for.out
    with ThreadPoolExecutor(1) as pool:
        run(replace(request_for, tables=TABLES[1:2]), pool)
        kept = out / "l1-seed0" / "model.safetensors"
        written = kept.stat().st_mtime_ns
        (out / "l1-cgan-seed0" / "result.json").unlink()
        text = run(replace(request_for, steps=None), pool)
    assert kept.stat().st_mtime_ns == written
    report = json.loads((out / "ablation.json").read_text(encoding="utf-8"))
    configurations = report["configurations"].values()
    assert len(configurations) == 13
    assert {entry["trainings"]["0"]["steps"] for entry in configurations} == {2}
    assert all(0 <= value <= 1 for entry in configurations for value in entry["scores"]["values"])
    assert next(iter(report["references"])).startswith("real photos")
    assert "| U-Net, L1+cGAN |" in text
    assert "0.55 / 0.20 / 0.14" in text
    assert "0.83 / 0.36 / 0.29" in text
    assert text.count("| 0.81 / 0.69 / 0.70 |") == 1
    with Image.open(out / "ablation.png") as picture:
        assert picture.width > 12 * 256


def test_steps_follow_from_minutes_and_are_kept(request_for: Request) -> None:
    by_time = replace(request_for, tables=TABLES[1:2], minutes=600, steps=None, scorer_steps=None)
    prepared(by_time)
    with ThreadPoolExecutor(1) as pool:
        plan = planned(by_time, pool, started=time.monotonic())
        again = planned(replace(by_time, minutes=1), pool, started=time.monotonic())
    assert plan == again
    assert plan.steps > 1000
    assert plan.scorer.steps > 1000


def test_a_training_has_the_threads_that_were_asked_for() -> None:
    ours = torch.get_num_threads()
    with processes(jobs=1, threads=ours + 1) as pool:
        assert pool.submit(torch.get_num_threads).result() == ours + 1
    assert torch.get_num_threads() == ours


def test_a_size_without_logits_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed(["--data", str(tmp_path), "--out", str(tmp_path), "--size", "64"])
    assert "at least 128" in capsys.readouterr().err
    assert parsed(["--data", ".", "--out", ".", "--tables", "generator"]).tables == TABLES[1:2]


def test_labels_are_learnt_from_photos_and_read_by_the_nearest_colour(facades: Path) -> None:
    data = read_labelled_photos(facades, size=64, held_out=3)
    (pair, *_) = _training_data(data, LABELS_L1).split.training
    assert np.array_equal(pair.source.read(whole_plane(pair.source)), data.photos[0])
    assert np.array_equal(pair.target.read(whole_plane(pair.target)), data.label_images(data.training)[0])
    labels = data.label_images(data.evaluation).astype(int) + np.random.default_rng(0).integers(-9, 10, (3, 3, 64, 64))
    found = nearest_classes(labels.clip(0, 255).astype(np.uint8), data.palette)
    assert np.array_equal(found, data.classes[data.evaluation])


def test_colors_are_those_of_an_independent_program() -> None:
    photos = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 16), dtype=np.uint8)
    expected = np.moveaxis(rgb2lab(np.moveaxis(photos, 1, -1)), -1, 1)
    assert np.allclose(lab(photos), expected, atol=0.02)


def test_grey_photos_have_little_in_common_with_coloured_ones() -> None:
    colored = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)
    grey = np.repeat(colored.mean(axis=1, keepdims=True).astype(np.uint8), 3, axis=1)
    assert intersections(colored, colored) == pytest.approx((1, 1, 1))
    assert max(intersections(grey, colored)[1:]) < 0.1
    assert mean_chroma(grey) < 0.1 < 20 < mean_chroma(colored)
