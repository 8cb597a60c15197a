"""Whether a compiled stage gives the numbers of PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal, cast

import torch
from torch import Tensor

from pix2pix_training.errors import EngineError
from pix2pix_training.metrics import relative_deviation
from pix2pix_training.networks import Generator
from pix2pix_training.stages import Stage, StageSpec

CompiledPrecision = Literal["fp32", "fp16", "bf16"]

TOLERANCES: Mapping[CompiledPrecision, float] = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 3e-2}
"""Largest deviation from PyTorch in float32, as a share of the range of its output."""

Sample = Mapping[str, Tensor]
"""The inputs of a stage by name, for example a real tile and features computed from it."""


class UnequalEngineError(EngineError):
    """An engine was built but does not give the numbers of PyTorch."""


def require_parity(
    network: Generator,
    spec: StageSpec,
    run: Callable[[Sample], Tensor],
    samples: Iterable[Sample],
    precision: CompiledPrecision,
) -> None:
    """Raise `UnequalEngineError` where `run` deviates from PyTorch in float32 by more than the tolerance."""
    stage = Stage(network, spec)
    for sample in samples:
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            expected = cast(Tensor, stage(*(sample[name] for name in stage.input_names)))
        deviation = relative_deviation(run(sample), expected)
        if not deviation <= TOLERANCES[precision]:
            raise UnequalEngineError(
                f"in {precision} it deviates from PyTorch by {deviation:.1e} of the range, "
                f"{TOLERANCES[precision]:.0e} is allowed"
            )
