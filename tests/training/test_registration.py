"""The shift between source and target: found where edges are shared, silent where they are not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_pix2pix.formats.pairing import pairs_from_paths
from pix2pix_training.array_source import CroppedSource, MemorySource, plane_size
from pix2pix_training.config import TrainingConfig
from pix2pix_training.events import StepDone, Warned
from pix2pix_training.network_config import DiscriminatorConfig, GeneratorConfig
from pix2pix_training.pairs import Pair, Split
from pix2pix_training.regions import Region
from pix2pix_training.registration import Shift, estimate_shift, misalignment_warning
from pix2pix_training.training import TrainingData, train

_REAL = Path(__file__).parents[3] / "shared" / "data"
SIDE = 400


def cells(seed: int) -> NDArray[np.float64]:
    """Blobs of different size, in [0, 1]."""
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal((SIDE, SIDE)), 5)
    return np.asarray(np.clip(noise / noise.std(), 0, 1))


def stained(objects: NDArray[np.float64]) -> NDArray[np.uint16]:
    return np.asarray(1000 + 3000 * objects).astype(np.uint16)


def contrasted(objects: NDArray[np.float64], seed: int) -> NDArray[np.uint8]:
    """Objects darker than their surroundings, with a bright rim and noise."""
    rim = objects - gaussian_filter(objects, 4)
    noise = np.random.default_rng([seed, 1]).normal(0, 6, objects.shape)
    return np.asarray(np.clip(140 - 60 * objects + 80 * rim + noise, 0, 255)).astype(np.uint8)


def cell_pair(seed: int) -> Pair:
    objects = cells(seed)
    return Pair(MemorySource(contrasted(objects, seed)), MemorySource(stained(objects)), str(seed))


def shifted(pair: Pair, y: int, x: int) -> Pair:
    """The pair with its target moved down and to the right, both cut to what they have in common."""
    height, width = plane_size(pair.source)
    source = Region(max(y, 0), height + min(y, 0), max(x, 0), width + min(x, 0))
    target = Region(max(-y, 0), height - max(y, 0), max(-x, 0), width - max(x, 0))
    return Pair(CroppedSource(pair.source, source), CroppedSource(pair.target, target), pair.name)


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return [cell_pair(seed) for seed in range(3)]


@pytest.mark.parametrize("shift", [(0, 0), (7, -12), (-25, 4), (0, 40)])
def test_shift_between_images_that_look_different_is_found(pairs: list[Pair], shift: tuple[int, int]) -> None:
    found = estimate_shift([shifted(pair, *shift) for pair in pairs])
    assert found is not None
    assert found.is_certain
    assert abs(found.y - shift[0]) <= 1
    assert abs(found.x - shift[1]) <= 1
    assert found.is_misalignment == (shift != (0, 0))


def test_images_that_share_nothing_have_no_certain_shift(pairs: list[Pair]) -> None:
    others = [Pair(pair.source, cell_pair(seed).target, pair.name) for seed, pair in zip((7, 8, 9), pairs, strict=True)]
    found = estimate_shift(others)
    assert found is not None
    assert not found.is_certain


def test_periodic_images_have_no_certain_shift() -> None:
    """A grating lies on itself at many shifts."""
    wave = np.sin(2 * np.pi * np.arange(SIDE) / 20)
    grating = wave[:, None] + wave[None, :]
    pair = Pair(MemorySource(contrasted(grating, 0)), MemorySource(stained(1 + np.roll(grating, 7, 1))), "grating")
    found = estimate_shift([pair])
    assert found is not None
    assert not found.is_misalignment


def test_pairs_shifted_differently_have_no_common_shift(pairs: list[Pair]) -> None:
    found = estimate_shift([shifted(p, *s) for p, s in zip(pairs, [(20, 0), (-20, 15), (0, -30)], strict=True)])
    assert found is not None
    assert not found.is_certain


def test_all_channels_and_planes_count(pairs: list[Pair]) -> None:
    """Shared edges in the second of two channels, in one of two planes."""
    shape = (2, 2, SIDE, SIDE)
    stack = np.zeros(shape, np.uint8)
    stack[1, 1] = pairs[0].source.read(Region(0, SIDE, 0, SIDE))[0]
    target = np.zeros((2, 1, SIDE, SIDE), np.uint16)
    target[1] = np.roll(pairs[0].target.read(Region(0, SIDE, 0, SIDE)), (6, 9), (1, 2))
    found = estimate_shift([Pair(MemorySource(stack, axes="ZCYX"), MemorySource(target, axes="ZCYX"), "stack")])
    assert found is not None
    assert abs(found.y - 6) <= 1
    assert abs(found.x - 9) <= 1
    assert found.is_certain


def test_without_edges_or_room_there_is_no_estimate() -> None:
    flat = MemorySource(np.full((1, 128, 128), 3, np.uint8))
    assert estimate_shift([Pair(flat, flat, "flat")]) is None
    tiny = MemorySource(np.random.default_rng(0).random((1, 48, 48)))
    assert estimate_shift([Pair(tiny, tiny, "tiny")]) is None
    holes = np.random.default_rng(0).random((1, 128, 128))
    holes[:, ::32, ::32] = np.nan
    assert estimate_shift([Pair(MemorySource(holes), MemorySource(holes), "holes")]) is None


def test_the_warning_says_where_the_targets_lie(pairs: list[Pair]) -> None:
    assert misalignment_warning(pairs) is None
    words = misalignment_warning([shifted(pair, 7, -12) for pair in pairs])
    assert words is not None
    assert "misaligned: the targets seem to lie 7 pixels further down and 12 further left" in words


def test_a_run_warns_before_its_first_step(pairs: list[Pair], tmp_path: Path) -> None:
    config = TrainingConfig(
        generator=GeneratorConfig(base_width=4, depth=3),
        discriminator=DiscriminatorConfig(base_width=4),
        steps=1,
        patch_size=32,
        validation_images=0,
    )
    data = TrainingData(split=Split(tuple(shifted(pair, 7, -12) for pair in pairs), ()))
    events = list(train(config, data, tmp_path / "run", device="cpu"))
    (warned,) = (event for event in events if isinstance(event, Warned))
    assert warned.words.startswith("source and target look misaligned: ")
    assert events.index(warned) < next(i for i, event in enumerate(events) if isinstance(event, StepDone))


def test_what_counts_as_misaligned() -> None:
    clear = Shift(y=4, x=0, peak_to_sidelobe=20.0, peak_to_second=3.0, agreeing=10, patches=16, deviation_px=1.0)
    assert clear.is_misalignment
    assert not replace(clear, y=2, x=2).is_misalignment
    assert not replace(clear, y=6, deviation_px=3.0).is_misalignment, "not beyond what patches differ by"
    assert not replace(clear, peak_to_sidelobe=5.0).is_misalignment
    assert not replace(clear, peak_to_second=1.1).is_misalignment
    assert not replace(clear, agreeing=2).is_misalignment


def real_pairs(name: str) -> list[Pair]:
    if not _REAL.is_dir():
        pytest.skip("the real images are not on this machine")
    if name == "facades":
        return pairs_from_paths([_REAL / "facades/label"], [_REAL / "facades/photo"])
    if name == "em_membranes":
        return pairs_from_paths([_REAL / "em_membranes/image"], [_REAL / "em_membranes/membrane"])
    phase = [_REAL / f"labelfree/phase_z{number}.png" for number in ("00", "06", "12")]
    return pairs_from_paths(phase, [_REAL / "labelfree" / f"{name}.png"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["facades", "em_membranes", "DAPI", "MAP2", "NFH"])
def test_real_pairs_are_registered_until_they_are_shifted(name: str) -> None:
    pairs = real_pairs(name)
    before = estimate_shift(pairs)
    assert before is not None
    assert not before.is_misalignment
    after = estimate_shift([shifted(pair, 7, -12) for pair in pairs])
    assert after is not None
    assert after.is_misalignment
    assert abs(after.y - 7) <= 6
    assert abs(after.x + 12) <= 2
