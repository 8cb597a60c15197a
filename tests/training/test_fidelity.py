"""The networks and the training step equal the reference implementation, and a second, plain implementation."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.textbook import NestedUNet, TextbookTraining, patchgan
from pix2pix_training.config import ObjectiveConfig, TrainingConfig
from pix2pix_training.losses import discriminator_loss
from pix2pix_training.network_config import DiscriminatorConfig, GeneratorConfig
from pix2pix_training.networks import Discriminator, UNet, build_generator, parameter_count
from pix2pix_training.reference_weights import (
    discriminator_from_reference,
    discriminator_to_reference,
    generator_from_reference,
    generator_to_reference,
)
from pix2pix_training.training_step import TrainingStep

GENERATORS = {
    "unet_d5_ngf8_bn": GeneratorConfig(depth=5, base_width=8),
    "unet_d6_ngf4_bn_dropout_1to2": GeneratorConfig(
        depth=6, base_width=4, source_channels=1, target_channels=2, dropout="reference"
    ),
    "unet_d5_ngf8_in": GeneratorConfig(depth=5, base_width=8, target_channels=1, norm="instance"),
    "resnet_3blocks_ngf8_in": GeneratorConfig(architecture="resnet", blocks=3, base_width=8, norm="instance"),
}
DISCRIMINATORS = {
    "patchgan_n3_ndf8_bn": DiscriminatorConfig(base_width=8),
    "pixelgan_ndf8_bn": DiscriminatorConfig(base_width=8, layers=0),
}


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float(torch.linalg.vector_norm(found - expected) / torch.linalg.vector_norm(expected))


def check_vectors(network: nn.Module, folder: Path, name: str) -> None:
    vectors = np.load(folder / f"{name}.npz")
    x = torch.from_numpy(vectors["x"])
    with torch.no_grad():
        assert relative_error(network.eval()(x), torch.from_numpy(vectors["y_eval"])) < 1e-5
        if "y_batch_stats" in vectors:
            assert relative_error(network.train()(x), torch.from_numpy(vectors["y_batch_stats"])) < 1e-5


@pytest.mark.parametrize("name", GENERATORS)
def test_generators_reproduce_the_reference(name: str, reference_folder: Path) -> None:
    state = torch.load(reference_folder / f"{name}.pth", weights_only=True)
    network = build_generator(GENERATORS[name])
    network.load_state_dict(generator_from_reference(state, GENERATORS[name]))
    check_vectors(network, reference_folder, name)
    exported = generator_to_reference(network.state_dict(), GENERATORS[name])
    assert exported.keys() == state.keys()


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_discriminators_reproduce_the_reference(name: str, reference_folder: Path) -> None:
    state = torch.load(reference_folder / f"{name}.pth", weights_only=True)
    network = Discriminator(6, DISCRIMINATORS[name])
    network.load_state_dict(discriminator_from_reference(state, DISCRIMINATORS[name]))
    exported = discriminator_to_reference(network.state_dict(), DISCRIMINATORS[name])
    assert all(torch.equal(exported[key], state[key]) for key in state)
    check_vectors(network, reference_folder, name)


@pytest.mark.parametrize("mode", ["vanilla", "lsgan"])
@pytest.mark.parametrize(
    "dtype, steps, tolerance",
    [
        (torch.float64, 12, 2e-6),
        # Longer in float32, rounding alone may decide the sign of a feature next to zero, as it does for the plain
        # loop of the textbook; the losses then part by 2e-4.
        (torch.float32, 6, 1e-5),
    ],
)
def test_training_steps_reproduce_the_reference(
    mode: str, dtype: torch.dtype, steps: int, tolerance: float, reference_folder: Path
) -> None:
    config = TrainingConfig(
        generator=GeneratorConfig(depth=5, base_width=8),
        discriminator=DiscriminatorConfig(base_width=8),
        objective=ObjectiveConfig(gan_mode=mode),  # type: ignore[arg-type]
        patch_size=64,
        steps=steps,
    )
    initial = torch.load(reference_folder / f"trace_{mode}_init.pth", weights_only=True)
    vectors = np.load(reference_folder / f"trace_{mode}.npz")
    expected = json.loads((reference_folder / f"trace_{mode}.json").read_text())
    step = TrainingStep(config, torch.device("cpu"), torch.float32)
    step.generator.load_state_dict(generator_from_reference(initial["G"], config.generator))
    assert step.discriminator is not None
    step.discriminator.load_state_dict(discriminator_from_reference(initial["D"], config.discriminator))
    step.generator.to(dtype)
    step.discriminator.to(dtype)
    sources, targets = (torch.from_numpy(vectors[name]).to(dtype) for name in "AB")
    for number in range(steps):
        losses = step.run(sources[number], targets[number])
        assert {k: v.item() for k, v in losses.items()} == pytest.approx(expected[number], rel=tolerance)
    if steps == len(expected):
        with torch.no_grad():
            final = step.generator.eval()(sources[0])
        assert relative_error(final, torch.from_numpy(vectors["final_eval"])) < tolerance


def test_full_size_networks_have_the_published_names_and_counts(reference_folder: Path) -> None:
    names = json.loads((reference_folder / "key_names.json").read_text())
    state = generator_to_reference(UNet(GeneratorConfig()).state_dict(), GeneratorConfig())
    assert {k: list(v.shape) for k, v in state.items()} == names["unet_256_batch"]


def test_parameter_counts_are_those_of_the_paper() -> None:
    with torch.device("meta"):
        assert parameter_count(UNet(GeneratorConfig())) == 54_413_955
        assert parameter_count(UNet(GeneratorConfig(depth=7))) == 41_828_995
        counts = [parameter_count(Discriminator(6, DiscriminatorConfig(layers=n))) for n in (0, 1, 3, 5)]
    assert counts == [9_024, 139_585, 2_768_705, 11_159_361]


@pytest.mark.parametrize("layers, field", [(0, 1), (1, 16), (2, 34), (3, 70), (4, 142), (5, 286)])
def test_discriminator_has_the_receptive_field_of_the_paper(layers: int, field: int) -> None:
    network = Discriminator(1, DiscriminatorConfig(layers=layers, base_width=1, norm="none")).double().eval()
    for parameter in network.parameters():
        nn.init.uniform_(parameter, 0.1, 1.0)
    x = torch.zeros(1, 1, 600, 600, dtype=torch.float64, requires_grad=True)
    logits = network(x)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    assert x.grad is not None
    touched = x.grad[0, 0].abs().sum(0).nonzero()
    assert int(touched.max() - touched.min()) + 1 == field


@pytest.mark.parametrize("instance", [False, True])
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_unet_equals_the_textbook(instance: bool, mode: str) -> None:
    torch.manual_seed(0)
    textbook = NestedUNet(2, 3, 4, 5, instance=instance)
    config = GeneratorConfig(
        source_channels=2, target_channels=3, base_width=4, depth=5, norm="instance" if instance else "batch"
    )
    network = build_generator(config)
    network.load_state_dict(generator_from_reference(textbook.state_dict(), config))
    x = torch.randn(2, 2, 64, 96)
    for net in (network, textbook):
        net.train(mode == "train")
    with torch.no_grad():
        assert relative_error(network(x), textbook(x)) < 1e-6


@pytest.fixture
def twin_trainings() -> tuple[TrainingStep, TextbookTraining]:
    """Our step and the textbook's, on the same weights."""
    config = TrainingConfig(
        generator=GeneratorConfig(source_channels=1, target_channels=2, base_width=4, depth=4),
        discriminator=DiscriminatorConfig(base_width=4),
        patch_size=64,
        steps=1,
        seed=3,
    )
    step = TrainingStep(config, torch.device("cpu"), torch.float32)
    assert step.discriminator is not None
    generator, discriminator = NestedUNet(1, 2, 4, 4), patchgan(3, 4)
    generator.load_state_dict(generator_to_reference(step.generator.state_dict(), config.generator))
    discriminator.load_state_dict(
        {k.removeprefix("model."): v for k, v in copy.deepcopy(step.discriminator.state_dict()).items()}
    )
    return step, TextbookTraining(generator, discriminator)


def test_training_equals_the_textbook_loop(twin_trainings: tuple[TrainingStep, TextbookTraining]) -> None:
    step, textbook = twin_trainings
    generator = torch.Generator().manual_seed(5)
    for _ in range(6):
        x = torch.rand(1, 1, 64, 64, generator=generator) * 2 - 1
        y = torch.rand(1, 2, 64, 64, generator=generator) * 2 - 1
        losses = step.run(x, y)
        assert {k: v.item() for k, v in losses.items()} == pytest.approx(textbook.step(x, y), rel=1e-4)


def test_gradient_of_the_discriminator_has_the_factor_one_half(
    twin_trainings: tuple[TrainingStep, TextbookTraining],
) -> None:
    """Adam hides a wrong factor, so the gradient itself is compared."""
    step, textbook = twin_trainings
    x, y, fake = torch.randn(1, 1, 64, 64), torch.randn(1, 2, 64, 64), torch.randn(1, 2, 64, 64)
    assert step.discriminator is not None
    loss = discriminator_loss(step.discriminator, x, y, fake, ObjectiveConfig())
    ours = torch.autograd.grad(loss.total, list(step.discriminator.parameters()))
    plain = textbook.discriminator
    judged_fake, judged_real = plain(torch.cat([x, fake], 1)), plain(torch.cat([x, y], 1))
    bce = nn.BCEWithLogitsLoss()
    total = bce(judged_fake, torch.zeros_like(judged_fake)) + bce(judged_real, torch.ones_like(judged_real))
    expected = torch.autograd.grad(total / 2, list(plain.parameters()))
    for found, wanted in zip(ours, expected, strict=True):
        assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-8)
