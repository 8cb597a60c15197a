"""Stages as TensorRT or TensorRT-RTX engines on an NVIDIA GPU. Written to `pix2pix_trt`; not yet run on a GPU."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import torch
from torch import Tensor

from napari_pix2pix.translation.backends.cache import EngineCache, model_key
from napari_pix2pix.translation.backends.stage_runner import TOLERANCES, Sample, UnequalEngineError, require_parity
from napari_pix2pix.translation.prefetch import current_cancel
from pix2pix_training.cancel import Cancel
from pix2pix_training.errors import EngineError, EngineFileError
from pix2pix_training.networks import Generator
from pix2pix_training.stages import StageSpec, covered_size
from pix2pix_trt.engine import BuildRequest
from pix2pix_trt.engine_folder import PreparedEngines
from pix2pix_trt.flavours import EnginePrecision, Flavour, product_name, require
from pix2pix_trt.replay import ReplayingRunner
from pix2pix_trt.runner import Engine, EngineMemoryError, EngineRunner
from pix2pix_trt.stage_engines import Progress, compile_stage, engine_key, rounded_window, stage_shapes

logger = logging.getLogger(__name__)

Window = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class ProvenEngine:
    """An engine that gave the numbers of PyTorch here, its precision, and where the cache keeps it."""

    engine: Engine
    precision: EnginePrecision
    path: Path


class TensorRtRunner:
    """Runs each stage as an engine that is found or compiled on its first call; see `proven_engine`.

    Where the GPU lacks the memory for an engine, it raises `torch.OutOfMemoryError`, so that a smaller tile is tried.

    Parameters
    ----------
    network : float32 on a CUDA device, in eval mode.
    precisions : tried in order until one gives the numbers of PyTorch.
    prepared : engines that were compiled ahead of time.

    Raises
    ------
    BackendError
        The package, the driver or the GPU is missing.
    """

    dtype = torch.float32

    def __init__(
        self,
        flavour: Flavour,
        network: Generator,
        precisions: Sequence[EnginePrecision],
        prepared: PreparedEngines | None = None,
        cache: EngineCache | None = None,
    ) -> None:
        require(flavour)
        self.name = flavour
        self.device = next(network.parameters()).device
        self._flavour = flavour
        self._network = network
        self._precisions = precisions
        self._prepared = prepared
        self._cache = cache or EngineCache()
        self._engines: dict[StageSpec, ReplayingRunner] = {}
        self._windows: dict[StageSpec, Window] = {}
        self._in_use: dict[StageSpec, EnginePrecision] = {}

    @property
    def precision(self) -> str:
        """Of the engines so far; of the first to be tried where there is none yet."""
        return ", ".join(sorted(set(self._in_use.values()))) or self._precisions[0]

    def run(self, spec: StageSpec, inputs: Mapping[str, Tensor]) -> Tensor:
        """The stage's output; see `proven_engine` and `EngineRunner.run` for what they raise."""
        inputs = {name: tensor.to(self.dtype).contiguous() for name, tensor in inputs.items()}
        engine = self._engines.get(spec)
        if engine is None or not engine.takes(inputs):
            try:
                engine = self._engines[spec] = self._opened(spec, inputs)
            except EngineMemoryError as error:
                del self._windows[spec]
                raise torch.OutOfMemoryError(str(error)) from error
        return engine.run(inputs)

    def _opened(self, spec: StageSpec, inputs: Mapping[str, Tensor]) -> ReplayingRunner:
        """An engine for windows as large as all that came so far; the one before gives its memory back."""
        window = rounded_window(spec, covered_size(self._network.config, spec, inputs))
        before = self._windows.get(spec, (0, 0))
        window = self._windows[spec] = (max(before[0], window[0]), max(before[1], window[1]))
        smaller = self._engines.pop(spec, None)
        if smaller is not None:
            smaller.close()
        proven = self._proven(spec, window, inputs)
        try:
            engine = EngineRunner(proven.engine, self.device)
        except EngineFileError as error:
            logger.warning("an engine in the cache is not used: %s", error)
            self._cache.discard(proven.path)
            proven = self._proven(spec, window, inputs)
            engine = EngineRunner(proven.engine, self.device)
        return ReplayingRunner(engine, TOLERANCES[proven.precision])

    def _announced(self, spec: StageSpec) -> Callable[[float], None]:
        """Says once that a build is under way, as it may take minutes."""
        said = Event()

        def progress(_: float) -> None:
            if not said.is_set():
                said.set()
                logger.warning(
                    "compiling stage %s %d for this GPU; it may take minutes, and is kept", spec.gives, spec.level
                )

        return progress

    def _proven(self, spec: StageSpec, window: Window, inputs: Mapping[str, Tensor]) -> ProvenEngine:
        proven = proven_engine(
            self._network,
            spec,
            self._flavour,
            precisions=self._precisions,
            window=window,
            samples=[inputs],
            device=self.device,
            cache=self._cache,
            prepared=self._prepared,
            progress=self._announced(spec),
            cancel=current_cancel(),
        )
        self._in_use[spec] = proven.precision
        return proven


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
    cancel: Cancel | None = None,
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
    own = model_key(network)
    refused = []
    for precision in precisions:
        request = BuildRequest(flavour=flavour, precision=precision, shapes=stage_shapes(network.config, spec, window))

        def build(request: BuildRequest = request) -> bytes:
            plan = None if prepared is None else prepared.find(spec, request.shapes, request.precision)
            if plan is None:
                _say_what_is_missing(prepared, spec, window, request)
                plan = compile_stage(network, spec, request, progress=progress, cancel=cancel)
            with EngineRunner(Engine(flavour=flavour, plan=plan), device) as runner:
                require_parity(network, spec, runner.run, samples, request.precision)
            return plan

        try:
            key = engine_key(own, spec, request, device)
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
