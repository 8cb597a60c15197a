"""Which stages a plan runs, and on what: what has to be known before stages can be compiled.

Found by running the plan itself, so that no second description of the schemes can go stale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from napari_pix2pix.translation.backends.stage_runner import StageRunner, Stages
from napari_pix2pix.translation.padded_image import PaddedImage
from napari_pix2pix.translation.plan import Plan
from napari_pix2pix.translation.schemes import gathered_first, network_tiles
from pix2pix_training.array_source import ArraySource, MemorySource
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.intensity import Mapping as IntensityMapping
from pix2pix_training.intensity import dtype_mapping, resolved
from pix2pix_training.invalid_pixels import FilledSource
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import build_generator, set_inference_mode
from pix2pix_training.regions import Region
from pix2pix_training.stages import StageSpec, covered_size, stage_output


@dataclass(frozen=True, kw_only=True)
class StageUse:
    """A stage with the largest window, in image rows and columns, and the inputs of the largest call."""

    spec: StageSpec
    window: tuple[int, int]
    sample: Mapping[str, Tensor]


def planned_stages(plan: Plan, config: GeneratorConfig, inference: InferenceConfig) -> list[StageUse]:
    """The stages of a plan, in order of their first use, with their windows; samples are empty.

    Nothing is computed: a network of width 1 has the same stages and windows, and a runner gives zeros for it.
    """
    narrow = replace(config, base_width=1, source_channels=1, target_channels=1)
    network = build_generator(narrow)
    set_inference_mode(network, inference)
    stages = Stages(network=network, runner=_ZeroRunner(narrow), seed=_seed(config, inference))
    source = MemorySource(np.zeros((1, *plan.padded_size), np.uint8))
    uses = _surveyed(stages, source, dtype_mapping(np.dtype(np.uint8), 1), plan)
    return [replace(use, sample={}) for use in uses]


def sampled_stages(stages: Stages, source: ArraySource, mapping: IntensityMapping, plan: Plan) -> list[StageUse]:
    """The stages of a plan run on a real image, which may be smaller than the planned one; samples are its features."""
    return _surveyed(stages, source, mapping, plan)


def _surveyed(stages: Stages, source: ArraySource, mapping: IntensityMapping, plan: Plan) -> list[StageUse]:
    recorder = _Recorder(stages.config, stages.runner)
    image = PaddedImage(
        FilledSource(source),
        (),
        resolved(mapping, source),
        stride=stages.config.stride,
        device=stages.runner.device,
        dtype=stages.runner.dtype,
    )
    recorded = replace(stages, runner=recorder)
    with torch.inference_mode():
        norms = gathered_first(recorded, image, plan)
        for region in Region.whole(*image.image_size).tiles(*plan.region):
            for _ in network_tiles(recorded, image, region, plan, norms):
                pass
    return list(recorder.uses.values())


class _Recorder:
    """Passes calls on to a runner and remembers the largest of each stage."""

    def __init__(self, config: GeneratorConfig, runner: StageRunner) -> None:
        self.name, self.device, self.dtype = runner.name, runner.device, runner.dtype
        self.precision = runner.precision
        self.uses: dict[StageSpec, StageUse] = {}
        self._config = config
        self._runner = runner

    def run(self, spec: StageSpec, inputs: Mapping[str, Tensor]) -> Tensor:
        window = covered_size(self._config, spec, inputs)
        known = self.uses.get(spec)
        if known is None:
            self.uses[spec] = StageUse(spec=spec, window=window, sample=dict(inputs))
        elif window[0] > known.window[0] or window[1] > known.window[1]:
            largest = (max(window[0], known.window[0]), max(window[1], known.window[1]))
            self.uses[spec] = StageUse(spec=spec, window=largest, sample=dict(inputs))
        return self._runner.run(spec, inputs)


class _ZeroRunner:
    """Gives zeros of the right shape."""

    name = "torch"
    device = torch.device("cpu")
    dtype = torch.float32
    precision = "fp32"

    def __init__(self, config: GeneratorConfig) -> None:
        self._config = config

    def run(self, spec: StageSpec, inputs: Mapping[str, Tensor]) -> Tensor:
        height, width = covered_size(self._config, spec, inputs)
        output = stage_output(self._config, spec)
        assert output.level is not None
        return torch.zeros(1, output.channels, height >> output.level, width >> output.level)


def _seed(config: GeneratorConfig, inference: InferenceConfig) -> int | None:
    return inference.seed if inference.dropout == "seeded" and config.dropout != "none" else None
