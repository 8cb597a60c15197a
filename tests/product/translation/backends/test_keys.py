"""A key stands for one engine."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from napari_pix2pix.translation.backends.cache import model_key, weights_digest
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.networks import UNet, set_inference_mode
from pix2pix_training.stages import StageSpec, whole_stage
from pix2pix_trt import stage_engines
from pix2pix_trt.engine import BuildRequest
from tests.trt.networks import CONFIG, DECODE, request, unet


def engine_key(
    network: UNet, spec: StageSpec, request: BuildRequest, device: torch.device | None = None
) -> dict[str, Any]:
    return stage_engines.engine_key(model_key(network), spec, request, device)


def test_digest_is_of_every_weight() -> None:
    network = unet()
    digest = weights_digest(network)
    assert digest == weights_digest(unet())
    assert digest == weights_digest(unet().to(memory_format=torch.channels_last))
    with torch.no_grad():
        network.up_block(2).conv.weight[0, 0, 0, 0] += 1e-6
    assert weights_digest(network) != digest


def test_key_differs_wherever_the_engine_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_engines, "version", lambda flavour: "1.7")
    monkeypatch.setattr(stage_engines, "gpu_facts", lambda device: {"gpu": str(device)})
    spec = whole_stage(CONFIG)
    network = unet()
    found = [
        engine_key(network, spec, request()),
        engine_key(unet(1), spec, request()),
        engine_key(network, DECODE, request()),
        engine_key(network, spec, request("fp16")),
        engine_key(network, spec, request(architectures=("sm89",))),
        engine_key(network, spec, request(shapes={})),
        engine_key(network, spec, request(architectures=()), torch.device("cuda:0")),
        engine_key(network, spec, request(architectures=()), torch.device("cuda:1")),
    ]
    monkeypatch.setattr(stage_engines, "version", lambda flavour: "1.8")
    found.append(engine_key(network, spec, request()))
    set_inference_mode(network, InferenceConfig(statistics="tile"))
    found.append(engine_key(network, spec, request()))
    assert len({str(key) for key in found}) == len(found)


def test_key_is_the_same_after_it_was_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_engines, "version", lambda flavour: "1.7")
    key = engine_key(unet(), DECODE, request())
    assert json.loads(json.dumps(key)) == key
