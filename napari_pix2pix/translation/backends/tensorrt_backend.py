"""Stages as TensorRT or TensorRT-RTX engines on an NVIDIA GPU. Written to `pix2pix_trt`; not yet run on a GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pix2pix_training.networks import Generator
from pix2pix_training.stages import StageSpec, covered_size
from pix2pix_trt.compilation import proven_engine, rounded_window
from pix2pix_trt.engine import EnginePrecision
from pix2pix_trt.flavours import Flavour, require
from pix2pix_trt.runner import EngineRunner


class TensorRtRunner:
    """Runs each stage as an engine that is compiled, or found in the user's cache, on its first call.

    Parameters
    ----------
    network : float32 on a CUDA device, in eval mode.
    precisions : tried in order until one gives the numbers of PyTorch.

    Raises
    ------
    BackendError
        The package, the driver or the GPU is missing.
    """

    dtype = torch.float32

    def __init__(self, flavour: Flavour, network: Generator, precisions: Sequence[EnginePrecision]) -> None:
        require(flavour)
        self.name = flavour
        self.device = next(network.parameters()).device
        self._flavour = flavour
        self._network = network
        self._precisions = precisions
        self._engines: dict[StageSpec, tuple[tuple[int, int], EngineRunner]] = {}

    def run(self, spec: StageSpec, inputs: Mapping[str, Tensor]) -> Tensor:
        """The stage's output; see `proven_engine` and `EngineRunner.run` for what they raise."""
        inputs = {name: tensor.to(self.dtype).contiguous() for name, tensor in inputs.items()}
        window = rounded_window(spec, covered_size(self._network.config, spec, inputs))
        built, engine = self._engines.get(spec, ((0, 0), None))
        if engine is None or window[0] > built[0] or window[1] > built[1]:
            if engine is not None:
                engine.close()
            built = (max(built[0], window[0]), max(built[1], window[1]))
            proven = proven_engine(
                self._network,
                spec,
                self._flavour,
                precisions=self._precisions,
                window=built,
                samples=[inputs],
                device=self.device,
            )
            engine = EngineRunner(proven.engine, self.device)
            self._engines[spec] = (built, engine)
        return engine.run(inputs)
