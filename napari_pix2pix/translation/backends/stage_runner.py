"""The one interface of all backends, and the stages in PyTorch itself, on any device that it knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal, Protocol, cast

import torch
from torch import Tensor

from pix2pix_training.device import computing_in
from pix2pix_training.errors import EngineError
from pix2pix_training.metrics import relative_deviation
from pix2pix_training.networks import Generator
from pix2pix_training.stages import Stage, StageSpec

_PRECISION_NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16", torch.float64: "fp64"}


def precision_name(dtype: torch.dtype) -> str:
    return _PRECISION_NAMES[dtype]


class StageRunner(Protocol):
    """Runs the stages of one generator."""

    @property
    def name(self) -> str:
        """As `--backend` has it."""
        ...

    @property
    def device(self) -> torch.device:
        """Where inputs and outputs lie."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Of images and features that go in."""
        ...

    @property
    def precision(self) -> str:
        """Of the arithmetic, as `--precision` has it."""
        ...

    def run(self, spec: StageSpec, inputs: Mapping[str, Tensor]) -> Tensor:
        """The stage's output for the inputs that `stage_inputs` lists, on `device`.

        Raises `torch.OutOfMemoryError` where the device lacks the memory for this call, so that a smaller tile is
        tried.
        """
        ...


class TorchRunner:
    """Runs stages eagerly, with convolutions in `precision`.

    Parameters
    ----------
    network : in eval mode, on the device to run on; its weights are used as they are, and in their memory format.
    """

    name = "torch"

    def __init__(self, network: Generator, precision: torch.dtype | None = None) -> None:
        parameter = next(network.parameters())
        self.device = parameter.device
        self.dtype = parameter.dtype
        self._precision = precision or self.dtype
        self._network = network
        self._stages: dict[StageSpec, Stage] = {}

    @property
    def precision(self) -> str:
        return precision_name(self._precision)

    def run(self, spec: StageSpec, inputs: Mapping[str, Tensor]) -> Tensor:
        stage = self._stages.get(spec)
        if stage is None:
            stage = self._stages[spec] = Stage(self._network, spec)
        with computing_in(self._precision, self.device):
            return cast(Tensor, stage(*(inputs[name] for name in stage.input_names)))


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
