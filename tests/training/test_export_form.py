"""Networks rewritten for compilers stay the same function."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pix2pix_training.choices import Statistics
from pix2pix_training.export_form import DTYPES, DoublingConvolution, ExportPrecision, export_form
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.layers import StatisticsNorm
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import (
    Generator,
    UNet,
    build_generator,
    initialize_weights,
    norm_layers,
    set_inference_mode,
)
from pix2pix_training.stages import Stage, StageSpec, whole_stage

CONFIGS = {
    "unet": GeneratorConfig(base_width=4, depth=4),
    "encoder-decoder": GeneratorConfig(base_width=4, depth=3, architecture="encoder-decoder"),
    "resnet": GeneratorConfig(base_width=4, architecture="resnet", blocks=2),
    "batch renorm": GeneratorConfig(base_width=4, depth=3, norm="batch-renorm"),
    "resize": GeneratorConfig(base_width=4, depth=3, decoder="resize"),
    "pixel shuffle": GeneratorConfig(base_width=4, depth=3, decoder="pixel-shuffle"),
    "instance": GeneratorConfig(base_width=4, depth=4, norm="instance"),
    "no norm": GeneratorConfig(base_width=4, depth=3, norm="none"),
}


def trained(config: GeneratorConfig, statistics: Statistics = "running") -> Generator:
    """A network with running averages of some data, and weights that are large enough to matter."""
    torch.manual_seed(0)
    network = build_generator(config)
    initialize_weights(network)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 4:
                parameter.mul_(5)
        for norm in norm_layers(network):
            norm.momentum = 1.0
        network(torch.rand(2, config.source_channels, 2 * config.stride, 2 * config.stride) * 2 - 1)
    if config.norm == "instance":
        statistics = "image"
    set_inference_mode(network, InferenceConfig(statistics=statistics))
    return network


def image(config: GeneratorConfig) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(1, config.source_channels, 3 * config.stride, 4 * config.stride, generator=generator) * 2 - 1


@torch.inference_mode()
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("precision, tolerance", [("fp32", 1e-5), ("fp16", 1e-2), ("bf16", 5e-2)])
def test_same_function_in_every_precision(name: str, precision: ExportPrecision, tolerance: float) -> None:
    config = CONFIGS[name]
    network = trained(config)
    expected = network(image(config))
    value_range = expected.max() - expected.min()
    assert value_range > 0.5
    result = export_form(network, whole_stage(config), precision)(image(config))
    assert result.dtype is DTYPES[precision]
    assert (result.float() - expected).abs().max() < tolerance * value_range


def test_the_network_is_left_as_it_is() -> None:
    network = trained(CONFIGS["unet"])
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    export_form(network, whole_stage(network.config), "bf16")
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert {p.dtype for p in network.parameters()} == {torch.float32}


def test_norms_on_image_statistics_stay_in_float32() -> None:
    rewritten = export_form(trained(CONFIGS["unet"], "image"), whole_stage(CONFIGS["unet"]), "fp16")
    norms = [m for m in rewritten.modules() if isinstance(m, StatisticsNorm)]
    convolutions = [m for m in rewritten.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(norms) == 5
    assert {n.weight.dtype for n in norms if n.weight is not None} == {torch.float32}
    assert {c.weight.dtype for c in convolutions} == {torch.float16}


@torch.inference_mode()
def test_statistics_of_half_precision_features_do_not_overflow() -> None:
    network = trained(CONFIGS["instance"])
    assert isinstance(network, UNet)
    x = image(network.config)
    shallow = Stage(network, StageSpec(gives="encoded", level=2, top=2, start=0))
    network.down_block(2).conv.weight.mul_(3e4 / shallow(x).abs().max())
    assert shallow(x).abs().max().item() == pytest.approx(3e4, rel=1e-3)  # its square is no float16
    result = export_form(network, whole_stage(network.config), "fp16")(x)
    assert bool(torch.isfinite(result).all())


@pytest.mark.parametrize("kernel, output_padding", [(4, 0), (3, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_transposed_convolution_is_rewritten_exactly(kernel: int, output_padding: int, bias: bool) -> None:
    torch.manual_seed(0)
    transposed = nn.ConvTranspose2d(3, 5, kernel, 2, 1, output_padding=output_padding, bias=bias).double()
    x = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    result = DoublingConvolution(transposed).double()(x)
    assert result.shape == (2, 5, 10, 14)
    assert torch.allclose(result, transposed(x), atol=1e-12)


def test_other_transposed_convolutions_are_refused() -> None:
    with pytest.raises(ValueError, match="does not double"):
        DoublingConvolution(nn.ConvTranspose2d(3, 5, 4, 2, 0))
