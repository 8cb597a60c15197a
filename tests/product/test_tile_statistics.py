"""The benchmark of norm statistics for tiles: what each way has to give where the answer is known."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from benchmarks.contenders import randomized_model
from benchmarks.tile_statistics import around, averaged, interpolated, results, seam_ratio
from pix2pix_training.array_source import AnyArray
from pix2pix_training.model_file import Model
from pix2pix_training.network_config import GeneratorConfig

TILE = 32


def a_model() -> Model:
    config = GeneratorConfig(source_channels=1, target_channels=1, base_width=4, depth=3, norm="instance")
    return randomized_model(config)


def an_image(rows: int, columns: int) -> AnyArray:
    return np.random.default_rng(0).integers(0, 256, (1, rows * TILE, columns * TILE), dtype=np.uint8)


@torch.inference_mode()
def test_a_single_tile_is_the_whole_image_by_every_way() -> None:
    reference, ways = results(a_model(), an_image(1, 1), TILE)
    assert len(ways) == 5
    for name, output in ways.items():
        assert np.abs(output - reference).max() < 1e-5, name


@torch.inference_mode()
def test_of_several_tiles_only_exact_is_the_whole_image() -> None:
    reference, ways = results(a_model(), an_image(3, 2), TILE)
    errors = {name: float(np.abs(output - reference).mean()) for name, output in ways.items()}
    assert errors.pop("exact") < 1e-5
    assert min(errors.values()) > 1e-3
    assert all(np.abs(ways[one] - ways[other]).max() > 1e-3 for one, other in pairwise(list(ways)[:4]))


def test_tiles_that_are_alike_have_the_statistics_of_each() -> None:
    torch.manual_seed(0)
    own = torch.rand(4, 1, 1), torch.rand(4, 1, 1)
    table = around({(row, column): own for row in range(3) for column in range(2)}, (0, 1))
    assert table.shape == (2, 4, 3, 3)
    for found in (averaged(table, (8, 8)), interpolated(table, (8, 8))):
        for one, wanted in zip(found, own, strict=True):
            assert torch.allclose(one, wanted.expand_as(one), atol=1e-6)


def test_statistics_are_continuous_across_the_border_of_tiles() -> None:
    known = {(0, column): (torch.full((1, 1, 1), float(column)), torch.ones(1, 1, 1)) for column in range(3)}
    left, right = (interpolated(around(known, (0, column)), (4, 4))[0][0, 0] for column in (0, 1))
    assert left.tolist() == pytest.approx([0, 0, 0.125, 0.375])  # 0 is the middle of the first tile, 1 of the second
    assert right.tolist() == pytest.approx([0.625, 0.875, 1.125, 1.375])


def test_a_seam_is_a_step_that_stands_out() -> None:
    slope = np.linspace(0, 1, 64)[None, None, :] + np.zeros((1, 64, 1))
    assert seam_ratio(slope + np.linspace(0, 1, 64)[None, :, None], TILE) == pytest.approx(1)
    stepped = slope + np.linspace(0, 1, 64)[None, :, None] + (np.arange(64) >= TILE)
    assert seam_ratio(stepped, TILE) > 10
