"""Convolutions over columns are the convolutions of PyTorch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pix2pix_training import strided_convolution
from pix2pix_training.device import computing_in
from pix2pix_training.strided_convolution import DoublingConvTranspose2d, HalvingConv2d


def gradients(y: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    return torch.autograd.grad((y * weights).sum(), inputs)


def is_only_rounded_at_the_end(found: Tensor, exact: Tensor) -> bool:
    """Whether no bfloat16 number is further from the float32 one than rounding takes it."""
    return torch.allclose(found.float(), exact, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 3, 2, 2), (1, 3, 4, 8), (3, 3, 8, 2), (2, 3, 16, 16)])
@pytest.mark.parametrize("kind", [HalvingConv2d, DoublingConvTranspose2d])
def test_columns_give_the_convolution_and_its_gradients(
    kind: type[HalvingConv2d | DoublingConvTranspose2d],
    shape: tuple[int, ...],
    bias: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    layer = kind(3, 5, bias=bias).double()
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    plain = F.conv2d if kind is HalvingConv2d else F.conv_transpose2d
    expected = plain(x, layer.weight, layer.bias, 2, 1)
    with monkeypatch.context() as patch:
        patch.setattr(strided_convolution, "HALVING_CELLS", 10**6)
        patch.setattr(strided_convolution, "DOUBLING_CELLS", 10**6)
        patch.setattr(F, "conv2d", None)
        patch.setattr(F, "conv_transpose2d", None)
        found = layer(x)
    assert torch.allclose(found, expected, atol=1e-12)
    inputs = [x, *layer.parameters()]
    for ours, theirs in zip(gradients(found, *inputs), gradients(expected, *inputs), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("kind", [HalvingConv2d, DoublingConvTranspose2d])
def test_products_over_few_cells_stay_float32_under_autocast(
    kind: type[HalvingConv2d | DoublingConvTranspose2d],
) -> None:
    """Features are bfloat16 as they come; weights and their gradients are not rounded on the way."""
    torch.manual_seed(0)
    layer = kind(3, 5, bias=False)
    x = torch.randn(1, 3, 4, 4, dtype=torch.bfloat16, requires_grad=True)
    exact = (F.conv2d if kind is HalvingConv2d else F.conv_transpose2d)(x.float(), layer.weight, None, 2, 1)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(x)
    assert found.dtype is torch.bfloat16
    assert is_only_rounded_at_the_end(found, exact)
    for ours, theirs in zip(gradients(found, x, layer.weight), gradients(exact, x, layer.weight), strict=True):
        assert ours.dtype is theirs.dtype
        torch.testing.assert_close(ours, theirs, rtol=2**-7, atol=0.02)


def test_products_over_many_cells_are_those_of_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer = HalvingConv2d(3, 5, bias=False)
    x = torch.randn(1, 3, 4, 4, dtype=torch.bfloat16)
    exact = layer(x.float())
    monkeypatch.setattr(strided_convolution, "FLOAT32_CELLS", 3)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(x)
    assert found.dtype is torch.bfloat16
    assert not is_only_rounded_at_the_end(found, exact)
    torch.testing.assert_close(found.float(), exact, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("size", [(2, 2), (4, 2), (8, 3), (32, 2), (64, 3)])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_result_of_one_column_in_bfloat16(size: tuple[int, int], mode: str) -> None:
    """oneDNN leaves it unwritten on processors with AMX."""
    torch.manual_seed(0)
    layer = HalvingConv2d(64, 64, bias=False).train(mode == "train")
    x = torch.randn(1, 64, *size).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        exact = F.conv2d(x, layer.weight, None, 2, 1)
        with computing_in(torch.bfloat16, torch.device("cpu")):
            for _ in range(3):
                found = layer(x).float()
                assert float((found - exact).norm() / exact.norm()) < 0.01
