"""All engines that a plan needs, for this machine's GPU or ahead of time for named architectures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch

from napari_pix2pix.translation.backends.cache import EngineCache, model_key
from napari_pix2pix.translation.backends.stage_runner import Stages, TorchRunner
from napari_pix2pix.translation.backends.tensorrt_runner import proven_engine
from napari_pix2pix.translation.plan import BackendChoice, EnginePlan, Plan
from napari_pix2pix.translation.planner import make_plan
from napari_pix2pix.translation.settings import CompileRequest, TranslationSettings
from napari_pix2pix.translation.stage_survey import planned_stages, sampled_stages
from pix2pix_training.array_source import ArraySource
from pix2pix_training.atomic import reserved
from pix2pix_training.cancel import Cancel
from pix2pix_training.errors import OutputError
from pix2pix_training.export_form import fold_norms
from pix2pix_training.model_file import Model
from pix2pix_training.neighbouring_planes import with_neighbouring_planes
from pix2pix_training.networks import Generator
from pix2pix_trt.engine import BuildRequest
from pix2pix_trt.engine_file import SUFFIX, read_engine_file
from pix2pix_trt.flavours import EnginePrecision, architecture, require
from pix2pix_trt.stage_engines import compile_to_file, rounded_window, stage_shapes

_MEMORY_BYTES = 4 * 2**30
"""What a plan may take of the memory of a small workstation GPU."""

Progress = Callable[[int, int, float], None]
"""Called with the number of finished stages, of all stages, and the finished fraction of the present one."""


@dataclass(frozen=True, kw_only=True)
class CompiledFile:
    """An engine on disk, and the largest window (rows, columns) of the image that it takes."""

    path: Path
    sha256: str
    architectures: tuple[str, ...]
    precision: EnginePrecision
    window: tuple[int, int]


def compile_ahead(
    model: Model,
    name: str,
    request: CompileRequest,
    architectures: Sequence[str],
    out: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> Iterator[CompiledFile]:
    """Engines of all stages for named architectures, as files in the folder `out`; needs no GPU.

    What they compute is not checked here; a machine that can run them does that.
    """
    plan = _plan(model, request)
    flavour, precision = request.engines
    uses = planned_stages(plan, model.generator_config, model.inference)
    stored_plan = EnginePlan.of(plan, request.size).as_json()
    paths = [out / f"{name}-{n}-{use.spec.gives}{use.spec.level}-{precision}{SUFFIX}" for n, use in enumerate(uses, 1)]
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; give a folder for the engines")
    with ExitStack() as stack:
        for path in paths:
            stack.enter_context(reserved(path, overwrite))
        network = _network(model)
        own = model_key(network)
        for number, (use, path) in enumerate(zip(uses, paths, strict=True)):
            window = rounded_window(use.spec, use.window)
            build = BuildRequest(
                flavour=flavour,
                precision=precision,
                shapes=stage_shapes(network.config, use.spec, window),
                architectures=tuple(architectures),
            )
            report = _reporter(progress, number, len(uses))
            file = compile_to_file(
                network,
                use.spec,
                build,
                path,
                model_key=own,
                plan=stored_plan,
                progress=report,
                cancel=cancel,
            )
            yield CompiledFile(
                path=path,
                sha256=file.sha256,
                architectures=build.architectures,
                precision=precision,
                window=window,
            )


def compile_here(
    model: Model,
    request: CompileRequest,
    sample: ArraySource,
    device: torch.device,
    *,
    cache: EngineCache | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> Iterator[CompiledFile]:
    """Engines of all stages for the GPU `device`, kept in the cache, each compared with PyTorch on the image `sample`.

    Where the precision gives other numbers than PyTorch, float32 is taken, with a warning.
    """
    flavour, precision = request.engines
    require(flavour)
    cache = cache or EngineCache()
    plan = _plan(model, request)
    uses = planned_stages(plan, model.generator_config, model.inference)
    network = _network(model).to(device)
    device = next(network.parameters()).device  # with its number, which tensors have too
    seed = model.inference.seed if model.inference.dropout == "seeded" else None
    stages = Stages(network=network, runner=TorchRunner(network), seed=seed)
    sample = with_neighbouring_planes(sample, model.source.z_context)
    sampled = sampled_stages(stages, sample, model.source.mapping, plan)
    samples = {use.spec: use.sample for use in sampled}
    precisions: list[EnginePrecision] = [precision]
    if precision != "fp32":
        precisions.append("fp32")
    for number, use in enumerate(uses):
        proven = proven_engine(
            network,
            use.spec,
            flavour,
            precisions=precisions,
            window=rounded_window(use.spec, use.window),
            samples=[samples[use.spec]],
            device=device,
            cache=cache,
            progress=_reporter(progress, number, len(uses)),
            cancel=cancel,
        )
        yield CompiledFile(
            path=proven.path,
            sha256=read_engine_file(proven.path).sha256,
            architectures=(architecture(device),),
            precision=proven.precision,
            window=use.window,
        )


def _plan(model: Model, request: CompileRequest) -> Plan:
    settings = TranslationSettings(tile=request.tile)
    backend = BackendChoice(name=request.backend, reason="asked for")
    size = request.size, request.size
    return make_plan(size, model.generator_config, model.inference, settings, _MEMORY_BYTES, backend=backend)


def _network(model: Model) -> Generator:
    network = model.generator()
    fold_norms(network)
    return network


def _reporter(progress: Progress | None, number: int, count: int) -> Callable[[float], None] | None:
    return None if progress is None else lambda fraction: progress(number, count, fraction)
