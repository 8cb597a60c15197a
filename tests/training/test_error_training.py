"""Learning and calibrating the sizes of errors."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pix2pix_training.array_source import MemorySource
from pix2pix_training.batches import Batches
from pix2pix_training.config import TrainingConfig
from pix2pix_training.error_training import held_out_parts, joined, unlikelihood
from pix2pix_training.events import Event, LearningErrors
from pix2pix_training.in_words import card_lines
from pix2pix_training.model_file import load_model
from pix2pix_training.network_config import DiscriminatorConfig, GeneratorConfig
from pix2pix_training.pairs import Pair, Split
from pix2pix_training.preparation import PreparedPair
from pix2pix_training.training import TrainingData, train

CONFIG = TrainingConfig(
    generator=GeneratorConfig(base_width=4, depth=3),
    discriminator=DiscriminatorConfig(base_width=4, layers=1),
    target_values="dtype",
    source_values="dtype",
    patch_size=32,
    steps=8,
    validate_every=8,
    checkpoint_every=8,
)


def pairs(count: int, seed: int = 0) -> tuple[Pair, ...]:
    """Targets are sources, with noise in the right half that no model can know."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        source = rng.integers(60, 200, (1, 48, 64), dtype=np.uint8)
        noise = rng.integers(-60, 60, source.shape) * (np.arange(64) >= 32)
        made.append(Pair(array(source), array((source + noise).astype(np.uint8)), str(number)))
    return tuple(made)


def array(pixels: NDArray[np.uint8]) -> MemorySource:
    return MemorySource(pixels, axes="CYX")


def trained(out: Path, *, held_out: int = 4, **changes: object) -> list[Event]:
    data = TrainingData(split=Split(pairs(4), pairs(held_out, seed=1)))
    return list(train(replace(CONFIG, **changes), data, out, device="cpu"))  # type: ignore[arg-type]


def test_the_mean_error_is_the_likeliest_and_small_errors_count_in_proportion() -> None:
    error = torch.tensor([0.0, 0.02, 0.04, 0.34]).reshape(1, 1, 1, 4)
    losses = [float(unlikelihood(torch.full_like(error, at), error)) for at in (0.05, 0.09, 0.1, 0.11, 0.2)]
    assert min(losses) == losses[2]
    gained = [float(unlikelihood(2 * error[..., 1:] * n, error[..., 1:] * n)) for n in (1.0, 0.1)]
    exact = [float(unlikelihood(error[..., 1:] * n, error[..., 1:] * n)) for n in (1.0, 0.1)]
    assert gained[0] - exact[0] == pytest.approx(gained[1] - exact[1], rel=1e-4)
    first = torch.tensor([False, True, False, False]).reshape(1, 1, 1, 4)
    assert unlikelihood(torch.full_like(error, 0.5), error, first) == pytest.approx(0.04 + math.log(0.5))


def test_a_run_calibrates_the_model_that_it_keeps(tmp_path: Path) -> None:
    events = trained(tmp_path / "run")
    assert isinstance(events[-2], LearningErrors) and events[-2].fraction == 1
    model = load_model(tmp_path / "run" / "model.safetensors")
    assert model.error is not None
    traits = model.error.traits
    assert (traits.coverage, traits.images, traits.chose_model, traits.of_one_image) == (0.9, 4, True, False)
    assert traits.measured is not None and traits.lowest is not None and traits.highest is not None
    assert traits.measured == pytest.approx(0.9, abs=0.05)
    assert 0 < traits.lowest <= traits.measured <= traits.highest <= 1
    assert any(line.startswith("error map: intervals for 90 % of pixels") for line in card_lines(model))


def test_the_generator_is_as_without_an_error_map(tmp_path: Path) -> None:
    trained(tmp_path / "with")
    trained(tmp_path / "without", coverage=0.0)
    with_map, without = (load_model(tmp_path / name / "model.safetensors") for name in ("with", "without"))
    assert without.error is None
    assert all(torch.equal(with_map.weights[name], tensor) for name, tensor in without.weights.items())


def test_without_held_out_images_there_is_no_claim(tmp_path: Path) -> None:
    assert not any(isinstance(event, LearningErrors) for event in trained(tmp_path / "run", held_out=0))
    model = load_model(tmp_path / "run" / "model.safetensors")
    assert model.error is None
    assert "error map: none, so nothing is known of the errors of a result; calibrate adds one" in card_lines(model)


def test_a_run_that_was_stopped_while_errors_were_learnt_goes_on_there(tmp_path: Path) -> None:
    data = TrainingData(split=Split(pairs(4), pairs(4, seed=1)))
    events = train(CONFIG, data, tmp_path / "run", device="cpu")
    next(event for event in events if isinstance(event, LearningErrors))
    events.close()
    assert load_model(tmp_path / "run" / "model.safetensors").error is None
    list(train(CONFIG, data, tmp_path / "run", device="cpu", resume=True))
    trained(tmp_path / "whole")
    stopped, whole = (load_model(tmp_path / name / "model.safetensors").error for name in ("run", "whole"))
    assert stopped is not None and whole is not None
    assert stopped.traits == whole.traits
    assert all(torch.equal(stopped.weights[name], tensor) for name, tensor in whole.weights.items())


def test_a_step_sees_four_patches_or_more_and_keeps_what_is_not_valid() -> None:
    def drawn(size: int, value: float, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor, Any]:
        return torch.full((size, 2, 1, 1), value), torch.full((size, 1, 1, 1), -value), mask

    nothing = torch.zeros(1, 1, 1, 1, dtype=torch.bool)
    batches = iter([drawn(1, 1, None), drawn(1, 2, nothing), drawn(2, 3, None), drawn(6, 4, None)])
    source, target, valid = joined(cast(Batches, batches))
    assert source[:, 0].flatten().tolist() == [1, 2, 3, 3]
    assert target.flatten().tolist() == [-1, -2, -3, -3]
    assert valid is not None
    assert valid.flatten().tolist() == [1, 0, 1, 1]
    source, _, valid = joined(cast(Batches, batches))
    assert (len(source), valid) == (6, None)


def prepared(count: int) -> list[PreparedPair]:
    return [PreparedPair.__new__(PreparedPair) for _ in range(count)]


@pytest.mark.parametrize(
    ("count", "choosing", "used", "chose"),
    [(4, 16, 4, True), (24, 16, 8, False), (20, 16, 20, True), (50, 0, 32, False)],
)
def test_images_that_chose_the_model_calibrate_only_where_others_are_too_few(
    count: int, choosing: int, used: int, chose: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pix2pix_training.error_training.Excerpt", lambda pair, size: pair)
    held_out = held_out_parts(prepared(count), size_px=512, choosing=choosing)
    assert (len(held_out.parts), held_out.chose_model) == (used, chose)


def test_a_single_held_out_part_is_quartered(tmp_path: Path) -> None:
    trained(tmp_path / "run", held_out=1)
    model = load_model(tmp_path / "run" / "model.safetensors")
    assert model.error is not None
    assert (model.error.traits.images, model.error.traits.of_one_image) == (4, True)
