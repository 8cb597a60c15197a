"""The stages that are compiled are those that are run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_pix2pix.translation.backends.stage_runner import Stages, TorchRunner
from napari_pix2pix.translation.plan import Plan
from napari_pix2pix.translation.planner import make_plan
from napari_pix2pix.translation.settings import TranslationSettings
from napari_pix2pix.translation.stage_survey import planned_stages, sampled_stages
from pix2pix_training.array_source import MemorySource
from pix2pix_training.choices import Statistics
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.intensity import dtype_mapping
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import build_generator, set_inference_mode
from pix2pix_training.stages import StageSpec, covered_size, stage_inputs, stage_output, whole_stage
from tests.product.translation.conftest import stage_macs


@pytest.mark.parametrize(
    "changes, inference, settings",
    [
        ({"norm": "batch"}, {"statistics": "running"}, {"tile": 32, "scheme": "exact"}),
        ({"norm": "instance"}, {"statistics": "image"}, {"tile": 32, "scheme": "exact", "split_level": 3}),
        ({"dropout": "paper"}, {"statistics": "image", "dropout": "seeded"}, {"tile": 32, "scheme": "exact"}),
        ({"architecture": "resnet", "blocks": 1}, {"statistics": "running"}, {"tile": 32, "scheme": "exact"}),
        ({"architecture": "resnet", "dropout": "reference", "blocks": 1}, {"dropout": "seeded"}, {"scheme": "whole"}),
    ],
)
def test_planned_stages_are_those_that_run(
    changes: dict[str, Any], inference: dict[str, Any], settings: dict[str, Any]
) -> None:
    config = GeneratorConfig(**{"source_channels": 2, "base_width": 4, "depth": 4, **changes})
    mode = InferenceConfig(**inference)
    network = build_generator(config)
    set_inference_mode(network, mode)
    plan = make_plan((112, 96), config, mode, TranslationSettings(**settings), 2**30)
    seed = 0 if mode.dropout == "seeded" else None
    stages = Stages(network=network, runner=TorchRunner(network), seed=seed)
    image = MemorySource(np.random.default_rng(0).integers(0, 256, (2, 112, 96), np.uint8))
    run = sampled_stages(stages, image, dtype_mapping(np.dtype("uint8"), 2), plan)
    planned = planned_stages(plan, config, mode)
    assert [(use.spec, use.window) for use in planned] == [(use.spec, use.window) for use in run]
    assert planned
    for use in run:
        assert set(use.sample) == {tensor.name for tensor in stage_inputs(config, use.spec)}


class CountingRunner:
    """Gives zeros of a network of width 1, and counts the multiply-accumulates that another would take for them."""

    name = "torch"
    device = torch.device("cpu")
    dtype = torch.float32
    precision = "fp32"

    def __init__(self, config: GeneratorConfig, counted: GeneratorConfig) -> None:
        self.macs = 0.0
        self._config = config
        self._counted = counted

    def run(self, spec: StageSpec, inputs: Mapping[str, Tensor]) -> Tensor:
        height, width = covered_size(self._config, spec, inputs)
        self.macs += height * width * stage_macs(self._counted, spec)
        output = stage_output(self._config, spec)
        assert output.level is not None
        return torch.zeros(1, output.channels, height >> output.level, width >> output.level)


def counted(plan: Plan, size: tuple[int, int], config: GeneratorConfig, mode: InferenceConfig) -> float:
    """Arithmetic of a plan that is carried out, relative to that of the whole image at once."""
    narrow = replace(config, base_width=1, source_channels=1, target_channels=1)
    network = build_generator(narrow)
    set_inference_mode(network, mode)
    runner = CountingRunner(narrow, config)
    source = MemorySource(np.broadcast_to(np.zeros((1, 1, 1), np.uint8), (1, *size)))
    sampled_stages(Stages(network=network, runner=runner), source, dtype_mapping(np.dtype("uint8"), 1), plan)
    height, width = plan.padded_size
    return runner.macs / height / width / stage_macs(config, whole_stage(config))


@pytest.mark.parametrize("mode", [InferenceConfig(statistics="running"), InferenceConfig(statistics="image")])
@pytest.mark.parametrize("size", [(1100, 900), (700, 1500)])
def test_the_arithmetic_that_a_plan_names_is_what_it_takes(size: tuple[int, int], mode: InferenceConfig) -> None:
    config = GeneratorConfig(base_width=4, depth=6, source_channels=1, target_channels=1)
    for settings in (TranslationSettings(region=512, tile=128), TranslationSettings(scheme="exact", tile=128)):
        plan = make_plan(size, config, mode, settings, 1 << 26)
        assert counted(plan, size, config, mode) == pytest.approx(plan.mac_overhead, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("statistics", "at_most"), [("running", 1.15), ("image", 2.15)])
def test_arithmetic_at_the_default_regions(statistics: Statistics, at_most: float) -> None:
    """Counted while the paper's network goes over an image."""
    config = GeneratorConfig()
    mode, size = InferenceConfig(statistics=statistics), (20_000, 17_000)
    plan = make_plan(size, config, mode, TranslationSettings(), 8 << 30)
    assert plan.regions > 1
    assert counted(plan, size, config, mode) < at_most
