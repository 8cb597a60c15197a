"""PyTorch and OpenVINO are measured once on this machine, and the choice follows what was measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_pix2pix.translation.backends.openvino_runner import OpenVinoRunner
from napari_pix2pix.translation.backends.speeds import Speeds, measured_speeds
from napari_pix2pix.translation.settings import TranslationSettings
from napari_pix2pix.translation.translator import Translator
from pix2pix_training.choices import Architecture
from pix2pix_training.errors import EngineError
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.network_config import GeneratorConfig
from tests.product.translation.conftest import random_model

pytest.importorskip("openvino", reason="OpenVINO is not installed")

MUCH, LITTLE = 1e18, 1.0
"""Multiply-accumulates of work for which trying OpenVINO pays on any machine, and on none."""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("napari_pix2pix.translation.backends.cache.default_folder", lambda: tmp_path / "engines")
    return tmp_path / "speeds"


def translator_of(architecture: Architecture = "unet", **settings: Any) -> Translator:
    config = GeneratorConfig(architecture=architecture, source_channels=2, target_channels=1, base_width=4, depth=4)
    model = random_model(config, InferenceConfig(statistics="running"))
    return Translator(model, replace(TranslationSettings(backend="torch"), **settings))


def measure(translator: Translator, macs: float) -> Speeds:
    return measured_speeds(translator._network, translator.plan((300, 400)), translator.inference, macs)


@pytest.mark.parametrize("architecture", ["unet", "resnet"])
@pytest.mark.parametrize("scheme", ["whole", "exact", "blend"])
def test_both_are_measured_and_found_again(architecture: Architecture, scheme: Any, own_cache: Path) -> None:
    translator = translator_of(architecture, scheme=scheme)
    found = measure(translator, MUCH)
    assert found.torch > 0
    assert found.openvino is not None
    assert found.openvino > 0
    (kept,) = own_cache.glob("*.json")
    assert json.loads(kept.read_text()) == {
        "torch": found.torch,
        "openvino": found.openvino,
        "share": pytest.approx(1),
    }
    assert measure(translator, MUCH) == found
    assert not list(own_cache.parent.glob("engines/*")), "what the trial compiled is of no further use"


def test_openvino_is_not_tried_for_little_work_and_is_later() -> None:
    translator = translator_of()
    first = measure(translator, LITTLE)
    assert first.openvino is None
    assert measure(translator, LITTLE) == first
    assert measure(translator, MUCH).openvino is not None


def test_another_network_is_measured_anew(own_cache: Path) -> None:
    measure(translator_of(), LITTLE)
    measure(translator_of("resnet"), LITTLE)
    assert len(list(own_cache.glob("*.json"))) == 2


@pytest.mark.parametrize(
    "content", ['{"torch": ', '{"torch": 0}', '{"torch": "fast"}', '{"torch": 1, "more": 2}', "[]"]
)
def test_a_damaged_record_is_made_again(own_cache: Path, content: str) -> None:
    translator = translator_of()
    measure(translator, LITTLE)
    (kept,) = own_cache.glob("*.json")
    kept.write_text(content)
    assert measure(translator, LITTLE).torch > 0
    assert json.loads(kept.read_text())["torch"] > 0


def test_what_fails_is_said_and_not_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> torch.Tensor:
        raise EngineError("the results differ")

    monkeypatch.setattr(OpenVinoRunner, "_compiled", fail)
    translator = translator_of()
    assert measure(translator, MUCH).openvino == 0
    assert "openvino is given up, torch goes on: the results differ" in caplog.text
    caplog.clear()
    assert measure(translator, MUCH).openvino == 0
    assert not caplog.text
