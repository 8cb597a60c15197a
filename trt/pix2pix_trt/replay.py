"""An engine that runs tiles of one shape over and over as a CUDA graph.

Never executed by us on a GPU yet.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from torch import Tensor

from pix2pix_training.errors import EngineError
from pix2pix_training.metrics import relative_deviation
from pix2pix_trt.engine import Shape
from pix2pix_trt.runner import EngineRunner, FixedShapeRunner

logger = logging.getLogger(__name__)


class ReplayingRunner:
    """Runs an engine, from the third call on as a CUDA graph where a shape comes twice in a row.

    The graph takes activation memory of its own. Where the GPU lacks that, or the first replay is not the plain
    result, the engine goes on without.

    Parameters
    ----------
    engine : belongs to this runner from now on.
    tolerance : largest deviation of the replay, as a share of the range.
    """

    def __init__(self, engine: EngineRunner, tolerance: float) -> None:
        self._engine = engine
        self._tolerance = tolerance
        self._last: dict[str, Shape] = {}
        self._fixed: FixedShapeRunner | None = None
        self._fixed_shapes: dict[str, Shape] | None = None

    def takes(self, inputs: Mapping[str, Tensor]) -> bool:
        """See `EngineRunner.takes`."""
        return self._engine.takes(inputs)

    def run(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """See `EngineRunner.run`."""
        shapes = {name: tuple(tensor.shape) for name, tensor in inputs.items()}
        if self._fixed is not None and shapes == self._fixed_shapes:
            return self._fixed.run(inputs)
        result = self._engine.run(inputs)
        if self._fixed_shapes is None and shapes == self._last:
            self._fixed_shapes = shapes
            self._fixed = self._recorded(shapes, inputs, result)
        self._last = shapes
        return result

    def close(self) -> None:
        """Give back the GPU memory; the runner cannot be used afterwards."""
        if self._fixed is not None:
            self._fixed.close()
            self._fixed = None
        self._engine.close()

    def _recorded(
        self, shapes: Mapping[str, Shape], inputs: Mapping[str, Tensor], expected: Tensor
    ) -> FixedShapeRunner | None:
        try:
            fixed = self._engine.fixed(shapes)
            deviation = relative_deviation(fixed.run(inputs), expected)
        except (EngineError, torch.OutOfMemoryError) as error:
            logger.info("no CUDA graph: %s", error)
            return None
        if deviation <= self._tolerance:
            return fixed
        logger.warning("a CUDA graph deviates by %.1e of the range and is not used", deviation)
        fixed.close()
        return None
