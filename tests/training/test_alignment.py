"""Targets are laid on their sources where that is certain, and only there; what is read of them is what was found."""

from __future__ import annotations

import csv
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from pix2pix_training.aligned_source import AlignedSource, Transform
from pix2pix_training.alignment import Estimate, estimates
from pix2pix_training.array_source import AnyArray, MemorySource, cropped_from, whole_plane
from pix2pix_training.config import TrainingConfig
from pix2pix_training.errors import CheckpointError
from pix2pix_training.events import Finished, PreviewReady
from pix2pix_training.image_survey import result_of
from pix2pix_training.network_config import DiscriminatorConfig, GeneratorConfig
from pix2pix_training.pairs import Pair, Split, split_region
from pix2pix_training.regions import Region
from pix2pix_training.training import TrainingData, train

SIDE = 160
MOVES = [(4.0, -3.0, 0.6), (-5.0, 2.5, -0.8), (0.0, 5.5, 0.3), (3.0, 3.0, -0.4)]


def objects(seed: int, move: tuple[float, float, float] = (0, 0, 0)) -> NDArray[np.float64]:
    """Blobs in [0, 1], as they lie after a shift (down, right) in pixels and a turn in degrees against the clock."""
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal((SIDE + 40, SIDE + 40)), 5)
    down, right, degrees = move
    turn, middle = np.radians(degrees), (SIDE - 1) / 2
    y, x = np.indices((SIDE, SIDE)) - middle
    y, x = y - down, x - right
    places = np.cos(turn) * y + np.sin(turn) * x + middle + 20, -np.sin(turn) * y + np.cos(turn) * x + middle + 20
    return np.asarray(np.clip(map_coordinates(noise / noise.std(), places, order=3), 0, 1))


def cell_pair(seed: int, move: tuple[float, float, float] = (0, 0, 0), *, target: int | None = None) -> Pair:
    """Dark objects with a bright rim and noise, and a stain of them."""
    there = objects(seed)
    noise = np.random.default_rng([seed, 1]).normal(0, 6, there.shape)
    source = np.clip(140 - 60 * there + 80 * (there - gaussian_filter(there, 4)) + noise, 0, 255).astype(np.uint8)
    stain = (1000 + 3000 * objects(seed if target is None else target, move)).astype(np.uint16)
    return Pair(MemorySource(source, name=f"s{seed}"), MemorySource(stain, name=f"t{seed}"), str(seed))


def whole(image: AlignedSource) -> AnyArray:
    return image.read(whole_plane(image))


def test_a_target_is_read_where_it_lies() -> None:
    values = np.arange(30 * 40, dtype=np.uint16).reshape(30, 40) ** 2 % 4099
    image = AlignedSource(MemorySource(values), Transform(shift=(3, -2)), nearest=False)
    pixels, opacity = image.read_with_opacity(Region(0, 30, 0, 40))
    np.testing.assert_array_equal(pixels[0, :27, 2:], values[3:, :-2])
    assert opacity is not None
    np.testing.assert_array_equal(opacity[:27, 2:], 255)
    assert not opacity[27:].any()
    assert not opacity[:, :2].any()


@pytest.mark.parametrize("nearest", [False, True])
def test_a_pixel_does_not_depend_on_what_else_is_read(nearest: bool) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (2, 50, 60)).astype(np.uint16)
    transform = Transform(shift=(1.3, -2.6), stretch=(0.01, -0.02, 0.02, 0.01))
    image = AlignedSource(MemorySource(values), transform, nearest=nearest)
    pixels, opacity = image.read_with_opacity(whole_plane(image))
    assert opacity is not None
    for region in Region.whole(50, 60).tiles(17, 23):
        part, seen = image.read_with_opacity(region)
        np.testing.assert_array_equal(part, pixels[:, *region.slices])
        np.testing.assert_array_equal(seen, opacity[region.slices])


def test_a_smooth_image_moved_there_and_back_is_the_same() -> None:
    smooth = gaussian_filter(np.random.default_rng(0).standard_normal((80, 80)), 3).astype(np.float32)
    there = AlignedSource(MemorySource(smooth), Transform(shift=(0.4, -0.7)), nearest=False)
    back = AlignedSource(MemorySource(whole(there)), Transform(shift=(-0.4, 0.7)), nearest=False)
    np.testing.assert_allclose(whole(back)[0, 5:-5, 5:-5], smooth[5:-5, 5:-5], atol=0.01 * smooth.std())


def test_classes_stay_classes() -> None:
    classes = np.random.default_rng(0).choice(np.array([3, 200], np.uint8), (64, 64))
    image = AlignedSource(MemorySource(classes), Transform(shift=(0.5, 1.4)), nearest=True)
    assert set(np.unique(whole(image))) == {3, 200}


def test_what_has_no_data_spreads_to_what_is_made_of_it_and_no_further() -> None:
    values = np.ones((40, 40), np.float32)
    values[20, 20] = np.nan
    image = AlignedSource(MemorySource(values), Transform(shift=(0.5, 0.5)), nearest=False)
    pixels, opacity = image.read_with_opacity(Region(5, 35, 5, 35))
    assert opacity is not None
    assert (opacity == 0).sum() == 16
    np.testing.assert_array_equal(pixels[0][opacity > 0], 1)
    nodata = MemorySource(np.where(np.isnan(values), 7, 9).astype(np.uint8), nodata=7)
    hidden = AlignedSource(nodata, Transform(shift=(0.5, 0.5)), nearest=False)
    stored, shown = hidden.read_with_opacity(Region(5, 35, 5, 35))
    assert shown is not None
    assert not (stored[0][shown > 0] == 7).any()


@pytest.mark.parametrize("align", ["shift", "affine"])
def test_moved_targets_are_found(align: str) -> None:
    moves = MOVES if align == "affine" else [(y, x, 0) for y, x, _ in MOVES]
    found = result_of(estimates([[cell_pair(seed, move)] for seed, move in enumerate(moves)], align))  # type: ignore[arg-type]
    for move, each in zip(moves, found, strict=True):
        assert each.has_moved
        np.testing.assert_allclose(each.transform.shift, move[:2], atol=0.5)
        assert abs(each.transform.rotation_degrees + move[2]) < 0.25
        assert each.disagreement_px < 1


def test_registered_targets_stay_and_others_are_doubtful() -> None:
    known = [[cell_pair(seed)] for seed in range(4)]
    found = result_of(estimates([*known, [cell_pair(9, target=10)]], "affine"))
    assert not any(each.has_moved for each in found)
    assert not any(each.is_doubtful for each in found[:4])
    blank = Pair(
        MemorySource(np.zeros((SIDE, SIDE), np.uint8)), MemorySource(np.zeros((SIDE, SIDE), np.uint8)), "blank"
    )
    (nothing,) = result_of(estimates([[blank]], "affine"))
    assert nothing.is_doubtful
    assert not nothing.has_moved


def test_parts_of_an_image_and_planes_of_a_stack_are_moved_alike() -> None:
    one = cell_pair(0, (4, -3, 0.6))
    split = split_region(one, Region(112, SIDE, 0, SIDE), patch_size=32)
    assert cropped_from(split.validation[0].target)[0] is one.target
    stack = Pair(
        MemorySource(np.stack([one.source.read(whole_plane(one.source))[0]] * 3), axes="ZYX"),
        MemorySource(np.stack([one.target.read(whole_plane(one.target))[0]] * 3), axes="ZYX"),
        "stack",
    )
    wide = result_of(estimates([[stack], [cell_pair(1)], [cell_pair(2)]], "affine"))[0]
    np.testing.assert_allclose(wide.transform.shift, (4, -3), atol=0.5)


CONFIG = TrainingConfig(
    generator=GeneratorConfig(base_width=4, depth=3),
    discriminator=DiscriminatorConfig(base_width=4),
    steps=4,
    patch_size=32,
    checkpoint_every=2,
    validate_every=2,
    validation_size=64,
    align="affine",
)


@pytest.fixture(scope="module")
def split() -> Split:
    pairs = [cell_pair(seed, move) for seed, move in enumerate(MOVES)]
    return Split((*pairs[:3], cell_pair(9, target=10)), (pairs[3],))


def run(
    config: TrainingConfig, split: Split, out: Path, *, resume: bool = False, overwrite: bool = False
) -> list[object]:
    return list(train(config, TrainingData(split=split), out, device="cpu", resume=resume, overwrite=overwrite))


def test_a_run_writes_and_says_what_it_moved_and_goes_on_alike(
    split: Split, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        events = run(CONFIG, split, tmp_path / "whole")
    assert "align: 4 of 5 targets are taken from where they fit their sources" in caplog.text
    assert any("doubtful" in line and "t9" in line for line in caplog.messages)
    rows = list(csv.DictReader((tmp_path / "whole" / "alignment.csv").open()))
    assert [row["target"] for row in rows] == ["t0", "t1", "t2", "t9", "t3"]
    assert [row["moved"] for row in rows] == ["yes", "yes", "yes", "no, doubtful", "yes"]
    shown = next(event for event in events if isinstance(event, PreviewReady)).target
    unmoved = objects(3)[48:112, 48:112]
    assert np.corrcoef(shown[0].numpy().ravel(), unmoved.ravel())[0, 1] > 0.98, "previews show the target as learnt"

    run(replace(CONFIG, steps=2), split, tmp_path / "cut")
    before = (tmp_path / "cut" / "alignment.csv").read_bytes()
    last = run(CONFIG, split, tmp_path / "cut", resume=True)[-1]
    assert isinstance(last, Finished)
    assert (tmp_path / "cut" / "alignment.csv").read_bytes() == before
    assert (tmp_path / "cut" / "metrics.csv").read_text().splitlines()[-1].split(",")[3:] == (
        tmp_path / "whole" / "metrics.csv"
    ).read_text().splitlines()[-1].split(",")[3:]


def test_a_run_does_not_go_on_with_other_moves(split: Split, tmp_path: Path) -> None:
    run(replace(CONFIG, steps=2), split, tmp_path / "run")
    table = tmp_path / "run" / "alignment.csv"
    text = table.read_text()
    table.write_text(text.replace("yes,4", "yes,5").replace("yes,3", "yes,5"))
    with pytest.raises(CheckpointError, match=r"alignment\.csv is not what it was"):
        run(CONFIG, split, tmp_path / "run", resume=True)
    table.unlink()
    with pytest.raises(CheckpointError, match=r"alignment\.csv cannot be read"):
        run(CONFIG, split, tmp_path / "run", resume=True)
    table.write_text(text)
    with pytest.raises(CheckpointError, match="align"):
        run(replace(CONFIG, align="none"), split, tmp_path / "run", resume=True)
    run(replace(CONFIG, align="none", steps=2), split, tmp_path / "run", overwrite=True)
    assert not table.exists()


def test_what_counts_as_certain() -> None:
    sure = Estimate(name="t", transform=Transform(shift=(4, 0)), distance_px=4.0, evidence=200.0, disagreement_px=0.3)
    assert sure.has_moved
    assert not replace(sure, distance_px=1.0).has_moved
    assert not replace(sure, distance_px=1.0, disagreement_px=3.0).is_doubtful, "it stays where it is anyway"
    assert replace(sure, evidence=5.0).is_doubtful
    assert replace(sure, disagreement_px=2.0).is_doubtful
