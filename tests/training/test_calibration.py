"""Statistics that are measured anew on patches belong to the weights that are saved, and change nothing in training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pix2pix_training.calibration import calibrated
from pix2pix_training.choices import Norm
from pix2pix_training.model_file import load_model
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import build_generator, norm_layers
from tests.training.runs import TINY, trained


@pytest.mark.parametrize("norm", ["batch", "batch-renorm"])
def test_statistics_are_the_mean_over_the_patches(norm: Norm) -> None:
    torch.manual_seed(0)
    network = build_generator(GeneratorConfig(base_width=2, depth=3, norm=norm, dropout="paper"))
    sources = list(torch.rand(5, 1, 3, 32, 32) * 2 - 1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    found = calibrated(network, sources)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    first = next(norm_layers(found))
    seen: list[torch.Tensor] = []
    hook = first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    calibrated_again = found.eval()
    with torch.no_grad():
        for source in sources:
            calibrated_again(source)
    hook.remove()
    means = torch.stack([features.mean((0, 2, 3)) for features in seen]).mean(0)
    assert first.running_mean is not None
    assert torch.allclose(first.running_mean, means, atol=1e-6)
    assert not torch.equal(first.running_mean, before["down.1.norm.running_mean"])
    assert all(
        norm.momentum == own.momentum for norm, own in zip(norm_layers(found), norm_layers(network), strict=True)
    )


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_training_does_not_change_by_it_and_resumes_as_ever(tmp_path: Path, ema_decay: float) -> None:
    plain = replace(TINY, ema_decay=ema_decay, keep="last")
    config = replace(plain, calibration=3)
    trained(tmp_path / "plain", config=plain, steps=6)
    trained(tmp_path / "whole", config=config, steps=6)
    trained(tmp_path / "parts", config=config, steps=4)
    trained(tmp_path / "parts", config=config, steps=6, resume=True)
    states = [torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("plain", "whole", "parts")]
    for part in ("generator", "discriminator"):
        weights = [state["networks"][part] for state in states]
        assert all(torch.equal(w[name], weights[0][name]) for w in weights[1:] for name in w)
    models = [load_model(tmp_path / name / "model.safetensors").weights for name in ("plain", "whole", "parts")]
    changed = {name for name in models[0] if not torch.equal(models[0][name], models[1][name])}
    assert changed == {name for name in models[0] if "running" in name}
    assert all(torch.equal(models[1][name], models[2][name]) for name in models[1])
    (tmp_path / "parts" / "model.safetensors").unlink()
    trained(tmp_path / "parts", config=config, steps=6, resume=True)
    again = load_model(tmp_path / "parts" / "model.safetensors").weights
    assert all(torch.equal(again[name], models[1][name]) for name in again)
