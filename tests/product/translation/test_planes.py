"""Planes of features: what is read out of them has the order of memory that convolutions and joins are fast in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from napari_pix2pix.translation.planes import PlaneStore
from pix2pix_training.regions import Region


@pytest.mark.parametrize("memory_bytes", [1 << 20, 0], ids=["memory", "disk"])
def test_windows_are_read_in_channels_last_order(memory_bytes: int, tmp_path: Path) -> None:
    features = torch.rand(1, 8, 12, 10)
    with PlaneStore(torch.device("cpu"), memory_bytes, folder=tmp_path) as store:
        plane = store.new(2, 8, (12, 10))
        plane.write(Region.whole(12, 10), features)
        seen = Region.at(1, 2, 7, 5)
        window = plane.read(seen)
        assert torch.equal(window, features[..., *seen.slices])
        assert torch.cat([window, window], 1).is_contiguous(memory_format=torch.channels_last)
