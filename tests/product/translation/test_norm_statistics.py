"""Statistics of a plane seen in parts."""

from __future__ import annotations

import pytest
import torch

from napari_pix2pix.translation.norm_statistics import Moments


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_parts_give_the_statistics_of_the_whole(memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    plane = (torch.randn(1, 5, 301, 403) * 0.05 + 5).contiguous(memory_format=memory_format)
    moments = Moments()
    for rows in plane.split_with_sizes([1, 150, 150], dim=2):
        for part in rows.split_with_sizes([300, 103], dim=3):
            moments.add(part)
    mean, var = moments.result()
    exact = plane.double()
    assert mean.dtype == torch.float32
    torch.testing.assert_close(mean.double(), exact.mean((0, 2, 3)), rtol=1e-6, atol=0)
    torch.testing.assert_close(var.double(), exact.var((0, 2, 3), correction=0), rtol=1e-3, atol=0)


def test_one_value_has_no_variance() -> None:
    moments = Moments()
    moments.add(torch.full((1, 2, 1, 1), 3.0))
    mean, var = moments.result()
    assert mean.tolist() == [3, 3]
    assert var.tolist() == [0, 0]


def test_nothing_added_is_an_error() -> None:
    with pytest.raises(ValueError, match="no part"):
        Moments().result()
