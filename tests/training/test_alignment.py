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
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal((SIDE + 40, SIDE + 40)), 4)
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


def test_registered_targets_stay_and_blank_ones_are_doubtful() -> None:
    found = result_of(estimates([[cell_pair(seed)] for seed in range(4)], "affine"))
    assert not any(each.has_moved or each.is_doubtful for each in found)
    blank = Pair(
        MemorySource(np.zeros((SIDE, SIDE), np.uint8)), MemorySource(np.zeros((SIDE, SIDE), np.uint8)), "blank"
    )
    (nothing,) = result_of(estimates([[blank]], "affine"))
    assert nothing.is_doubtful
    assert not nothing.is_strange, "nothing can be said of it"
    assert not nothing.has_moved


def test_targets_of_other_images_are_not_believed() -> None:
    swapped = [[cell_pair(seed, target=(seed + 1) % 5)] for seed in range(5)]
    among_others = result_of(estimates([*([cell_pair(seed)] for seed in range(8, 12)), swapped[0]], "shift"))
    assert [each.is_strange for each in among_others] == [False] * 4 + [True]
    alone = result_of(estimates(swapped, "shift"))
    assert sum(not each.is_strange for each in alone) <= 1, "where all are swapped there is nothing to learn from"
    assert not any(each.has_moved for each in (*among_others, *alone))


def test_a_target_that_several_sources_have_is_no_foreign_one() -> None:
    first, second = cell_pair(0), cell_pair(1)
    again = [
        Pair(pair.source, MemorySource(pair.target.read(whole_plane(pair.target))), "") for pair in (first, second)
    ]
    found = result_of(estimates([[pair] for pair in (first, second, *again)], "shift"))
    assert not any(each.is_strange for each in found)


def test_neighbours_that_resemble_each_other_do_not_pass_for_one_another() -> None:
    """As sections of a stack do: a target has something in common with the source of the next section."""

    def section(number: int) -> NDArray[np.float64]:
        return objects(number) + 0.4 * objects(number + 1)

    sources = [
        MemorySource((200 - 100 * section(n) + np.random.default_rng(n).normal(0, 6, (SIDE, SIDE))).astype(np.float32))
        for n in range(6)
    ]
    targets = [MemorySource((1000 + 3000 * section(n)).astype(np.float32), name=f"t{n}") for n in range(6)]
    targets[:2] = targets[1::-1]
    pairs = [[Pair(source, target, str(n))] for n, (source, target) in enumerate(zip(sources, targets, strict=True))]
    found = result_of(estimates(pairs, "shift"))
    assert [each.is_strange for each in found] == [True] * 2 + [False] * 4


def test_a_single_pair_is_compared_with_its_own_target_laid_down_otherwise() -> None:
    (right,) = result_of(estimates([[cell_pair(0, (4, -3, 0))]], "shift"))
    assert right.has_moved
    (wrong,) = result_of(estimates([[cell_pair(0, target=1)]], "shift"))
    assert not wrong.has_moved


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
    align="shift",
    coverage=0,
)


@pytest.fixture(scope="module")
def split() -> Split:
    pairs = [cell_pair(seed, (down, right, 0)) for seed, (down, right, _) in enumerate(MOVES)]
    return Split((*pairs[:3], cell_pair(9, target=10)), (pairs[3],))


def run(
    config: TrainingConfig, split: Split, out: Path, *, resume: bool = False, overwrite: bool = False
) -> list[object]:
    return list(train(config, TrainingData(split=split), out, device="cpu", resume=resume, overwrite=overwrite))


def test_a_run_writes_and_says_what_it_moved(split: Split, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        events = run(replace(CONFIG, steps=2), split, tmp_path / "whole")
    assert "align: 4 of 5 targets are taken from where they fit their sources" in caplog.text
    assert any("no better than targets of other images" in line and "t9" in line for line in caplog.messages)
    rows = list(csv.DictReader((tmp_path / "whole" / "alignment.csv").open()))
    assert [row["target"] for row in rows] == ["t0", "t1", "t2", "t9", "t3"]
    assert [row["moved"] for row in rows] == ["yes", "yes", "yes", "no, may belong elsewhere", "yes"]
    shown = next(event for event in events if isinstance(event, PreviewReady)).target
    unmoved = objects(3)[48:112, 48:112]
    assert np.corrcoef(shown[0].numpy().ravel(), unmoved.ravel())[0, 1] > 0.98, "previews show the target as learnt"


@pytest.mark.slow
def test_a_run_goes_on_with_the_moves_that_it_began_with(split: Split, tmp_path: Path) -> None:
    run(CONFIG, split, tmp_path / "whole")
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
    sure = Estimate(
        name="t",
        transform=Transform(shift=(4, 0)),
        distance_px=4.0,
        likeness=0.5,
        chance=0.2,
        gain=0.3,
        least_gain=0.1,
        disagreement_px=0.3,
    )
    assert sure.has_moved
    assert not sure.is_doubtful
    assert not replace(sure, distance_px=1.0).has_moved
    assert not replace(sure, distance_px=1.0, disagreement_px=3.0).is_doubtful, "it stays where it is anyway"
    for unsure in (replace(sure, likeness=0.15), replace(sure, gain=0.05), replace(sure, disagreement_px=2.0)):
        assert not unsure.has_moved
        assert unsure.is_doubtful
    assert replace(sure, likeness=0.15).is_strange
    assert replace(sure, likeness=0.15, distance_px=1.0).is_doubtful, "it may lie anywhere"
