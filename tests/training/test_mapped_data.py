"""Batches of patches on the device."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pix2pix_training.array_source import MemorySource
from pix2pix_training.config import AugmentationConfig, SamplingConfig
from pix2pix_training.intensity import CategoryMapping, Mapping, dtype_mapping, fitted_categories
from pix2pix_training.mapped_data import MappedPairs
from pix2pix_training.pairs import Pair
from pix2pix_training.patches import PatchSampler


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.uint32, np.float32, np.float64, ">u2"])
def test_a_batch_holds_the_mapped_pixels_of_each_patch(dtype: str) -> None:
    """Patches of unequal pairs are joined for one copy and come apart again, in any dtype."""
    rng = np.random.default_rng(0)
    images = [(rng.random((2, 12, 12)) * 100).astype(dtype) for _ in range(3)]
    pairs = [Pair(MemorySource(i, name="a"), MemorySource(i[:1], name="b"), "pair") for i in images]
    native = images[0].dtype.newbyteorder("=")
    mappings = dtype_mapping(native, 2), dtype_mapping(native, 1)
    sampler = PatchSampler(
        pairs,
        patch_size=8,
        augmentation=AugmentationConfig(flips="none"),
        sampling=SamplingConfig(),
        target_mapping=mappings[1],
        seed=0,
    )
    patches = MappedPairs(pairs, sampler, *mappings, 8, torch.device("cpu"))
    source, target, valid = patches.batch(1, 3)
    assert valid is None
    for position in range(3):
        stored = sampler.patch(3 + position)
        for found, pixels, mapping in zip((source, target), (stored.source, stored.target), mappings, strict=True):
            expected = mapping.to_network(torch.from_numpy(pixels.astype(native))[None])[0]
            assert torch.equal(found[position], expected)


@pytest.mark.parametrize("source_values", ["dtype", "categories"])
def test_jitter_changes_the_intensities_of_the_source_alone_and_of_no_categories(source_values: str) -> None:
    """One contrast and one brightness for all channels of a patch, other ones for the next patch."""
    pixels = np.arange(128, dtype=np.uint8).reshape(2, 8, 8) % 5
    pair = Pair(
        MemorySource(pixels[:1] if source_values == "categories" else pixels, name="a"),
        MemorySource(pixels, name="b"),
        "pair",
    )
    target_mapping = dtype_mapping(pixels.dtype, 2)
    source_mapping: Mapping = target_mapping
    if source_values == "categories":
        source_mapping = fitted_categories([pair.source])
        assert isinstance(source_mapping, CategoryMapping)

    def batch(jitter: float) -> tuple[torch.Tensor, torch.Tensor]:
        sampler = PatchSampler(
            [pair],
            patch_size=8,
            augmentation=AugmentationConfig(flips="none", contrast_jitter=jitter, brightness_jitter=jitter),
            sampling=SamplingConfig(),
            target_mapping=target_mapping,
            seed=0,
        )
        mapped = MappedPairs([pair], sampler, source_mapping, target_mapping, 8, torch.device("cpu"))
        source, target, _ = mapped.batch(0, 2)
        return source, target

    (source, target), (jittered, same_target) = batch(0.0), batch(0.3)
    assert torch.equal(target, same_target)
    if source_values == "categories":
        assert torch.equal(source, jittered)
        return
    lines = [np.polyfit(a.flatten().double(), b.flatten().double(), 1) for a, b in zip(source, jittered, strict=True)]
    for (slope, offset), a, b in zip(lines, source, jittered, strict=True):
        torch.testing.assert_close(a * slope + offset, b, rtol=1e-4, atol=1e-4)
    assert abs(lines[0][0] - lines[1][0]) > 1e-3
