"""Troubles of a training run: noticed, and put in words that say what to try."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pix2pix_training.config import ObjectiveConfig, TrainingConfig
from pix2pix_training.device import is_out_of_memory
from pix2pix_training.diagnosis import DiscriminatorWatch, added_texture, collapse, size_that_fits
from pix2pix_training.errors import TrainingError
from pix2pix_training.events import Warned
from pix2pix_training.pairs import Split
from pix2pix_training.training import TrainingData, train
from pix2pix_training.training_step import TrainingStep
from tests.training.runs import trained
from tests.training.test_training import TINY, striped

ZERO = {"D_fake": 0.001, "D_real": 0.002}
ALIVE = {"D_fake": 0.4, "D_real": 0.001}


@pytest.fixture
def data() -> TrainingData:
    return TrainingData(split=Split((striped("a", 0),), (striped("b", 1),)))


def test_a_constant_output_of_a_target_that_is_not_is_a_collapse() -> None:
    varied, constant = torch.linspace(-1, 1, 48).view(3, 4, 4), torch.full((3, 4, 4), 0.3)
    assert "almost constant" in (collapse(constant, varied) or "")
    assert collapse(varied, varied) is None
    assert collapse(constant, constant) is None


@pytest.mark.parametrize("mode", ["vanilla", "lsgan", "hinge"])
def test_a_discriminator_at_zero_loss_for_long_is_said_once(mode: Any) -> None:
    watch = DiscriminatorWatch(ObjectiveConfig(gan_mode=mode))
    assert watch.warning(10, ALIVE) is None
    said = [watch.warning(step, ZERO) for step in range(20, 2000, 20)]
    assert [i for i, message in enumerate(said) if message] == [25]
    assert "at zero loss since step 20" in (said[25] or "")


def test_a_discriminator_that_recovers_is_not_at_zero_for_long() -> None:
    watch = DiscriminatorWatch(ObjectiveConfig())
    assert [watch.warning(step, ALIVE if step % 400 == 0 else ZERO) for step in range(0, 4000, 20)] == [None] * 200


@pytest.mark.parametrize("mode", ["wgangp", "none"])
def test_nothing_is_said_of_losses_that_have_no_zero(mode: Any) -> None:
    watch = DiscriminatorWatch(ObjectiveConfig(gan_mode=mode))
    assert [watch.warning(step, {"D_fake": -5.0, "D_real": -5.0}) for step in range(0, 4000, 20)] == [None] * 200


def test_a_run_warns_of_a_discriminator_at_zero_loss(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pix2pix_training.diagnosis._LONG_STEPS", 3)
    monkeypatch.setattr("pix2pix_training.diagnosis._ZERO_LOSS", 100.0)
    monkeypatch.setattr("pix2pix_training.training._SECONDS_BETWEEN_LOSSES", 0.0)
    warnings = [e for e in train(TINY, data, tmp_path / "run") if isinstance(e, Warned)]
    assert [(e.step, "discriminator" in e.message) for e in warnings] == [(4, True)]


def test_a_run_warns_of_an_output_that_is_constant(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pix2pix_training.diagnosis._COLLAPSED_SPREAD", 0.1)
    config = replace(TINY, learning_rate=1e-300, generator=replace(TINY.generator, norm="none", dropout="none"))
    warnings = [e for e in train(config, data, tmp_path / "run") if isinstance(e, Warned)]
    assert [(e.step, "almost constant" in e.message) for e in warnings] == [(5, True), (10, True)]


def limited_to(pixels: int) -> Callable[[int, int], None]:
    def run(batch_size: int, patch_size: int) -> None:
        if batch_size * patch_size**2 > pixels:
            raise torch.OutOfMemoryError("CUDA out of memory")

    return run


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [(6 * 64**2, (4, 64)), (64**2, (1, 64)), (40**2, (1, 32)), (20**2, (1, 16)), (15**2, None)],
)
def test_the_first_smaller_size_that_fits_is_found(pixels: int, expected: tuple[int, int] | None) -> None:
    assert size_that_fits(replace(TINY, batch_size=8, patch_size=64), limited_to(pixels)) == expected


def test_sizes_are_those_that_the_networks_allow() -> None:
    """Multiples of the generator's stride, here 32, and no less than the discriminator needs."""
    deep = replace(TINY, generator=replace(TINY.generator, depth=5))
    assert size_that_fits(replace(deep, patch_size=160), limited_to(80**2)) == (1, 64)
    assert size_that_fits(replace(deep, patch_size=96), limited_to(70**2)) is None
    far_sighted = replace(TINY.discriminator, layers=4)
    assert size_that_fits(replace(TINY, patch_size=64, discriminator=far_sighted), limited_to(40**2)) is None


@pytest.mark.parametrize(
    ("pixels", "advice"),
    [
        (2 * 32**2, "--batch-size 2 with --patch-size 32 fits"),
        (16**2, "--patch-size 16 fits"),
        (0, "no smaller batch or"),
    ],
)
def test_out_of_memory_is_one_line_with_what_fits_and_the_checkpoint_is_kept(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixels: int, advice: str
) -> None:
    config: TrainingConfig = replace(TINY, batch_size=4)
    list(train(replace(config, steps=4), data, tmp_path / "run"))
    before = (tmp_path / "run" / "last.pt").read_bytes()
    run, check = TrainingStep.run, limited_to(pixels)

    def limited(self: TrainingStep, source: torch.Tensor, *rest: Any) -> dict[str, torch.Tensor]:
        check(source.shape[0], source.shape[-1])
        return run(self, source, *rest)

    monkeypatch.setattr(TrainingStep, "run", limited)
    with pytest.raises(TrainingError, match=r"cpu is out of memory in step 5 with batch_size 4 and patch") as caught:
        list(train(config, data, tmp_path / "run", resume=True))
    assert advice in str(caught.value)
    assert str(caught.value).endswith("the checkpoint of step 4 is kept")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "run" / "last.pt").read_bytes() == before


def test_out_of_memory_in_validation_names_its_setting(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: Any, **_options: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("pix2pix_training.validation.pad_to_stride", full)
    with pytest.raises(TrainingError, match=r"out of memory in validation.* --validation-size below 48"):
        list(train(TINY, data, tmp_path / "run"))


MESSAGES = [
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:75] . DefaultCPUAllocator: not enough memory: you tried to allocate"),
    RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB)"),
    RuntimeError("std::bad_alloc"),
    MemoryError("Unable to allocate 3.00 TiB for an array"),
    torch.OutOfMemoryError("CUDA out of memory"),
]


@pytest.mark.parametrize("error", MESSAGES, ids=[type(e).__name__ + str(e)[:20] for e in MESSAGES])
def test_out_of_memory_on_any_device_gives_advice(
    error: Exception, data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = TrainingStep.run

    def limited(self: TrainingStep, source: torch.Tensor, *rest: Any) -> Any:
        if len(source) > 1:
            raise error
        return run(self, source, *rest)

    monkeypatch.setattr(TrainingStep, "run", limited)
    with pytest.raises(TrainingError, match=r"cpu is out of memory in step 1 .*; --batch-size 1 with --patch-size 32"):
        list(train(replace(TINY, batch_size=4), data, tmp_path / "run"))


def test_memory_that_a_cpu_cannot_give_is_told_by_what_pytorch_says() -> None:
    with pytest.raises(RuntimeError) as said:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(said.value)
    with pytest.raises(MemoryError) as of_numpy:
        np.zeros(2**60, np.uint8)
    assert is_out_of_memory(of_numpy.value)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_other_errors_of_a_step_are_not_taken_for_lack_of_memory(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: TrainingStep, *batch: Any) -> Any:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(TrainingStep, "run", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        list(train(TINY, data, tmp_path / "run"))


def test_networks_that_do_not_fit_into_memory_are_one_line(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*_: Any, **__: Any) -> None:
        torch.empty(2**60, dtype=torch.uint8)

    monkeypatch.setattr(TrainingStep, "__init__", too_large)
    with pytest.raises(TrainingError, match=r"out of memory on cpu outside of a training step: try a smaller --base"):
        list(train(TINY, data, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_texture_that_targets_do_not_have_is_said_of_an_adversary_alone() -> None:
    said = added_texture([1.2, 2.0, 9.0], ObjectiveConfig())
    assert said is not None
    assert "2.0 times the power of their targets" in said
    assert "--preset faithful" in said
    assert added_texture([1.2, 1.4, 9.0], ObjectiveConfig()) is None
    assert added_texture([], ObjectiveConfig()) is None
    assert added_texture([9.0], ObjectiveConfig(gan_weight=0.0)) is None


def test_a_run_says_at_its_end_that_it_adds_texture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def ratio(*images: Any) -> float:
        seen.append(images)
        return 9.0

    monkeypatch.setattr("pix2pix_training.validation.detail_ratio", ratio)
    warned = [e for e in trained(tmp_path / "run") if isinstance(e, Warned)]
    assert [e.step for e in warned if "adds texture" in e.message] == [4]
    assert [[image.shape for image in images] for images in seen] == [[(1, 48, 48)] * 2] * 2
