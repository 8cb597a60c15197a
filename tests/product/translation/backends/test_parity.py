"""Compiled stages are compared with PyTorch, and refused beyond a tolerance."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from napari_pix2pix.translation.backends.stage_runner import (
    TOLERANCES,
    CompiledPrecision,
    UnequalEngineError,
    require_parity,
)
from pix2pix_training.metrics import relative_deviation
from pix2pix_training.stages import Stage, whole_stage
from tests.trt.networks import CONFIG, unet


def test_deviation_is_relative_to_the_range() -> None:
    expected = torch.tensor([-1.0, 3.0])
    assert relative_deviation(expected + 0.04, expected) == pytest.approx(0.01)
    assert relative_deviation(torch.tensor([-1.0, float("nan")]), expected) == float("inf")
    assert relative_deviation(torch.tensor([-1.0]), expected) == float("inf")
    constant = torch.ones(3)
    assert relative_deviation(constant, constant) == 0
    assert relative_deviation(constant + 1, constant) == float("inf")


@pytest.mark.parametrize("precision", TOLERANCES)
def test_engines_beyond_the_tolerance_are_refused(precision: CompiledPrecision) -> None:
    network, spec = unet(), whole_stage(CONFIG)
    stage = Stage(network, spec)
    samples = [{"features": torch.rand(1, 3, 32, 32) * 2 - 1} for _ in range(2)]

    def off_by(share: float) -> Any:
        def run(sample: Any) -> torch.Tensor:
            output: torch.Tensor = stage(sample["features"])
            output[0, 0, 0, 0] += share * (output.max() - output.min())
            return output

        return run

    with torch.inference_mode():
        require_parity(network, spec, off_by(0.9 * TOLERANCES[precision]), samples, precision)
        with pytest.raises(UnequalEngineError, match="deviates from PyTorch"):
            require_parity(network, spec, off_by(1.1 * TOLERANCES[precision]), samples, precision)
