"""The stages that are compiled are those that are run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_pix2pix.translation.backends.torch import TorchRunner
from napari_pix2pix.translation.planner import make_plan
from napari_pix2pix.translation.settings import TranslationSettings
from napari_pix2pix.translation.stage_survey import planned_stages, sampled_stages
from napari_pix2pix.translation.stages import Stages
from pix2pix_training.array_source import MemorySource
from pix2pix_training.config import GeneratorConfig, InferenceConfig
from pix2pix_training.intensity import dtype_mapping
from pix2pix_training.networks import build_generator, set_inference_mode
from pix2pix_training.stages import stage_inputs


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
