"""The plain program of the paper's settings, which `benchmarks.ten_minutes` compares with, is what it claims to be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.textbook import NestedUNet, TextbookTraining, patchgan
from benchmarks.textbook_run import PATCH_PX, TextbookRun, ValueRange

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"
needs_reference = pytest.mark.skipif(
    not REFERENCE.is_dir(), reason="the vectors of the reference implementation are not on this machine"
)


def loaded(network: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    """The network with weights by the names of the reference; those of a PatchGAN lack the leading ``model.``."""
    names = state if isinstance(network, NestedUNet) else {k.removeprefix("model."): v for k, v in state.items()}
    network.load_state_dict(names)
    return network


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float(torch.linalg.vector_norm(found - expected) / torch.linalg.vector_norm(expected))


@needs_reference
@pytest.mark.parametrize(
    "name, network",
    [
        ("unet_d5_ngf8_bn", NestedUNet(3, 3, 8, 5)),
        ("unet_d6_ngf4_bn_dropout_1to2", NestedUNet(1, 2, 4, 6, noisy=(5, 4, 3))),
        ("patchgan_n3_ndf8_bn", patchgan(6, 8)),
    ],
)
def test_the_networks_are_those_of_the_reference(name: str, network: nn.Module) -> None:
    loaded(network, torch.load(REFERENCE / f"{name}.pth", weights_only=True))
    vectors = {key: torch.from_numpy(values) for key, values in np.load(REFERENCE / f"{name}.npz").items()}
    with torch.no_grad():
        assert relative_error(network.eval()(vectors["x"]), vectors["y_eval"]) < 1e-5
        if "y_batch_stats" in vectors:
            assert relative_error(network.train()(vectors["x"]), vectors["y_batch_stats"]) < 1e-5


@needs_reference
def test_the_steps_are_those_of_the_reference() -> None:
    initial = torch.load(REFERENCE / "trace_vanilla_init.pth", weights_only=True)
    generator, discriminator = loaded(NestedUNet(3, 3, 8, 5), initial["G"]), loaded(patchgan(6, 8), initial["D"])
    training = TextbookTraining(generator.double(), discriminator.double())
    vectors = np.load(REFERENCE / "trace_vanilla.npz")
    sources, targets = (torch.from_numpy(vectors[name]).double() for name in "AB")
    for x, y, expected in zip(
        sources, targets, json.loads((REFERENCE / "trace_vanilla.json").read_text()), strict=True
    ):
        assert training.step(x, y) == pytest.approx(expected, rel=2e-6)


def test_networks_have_the_size_of_published_ones() -> None:
    run = TextbookRun([np.zeros((3, 256, 256), np.uint8)], [np.zeros((3, 256, 256), np.uint8)], base_width=64, seed=0)
    sizes = [sum(p.numel() for p in net.parameters()) for net in (run._training.generator, run._training.discriminator)]
    assert sizes == [54_413_955, 2_768_705]
    dropouts = [m for m in run._training.generator.modules() if isinstance(m, nn.Dropout)]
    assert len(dropouts) == 3


def test_patches_are_crops_of_the_enlarged_pair() -> None:
    """Of a ramp that is its own target: straight on, rising by 1 / 1.117 of its slope, both sides alike."""
    ramp = np.broadcast_to(np.linspace(0, 60000, 400).astype(np.uint16), (1, 400, 400)).copy()
    run = TextbookRun([ramp], [ramp], base_width=1, seed=0)
    for _ in range(4):
        x, y = run._patch(run._pairs[0])
        assert x.shape == (1, 1, PATCH_PX, PATCH_PX) and torch.equal(x, y)
        slope = (x[0, 0, 100, 220] - x[0, 0, 100, 40]).abs() / 180
        stored = run._pairs[0][0, 0, 100]
        assert float(slope) == pytest.approx(float(stored[300] - stored[100]) / 200 / (286 / 256), rel=1e-3)


def test_stored_values_come_back() -> None:
    image = np.arange(2 * 64 * 64, dtype=np.uint16).reshape(2, 64, 64) + 1000
    values = ValueRange.of([image])
    error = np.abs(values.from_network(values.to_network(image)).astype(int) - image)
    assert np.median(error) == 0 and error.max() <= 8  # beyond the percentiles
    eight_bit = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    assert np.array_equal(
        ValueRange.of([eight_bit]).from_network(ValueRange.of([eight_bit]).to_network(eight_bit)), eight_bit
    )


def test_translations_have_the_size_and_type_of_targets() -> None:
    random = np.random.default_rng(0)
    source = random.integers(0, 255, (1, 256, 300), dtype=np.uint8)
    target = random.integers(0, 60000, (2, 256, 300), dtype=np.uint16)
    run = TextbookRun([source], [target], base_width=1, seed=0)
    done, seconds = run.train(minutes=None, steps=2)
    assert done == 2 and seconds > 0
    first = run.translate(source)
    assert first.shape == target.shape and first.dtype == np.uint16
    assert np.array_equal(first, run.translate(source))
    assert run.train(minutes=1e-4, steps=None)[0] >= 1
