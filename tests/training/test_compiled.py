"""Networks that PyTorch compiles for training: the same numbers, the same state, and words where it cannot be done."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pix2pix_training.config import ObjectiveConfig, TrainingConfig
from pix2pix_training.errors import SettingsError
from pix2pix_training.network_config import DiscriminatorConfig, GeneratorConfig
from pix2pix_training.training_step import TrainingStep

EAGER = TrainingConfig(
    generator=GeneratorConfig(base_width=4, depth=3),
    discriminator=DiscriminatorConfig(base_width=4, layers=2, scales=2),
    patch_size=64,
    steps=3,
)
COMPILED = replace(EAGER, compile=True)
CPU = torch.device("cpu")


def losses(step: TrainingStep) -> list[dict[str, float]]:
    images = torch.rand((EAGER.steps or 0, 2, 1, 3, 64, 64), generator=torch.Generator().manual_seed(0)) * 2 - 1
    return [{name: float(value) for name, value in step.run(*pair).items()} for pair in images]


@pytest.mark.skipif(shutil.which("c++") is None and shutil.which("g++") is None, reason="needs a C++ compiler")
def test_losses_and_state_are_those_of_the_networks_as_they_are() -> None:
    eager, fast = TrainingStep(EAGER, CPU, torch.float32), TrainingStep(COMPILED, CPU, torch.float32)
    assert [pytest.approx(row, rel=1e-5) for row in losses(eager)] == losses(fast)
    for part in ("generator", "discriminator"):
        expected, found = eager.state()[part], fast.state()[part]
        assert list(found) == list(expected)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_without_a_compiler_it_is_refused_before_training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def compile(function: object, **options: object) -> object:
        def call(x: Tensor) -> Tensor:
            raise RuntimeError("\nNo working C++ compiler found\nand many more lines")

        return call

    monkeypatch.setattr(torch, "compile", compile)
    with pytest.raises(SettingsError, match=r"No working C\+\+ compiler found; install a C\+\+ compiler") as caught:
        TrainingStep(COMPILED, CPU, torch.float32)
    assert "\n" not in str(caught.value)


def test_gradient_penalty_is_refused() -> None:
    with pytest.raises(SettingsError, match="wgangp"):
        replace(COMPILED, objective=ObjectiveConfig(gan_mode="wgangp"))
