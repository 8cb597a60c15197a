"""Sizes that are not given fit the time of a run, by what steps take on the machine; a resumed run keeps them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pix2pix_training import time_budget
from pix2pix_training.config import TrainingConfig
from pix2pix_training.errors import Pix2PixError
from pix2pix_training.setting_options import places_of, training_config
from pix2pix_training.time_budget import sized_run
from pix2pix_training.training import TrainingData, train
from tests.training.runs import data_of, pair_of, stripes, trained

Pace = Callable[[TrainingConfig], float]


def pairs(side: int) -> TrainingData:
    return data_of([pair_of(image := stripes(seed, (1, side, side)), image, str(seed)) for seed in range(2)])


def sizes(config: TrainingConfig) -> tuple[int, int, int, int]:
    assert config.discriminator.base_width == config.generator.base_width
    return config.generator.base_width, config.patch_size, config.batch_size, config.generator.depth


def seconds(per_megapixel: float, batch_is_free: bool = False) -> Pace:
    """Of a step, in proportion to patches and the square of the width."""

    def pace(config: TrainingConfig) -> float:
        batch = 1 if batch_is_free else config.batch_size
        return per_megapixel * batch * (config.patch_size / 1024) ** 2 * (config.generator.base_width / 16) ** 2

    return pace


def picked(
    monkeypatch: pytest.MonkeyPatch, pace: Pace, layer: dict[str, Any], side: int = 512
) -> tuple[TrainingConfig, list[int]]:
    """The settings, and the patch sizes that images were loaded for."""
    monkeypatch.setattr(time_budget, "_timed", lambda config, *_: time_budget._Timed(config, pace(config)))
    loaded: list[int] = []

    def load(*, patch_size: int) -> TrainingData:
        loaded.append(patch_size)
        return pairs(side)

    config = training_config({}, layer)
    return sized_run(config, places_of(layer), load, Path("none"), resume=False, device="cpu")[0], loaded


@pytest.mark.parametrize(
    ("per_megapixel", "expected"),
    [(0.1, (64, 256, 1, 8)), (1, (32, 256, 1, 8)), (4, (16, 256, 1, 8)), (10, (16, 128, 1, 7)), (999, (16, 128, 1, 7))],
)
def test_a_faster_machine_gets_a_larger_network(
    per_megapixel: float, expected: tuple[int, ...], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config, loaded = picked(monkeypatch, seconds(per_megapixel), {"minutes": 10.0})
    assert sizes(config) == expected
    assert loaded == ([256] if expected[1] == 256 else [256, 128])
    assert f"base width {expected[0]}, patches of {expected[1]} px, batch {expected[2]}, about" in caplog.text


def test_a_batch_that_takes_no_longer_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    config, _ = picked(monkeypatch, seconds(0.01, batch_is_free=True), {"minutes": 10.0})
    assert sizes(config) == (64, 256, 4, 8)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        ({"generator": {"base_width": 64}, "discriminator": {"base_width": 64}}, (64, 128, 1, 7)),
        ({"patch_size": 512}, (16, 512, 1, 8)),
        ({"batch_size": 3}, (16, 128, 3, 7)),
        ({"generator": {"depth": 5}}, (16, 128, 1, 5)),
        ({"preset": "paper"}, (16, 256, 1, 8)),
        ({"steps": 9}, (64, 256, 1, 8)),
    ],
)
def test_what_is_given_stays(layer: dict[str, Any], expected: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    config, _ = picked(monkeypatch, seconds(999), {"minutes": 10.0, **layer} if "steps" not in layer else layer)
    assert sizes(config) == expected


def test_where_all_is_given_nothing_is_measured_or_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    layer = {"minutes": 1.0, "patch_size": 64, "batch_size": 2, "generator": {"base_width": 8}}
    picked(monkeypatch, lambda _: pytest.fail("measured"), layer)
    assert not caplog.text


def test_patches_are_no_larger_than_images(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sizes(picked(monkeypatch, seconds(0.01), {"minutes": 10.0}, side=200)[0]) == (16, 128, 1, 7)
    assert sizes(picked(monkeypatch, seconds(0.01), {"minutes": 10.0}, side=100)[0]) == (64, 256, 1, 8)


def test_what_does_not_fit_into_memory_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def timed(config: TrainingConfig, *_: Any) -> time_budget._Timed | None:
        return None if config.generator.base_width > 16 else time_budget._Timed(config, 0.001)

    monkeypatch.setattr(time_budget, "_timed", timed)
    run = sized_run(
        training_config({}, {"minutes": 10.0}), (), lambda patch_size: pairs(300), Path("x"), resume=False, device="cpu"
    )
    assert sizes(run[0]) == (16, 256, 4, 8)


@pytest.mark.parametrize("preset", ["seamless", "faithful"])
def test_steps_are_timed_and_leave_no_trace(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = {"preset": preset, "minutes": 1.0, "patch_size": 64, "generator": {"base_width": 2, "depth": 4}}
    config, split, device = training_config({}, layer), pairs(64).split, torch.device("cpu")
    timed = time_budget._timed(config, split, device)
    assert timed is not None
    assert timed.config == config
    assert 0 < timed.seconds_per_step < 5
    monkeypatch.setattr(time_budget, "default_budget_bytes", lambda device: 10**4)
    assert time_budget._timed(config, split, device) is None
    monkeypatch.setattr(time_budget, "default_budget_bytes", lambda device: 10**12)
    monkeypatch.setattr(time_budget, "_run", lambda *_: (_ for _ in ()).throw(MemoryError))
    assert time_budget._timed(config, split, device) is None


def test_a_resumed_run_keeps_its_sizes(tmp_path: Path) -> None:
    data = pairs(64)
    begun = training_config(
        {}, {"patch_size": 32, "generator": {"base_width": 2, "depth": 5}, "discriminator": {"base_width": 2}}
    )
    trained(tmp_path / "run", data, replace(begun, steps=1))
    layer = {"steps": 2}
    config = training_config({}, layer)
    config, data = sized_run(
        config, places_of(layer), lambda patch_size: data, tmp_path / "run", resume=True, device="cpu"
    )
    assert sizes(config) == (2, 32, 1, 5)
    assert list(train(config, data, tmp_path / "run", resume=True))
    layer = {"steps": 3, "patch_size": 64}
    other, _ = sized_run(
        training_config({}, layer),
        places_of(layer),
        lambda patch_size: data,
        tmp_path / "run",
        resume=True,
        device="cpu",
    )
    with pytest.raises(Pix2PixError, match="the run was started with"):
        list(train(other, data, tmp_path / "run", resume=True))
