"""Images that stay on the device give the batches that are uploaded patch by patch, and are not read again."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pix2pix_training.array_source import AnyArray, MemorySource, Opacity
from pix2pix_training.batches import Batches
from pix2pix_training.dataset import PatchDataset, PatchReader, ResidentReader, fits_on_device
from pix2pix_training.intensity import Mapping, dtype_mapping, fitted_mapping
from pix2pix_training.pairs import Pair
from pix2pix_training.patch_config import AugmentationConfig, SamplingConfig
from pix2pix_training.regions import Region

CPU = torch.device("cpu")


class CountingSource(MemorySource):
    """Counts how many pixels are read."""

    pixels_read = 0

    def read_with_opacity(self, region: Region, plane: tuple[int, ...] = ()) -> tuple[AnyArray, Opacity | None]:
        self.pixels_read += region.height * region.width
        return super().read_with_opacity(region, plane)


def batches_of(
    pairs: list[Pair], mappings: tuple[Mapping, Mapping], reader: PatchReader | None = None, **changes: Any
) -> Batches:
    sampler = PatchDataset(
        pairs,
        patch_size=16,
        augmentation=AugmentationConfig(
            flips="both", quarter_turns=True, scale_jitter=1.2, rotation=20, elastic=2, channel_jitter=0.1, noise=0.1
        ),
        sampling=SamplingConfig(),
        target_mapping=mappings[1],
        seed=0,
        reader=reader,
    )
    device = torch.device(changes.pop("device", "cpu"))
    return Batches(sampler, [mappings[0]] * len(pairs), device, batch_size=2, **changes)


def assert_equal(found: Sequence[Tensor | None], expected: Sequence[Tensor | None]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours is None) == (theirs is None)
        assert ours is None or theirs is None or torch.equal(ours, theirs)


def stack_with_a_hole() -> list[Pair]:
    """Three planes of floats with a hole in one and a constant half in another, and the 16-bit image of each."""
    rng = np.random.default_rng(0)
    source = rng.random((3, 2, 80, 90)).astype(np.float32)
    source[1, :, 10:40, 10:40] = np.nan
    source[2, :, :, :50] = 0.5
    target = rng.integers(0, 60000, (3, 1, 80, 90)).astype(np.uint16)
    return [Pair(CountingSource(source, name="a"), CountingSource(target, name="b"), "pair")]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("other", ["resident", "read ahead", "by processes"])
def test_batches_are_the_same(device: str, other: str) -> None:
    """With every kind of augmentation, invalid pixels, and constant patches that are drawn again."""
    pairs = stack_with_a_hole()
    mappings = fitted_mapping([pairs[0].source]), dtype_mapping(pairs[0].target.dtype, 1)
    ways: dict[str, dict[str, Any]] = {
        "resident": {"reader": ResidentReader(pairs, torch.device(device))},
        "read ahead": {"ahead": True},
        "by processes": {"ahead": True, "workers": 2},
    }
    uploaded = batches_of(pairs, mappings, device=device)
    same = batches_of(pairs, mappings, device=device, **ways[other])
    before = torch.get_rng_state()
    masks = 0
    for found, expected in islice(zip(same, uploaded, strict=True), 20):
        assert_equal(found, expected)
        masks += expected[2] is not None
    same.close()
    assert 0 < masks < 20
    assert same.skipped == uploaded.skipped > 0
    assert_equal(next(batches_of(pairs, mappings, device=device, first=38)), expected)
    assert torch.equal(torch.get_rng_state(), before), "the random numbers of the networks are their own"


def test_patches_that_lie_on_the_device_are_not_read_again() -> None:
    rng = np.random.default_rng(0)
    images = [CountingSource(rng.integers(0, 9, (1, 60, 70), np.uint8), name=name) for name in ("a", "b")]
    pairs = [Pair(images[0], images[1], "pair")]
    mapping = dtype_mapping(np.dtype(np.uint8), 1)
    batches = batches_of(pairs, (mapping, mapping), ResidentReader(pairs, CPU))
    for _ in range(30):
        next(batches)
    assert [image.pixels_read for image in images] == [60 * 70, 60 * 70]


@pytest.mark.parametrize(("free", "fits"), [(16 * 1000, True), (16 * 1000 - 4, False)])
def test_they_stay_on_a_gpu_where_they_take_a_quarter_of_its_free_memory(
    free: int, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [MemorySource(np.zeros((1, 50, 20), dtype), name="image") for dtype in (np.uint8, np.uint16)]
    images.append(MemorySource(np.zeros((1, 50, 20), np.uint8), name="image"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**9))
    assert fits_on_device(images, torch.device("cuda")) is fits
    assert not fits_on_device(images, CPU)
