"""The moving average of a generator's weights."""

from __future__ import annotations

import pytest
import torch

from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import build_generator
from pix2pix_training.training_step import WeightAverage

NAME = "down.0.conv.weight"


@pytest.mark.parametrize("decay", [0.1, 0.99])
def test_it_follows_the_formula(decay: float) -> None:
    """The given decay, or the smaller one of the first steps."""
    generator = build_generator(GeneratorConfig(base_width=4, depth=2))
    average = WeightAverage(generator, decay)
    expected = generator.state_dict()[NAME].clone()
    for step in (1, 2, 3):
        with torch.no_grad():
            for weight in generator.parameters():
                weight.add_(torch.randn_like(weight))
        average.update(step)
        kept = min(decay, (1 + step) / (10 + step))
        expected = kept * expected + (1 - kept) * generator.state_dict()[NAME]
        assert torch.allclose(average.generator.state_dict()[NAME], expected, atol=1e-6)


def test_running_statistics_are_averaged_and_counters_are_not() -> None:
    """Those of the last step belong to the weights of that step."""
    generator = build_generator(GeneratorConfig(base_width=4, depth=3))
    average = WeightAverage(generator, 0.1)
    expected = {name: value.clone() for name, value in average.generator.named_buffers()}
    assert any(name.endswith("running_mean") for name in expected)
    for step in (1, 2):
        generator(torch.randn(1, 3, 16, 16))
        average.update(step)
        for name, now in generator.named_buffers():
            expected[name] = 0.1 * expected[name] + 0.9 * now if now.is_floating_point() else now.clone()
        for name, value in average.generator.named_buffers():
            assert torch.allclose(value, expected[name], atol=1e-6), name
            assert value.dtype == expected[name].dtype


def test_its_state_is_restored() -> None:
    first, second = (WeightAverage(build_generator(GeneratorConfig(base_width=4, depth=2)), 0.9) for _ in range(2))
    assert not torch.equal(first.state()[NAME], second.state()[NAME])
    second.load_state(first.state())
    assert torch.equal(first.state()[NAME], second.state()[NAME])
