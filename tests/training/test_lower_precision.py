"""bfloat16 with and without instructions for it."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pix2pix_training.device import Rounded, computing_in, has_bfloat16, resolve_precision

CPU = torch.device("cpu")
ULP = 2.0**-7
"""Largest relative distance of neighbouring bfloat16 numbers."""


@pytest.fixture
def capabilities(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, object]]:
    """What this processor is said to be capable of."""
    found: dict[str, object] = {"avx2": True, "avx512_bf16": False, "num_physical_cores": 2}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    has_bfloat16.cache_clear()
    yield found
    has_bfloat16.cache_clear()


def test_values_are_rounded_where_there_are_no_instructions(capabilities: dict[str, object]) -> None:
    assert isinstance(computing_in(torch.bfloat16, CPU), Rounded)


@pytest.mark.parametrize("name", ["avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"])
def test_instructions_are_used_where_they_are(name: str, capabilities: dict[str, object]) -> None:
    capabilities[name] = True
    assert isinstance(computing_in(torch.bfloat16, CPU), torch.autocast)


def test_float32_is_left_alone() -> None:
    x = torch.rand(1, 3, 8, 8)
    weight = torch.rand(4, 3, 3, 3)
    with computing_in(torch.float32, CPU):
        assert torch.equal(F.conv2d(x, weight), torch.conv2d(x, weight))
        assert not torch.is_autocast_enabled("cpu")


def test_that_it_is_slower_is_said(capabilities: dict[str, object], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert resolve_precision("bf16", CPU) is torch.bfloat16
    assert "no instructions for bfloat16" in caplog.text
    caplog.clear()
    has_bfloat16.cache_clear()
    capabilities["amx_bf16"] = True
    with caplog.at_level(logging.WARNING):
        resolve_precision("bf16", CPU)
        resolve_precision("fp32", CPU)
    assert not caplog.text


@pytest.mark.parametrize("kind", ["convolution", "transposed convolution", "product"])
def test_it_gives_what_bfloat16_gives(kind: str) -> None:
    """Results, and gradients of features and weights, beside those of PyTorch's own bfloat16."""
    torch.manual_seed(0)
    shapes = {
        "convolution": ((2, 6, 16, 16), (8, 6, 4, 4)),
        "transposed convolution": ((2, 6, 8, 8), (6, 8, 4, 4)),
        "product": ((12, 30), (30, 20)),
    }

    def run(x: Tensor, weight: Tensor) -> Tensor:
        if kind == "product":
            return x @ weight
        return (F.conv2d if kind == "convolution" else F.conv_transpose2d)(x, weight, None, 2, 1)

    leaf, weight = (torch.randn(shape).requires_grad_() for shape in shapes[kind])
    results = []
    for context in (torch.autocast("cpu", torch.bfloat16), Rounded()):
        with context:
            y = run(leaf * 1.0, weight)
        gradients = torch.autograd.grad((y.float() ** 2).sum(), (leaf, weight))
        results.append((y.detach(), *gradients))
    native, rounded = results
    assert all(value.dtype is torch.float32 for value in rounded)
    assert torch.equal(rounded[0], rounded[0].bfloat16().float())
    assert torch.equal(rounded[1], rounded[1].bfloat16().float())
    for expected, found in zip(native, rounded, strict=True):
        assert torch.linalg.vector_norm(found - expected) < ULP * torch.linalg.vector_norm(expected.float())
    assert not torch.equal(rounded[0], run(leaf, weight))


def test_products_with_a_vector_stay_float32() -> None:
    """Those of the power iteration of spectral norm, whose float32 autocast respects too."""
    matrix, vector = torch.rand(6, 5), torch.rand(5)
    with Rounded():
        assert torch.equal(matrix @ vector, torch.mv(matrix, vector))
        assert torch.equal(matrix.T @ torch.ones(6), torch.mv(matrix.T, torch.ones(6)))


def test_images_are_translated_without_gradients() -> None:
    x, weight = torch.rand(1, 3, 8, 8), torch.rand(4, 3, 3, 3, requires_grad=True)
    with torch.inference_mode(), Rounded():
        y = F.conv2d(x, weight)
    assert torch.equal(y, y.bfloat16().float())
    assert torch.allclose(y, F.conv2d(x, weight), rtol=0.02)


@pytest.mark.parametrize("supported", [True, False])
def test_automatic_precision_is_fast_in_training_and_full_in_translation(
    supported: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: supported)
    gpu = torch.device("cuda")
    assert resolve_precision("auto", gpu) is torch.float32
    assert resolve_precision("auto", gpu, training=True) is (torch.bfloat16 if supported else torch.float32)
    assert resolve_precision("auto", CPU, training=True) is torch.float32
