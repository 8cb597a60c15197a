"""Stages as TensorRT or TensorRT-RTX engines on an NVIDIA GPU. Written to `pix2pix_trt`; not yet run on a GPU."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from threading import Event

import torch
from torch import Tensor

from napari_pix2pix.translation.prefetch import cancellation
from pix2pix_training.errors import EngineFileError
from pix2pix_training.networks import Generator
from pix2pix_training.stages import StageSpec, covered_size
from pix2pix_trt.cache import EngineCache
from pix2pix_trt.compilation import TOLERANCES, ProvenEngine, proven_engine, rounded_window
from pix2pix_trt.engine import EnginePrecision
from pix2pix_trt.engine_folder import PreparedEngines
from pix2pix_trt.flavours import Flavour, require
from pix2pix_trt.replay import ReplayingRunner
from pix2pix_trt.runner import EngineMemoryError, EngineRunner

logger = logging.getLogger(__name__)

Window = tuple[int, int]


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
            cancelled=cancellation(),
        )
        self._in_use[spec] = proven.precision
        return proven
