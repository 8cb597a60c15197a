"""The one interface of all backends, and the stages in PyTorch itself, on any device that it knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, cast

import torch
from torch import Tensor

from pix2pix_training.device import computing_in
from pix2pix_training.errors import EngineError
from pix2pix_training.layers import dropout_noise
from pix2pix_training.metrics import relative_deviation
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import Generator, UNet
from pix2pix_training.stages import (
    Rounded,
    Stage,
    StageSpec,
    StageTensor,
    covered_size,
    image_rounding,
    stage_inputs,
    whole_stage,
)

_PRECISION_NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16", torch.float64: "fp64"}
TOLERANCES: Mapping[CompiledPrecision, float] = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 3e-2, "int8": 1e-4}
"""Largest deviation from PyTorch in float32, as a share of the range of its output; of int8 on the same integers."""


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


CompiledPrecision = Literal["fp32", "fp16", "bf16", "int8"]


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


@dataclass(frozen=True, kw_only=True)
class Stages:
    """A generator and what runs its stages.

    `network` tells the layers and holds the parameters of norms on gathered statistics. `seed` is that of the dropout
    noise, None for none. `before_each` is called before each run of a stage, and may end the work with an error.
    `origin` is the row and column of the image at which the coordinates of windows begin. `scratch` is the folder for
    features that do not fit into memory, None for a temporary one. `rounded` says whether features between stages are
    integers of 8 bits, and the image.
    """

    network: Generator
    runner: StageRunner
    seed: int | None = None
    before_each: Callable[[], None] | None = None
    scratch: Path | None = None
    origin: tuple[int, int] = (0, 0)
    rounded: Rounded = Rounded.NOTHING

    @property
    def config(self) -> GeneratorConfig:
        return self.network.config

    def run(self, spec: StageSpec, tensors: Mapping[str, Tensor], origin: tuple[int, int]) -> Tensor:
        """A stage's output on windows of features and scales and shifts of norms.

        `origin` is the row and column where the windows start. Tensors that the stage does not take are left out.
        """
        if self.before_each is not None:
            self.before_each()
        expected = stage_inputs(self.config, spec)
        size = covered_size(self.config, spec, tensors)
        inputs = {t.name: _own(t, tensors) if t.noise_of is None else self._noise(t, origin, size) for t in expected}
        return self.runner.run(spec, inputs)

    def run_whole(self, image: Tensor, origin: tuple[int, int], norms: Mapping[str, Tensor] | None = None) -> Tensor:
        """The generator's output on an image, or on a window that starts at `origin` of a larger one.

        `norms` are scale and shift of its norm layers by the stages' names, None where it finds them itself.
        """
        spec = replace(whole_stage(self.config, noise=self.seed is not None), given_norms=norms is not None)
        if self.runner.precision == "int8":
            assert isinstance(self.network, UNet)
            rounding = image_rounding(self.network)
            if rounding is not None:  # as in tiles
                image, spec = rounding(image), replace(spec, rounded=Rounded.FEATURES_AND_IMAGE)
        return self.run(spec, {"features": image, **(norms or {})}, origin)

    def _noise(self, tensor: StageTensor, origin: tuple[int, int], size: tuple[int, int]) -> Tensor:
        assert tensor.noise_of is not None
        assert tensor.level is not None
        assert self.seed is not None
        shape = (tensor.channels, size[0] >> tensor.level, size[1] >> tensor.level)
        start = tuple((own + offset) >> tensor.level for own, offset in zip(origin, self.origin, strict=True))
        noise = dropout_noise(self.seed, tensor.noise_of, shape, (start[0], start[1]), self.runner.device)
        return noise.to(self.runner.dtype)


def _own(wanted: StageTensor, tensors: Mapping[str, Tensor]) -> Tensor:
    """An input of a stage; of rounded features, which may be those for two convolutions, the own channels."""
    tensor = tensors[wanted.name]
    if not wanted.integers:
        return tensor
    return tensor[:, -wanted.channels :] if wanted.name == "encoded" else tensor[:, : wanted.channels]
