"""Batches of patches on the device."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pix2pix_training.array_source import MemorySource
from pix2pix_training.config import AugmentationConfig, SamplingConfig
from pix2pix_training.intensity import dtype_mapping
from pix2pix_training.intensity_jitter import IntensityJitter
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
    patches = MappedPairs(sampler, [mappings[0]] * 3, mappings[1], 8, torch.device("cpu"))
    source, target, valid = patches.batch(1, 3)
    assert valid is None
    for position in range(3):
        stored = sampler.patch(3 + position)
        for found, pixels, mapping in zip((source, target), (stored.source, stored.target), mappings, strict=True):
            expected = mapping.to_network(torch.from_numpy(np.asarray(pixels).astype(native))[None])[0]
            assert torch.equal(found[position], expected)


def test_jitter_changes_the_intensities_of_the_source_alone() -> None:
    """One contrast and one brightness for all channels of a patch, other ones for the next patch."""
    pixels = (np.random.default_rng(0).random((2, 8, 8)) * 255).astype(np.uint8)
    pair = Pair(MemorySource(pixels, name="a"), MemorySource(pixels, name="b"), "pair")
    mapping = dtype_mapping(pixels.dtype, 2)
    sampler = PatchSampler(
        [pair],
        patch_size=8,
        augmentation=AugmentationConfig(flips="none", intensity_jitter=1.0),
        sampling=SamplingConfig(),
        target_mapping=mapping,
        seed=0,
    )
    jitter = IntensityJitter(mean=0.2, brightness=0.3, log_contrast=0.1)
    plain, jittered = (
        MappedPairs(sampler, [mapping], mapping, 8, torch.device("cpu"), change).batch(0, 2)
        for change in (None, jitter)
    )
    assert torch.equal(plain[1], jittered[1])
    draws = [sampler.patch(number).draw for number in range(2)]
    for before, after, draw in zip(plain[0], jittered[0], draws, strict=True):
        expected = np.exp(0.1 * draw.contrast) * (before - 0.2) + 0.2 + 0.3 * draw.brightness
        torch.testing.assert_close(after, expected)
    assert draws[0].brightness != draws[1].brightness
