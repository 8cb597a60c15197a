"""Stages of a generator as engines: compiled once, proven equal to PyTorch, kept; or compiled ahead for other machines.

An engine depends on weights, stage, package and its version, precision, shapes, and the GPU with its driver. All of
these are its key in the cache and stand in the header of its file.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from pix2pix_training.config import GeneratorConfig
from pix2pix_training.errors import EngineError, EngineFileError, SettingsError
from pix2pix_training.networks import Generator, norm_layers
from pix2pix_training.onnx_export import export_stage
from pix2pix_training.stages import Stage, StageSpec, stage_inputs
from pix2pix_trt.cache import EngineCache
from pix2pix_trt.engine import BuildRequest, EngineBuilder, EnginePrecision, ShapeRange, check_request
from pix2pix_trt.engine_file import EngineFile, read_engine_file, write_engine_file
from pix2pix_trt.flavours import Flavour, architecture, gpu_facts, product_name, version
from pix2pix_trt.runner import Engine, EngineRunner

logger = logging.getLogger(__name__)

TOLERANCES: Mapping[EnginePrecision, float] = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 3e-2}
"""Largest deviation from PyTorch in float32, as a share of the range of its output."""

_WINDOW_STEP_PX = 256
_REVISION = 1
"""To be raised where the same key would stand for another engine."""

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


def engine_key(
    network: Generator, spec: StageSpec, request: BuildRequest, device: torch.device | None = None
) -> dict[str, Any]:
    """Everything that an engine depends on, in JSON values.

    `device` is the GPU that it is built for; None for engines that are built for named architectures.
    """
    return {
        "revision": _REVISION,
        "weights": weights_digest(network),
        "generator": asdict(network.config),
        "statistics": sorted({norm.statistics for norm in norm_layers(network)}),
        "stage": asdict(spec),
        "package": version(request.flavour),
        **request.as_key(),
        "gpu": None if device is None else gpu_facts(device),
    }


def weights_digest(network: Generator) -> str:
    """SHA-256 of names, shapes and values of all weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


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
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> EngineFile:
    """Compile for the architectures that `request` names, on any machine; the engine is run, and proven, elsewhere."""
    if not request.architectures:
        raise SettingsError("name the GPU architectures to compile for, such as sm86,sm89,sm120")
    key = engine_key(network, spec, request)
    payload = compile_stage(network, spec, request, progress=progress, cancelled=cancelled)
    return write_engine_file(path, key, payload)


def load_engine(path: Path, device: torch.device, *, sha256: str | None = None) -> Engine:
    """An engine from a file that was named explicitly.

    Raises
    ------
    EngineFileError
        The file is damaged, is not the one with `sha256`, or is for another version of the package or another GPU.
    """
    file = read_engine_file(path, sha256=sha256)
    flavour: Flavour = file.key["flavour"]
    installed = version(flavour)
    if file.key["package"] != installed:
        raise EngineFileError(
            f"{path} is for {product_name(flavour)} {file.key['package']}, installed is {installed}; compile again"
        )
    architectures, here = file.key["architectures"], architecture(device)
    if architectures and here not in architectures:
        raise EngineFileError(f"{path} is for {', '.join(architectures)}, this GPU is {here}; compile for it")
    if not architectures and file.key["gpu"] != gpu_facts(device):
        raise EngineFileError(f"{path} was compiled for another GPU or driver; compile it again on this machine")
    return Engine(flavour=flavour, plan=file.payload)


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
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> ProvenEngine:
    """An engine of a stage for this machine's GPU, in the first of `precisions` that gives the numbers of PyTorch.

    A new engine is compared with PyTorch in float32 on `samples`; only one within `TOLERANCES` is kept or used. For one
    that is not, a warning says so, and the next precision is tried.

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
    """
    cache = cache or EngineCache()
    refused = []
    for precision in precisions:
        request = BuildRequest(flavour=flavour, precision=precision, shapes=stage_shapes(network.config, spec, window))

        def build(request: BuildRequest = request) -> bytes:
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
