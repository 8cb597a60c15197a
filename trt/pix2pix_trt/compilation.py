"""Stages as engines: compiled once, proven equal to PyTorch, kept; or compiled ahead of time for other machines."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from pix2pix_training.config import GeneratorConfig
from pix2pix_training.errors import EngineError, SettingsError
from pix2pix_training.networks import Generator
from pix2pix_training.onnx_export import export_stage
from pix2pix_training.stages import Stage, StageSpec, stage_inputs
from pix2pix_trt.cache import EngineCache
from pix2pix_trt.engine import BuildRequest, EngineBuilder, EnginePrecision, ShapeRange, check_request
from pix2pix_trt.engine_file import EngineFile, write_engine_file
from pix2pix_trt.engine_folder import PreparedEngines
from pix2pix_trt.flavours import Flavour, product_name
from pix2pix_trt.keys import engine_key
from pix2pix_trt.runner import Engine, EngineRunner

logger = logging.getLogger(__name__)

TOLERANCES: Mapping[EnginePrecision, float] = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 3e-2}
"""Largest deviation from PyTorch in float32, as a share of the range of its output."""

_WINDOW_STEP_PX = 256

Progress = Callable[[float], None]
Cancelled = Callable[[], bool]
Sample = Mapping[str, Tensor]
"""The inputs of a stage by name, for example a real tile and features computed from it."""


class UnequalEngineError(EngineError):
    """An engine was built but does not give the numbers of PyTorch."""


@dataclass(frozen=True, kw_only=True)
class ProvenEngine:
    """An engine that gave the numbers of PyTorch here, its precision, and where the cache keeps it."""

    engine: Engine
    precision: EnginePrecision
    path: Path


def stage_shapes(config: GeneratorConfig, spec: StageSpec, window: tuple[int, int]) -> dict[str, ShapeRange]:
    """Shapes of a stage's inputs for windows of up to `window` image rows and columns; tuned for the largest.

    `window` is rounded up to whole cells of the stage's coarsest level.
    """
    cells = [max(1, math.ceil(size / 2**spec.top)) for size in window]
    shapes = {}
    for tensor in stage_inputs(config, spec):
        if tensor.level is not None:
            cell = 1 << (spec.top - tensor.level)
            largest = (1, tensor.channels, cells[0] * cell, cells[1] * cell)
            smallest = (1, tensor.channels, cell, cell)
            shapes[tensor.name] = ShapeRange(minimum=smallest, optimum=largest, maximum=largest)
    return shapes


def rounded_window(spec: StageSpec, window: tuple[int, int]) -> tuple[int, int]:
    """The window that an engine is built for: tiles at borders and inside, and images of like size, share one."""
    step = max(_WINDOW_STEP_PX, 1 << spec.top)
    return math.ceil(window[0] / step) * step, math.ceil(window[1] / step) * step


def compile_stage(
    network: Generator,
    spec: StageSpec,
    request: BuildRequest,
    *,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> bytes:
    """A stage as a serialised engine; see `export_stage` and `EngineBuilder.build` for what it raises."""
    check_request(request)
    model = export_stage(network, spec, precision=request.precision)
    return EngineBuilder(model, request).build(progress=progress, cancelled=cancelled)


def compile_to_file(
    network: Generator,
    spec: StageSpec,
    request: BuildRequest,
    path: Path,
    *,
    plan: Mapping[str, Any],
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> EngineFile:
    """Compile for the architectures that `request` names, on any machine; the engine is run, and proven, elsewhere.

    `plan` (JSON values) is kept for the caller: how images must be cut up for the engines to be of use.
    """
    if not request.architectures:
        raise SettingsError("name the GPU architectures to compile for, such as sm86,sm89,sm120")
    key = {**engine_key(network, spec, request), "plan": dict(plan)}
    payload = compile_stage(network, spec, request, progress=progress, cancelled=cancelled)
    return write_engine_file(path, key, payload)


def proven_engine(
    network: Generator,
    spec: StageSpec,
    flavour: Flavour,
    *,
    precisions: Sequence[EnginePrecision],
    window: tuple[int, int],
    samples: Sequence[Sample],
    device: torch.device,
    cache: EngineCache | None = None,
    prepared: PreparedEngines | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> ProvenEngine:
    """An engine of a stage for this machine's GPU, in the first of `precisions` that gives the numbers of PyTorch.

    It comes from the cache, else from `prepared`, else it is compiled. One that is not from the cache is compared with
    PyTorch in float32 on `samples`; only one within `TOLERANCES` is kept or used. For one that is not, a warning says
    so, and the next precision is tried.

    Parameters
    ----------
    network : on `device`, in eval mode.
    window : largest window of the image, in rows and columns.
    samples : inputs on `device`, at least one.

    Raises
    ------
    EngineError
        No precision is within its tolerance, or building failed.
    BackendError
        The package, the driver or the GPU is missing.
    EngineFileError
        An engine of `prepared` is damaged, or is refused by the package.
    """
    cache = cache or EngineCache()
    refused = []
    for precision in precisions:
        request = BuildRequest(flavour=flavour, precision=precision, shapes=stage_shapes(network.config, spec, window))

        def build(request: BuildRequest = request) -> bytes:
            plan = None if prepared is None else prepared.find(spec, request.shapes, request.precision)
            if plan is None:
                _say_what_is_missing(prepared, spec, window, request)
                plan = compile_stage(network, spec, request, progress=progress, cancelled=cancelled)
            with EngineRunner(Engine(flavour=flavour, plan=plan), device) as runner:
                require_parity(network, spec, runner.run, samples, request.precision)
            return plan

        try:
            key = engine_key(network, spec, request, device)
            plan = cache.get_or_build(key, build)
        except UnequalEngineError as error:
            logger.warning("%s in %s is not used: %s", product_name(flavour), precision, error)
            refused.append(str(error))
            continue
        return ProvenEngine(engine=Engine(flavour=flavour, plan=plan), precision=precision, path=cache.path(key))
    raise EngineError(f"{product_name(flavour)} cannot run this model: {'; '.join(refused)}; use backend torch")


def _say_what_is_missing(
    prepared: PreparedEngines | None, spec: StageSpec, window: tuple[int, int], request: BuildRequest
) -> None:
    if prepared is not None:
        logger.warning(
            "%s has no %s engine for stage %s %d in windows of %d x %d; it is compiled here",
            prepared.folder, request.precision, spec.gives, spec.level, *window,
        )  # fmt: skip


def require_parity(
    network: Generator,
    spec: StageSpec,
    run: Callable[[Sample], Tensor],
    samples: Iterable[Sample],
    precision: EnginePrecision,
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


def relative_deviation(result: Tensor, expected: Tensor) -> float:
    """Largest absolute difference as a share of the range of `expected`; infinite where `result` is not finite."""
    if result.shape != expected.shape or not bool(torch.isfinite(result).all()):
        return math.inf
    span = (expected.max() - expected.min()).item()
    difference = (result.double() - expected.double()).abs().max().item()
    return difference / span if span > 0 else (0.0 if difference == 0 else math.inf)
