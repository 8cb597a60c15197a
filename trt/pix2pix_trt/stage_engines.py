"""Stages of a generator as engines: shapes that they take, the key of each, and compiling, for here or elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from pix2pix_training.cancel import Cancel
from pix2pix_training.errors import SettingsError
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import Generator
from pix2pix_training.onnx_export import export_stage
from pix2pix_training.stages import StageSpec, stage_inputs
from pix2pix_trt.engine import BuildRequest, EngineBuilder, ShapeRange, check_request
from pix2pix_trt.engine_file import EngineFile, write_engine_file
from pix2pix_trt.flavours import gpu_facts, version

REVISION = 1
"""To be raised where the same key would stand for another engine."""

_WINDOW_STEP_PX = 256

Progress = Callable[[float], None]


def engine_key(
    model_key: Mapping[str, Any], spec: StageSpec, request: BuildRequest, device: torch.device | None = None
) -> dict[str, Any]:
    """Everything that an engine depends on, in JSON values: model, stage, package and version, precision, shapes, GPU.

    Parameters
    ----------
    model_key : what of it is the same for all stages of a model.
    device : the GPU that the engine is built for; None for engines that are built for named architectures.
    """
    return {
        "revision": REVISION,
        **model_key,
        "stage": asdict(spec),
        "package": version(request.flavour),
        **request.as_key(),
        "gpu": None if device is None else gpu_facts(device),
    }


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
    cancel: Cancel | None = None,
) -> bytes:
    """A stage as a serialised engine; see `export_stage` and `EngineBuilder.build` for what it raises."""
    check_request(request)
    model = export_stage(network, spec, precision=request.precision)
    return EngineBuilder(model, request).build(progress=progress, cancel=cancel)


def compile_to_file(
    network: Generator,
    spec: StageSpec,
    request: BuildRequest,
    path: Path,
    *,
    model_key: Mapping[str, Any],
    plan: Mapping[str, Any],
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> EngineFile:
    """Compile for the architectures that `request` names, on any machine; the engine is run, and proven, elsewhere.

    `plan` (JSON values) is kept for the caller: how images must be cut up for the engines to be of use.
    """
    if not request.architectures:
        raise SettingsError("name the GPU architectures to compile for, such as sm86,sm89,sm120")
    key = {**engine_key(model_key, spec, request), "plan": dict(plan)}
    payload = compile_stage(network, spec, request, progress=progress, cancel=cancel)
    return write_engine_file(path, key, payload)
